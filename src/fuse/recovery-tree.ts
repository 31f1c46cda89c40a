// The tree of a snapshot in its auto-recovery window: writable until it is shut, below .snapshots, for
// the user alone who serves the mount (and root).
//
// Always true: the kernel may remember nothing of it (no timeouts, no page cache but for shared
// mappings), so that what is refused is refused at once; once it is shut, whatever would change
// something is EROFS, also through files that were open before; once it is dropped, everything is
// ESTALE. Node ids are its own and never those of the sealed snapshot.

import { posixError } from '../base/errors.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import { type Inode, ROOT_INO, S_IFDIR } from '../ext4/inode.ts'
import type { Attributes } from './attributes.ts'
import { HoldGate } from './hold-gate.ts'
import { LiveTree } from './live-tree.ts'
import { SLOT_SPAN } from './node-ids.ts'
import type { TreePlace } from './read-only-tree.ts'

/** Of the root, so that nobody else gets in. */
const PRIVATE_MODE = S_IFDIR | 0o700

export class RecoveryTree extends LiveTree {
  /** As names are here: one char a byte. */
  readonly name: string
  readonly slot: number
  /** Whether it can be entered by its name. */
  isEnterable = true
  /** What the kernel still knows of it. */
  lookupCount = 0
  readonly #gate: HoldGate
  readonly #ownerUid: number

  constructor(
    name: string,
    fileSystem: FileSystem,
    slot: number,
    parentOfRoot: NonNullable<TreePlace['parentOfRoot']>,
  ) {
    const gate = new HoldGate()
    super(fileSystem, { gate, place: { nodeBase: slot * SLOT_SPAN, parentOfRoot } })
    this.name = name
    this.slot = slot
    this.#gate = gate
    this.#ownerUid = process.geteuid?.() ?? 0
  }

  get rootNodeId(): number {
    return this.slot * SLOT_SPAN + ROOT_INO
  }

  /** Changes wait from now on. Settles when those that had begun are done. */
  async shut(): Promise<void> {
    this.isEnterable = false
    await this.#gate.hold()
  }

  /** After shut(): `sealed` is the read-only file system that files still open read from. */
  seal(sealed: FileSystem): void {
    this.fileSystem = sealed
    this.#gate.release()
  }

  /** Everything is ESTALE from now on. */
  drop(): void {
    this.isEnterable = false
    this.fileSystem = undefined
    this.#gate.release()
  }

  protected override fill(inode: Inode, out: Attributes): void {
    super.fill(inode, out)
    out.entryTimeoutSec = 0
    out.attributesTimeoutSec = 0
    if (inode.ino !== ROOT_INO) return
    out.mode = PRIVATE_MODE
    out.uid = this.#ownerUid
  }

  protected override countLookup(inode: Inode, count: number): void {
    this.lookupCount += count
    super.countLookup(inode, count)
  }

  override forget(nodeId: number, count: number): void {
    this.lookupCount = Math.max(0, this.lookupCount - count)
    super.forget(nodeId, count)
  }

  override lookup(parent: number, name: string, out: Attributes): void {
    super.lookup(parent, name, out)
    if (out.nodeId === 0) out.setMissing(0)
  }

  /** What the window's root shows is not what it has: nobody may turn the one into the other. */
  override setattr(...args: Parameters<LiveTree['setattr']>): void {
    const [nodeId, change] = args
    const isRoot = this.inodeNumber(nodeId) === ROOT_INO
    if (isRoot && (change.mode ?? change.uid ?? change.gid) !== undefined) throw posixError('EPERM')
    super.setattr(...args)
  }
}
