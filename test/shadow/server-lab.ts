// What the tests of the shipped writers share: a volume on a mount for a real server's data, a writer
// configured by the command, backups and restores by the command, and a ledger of what the server
// acknowledged, kept outside of the volume.
//
// Always true: this process serves no mount; the ledger is judged by the narrowest window there is, the
// step of the coordinator's trace in which the cut was made, and not by Freeze and Thaw around it; everything that was started is gone at teardown, failed or not.

import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { setEnvironment } from '../support/environment.ts'
import { mountLoop } from '../support/loop.ts'
import { type RunResult, run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra, umbraJson } from '../support/umbra.ts'

/** Around a cut, in milliseconds of the clock: what was acknowledged before is in, what was sent after is not. */
export interface Window {
  readonly fromMs: number
  readonly toMs: number
}

export interface ToldComponent {
  readonly name: string
  readonly type: BackupType
  readonly succeeded: boolean
  readonly failure: string | null
  readonly fileCount: number
  readonly bytes: number
}

/** One backup as `umbra backup --json` tells of it, and when it was cut. */
export interface Point {
  readonly id: string
  readonly type: BackupType
  readonly folder: string
  readonly isPartial: boolean
  readonly tookMs: number
  readonly images: readonly { readonly dataBytes: number }[]
  readonly writers: readonly { readonly name: string; readonly components: readonly ToldComponent[] }[]
  readonly notes: readonly string[]
  readonly window: Window
  /** Freeze: until all writers are frozen; frozen: from there to the last thaw; held: writes waited. */
  readonly times: { readonly freezeMs: number; readonly frozenMs: number; readonly heldMs: number }
}

const NO_CUT: Pick<Point, 'window' | 'times'> = {
  window: { fromMs: 0, toMs: 0 },
  times: { freezeMs: 0, frozenMs: 0, heldMs: 0 },
}

export interface ServerLab {
  readonly folder: string
  readonly volume: string
  readonly mountPoint: string
  readonly repository: string
  at(name: string): string
  /** Configures a writer by `umbra writer add`. */
  addWriter(name: string, configuration: Readonly<Record<string, unknown>>): Promise<void>
  /** A backup that must succeed. Of the volume with all components and its image unless told. */
  backup(type: BackupType, options?: readonly string[]): Promise<Point>
  /** A backup that may fail. */
  tryBackup(type: BackupType, options?: readonly string[]): Promise<RunResult>
  /** Component files of a backup, into other folders; `moved` from old to new. */
  restore(
    id: string,
    components: string,
    moved: Readonly<Record<string, string>>,
    options?: readonly string[],
  ): Promise<RunResult>
  /** Names of the volume's snapshots. */
  snapshots(): Promise<string[]>
  /** The volume at a point as files, read-only, from its block images. */
  imageOf(point: Point): Promise<string>
}

/** @throws Error when the backup has no such component */
export function componentOf(point: Point, name: string): ToldComponent {
  const found = point.writers.flatMap(({ components }) => components).find((own) => own.name === name)
  if (!found) throw new Error(`${point.id} has no component ${name}: ${JSON.stringify(point)}`)
  return found
}

/** A script writer that does something at an event, frozen after all servers and thawed before them. */
export function accident(lab: ServerLab, event: string, script: string): Promise<void> {
  const path = join(lab.mountPoint, 'accident')
  if (!existsSync(path)) mkdirSync(path)
  return lab.addWriter('accident', {
    kind: 'script',
    name: 'Accident',
    freezeLevel: 'system',
    components: [{ name: 'nothing', files: [{ path }] }],
    commands: { [event]: ['/bin/sh', '-c', script] },
  })
}

/** For accident(): kills the process of a configured writer, a sibling of the one that runs the script. */
export function killWriter(name: string): string {
  return `c=$(ps -o ppid= -p $PPID | tr -d ' ')
p=$(ps -o pid=,args= --ppid "$c" | awk '/umbra writer: ${name}$/ { print $1 }')
kill -9 "$p"`
}

/** For people: what a backup cost. */
export function timesText(point: Point, component: string): string {
  const { bytes, fileCount } = componentOf(point, component)
  const { freezeMs, frozenMs, heldMs } = point.times
  return `${point.type}: ${bytes} bytes in ${fileCount} files, image ${point.images[0]?.dataBytes}; took ${point.tookMs} ms, freeze ${freezeMs} ms, frozen ${frozenMs} ms, held ${heldMs} ms`
}

const COMPLETE: readonly string[] = ['--all-components', '--images']

/** @param size of the volume */
export async function serverLab(t: Assertion, size: string): Promise<ServerLab> {
  const folder = tempFolder(t)
  // Servers run as users of their own.
  chmodSync(folder, 0o755)
  const at = (name: string): string => join(folder, name)
  setEnvironment(t, { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') })
  // A coordinator that nobody needs ends soon after the test.
  setEnvironment(t, { UMBRA_COORDINATOR_IDLE_MS: '5000', UMBRA_COORDINATOR_TRACE: at('trace') })
  const [volume, mountPoint, repository] = [at('v.umbra'), at('mnt'), at('repository')]
  await umbra(['create', volume, '--size', size])
  mkdirSync(mountPoint)
  await mountVolume(t, volume, mountPoint)
  chmodSync(mountPoint, 0o755)
  const lab: ServerLab = {
    folder,
    volume,
    mountPoint,
    repository,
    at,
    async addWriter(name, configuration) {
      await umbra(['writer', 'add', name, '-', '--json'], { input: JSON.stringify(configuration) })
    },
    async backup(type, options = COMPLETE) {
      const sinceMs = Date.now()
      const { stdout } = await umbra(words(lab, type, options), { timeoutMs: 120_000 })
      const told = JSON.parse(stdout) as Omit<Point, 'window' | 'times'>
      const cut = type === 'log' ? NO_CUT : await lastCut(at('trace'), sinceMs)
      return { ...told, ...cut }
    },
    tryBackup: (type, options = COMPLETE) =>
      umbra(words(lab, type, options), { check: false, timeoutMs: 120_000 }),
    restore(id, components, moved, options = []) {
      const folders = Object.entries(moved).flatMap(([from, to]) => ['--to-folder', `${from}=${to}`])
      const where = ['restore', repository, id, '--components', components, ...folders, ...options]
      return umbra([...where, '--json'], { check: false, timeoutMs: 120_000 })
    },
    async snapshots() {
      const listed = await umbraJson<{ name: string }[]>(['snapshot', 'list', volume])
      return listed.map(({ name }) => name)
    },
    async imageOf(point) {
      const image = at(`${point.id}.img`)
      await umbra(['restore', repository, point.id, '--to', image, '--as', 'raw'], { timeoutMs: 120_000 })
      return (await mountLoop(t, image, 'ro')).folder
    },
  }
  return lab
}

function words(lab: ServerLab, type: BackupType, options: readonly string[]): string[] {
  const volumes =
    options.includes('--images') || options.includes('--without-writers') ? [lab.mountPoint] : []
  return [
    'backup',
    ...volumes,
    '--to',
    lab.repository,
    '--type',
    type,
    '--retries',
    '0',
    ...options,
    '--json',
  ]
}

/** The cut, and how long things took, of the last session that the coordinator traced to its release. */
async function lastCut(path: string, sinceMs: number): Promise<Pick<Point, 'window' | 'times'>> {
  const trace = await until('the trace is written', () => {
    const entries = readTrace(path).filter(({ atMs }) => atMs >= sinceMs)
    return entries.some(({ step, phase }) => step === 'release' && phase === 'end') ? entries : undefined
  })
  const at = (phase: string, step: string | undefined, event?: string): number =>
    trace.find((entry) => entry.phase === phase && entry.step === step && entry.event === event)?.atMs ?? 0
  const lastAt = (event: string): number =>
    trace.findLast((entry) => entry.phase === 'end' && entry.event === event)?.atMs ?? 0
  return {
    window: { fromMs: at('begin', 'commit'), toMs: at('end', 'commit') },
    times: {
      freezeMs: lastAt('freeze') - at('begin', undefined, 'freeze'),
      frozenMs: lastAt('thaw') - at('begin', undefined, 'freeze'),
      heldMs: at('end', 'release') - at('begin', 'flush-and-hold'),
    },
  }
}

interface TraceLine {
  readonly atMs: number
  readonly phase: 'begin' | 'end'
  readonly step?: string
  readonly event?: string
}

function readTrace(path: string): TraceLine[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return lines.map((line) => JSON.parse(line) as TraceLine)
}

/** A commit that the server was asked for. */
interface LedgerLine {
  readonly key: string
  readonly sentMs: number
  /** Null: it was never acknowledged. */
  ackedMs: number | null
}

/** Writes lines into a server's table from several connections and keeps what was acknowledged. */
export class Ledger {
  readonly #lines: LedgerLine[] = []
  readonly #workers: Promise<void>[] = []
  #isStopping = false
  #failure: unknown

  /** @param insert commits one line under the key and returns when the server has acknowledged it */
  add(name: string, insert: (key: string) => Promise<unknown>): void {
    this.#workers.push(this.#work(name, insert))
  }

  get acknowledged(): number {
    return this.#lines.filter(({ ackedMs }) => ackedMs !== null).length
  }

  /** Ends the workers. @throws what a worker met, unless `mayFail` */
  async stop(options: { readonly mayFail?: boolean } = {}): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#workers)
    if (this.#failure !== undefined && options.mayFail !== true) throw this.#failure
  }

  /** What is wrong with the keys found in a server that was restored to a window. */
  judge(found: readonly string[], { fromMs, toMs }: Window): string[] {
    const problems: string[] = []
    const present = new Set(found)
    if (present.size !== found.length) problems.push(`${found.length - present.size} keys are there twice`)
    const known = new Set<string>()
    for (const { key, sentMs, ackedMs } of this.#lines) {
      known.add(key)
      // Times are whole milliseconds, rounded down.
      if (ackedMs !== null && ackedMs + 1 <= fromMs && !present.has(key))
        problems.push(`${key} was acknowledged ${(fromMs - ackedMs).toFixed(1)} ms before, and is missing`)
      if (sentMs >= toMs && present.has(key))
        problems.push(`${key} was sent ${(sentMs - toMs).toFixed(1)} ms after, and is there`)
    }
    for (const key of present) if (!known.has(key)) problems.push(`${key} was never sent`)
    return problems.slice(0, 20)
  }

  async #work(name: string, insert: (key: string) => Promise<unknown>): Promise<void> {
    for (let count = 0; !this.#isStopping; count++) {
      const line: LedgerLine = { key: `${name}-${count}`, sentMs: Date.now(), ackedMs: null }
      this.#lines.push(line)
      try {
        await insert(line.key)
      } catch (error) {
        this.#failure ??= error
        return
      }
      line.ackedMs = Date.now()
      await new Promise((resolve) => setTimeout(resolve, 3))
    }
  }
}

/**
 * What rsync would change to make two trees equal, by content: nothing, where they are.
 * @param excludes rsync patterns, those with a leading slash from the tree's root on
 */
export async function treeDifferences(
  from: string,
  to: string,
  excludes: readonly string[] = [],
): Promise<string[]> {
  const { stdout } = await run(
    'rsync',
    [
      '-aHXcni',
      '--delete',
      '--numeric-ids',
      ...excludes.map((pattern) => `--exclude=${pattern}`),
      `${from}/`,
      `${to}/`,
    ],
    { timeoutMs: 120_000 },
  )
  return stdout.split('\n').filter((line) => line !== '')
}

/** Whether an error of ClientProcess only says that the server has gone. */
export function isGone(error: unknown): boolean {
  return hasCode(error, 'UNAVAILABLE') || hasCode(error, 'WRITER_FAILED')
}
