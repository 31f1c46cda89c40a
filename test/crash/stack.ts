// The whole stack under a history: Ext4 over Volume over a storage that logs writes, with the model of
// what it promises beside it.
//
// Always true: each operation is done in both; every cut of a commit freezes the model; every promise
// that was kept to a caller (fsync, fdatasync, commit, snapshot) leaves a note of what a crash from then
// on must show. What a snapshot must hold is read from the present inside its cut, not from its tree.

import { Ext4 } from '../../src/ext4/ext4.ts'
import { RENAME_EXCHANGE } from '../../src/ext4/file-system.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import { WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, readContents } from './contents.ts'
import { FileChange, type FrozenNode, freeze, ModelNode, type Placement, thaw } from './tree-model.ts'

export const CALLER = { uid: 0, gid: 0, pid: 1 } as const

export interface PointModel {
  readonly kind: 'snapshot' | 'bookmark'
  readonly contents: Contents
  readonly tree: FrozenNode
}

/** What one commit made durable. */
export interface Committed {
  readonly tree: FrozenNode
  readonly points: ReadonlyMap<string, PointModel>
  /** A point that may be there or not: a rollback makes it in one of its commits. */
  readonly maybePoint?: string
  /** Operations up to this one are in it. */
  readonly sequence: number
  /** Length of the write log at the cut. */
  readonly logIndex: number
}

/** What somebody was told is durable. */
export interface Note {
  readonly label: string
  /** Length of the write log when the promise was kept. */
  readonly logIndex: number
  /** Operations that must be there. */
  readonly sequence: number
  /** Versions of data that must be there, or later ones. */
  readonly floors: ReadonlyMap<Placement, number>
}

export interface StackOptions {
  /** Stands between the file system and the volume: a planted fault. */
  readonly wrapDevice?: (volume: Volume) => BlockDevice
}

/** What stat(2) shows of an inode that the model does not follow. */
export function attributesOf(inode: Inode): string {
  const { mode, uid, gid, sectorCount, generation, version, flags } = inode
  const times = [inode.atime, inode.mtime, inode.ctime, inode.crtime].map(({ sec, nsec }) => `${sec}.${nsec}`)
  return `mode ${mode.toString(8)} owner ${uid}:${gid} sectors ${sectorCount} generation ${generation} version ${version} flags ${flags} times ${times}`
}

interface PointAction {
  readonly kind: 'create' | 'delete'
  readonly name: string
  readonly pointKind: 'snapshot' | 'bookmark'
  /** What a bookmark inherits from the snapshot that left it. */
  readonly from?: PointModel
}

export class CrashStack {
  readonly log: WriteLogStorage
  readonly committed = new Map<number, Committed>()
  readonly notes: Note[] = []
  /** What was done, for people. */
  readonly steps: string[] = []
  readonly points = new Map<string, PointModel>()
  /** Files without a name that are open. */
  readonly orphans: { readonly node: ModelNode; readonly inode: Inode; readonly isTemporary: boolean }[] = []
  readonly #options: StackOptions
  #volume: Volume
  #fs: Ext4
  #root: ModelNode
  #sequence = 0
  #pending: Promise<void>[] = []
  #actions: PointAction[] = []

  private constructor(log: WriteLogStorage, volume: Volume, options: StackOptions) {
    this.log = log
    this.#volume = volume
    this.#options = options
    this.#fs = this.#openFs()
    this.#root = new ModelNode(2, 'directory')
    const lostFound = this.#fs.lookup(this.#fs.inode(2), 'lost+found') as Inode
    this.#root.children.set('lost+found', new ModelNode(lostFound.ino, 'directory'))
    this.#root.linkCount = 3
    this.#noticeOpen(0)
  }

  /** On a storage that holds a fresh file system and nothing else. */
  static async open(storage: BlockStorage, options: StackOptions = {}): Promise<CrashStack> {
    const log = new WriteLogStorage(storage)
    return new CrashStack(log, await Volume.open(log), options)
  }

  get volume(): Volume {
    return this.#volume
  }
  get fs(): Ext4 {
    return this.#fs
  }
  get root(): ModelNode {
    return this.#root
  }

  #openFs(): Ext4 {
    const fs = Ext4.open(this.#options.wrapDevice?.(this.#volume) ?? this.#volume)
    // After the file system's own: it sees what the cut commits.
    this.#volume.onBeforeCommit(() => this.#noticeCut())
    return fs
  }

  /** Closing and opening may commit the same state again, unseen by callbacks. */
  #noticeOpen(logIndex: number): void {
    const { openReport, durableTransaction } = this.#volume
    const known = Math.max(0, ...this.committed.keys())
    for (let i = known === 0 ? openReport.transaction : known + 1; i <= durableTransaction; i++)
      this.committed.set(i, { ...this.#freeze(), logIndex })
  }

  #noticeCut(): void {
    const actions = this.#actions
    this.#actions = []
    if (actions.length > 0) {
      const contents = readContents(this.#volume)
      const { tree } = this.#freeze()
      for (const { kind, name, pointKind, from } of actions) {
        if (kind === 'delete') this.points.delete(name)
        else this.points.set(name, { contents, tree, ...from, kind: pointKind })
      }
    }
    this.committed.set(this.#volume.transaction, this.#freeze())
  }

  #freeze(): Committed {
    const tree = freeze(this.#root, (ino) => attributesOf(this.#fs.inode(ino)))
    const points = new Map(this.points)
    return { tree, points, sequence: this.#sequence, logIndex: this.log.entries.length }
  }

  #begin(step: string): void {
    this.#sequence++
    this.steps.push(`${this.#sequence}: ${step}`)
  }

  #changed(...nodes: ModelNode[]): void {
    for (const node of nodes) node.changeSequence = this.#sequence
  }

  inode(node: ModelNode): Inode {
    return this.orphans.find((orphan) => orphan.node === node)?.inode ?? this.#fs.inode(node.ino)
  }

  // -- names

  create(parent: ModelNode, name: string): ModelNode {
    this.#begin(`create ${name} in ${parent.ino}`)
    const inode = this.#fs.makeNode(this.inode(parent), name, 0o100644, 0, CALLER)
    return this.#add(parent, name, new ModelNode(inode.ino, 'file'))
  }

  makeDirectory(parent: ModelNode, name: string): ModelNode {
    this.#begin(`mkdir ${name} in ${parent.ino}`)
    const inode = this.#fs.makeDirectory(this.inode(parent), name, 0o755, CALLER)
    parent.linkCount++
    return this.#add(parent, name, new ModelNode(inode.ino, 'directory'))
  }

  makeSymlink(parent: ModelNode, name: string, target: string): ModelNode {
    this.#begin(`symlink ${name} in ${parent.ino} to ${target.length} characters`)
    const inode = this.#fs.makeSymlink(this.inode(parent), name, Buffer.from(target), CALLER)
    const node = new ModelNode(inode.ino, 'symlink', target)
    node.sizeBytes = target.length
    return this.#add(parent, name, node)
  }

  #add(parent: ModelNode, name: string, node: ModelNode): ModelNode {
    parent.children.set(name, node)
    this.#changed(parent, node)
    node.mappingSequence = this.#sequence
    return node
  }

  link(node: ModelNode, parent: ModelNode, name: string): void {
    this.#begin(`link ${node.ino} as ${name} in ${parent.ino}`)
    this.#fs.link(this.inode(node), this.inode(parent), name)
    parent.children.set(name, node)
    node.linkCount++
    this.#changed(node, parent)
    // An inode that had no name comes back as a whole.
    if (node.linkCount === 1) node.mappingSequence = this.#sequence
    const at = this.orphans.findIndex((orphan) => orphan.node === node)
    const adopted = at < 0 ? undefined : this.orphans.splice(at, 1)[0]
    if (adopted) this.#fs.close(adopted.inode)
  }

  /** `keepOpen`: what loses its last name stays open. */
  unlink(parent: ModelNode, name: string, keepOpen: boolean): void {
    this.#begin(`unlink ${name} in ${parent.ino}${keepOpen ? ', kept open' : ''}`)
    const node = parent.children.get(name) as ModelNode
    const inode = this.inode(node)
    if (keepOpen) this.#fs.open(inode)
    this.#fs.unlink(this.inode(parent), name)
    parent.children.delete(name)
    node.linkCount--
    this.#changed(node, parent)
    if (!keepOpen) return
    if (node.linkCount === 0 && node.kind === 'file') this.orphans.push({ node, inode, isTemporary: false })
    else this.#fs.close(inode)
  }

  removeDirectory(parent: ModelNode, name: string): void {
    this.#begin(`rmdir ${name} in ${parent.ino}`)
    this.#fs.removeDirectory(this.inode(parent), name)
    parent.children.delete(name)
    parent.linkCount--
    this.#changed(parent)
  }

  rename(from: ModelNode, name: string, to: ModelNode, newName: string, exchange: boolean): void {
    this.#begin(`rename ${name} in ${from.ino} to ${newName} in ${to.ino}${exchange ? ', exchange' : ''}`)
    this.#fs.rename(this.inode(from), name, this.inode(to), newName, exchange ? RENAME_EXCHANGE : 0)
    const source = from.children.get(name) as ModelNode
    const target = to.children.get(newName)
    // Two names of one file: POSIX does nothing.
    if (source === target) return
    from.children.delete(name)
    to.children.set(newName, source)
    if (source.kind === 'directory') moveLink(from, to)
    this.#changed(source, from, to)
    if (!target) return
    this.#changed(target)
    if (exchange) {
      from.children.set(name, target)
      if (target.kind === 'directory') moveLink(to, from)
    } else if (target.kind === 'directory') to.linkCount--
    else target.linkCount--
  }

  /** O_TMPFILE. */
  makeTemporary(parent: ModelNode): ModelNode {
    this.#begin(`temporary file in ${parent.ino}`)
    const inode = this.#fs.makeTemporary(this.inode(parent), 0o100600, CALLER)
    this.#fs.open(inode)
    const node = new ModelNode(inode.ino, 'file')
    node.linkCount = 0
    this.orphans.push({ node, inode, isTemporary: true })
    return node
  }

  closeOrphan(index: number): void {
    const [orphan] = this.orphans.splice(index, 1)
    if (!orphan) return
    this.#begin(`close ${orphan.node.ino}`)
    this.#fs.close(orphan.inode)
  }

  // -- contents and attributes

  write(node: ModelNode, offsetBytes: number, bytes: Uint8Array, keepTimes = false): void {
    this.#begin(`write ${bytes.length} at ${offsetBytes} of ${node.ino}${keepTimes ? ', times kept' : ''}`)
    const change = this.#change(node)
    try {
      this.#fs.write(this.inode(node), offsetBytes, bytes.length, bytes, 0, keepTimes)
    } catch (error) {
      change.attempt(offsetBytes, bytes)
      throw error
    }
    change.write(offsetBytes, bytes)
    this.#note(node, change, !keepTimes)
  }

  truncate(node: ModelNode, sizeBytes: number): void {
    this.#begin(`truncate ${node.ino} from ${node.sizeBytes} to ${sizeBytes}`)
    const change = this.#change(node)
    this.#fs.setAttributes(this.inode(node), { sizeBytes }, CALLER)
    change.truncate(sizeBytes)
    this.#note(node, change, true)
  }

  /** fallocate(2): mode as there. */
  allocate(node: ModelNode, mode: number, offsetBytes: number, lengthBytes: number): void {
    this.#begin(`fallocate mode ${mode} ${lengthBytes} at ${offsetBytes} of ${node.ino}`)
    const change = this.#change(node)
    this.#fs.allocate(this.inode(node), mode, offsetBytes, lengthBytes)
    if (mode & (2 | 16)) change.punch(offsetBytes, lengthBytes)
    if (!(mode & 1)) change.resize(Math.max(node.sizeBytes, offsetBytes + lengthBytes))
    this.#note(node, change, true)
  }

  #change(node: ModelNode): FileChange {
    return new FileChange(node, this.#volume.epoch, this.log.entries.length)
  }

  #note(node: ModelNode, change: FileChange, changesTimes: boolean): void {
    if (change.isMapping) node.mappingSequence = this.#sequence
    if (change.isMapping || changesTimes) this.#changed(node)
  }

  setXattr(node: ModelNode, name: string, value: Uint8Array): void {
    this.#begin(`xattr ${name} of ${value.length} bytes on ${node.ino}`)
    this.#fs.setXattr(this.inode(node), name, value, 0)
    node.xattrs.set(name, Buffer.from(value).toString('hex'))
    this.#changed(node)
  }

  removeXattr(node: ModelNode, name: string): void {
    this.#begin(`remove xattr ${name} of ${node.ino}`)
    this.#fs.removeXattr(this.inode(node), name)
    node.xattrs.delete(name)
    this.#changed(node)
  }

  // -- durability; these begin at once and end when settled() does

  sync(node: ModelNode, dataOnly: boolean): void {
    const what = `${dataOnly ? 'fdatasync' : 'fsync'} ${node.ino}`
    this.steps.push(what)
    const floors = floorsOf([node])
    const sequence = dataOnly ? node.mappingSequence : node.changeSequence
    // What has no name promises nothing: a crash frees it.
    const promised = node.linkCount > 0 ? { sequence, floors } : { sequence: 0, floors: new Map() }
    this.#promise(what, this.#fs.sync(this.inode(node), dataOnly), promised)
  }

  commit(): void {
    this.steps.push('commit')
    this.#promise('commit', this.#volume.commit(), this.#everything())
  }

  snapshot(name: string): void {
    this.#begin(`snapshot ${name}`)
    this.#actions.push({ kind: 'create', name, pointKind: 'snapshot' })
    const done = this.#volume.createSnapshot(name)
    // A refusal, for want of space, comes after the cut.
    done.catch(() => this.#forgetPoint(name))
    this.#promise(`snapshot ${name}`, done, this.#everything(this.#sequence))
  }

  bookmark(name: string): void {
    this.#begin(`bookmark ${name}`)
    this.#actions.push({ kind: 'create', name, pointKind: 'bookmark' })
    this.#promise(`bookmark ${name}`, this.#volume.createBookmark(name), this.#everything(this.#sequence))
  }

  deletePoint(name: string, keepBookmark: boolean): void {
    const isSnapshot = this.points.get(name)?.kind === 'snapshot'
    this.#begin(
      `delete ${isSnapshot ? 'snapshot' : 'bookmark'} ${name}${keepBookmark ? ', bookmark kept' : ''}`,
    )
    const from = this.points.get(name)
    this.#actions.push({ kind: 'delete', name, pointKind: 'snapshot' })
    if (isSnapshot && keepBookmark && from)
      this.#actions.push({ kind: 'create', name, pointKind: 'bookmark', from })
    const done = isSnapshot
      ? this.#volume.deleteSnapshot(name, { keepBookmark })
      : this.#volume.deleteBookmark(name)
    this.#promise(`delete ${name}`, done, this.#everything(this.#sequence))
  }

  #forgetPoint(name: string): void {
    if (this.#volume.readOnly) return
    this.points.delete(name)
    for (const [transaction, committed] of this.committed) {
      const points = new Map([...committed.points].filter(([other]) => other !== name))
      this.committed.set(transaction, { ...committed, points })
    }
  }

  /** Waits for everything that was begun. @throws what the first that failed threw */
  async settled(): Promise<void> {
    const pending = this.#pending
    this.#pending = []
    await Promise.all(pending)
  }

  async rollback(name: string, keepAs: string): Promise<void> {
    await this.settled()
    while (this.orphans.length > 0) this.closeOrphan(0)
    const begin = this.log.entries.length
    await this.#volume.close()
    this.#volume = await Volume.open(this.log)
    const before = this.#freeze()
    const contents = readContents(this.#volume)
    const first = this.#volume.transaction
    this.#noticeOpen(begin)
    this.#begin(`rollback to ${name}, the present kept as ${keepAs}`)
    await this.#volume.rollback(name, { keepAs })
    const last = this.#volume.durableTransaction
    this.points.set(keepAs, { kind: 'snapshot', contents, tree: before.tree })
    const points = new Map(this.points)
    for (let transaction = first; transaction < last; transaction++)
      this.committed.set(transaction, { ...before, points, maybePoint: keepAs, sequence: before.sequence })
    const target = this.points.get(name) as PointModel
    this.#root = thaw(target.tree, this.#volume.epoch, this.log.entries.length)
    const attributes = attributesIn(target.tree)
    // What is written from here on goes to the new tree's places.
    const tree = freeze(this.#root, (ino) => attributes.get(ino) as string)
    this.committed.set(last, { ...before, tree, points, sequence: this.#sequence })
    this.#remember('rollback', { sequence: this.#sequence, floors: new Map() })
    this.#fs = this.#openFs()
  }

  async close(): Promise<void> {
    await this.settled()
    await this.#volume.close()
  }

  /** As an unmount and a mount do it. */
  async reopen(): Promise<void> {
    while (this.orphans.length > 0) this.closeOrphan(0)
    this.steps.push('reopen')
    const everything = this.#everything()
    const begin = this.log.entries.length
    await this.close()
    this.#remember('close', everything)
    this.#volume = await Volume.open(this.log)
    this.#fs = this.#openFs()
    this.#noticeOpen(begin)
  }

  /** By its path; undefined: there is no such name. */
  find(path: string): ModelNode | undefined {
    let node: ModelNode | undefined = this.#root
    for (const name of path.split('/')) node = node?.children.get(name)
    return node
  }

  #everything(sequence = 0): Pick<Note, 'sequence' | 'floors'> {
    const nodes = [...allNodes(this.#root)]
    return {
      sequence: Math.max(sequence, ...nodes.map((node) => node.changeSequence)),
      floors: floorsOf(nodes),
    }
  }

  #promise(label: string, done: Promise<unknown>, what: Pick<Note, 'sequence' | 'floors'>): void {
    const kept = done.then(() => this.#remember(label, what))
    // settled() is where a failure is met.
    kept.catch(() => undefined)
    this.#pending.push(kept)
  }

  #remember(label: string, what: Pick<Note, 'sequence' | 'floors'>): void {
    this.notes.push({ label, logIndex: this.log.entries.length, ...what })
  }
}

function attributesIn(root: FrozenNode): Map<number, string> {
  const attributes = new Map<number, string>()
  const visit = (node: FrozenNode): void => {
    attributes.set(node.ino, node.attributes)
    for (const child of node.children.values()) visit(child)
  }
  visit(root)
  return attributes
}

function moveLink(from: ModelNode, to: ModelNode): void {
  from.linkCount--
  to.linkCount++
}

export function allNodes(root: ModelNode): Set<ModelNode> {
  const nodes = new Set<ModelNode>()
  const visit = (node: ModelNode): void => {
    if (nodes.has(node)) return
    nodes.add(node)
    for (const child of node.children.values()) visit(child)
  }
  visit(root)
  return nodes
}

function floorsOf(nodes: Iterable<ModelNode>): Map<Placement, number> {
  const floors = new Map<Placement, number>()
  for (const node of nodes) {
    for (const placement of node.blocks.values()) floors.set(placement, placement.versions.length - 1)
  }
  return floors
}
