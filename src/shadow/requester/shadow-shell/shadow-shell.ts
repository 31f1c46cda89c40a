// The shadow shell: diskshadow's commands carried out one after another, with their settings, their set of
// volumes, their aliases, and the backup or restore that is under way.
//
// Always true: what close() or `reset` ends without `end backup` was no backup, and its writers hear
// BackupShutdown alone; volatile shadow copies last until then and no longer, whatever failed; a command that
// fails changes no setting.

import { UmbraError } from '../../../base/errors.ts'
import type { SnapshotContext } from '../../documents/vocabulary.ts'
import type { Surroundings } from '../surroundings.ts'
import { Aliases, shadowAliases } from './aliases.ts'
import { loadDocuments, type SavedDocuments } from './document-folder.ts'
import { RestoreSteps } from './restore-steps.ts'
import { ShadowSetRun } from './shadow-set-run.ts'
import { deleteShadows, findShadows, type ShadowStore } from './shadow-store.ts'
import {
  NOT_APPLICABLE,
  type ShadowOptions,
  type ShellCommand,
  type ShellVerb,
  VERBS,
} from './shell-command.ts'
import type { ShellResult } from './shell-result.ts'

/** What the shell needs of the world around it. */
export interface ShellWorld extends Surroundings {
  readonly store: ShadowStore
  /** Runs a program of the user's to its end. @returns its exit code. @throws UmbraError NOT_FOUND, ABORTED */
  run(
    program: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>>,
  ): Promise<number>
  /** Aborts when the user gives up. */
  readonly signal?: AbortSignal | undefined
  onNote(note: string): void
}

interface AddedVolume {
  readonly volume: string
  readonly uuid: string
  readonly alias: string | null
}

/** What `reset` puts back. */
interface Settings {
  context: SnapshotContext
  options: ShadowOptions
  metadata: string | null
  loaded: SavedDocuments | null
  verify: readonly string[]
  exclude: readonly string[]
  volumes: readonly AddedVolume[]
  isBackup: boolean
  /** Of the backup that is under way. */
  backup: ShadowSetRun | null
  restore: RestoreSteps | null
}

type Handlers = {
  readonly [V in ShellVerb]: (command: Extract<ShellCommand, { verb: V }>) => Promise<ShellResult>
}

const NOTHING: ShellResult = { kind: 'nothing' }

export class ShadowShell {
  readonly aliases = new Aliases()
  readonly #world: ShellWorld
  readonly #waitMs: number
  readonly #handlers: Handlers
  /** Sets whose shadow copies last as long as their sessions. */
  readonly #held = new Set<ShadowSetRun>()
  readonly #seenVolumes = new Set<string>()
  #settings = freshSettings()
  #isVerbose = false
  #hasExited = false

  /** @param waitMs how long `create` waits while another set is being made */
  constructor(world: ShellWorld, { waitMs = 0 }: { readonly waitMs?: number } = {}) {
    this.#world = world
    this.#waitMs = waitMs
    this.#handlers = this.#makeHandlers()
  }

  get hasExited(): boolean {
    return this.#hasExited
  }

  get isVerbose(): boolean {
    return this.#isVerbose
  }

  /** @throws UmbraError BAD_STATE for a command that does not follow, and as what it does fails */
  async execute(command: ShellCommand): Promise<ShellResult> {
    // The table has a handler for exactly this verb.
    const handler = this.#handlers[command.verb] as (command: ShellCommand) => Promise<ShellResult>
    return handler(command)
  }

  /** Ends whatever is under way. */
  async close(): Promise<void> {
    const { backup, restore } = this.#settings
    this.#settings = freshSettings()
    if (backup) this.#held.add(backup)
    const ending = [...this.#held]
    this.#held.clear()
    const ended = await Promise.allSettled([restore?.close(), ...ending.map((set) => set.close())])
    for (const end of ended) {
      if (end.status === 'rejected') this.#world.onNote(`A session's end failed: ${text(end.reason)}`)
    }
  }

  #makeHandlers(): Handlers {
    const set = (change: Partial<Settings>): Promise<ShellResult> => {
      this.#settings = { ...this.#settings, ...change }
      return Promise.resolve(NOTHING)
    }
    return {
      set: async () => ({ kind: 'settings', settings: this.#shownSettings() }),
      'set context': ({ context }) => set({ context }),
      'set option': ({ options }) => set({ options }),
      'set metadata': ({ folder }) => set({ metadata: folder }),
      'set verbose': async ({ on }) => {
        this.#isVerbose = on
        return NOTHING
      },
      'load metadata': ({ folder }) => set({ loaded: loadDocuments(folder) }),
      'writer verify': ({ writer }) => set({ verify: [...this.#settings.verify, writer] }),
      'writer exclude': ({ writer }) => set({ exclude: [...this.#settings.exclude, writer] }),
      add: async () => this.#shownVolumes(),
      'add volume': (command) => this.#addVolume(command),
      'add alias': async ({ name, value }) => {
        this.aliases.set(name, value)
        return NOTHING
      },
      'begin backup': () => this.#beginBackup(),
      create: () => this.#create(),
      exec: ({ program, args }) => this.#exec(program, args),
      'end backup': () => this.#endBackup(),
      'begin restore': () => this.#beginRestore(),
      'end restore': () => this.#endRestore(),
      'simulate restore': async () => {
        const { coordinator } = this.#world
        const writers = await RestoreSteps.simulate(coordinator, this.#loaded(), this.#settings)
        return { kind: 'involved', writers }
      },
      'list writers': async ({ listing }) => ({
        kind: 'writers',
        listing,
        writers: await this.#world.coordinator.listWriters(),
      }),
      'list shadows': async ({ choice }) => ({
        kind: 'shadows',
        shadows: await findShadows(this.#world.store, choice, [...this.#seenVolumes]),
      }),
      'list providers': async () => ({ kind: 'providers', providers: [this.#world.store.provider] }),
      'delete shadows': async ({ choice }) => {
        const chosen = await findShadows(this.#world.store, choice, [...this.#seenVolumes])
        return { kind: 'deleted', ...(await deleteShadows(this.#world.store, chosen)) }
      },
      expose: ({ id, folder }) => this.#expose(id, folder),
      unexpose: async ({ idOrFolder }) => ({
        kind: 'unexposed',
        exposure: await this.#world.store.unexpose(idOrFolder),
      }),
      revert: async ({ id, force }) => {
        const shadow = await this.#shadow(id)
        return { kind: 'reverted', revert: await this.#world.store.revert(shadow, force) }
      },
      reset: async () => {
        await this.close()
        this.aliases.clear()
        this.#isVerbose = false
        return NOTHING
      },
      exit: async () => {
        this.#hasExited = true
        return NOTHING
      },
      help: async () => ({ kind: 'help', lines: helpLines() }),
    }
  }

  async #addVolume({
    volume,
    alias,
    provider,
  }: Extract<ShellCommand, { verb: 'add volume' }>): Promise<ShellResult> {
    const { id } = this.#world.store.provider
    if (provider !== null && provider !== id) {
      throw new UmbraError('NOT_FOUND', `No provider ${provider}: there is ${id} alone`)
    }
    const { volumeUuid: uuid, volumePath } = await this.#world.volumes.find(volume)
    const { volumes } = this.#settings
    if (volumes.some((other) => other.uuid === uuid)) {
      throw new UmbraError('ALREADY_EXISTS', `${volume} is in the shadow set already`)
    }
    this.#seenVolumes.add(volumePath)
    this.#settings = { ...this.#settings, volumes: [...volumes, { volume, uuid, alias }] }
    return NOTHING
  }

  async #beginBackup(): Promise<ShellResult> {
    if (this.#settings.isBackup) throw badState('A backup is under way: end backup or reset ends it')
    this.#settings = { ...this.#settings, isBackup: true }
    return NOTHING
  }

  /** Within a backup it waits for its end; otherwise it is a copy, and writers have nothing to wait for. */
  async #create(): Promise<ShellResult> {
    const { volumes, context, options, metadata, verify, exclude, isBackup, backup } = this.#settings
    if (backup !== null) throw badState('This backup has its shadow copies: end backup comes first')
    const run = await ShadowSetRun.make(this.#world, {
      volumes: volumes.map(({ volume }) => volume),
      context,
      ...options,
      backupType: isBackup ? 'full' : 'copy',
      verify,
      exclude,
      waitMs: this.#waitMs,
      documents: metadata,
      signal: this.#world.signal,
      onNote: (note) => this.#world.onNote(note),
    })
    this.#held.add(run)
    const { snapshotSetId, shadows, timings } = run
    const aliases = [
      ...shadowAliases(snapshotSetId, shadows),
      ...volumes.flatMap(({ alias }, index) =>
        alias === null ? [] : [{ name: alias, value: shadows[index]?.snapshotId ?? '' }],
      ),
    ]
    for (const { name, value } of aliases) this.aliases.set(name, value)
    this.#settings = { ...this.#settings, volumes: [], backup: isBackup ? run : null }
    if (!isBackup) await this.#complete(run)
    return { kind: 'created', snapshotSetId, shadows, timings, aliases }
  }

  async #complete(run: ShadowSetRun): Promise<ShellResult> {
    const statuses = await run.complete()
    if (!run.isVolatile) {
      this.#held.delete(run)
      await run.close()
    }
    return { kind: 'statuses', statuses }
  }

  async #endBackup(): Promise<ShellResult> {
    const { isBackup, backup } = this.#settings
    if (!isBackup) throw badState('No backup is under way: begin backup begins one')
    if (backup === null) throw badState('This backup has no shadow copies yet: create makes them')
    const result = await this.#complete(backup)
    this.#settings = { ...this.#settings, isBackup: false, backup: null }
    return result
  }

  async #exec(program: string, args: readonly string[]): Promise<ShellResult> {
    const exitCode = await this.#world.run(program, args, this.aliases.environment())
    if (exitCode === 0) return { kind: 'executed', program, exitCode }
    throw new UmbraError('IO_FAILED', `${program} ended with exit code ${exitCode}`, { exitCode })
  }

  async #beginRestore(): Promise<ShellResult> {
    if (this.#settings.restore !== null) throw badState('A restore is under way: end restore ends it')
    const { coordinator } = this.#world
    const { steps, statuses } = await RestoreSteps.begin(coordinator, this.#loaded(), this.#settings)
    this.#settings = { ...this.#settings, restore: steps }
    return { kind: 'statuses', statuses }
  }

  async #endRestore(): Promise<ShellResult> {
    const { restore } = this.#settings
    if (restore === null) throw badState('No restore is under way: begin restore begins one')
    this.#settings = { ...this.#settings, restore: null }
    return { kind: 'statuses', statuses: await restore.end() }
  }

  async #expose(id: string, folder: string): Promise<ShellResult> {
    const exposure = await this.#world.store.expose(await this.#shadow(id), folder)
    return { kind: 'exposed', exposure }
  }

  async #shadow(id: string) {
    const [shadow] = await findShadows(this.#world.store, { by: 'id', id }, [...this.#seenVolumes])
    if (shadow) return shadow
    throw new UmbraError('NOT_FOUND', `There is no shadow copy ${id}`)
  }

  #loaded(): SavedDocuments {
    if (this.#settings.loaded !== null) return this.#settings.loaded
    throw badState('No documents are loaded: load metadata FOLDER does that')
  }

  #shownVolumes(): ShellResult {
    const volumes = this.#settings.volumes.map(({ volume, alias }) => ({ volume, alias }))
    return { kind: 'volumes', volumes, aliases: this.aliases.list() }
  }

  #shownSettings(): Record<string, string> {
    const { context, options, metadata, verify, exclude } = this.#settings
    return {
      context,
      'auto-recovery': options.noAutoRecovery ? 'off' : options.rollbackRecovery ? 'for a rollback' : 'on',
      metadata: metadata ?? 'not saved',
      verbose: this.#isVerbose ? 'on' : 'off',
      'writers that must take part': verify.join(', ') || '-',
      'writers left out': exclude.join(', ') || '-',
    }
  }
}

function freshSettings(): Settings {
  return {
    context: 'backup',
    options: { noAutoRecovery: false, rollbackRecovery: false },
    metadata: null,
    loaded: null,
    verify: [],
    exclude: [],
    volumes: [],
    isBackup: false,
    backup: null,
    restore: null,
  }
}

function helpLines(): string[] {
  return [
    ...Object.entries(VERBS).map(([verb, usage]) => `${verb} ${usage}`.trim()),
    ...Object.entries(NOT_APPLICABLE).map(([verb, reason]) => `${verb}: does not apply: ${reason}`),
  ]
}

function badState(message: string): UmbraError {
  return new UmbraError('BAD_STATE', message)
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
