// The journal of one component's change: what is to be done to which paths, so that a restore that is
// killed can be taken back, or tidied up, by the next one.
//
// Always true: the whole plan is durable before anything outside the staging folders is touched; who holds
// the lock on the journal is alive; a journal without its `planned` line describes nothing that was begun.
// The rule for the next run: roll back, unless it is committed: then tidy up.

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { requireAddon } from '../../../base/addon.ts'
import { UmbraError } from '../../../base/errors.ts'
import { hostCall, writeFully } from '../../../image/host-file.ts'
import { syncFolder } from '../../../image/output.ts'
import type { NodeAttributes } from './disk-node.ts'

/** Paths are byte strings. `old` is where what was there is kept until the change is complete. */
export type Step =
  | { readonly kind: 'remove'; readonly path: string; readonly old: string }
  | { readonly kind: 'folder'; readonly path: string; readonly mode: number }
  | { readonly kind: 'put'; readonly path: string; readonly staged: string; readonly old: string | null }
  | {
      readonly kind: 'attributes'
      readonly path: string
      /** Of the node that is there already; null: this change makes it. */
      readonly identity: string | null
      readonly before: NodeAttributes | null
      readonly after: NodeAttributes
    }

/** `undone`: taken back, but for staging folders. */
export type Phase = 'planned' | 'committing' | 'undone' | 'committed'

export interface ChangePlan {
  readonly id: string
  /** What people call it. */
  readonly title: string
  /** Folders that the change is about; links are followed in them and above them, never below. */
  readonly roots: readonly string[]
  readonly stagingFolders: readonly string[]
  readonly steps: readonly Step[]
  /** Folders whose times change by what happens in them, as they were before. */
  readonly folderTimes: readonly { readonly path: string; readonly mtimeNs: string }[]
}

const FORMAT = 'umbra-restore-journal-1'
const SUFFIX = '.journal'
const EAGAIN = 11

export class ChangeJournal implements Disposable {
  readonly path: string
  #fd: number | null

  private constructor(path: string, fd: number) {
    this.path = path
    this.#fd = fd
  }

  /** Writes the plan durably and locks it. */
  static create(folder: string, plan: ChangePlan): ChangeJournal {
    const path = join(folder, `${plan.id}${SUFFIX}`)
    hostCall(`Cannot make ${folder}`, () => mkdirSync(folder, { recursive: true, mode: 0o700 }))
    const fd = hostCall(`Cannot make ${path}`, () => openSync(path, 'wx', 0o600))
    const journal = new ChangeJournal(path, fd)
    try {
      requireAddon().lock(fd, true)
      const { steps, ...head } = plan
      for (let at = 0; at < steps.length || at === 0; at += 1000) {
        const lines = steps.slice(at, at + 1000).map((step) => `${JSON.stringify(step)}\n`)
        if (at === 0) lines.unshift(`${JSON.stringify({ format: FORMAT, ...head })}\n`)
        const bytes = Buffer.from(lines.join(''))
        writeFully(fd, path, null, bytes.length, bytes, 0)
      }
      journal.note('planned')
      syncFolder(folder)
      return journal
    } catch (error) {
      journal[Symbol.dispose]()
      rmSync(path, { force: true })
      throw error
    }
  }

  /** Journals that others left behind, each with what it says and how far it came; null: nothing was begun. */
  static *abandoned(
    folder: string,
  ): Generator<{ readonly journal: ChangeJournal; readonly plan: ChangePlan | null; readonly phase: Phase }> {
    for (const name of listJournals(folder)) {
      const path = join(folder, name)
      const fd = openSync(path, 'r+')
      if (requireAddon().lock(fd, true) === -EAGAIN) {
        // Its restore is under way.
        closeSync(fd)
        continue
      }
      using journal = new ChangeJournal(path, fd)
      yield { journal, ...readPlan(path) }
    }
  }

  note(phase: Phase): void {
    const fd = this.#fd
    if (fd === null) throw new UmbraError('CLOSED', 'The journal is closed')
    hostCall(`Cannot write ${this.path}`, () => {
      writeSync(fd, `${JSON.stringify({ phase })}\n`)
      fsyncSync(fd)
    })
  }

  /** The change is over, one way or the other. */
  remove(): void {
    hostCall(`Cannot remove ${this.path}`, () => rmSync(this.path, { force: true }))
    this[Symbol.dispose]()
  }

  /** Nobody tries it again. @returns its new path */
  setAside(): string {
    const aside = `${this.path}.failed`
    hostCall(`Cannot rename ${this.path}`, () => renameSync(this.path, aside))
    this[Symbol.dispose]()
    return aside
  }

  [Symbol.dispose](): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }
}

function listJournals(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(SUFFIX))
      .sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** @throws UmbraError INVALID_DOCUMENT for a file that we did not write */
function readPlan(path: string): { plan: ChangePlan | null; phase: Phase } {
  const lines = readFileSync(path, 'utf8').split('\n')
  // A last line without its end was being written.
  lines.pop()
  const values = lines.map((line) => {
    try {
      return JSON.parse(line) as Record<string, unknown>
    } catch {
      throw new UmbraError('INVALID_DOCUMENT', `${path} is no journal of a restore; look into it`, { path })
    }
  })
  const [head, ...rest] = values
  const phases = rest.flatMap(({ phase }) => (phase === undefined ? [] : [phase as Phase]))
  const phase = phases.at(-1)
  if (head === undefined || phase === undefined) return { plan: null, phase: 'planned' }
  if (head['format'] !== FORMAT)
    throw new UmbraError('UNSUPPORTED_VERSION', `${path} is of another version of Umbra`, { path })
  const steps = rest.filter((line) => line['phase'] === undefined) as unknown as Step[]
  return { plan: { ...(head as unknown as ChangePlan), steps }, phase }
}
