// One change of many files at once: all of it or none of it (vss.md section 2.1, step 9). New files are made
// in a staging folder on the same file system, then take their places by rename; what was there is kept
// until the last one has its place.
//
// Always true: until commit begins nothing but staging folders is touched; after a failure everything is as
// it was, times of folders too, or the journal stays for the next run; a folder that holds anything but what is removed
// with it is never removed; nothing is removed behind a symbolic link.

import { linkSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import { randomUuid } from '../../../base/uuid.ts'
import { hostCall } from '../../../image/host-file.ts'
import { throwIfAborted } from '../../../image/pace.ts'
import { isAtOrBelow } from '../../documents/file-spec.ts'
import { bytesOf, joinPath, textOf } from '../file-tree.ts'
import { ChangeJournal, type ChangePlan, type Phase, type Step } from './change-journal.ts'
import { attributesAt, type DiskNode, diskNode, type NodeAttributes, setAttributes } from './disk-node.ts'
import { rollBack, syncPath, tidyUp } from './undo-change.ts'

/** Makes the new file at a path in the staging folder, where nothing is. */
type Make = (stagedPath: string) => Promise<void>

interface Put {
  readonly path: string
  readonly make: Make | null
  /** The path of an earlier put whose inode this name gets. */
  readonly linkOf: string | null
  readonly attributes: NodeAttributes | null
  readonly isFile: boolean
}

export interface ChangeOptions {
  readonly title: string
  /** Where journals are. */
  readonly journalFolder: string
  /** Folders that the change is about; links in them and above them are followed. */
  readonly roots: readonly string[]
  readonly signal?: AbortSignal | undefined
  /** Before each file takes its place; what it throws fails the change. */
  readonly onStep?: ((path: string) => void) | undefined
}

/** A change that failed: `isClean` says whether all is as it was. */
export class ChangeFailure extends Error {
  readonly reason: unknown
  readonly isClean: boolean

  constructor(reason: unknown, isClean: boolean) {
    super(reason instanceof Error ? reason.message : String(reason))
    this.reason = reason
    this.isClean = isClean
  }
}

export class TreeChange {
  readonly #options: ChangeOptions
  readonly #id = randomUuid()
  readonly #removes = new Set<string>()
  readonly #folders = new Map<string, NodeAttributes | null>()
  readonly #puts: Put[] = []
  readonly #attributes = new Map<string, NodeAttributes>()
  readonly #staging = new Map<number, string>()
  /** Whether a folder is, on disk, reached through a symbolic link below a root. */
  readonly #behindLink = new Map<string, boolean>()
  #stagedCount = 0

  constructor(options: ChangeOptions) {
    this.#options = options
  }

  /** Nothing may be there afterwards; a folder goes only when it is empty by then. */
  remove(path: string): void {
    this.#removes.add(path)
  }

  folder(path: string, attributes: NodeAttributes): void {
    this.#folders.set(path, attributes)
  }

  put(path: string, make: Make, attributes: NodeAttributes | null, isFile: boolean): void {
    this.#puts.push({ path, make, linkOf: null, attributes, isFile })
  }

  /** Another name of what is put at `first`. */
  link(path: string, first: string): void {
    this.#puts.push({ path, make: null, linkOf: first, attributes: null, isFile: false })
  }

  /** What is there keeps its content. */
  attributes(path: string, wanted: NodeAttributes): void {
    this.#attributes.set(path, wanted)
  }

  /** @throws ChangeFailure */
  async apply(): Promise<void> {
    let plan: ChangePlan
    let journal: ChangeJournal
    try {
      plan = this.#plan()
      journal = ChangeJournal.create(this.#options.journalFolder, plan)
    } catch (error) {
      throw new ChangeFailure(error, true)
    }
    using held = journal
    let phase: Phase = 'planned'
    try {
      await this.#stage(plan)
      throwIfAborted(this.#options.signal)
      held.note('committing')
      phase = 'committing'
      this.#commit(plan)
      held.note('committed')
    } catch (error) {
      throw new ChangeFailure(error, takeBack(held, plan, phase))
    }
    // All is in place; what is left over the next run removes.
    tidyUp(plan)
    held.remove()
  }

  // -- planning

  #plan(): ChangePlan {
    const removes = this.#planRemoves()
    const folders = this.#planFolders(removes)
    const puts = this.#puts.map((put) => this.#planPut(put, removes, folders))
    const attributes = this.#planAttributes()
    const steps: Step[] = [...removes.values(), ...folders, ...puts, ...attributes]
    return {
      id: this.#id,
      title: this.#options.title,
      stagingFolders: [...this.#staging.values()],
      steps,
      folderTimes: this.#folderTimes(steps),
    }
  }

  /** Children before their folders. */
  #planRemoves(): Map<string, Step & { kind: 'remove' }> {
    const steps = new Map<string, Step & { kind: 'remove' }>()
    for (const path of [...this.#removes].sort((a, b) => b.length - a.length)) {
      const node = this.#nodeAt(path)
      if (!node || this.#isBehindLink(dirname(path))) continue
      if (node.kind === 'directory' && !isEmptied(path, steps)) continue
      steps.set(path, { kind: 'remove', path, old: this.#stagedName(path, 'old') })
    }
    return steps
  }

  #planFolders(removes: Map<string, Step & { kind: 'remove' }>): Step[] {
    const missing = new Set<string>()
    const wanted = [...this.#folders.keys(), ...this.#puts.map(({ path }) => dirname(path))]
    for (const path of wanted) {
      for (let folder = path; !missing.has(folder); folder = dirname(folder)) {
        const node = this.#folderNode(folder)
        if (node?.kind === 'directory' && !removes.has(folder)) break
        if (node && !removes.has(folder)) {
          // A file or link in the place of a folder.
          if (!this.#folders.has(folder)) throw refused(`${textOf(folder).text} is no folder`)
          removes.set(folder, { kind: 'remove', path: folder, old: this.#stagedName(folder, 'old') })
        }
        missing.add(folder)
      }
    }
    return [...missing]
      .sort((a, b) => a.length - b.length)
      .map((path) => {
        const mode = this.#folders.has(path) ? 0o700 : 0o777
        return { kind: 'folder', path, mode }
      })
  }

  #planPut(put: Put, removes: Map<string, Step & { kind: 'remove' }>, folders: readonly Step[]): Step {
    const { path } = put
    const staged = this.#stagedName(path, 'new')
    const isNewFolder = folders.some((step) => step.path === dirname(path))
    const node = isNewFolder ? undefined : this.#nodeAt(path)
    if (!node || removes.has(path)) return { kind: 'put', path, staged, old: null }
    const old = this.#stagedName(path, 'old')
    if (node.kind !== 'directory') return { kind: 'put', path, staged, old }
    if (!isEmptied(path, removes)) throw refused(`${textOf(path).text} is a folder that holds other files`)
    removes.set(path, { kind: 'remove', path, old })
    return { kind: 'put', path, staged, old: null }
  }

  /** Last of all, and folders after what is in them. */
  #planAttributes(): Step[] {
    const wanted = [...this.#attributes, ...this.#folders].sort(([a], [b]) => b.length - a.length)
    return wanted.flatMap(([path, after]) => {
      if (!after) return []
      const node = this.#folderNode(path)
      const before = node && !this.#isBehindLink(path) ? (attributesAt(realPath(path, node)) ?? null) : null
      return [{ kind: 'attributes' as const, path, before, after }]
    })
  }

  #folderTimes(steps: readonly Step[]): { path: string; mtimeNs: string }[] {
    const paths = new Set([
      ...steps.map(({ path }) => dirname(path)),
      ...[...this.#staging.values()].map((folder) => dirname(folder)),
    ])
    return [...paths].flatMap((path) => {
      const node = diskNode(path, true)
      return node?.kind === 'directory' ? [{ path, mtimeNs: node.mtimeNs }] : []
    })
  }

  // -- what is on disk

  #nodeAt(path: string): DiskNode | undefined {
    return this.#isReplaced(dirname(path)) ? undefined : diskNode(path)
  }

  /** Links are followed in the roots and above, where they are the machine's own business. */
  #folderNode(path: string): DiskNode | undefined {
    if (this.#isReplaced(dirname(path))) return undefined
    return diskNode(path, this.#isRoot(path))
  }

  #isRoot(path: string): boolean {
    return this.#options.roots.some((root) => isAtOrBelow(root, path))
  }

  #isBehindLink(folder: string): boolean {
    if (this.#isRoot(folder) || folder === '/') return false
    let known = this.#behindLink.get(folder)
    if (known === undefined) {
      known = diskNode(folder)?.isLink === true || this.#isBehindLink(dirname(folder))
      this.#behindLink.set(folder, known)
    }
    return known
  }

  /** A folder of the change that is, as yet, a link or below one: what is seen through it is not ours. */
  #isReplaced(folder: string): boolean {
    return this.#isBehindLink(folder) && this.#folders.has(folder)
  }

  // -- staging

  #stagedName(path: string, which: 'new' | 'old'): string {
    return joinPath(this.#stagingFor(path), `${which}-${this.#stagedCount++}`)
  }

  /** The uppermost folder on the path's file system that the change is about. */
  #stagingFor(path: string): string {
    let folder = dirname(path)
    while (diskNode(folder, true)?.kind !== 'directory') folder = dirname(folder)
    const device = diskNode(folder, true)?.device ?? -1
    const known = this.#staging.get(device)
    if (known !== undefined) return known
    const { roots } = this.#options
    for (
      let above = dirname(folder);
      roots.some((root) => isAtOrBelow(above, root));
      above = dirname(above)
    ) {
      if (diskNode(above, true)?.device !== device) break
      folder = above
      if (above === '/') break
    }
    const staging = joinPath(folder, `.umbra-restore-${this.#id}`)
    this.#staging.set(device, staging)
    return staging
  }

  async #stage(plan: ChangePlan): Promise<void> {
    for (const folder of plan.stagingFolders)
      hostCall(`Cannot make ${textOf(folder).text}`, () => mkdirSync(bytesOf(folder), { mode: 0o700 }))
    const stagedOf = new Map<string, string>()
    for (const step of plan.steps) if (step.kind === 'put') stagedOf.set(step.path, step.staged)
    for (const put of this.#puts) {
      throwIfAborted(this.#options.signal)
      const staged = stagedOf.get(put.path) ?? ''
      const first = put.linkOf === null ? undefined : stagedOf.get(put.linkOf)
      if (first !== undefined)
        hostCall(`Cannot link ${textOf(put.path).text}`, () => linkSync(bytesOf(first), bytesOf(staged)))
      await put.make?.(staged)
      if (put.attributes) setAttributes(staged, put.attributes)
      if (put.isFile) syncPath(staged)
    }
    for (const folder of plan.stagingFolders) syncPath(folder)
  }

  #commit(plan: ChangePlan): void {
    for (const step of plan.steps) {
      this.#options.onStep?.(step.path)
      hostCall(`Cannot restore ${textOf(step.path).text}`, () => doStep(step))
    }
    for (const { path } of plan.folderTimes) if (diskNode(path, true)?.kind === 'directory') syncPath(path)
    for (const step of plan.steps) if (step.kind === 'folder') syncPath(step.path)
  }
}

function doStep(step: Step): void {
  const path = bytesOf(step.path)
  if (step.kind === 'remove') renameSync(path, bytesOf(step.old))
  else if (step.kind === 'folder') mkdirSync(path, { mode: step.mode })
  else if (step.kind === 'attributes')
    setAttributes(realPath(step.path, diskNode(step.path, true)), step.after)
  else {
    if (step.old !== null) renameSync(path, bytesOf(step.old))
    renameSync(bytesOf(step.staged), path)
  }
}

/** @returns whether all is as it was */
function takeBack(journal: ChangeJournal, plan: ChangePlan, phase: Phase): boolean {
  try {
    rollBack(plan, journal, phase)
    journal.remove()
    return true
  } catch {
    // The journal stays, and the next run tries again.
    return false
  }
}

/** Whether all that a folder holds is removed. */
function isEmptied(folder: string, removes: ReadonlyMap<string, Step>): boolean {
  return hostCall(`Cannot read ${textOf(folder).text}`, () =>
    readdirSync(bytesOf(folder), 'latin1' as BufferEncoding),
  ).every((name) => removes.has(join(folder, name)))
}

/** A root may be reached by a link; its attributes are those of the folder. */
function realPath(path: string, node: DiskNode | undefined): string {
  return node?.kind === 'directory' ? `${path === '/' ? '' : path}/.` : path
}

function refused(reason: string): UmbraError {
  return new UmbraError('RESTORE_REFUSED', reason)
}
