// One change of many files at once: all of it or none of it (vss.md section 2.1, step 9). New files are made
// in a staging folder on the same file system, then take their places by rename; what was there is kept
// until the last one has its place.
//
// Always true: until commit begins nothing but staging folders is touched; after a failure everything is as
// it was, times of folders too, or the journal stays for the next run; a folder that holds anything but what is removed
// with it is never removed; nothing is done behind a symbolic link. Other users may own folders of the tree and change
// them at the same moment: what is written is reached through held folders, and staging folders are closed to others.

import { linkSync, mkdirSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import { type HeldFolders, identityOf } from '../../../base/held-folders.ts'
import { randomUuid } from '../../../base/uuid.ts'
import { hostCall } from '../../../image/host-file.ts'
import { throwIfAborted } from '../../../image/pace.ts'
import { isAtOrBelow } from '../../documents/file-spec.ts'
import { bytesOf, joinPath, textOf } from '../file-tree.ts'
import { ChangeJournal, type ChangePlan, type Phase, type Step } from './change-journal.ts'
import { ChangeSteps, heldFor, holdStaging, isRootOf } from './change-steps.ts'
import { attributesOf, type DiskNode, diskNode, type NodeAttributes, setAttributes } from './disk-node.ts'
import type { BaseFile } from './file-content.ts'
import { rollBack, tidyUp } from './undo-change.ts'

/** Makes the new file at a path in the staging folder, where nothing is; the path is good until it first waits. */
type Make = (stagedPath: Uint8Array) => Promise<void>

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
  readonly #held: HeldFolders
  #stagedCount = 0

  constructor(options: ChangeOptions) {
    this.#options = options
    this.#held = heldFor(options.roots)
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

  /** The file that is there, to be read while the new one is made. */
  baseFile(path: string): BaseFile {
    return { path, open: () => this.#held.openFile(path) }
  }

  /** @throws ChangeFailure */
  async apply(): Promise<void> {
    using _held = this.#held
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
      throw new ChangeFailure(error, this.#takeBack(plan, held, phase))
    }
    this.#tidyUp(plan, held)
  }

  /** @returns whether all is as it was */
  #takeBack(plan: ChangePlan, journal: ChangeJournal, phase: Phase): boolean {
    try {
      const kept = rollBack(plan, this.#held, journal, phase)
      journal.remove()
      return kept.length === 0
    } catch {
      // The journal stays, and the next run tries again.
      return false
    }
  }

  /** All is in place; what is left over the next run removes. */
  #tidyUp(plan: ChangePlan, journal: ChangeJournal): void {
    try {
      tidyUp(plan, this.#held)
      journal.remove()
    } catch {
      // The journal stays.
    }
  }

  // -- planning

  #plan(): ChangePlan {
    const removes = this.#planRemoves()
    const folders = this.#planFolders(removes)
    const puts = this.#puts.map((put) => this.#planPut(put, removes, folders))
    const attributes = this.#planAttributes(new Set(folders.map(({ path }) => path)))
    const steps: Step[] = [...removes.values(), ...folders, ...puts, ...attributes]
    return {
      id: this.#id,
      title: this.#options.title,
      roots: this.#options.roots,
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
  #planAttributes(made: ReadonlySet<string>): Step[] {
    const wanted = [...this.#attributes, ...this.#folders].sort(([a], [b]) => b.length - a.length)
    return wanted.flatMap(([path, after]) => {
      if (!after) return []
      const step = { kind: 'attributes' as const, path, identity: null, before: null, after }
      if (made.has(path)) return [step]
      const known = this.#held.withNode(path, (node) => ({
        identity: identityOf(node.stat),
        before: attributesOf(node),
      }))
      return [{ ...step, ...known }]
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
    return isRootOf(this.#options.roots, path)
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
    const held = this.#held
    for (const folder of plan.stagingFolders) makeStaging(folder, held)
    const stagedOf = new Map<string, string>()
    for (const step of plan.steps) if (step.kind === 'put') stagedOf.set(step.path, step.staged)
    for (const put of this.#puts) {
      throwIfAborted(this.#options.signal)
      const staged = stagedOf.get(put.path) ?? ''
      const first = put.linkOf === null ? undefined : stagedOf.get(put.linkOf)
      if (first !== undefined)
        hostCall(`Cannot link ${textOf(put.path).text}`, () => linkSync(...held.pair(first, staged)))
      await put.make?.(held.at(staged))
      const { attributes } = put
      if (attributes) held.withNode(staged, (node) => setAttributes(node, put.path, attributes))
      if (put.isFile) held.sync(staged)
    }
    for (const folder of plan.stagingFolders) held.sync(folder)
  }

  #commit(plan: ChangePlan): void {
    const steps = new ChangeSteps(this.#held)
    for (const step of plan.steps) {
      this.#options.onStep?.(step.path)
      hostCall(`Cannot restore ${textOf(step.path).text}`, () => steps.carryOut(step))
    }
    for (const { path } of plan.folderTimes) this.#held.sync(path)
    for (const step of plan.steps) if (step.kind === 'folder') this.#held.sync(step.path)
  }
}

function makeStaging(path: string, held: HeldFolders): void {
  const name = textOf(path).text
  hostCall(`Cannot make ${name}`, () => mkdirSync(held.at(path), { mode: 0o700 }))
  if (!holdStaging(path, held) || readdirSync(held.folder(path).handle).length > 0)
    throw refused(`${name} was replaced by somebody in the moment that it was made`)
}

/** Whether all that a folder holds is removed. */
function isEmptied(folder: string, removes: ReadonlyMap<string, Step>): boolean {
  return hostCall(`Cannot read ${textOf(folder).text}`, () =>
    readdirSync(bytesOf(folder), 'latin1' as BufferEncoding),
  ).every((name) => removes.has(join(folder, name)))
}

function refused(reason: string): UmbraError {
  return new UmbraError('RESTORE_REFUSED', reason)
}
