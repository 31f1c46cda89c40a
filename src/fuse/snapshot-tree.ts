// One snapshot's tree below .snapshots: read-only, in a slot of node ids of its own.
//
// Always true: counts of lookups, handles and running reads belong to the tree, not to the file
// system under it, so that can be closed while the kernel still remembers names, and opened again when
// it asks. A deleted snapshot's tree is gone for good: everything below it is ESTALE, open files too,
// for its blocks may be reused at once; only what the kernel has cached stays readable.

import { posixError } from '../base/errors.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import type { Inode } from '../ext4/inode.ts'
import { NotReady, type Requester } from './operations.ts'
import { O } from './protocol.ts'
import { ReadOnlyTree, type TreePlace } from './read-only-tree.ts'

export class SnapshotTree extends ReadOnlyTree {
  readonly epoch: number
  readonly slot: number
  /** Turn of the last use; the smallest is closed first. */
  lastUse = 0
  lookupCount = 0
  openCount = 0
  isGone = false
  opening: Promise<unknown> | undefined
  #readCount = 0
  #idle: (() => void)[] = []

  constructor(epoch: number, slot: number, place: TreePlace) {
    super(undefined, place)
    this.epoch = epoch
    this.slot = slot
  }

  get isOpen(): boolean {
    return this.isAttached
  }

  /** Whether the file system can be closed without anybody noticing more than a pause. */
  get isIdle(): boolean {
    return this.openCount === 0 && this.#readCount === 0 && this.opening === undefined
  }

  attach(fileSystem: FileSystem): void {
    this.fileSystem = fileSystem
  }

  /** @returns what was attached */
  detach(): FileSystem | undefined {
    if (!this.isAttached) return undefined
    const fileSystem = this.fileSystem
    this.fileSystem = undefined
    return fileSystem
  }

  /** Settles when no read runs. */
  async readsEnded(): Promise<void> {
    if (this.#readCount > 0) await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  protected override countLookup(_inode: Inode, count: number): void {
    this.lookupCount += count
  }

  override forget(_nodeId: number, count: number): void {
    this.lookupCount = Math.max(0, this.lookupCount - count)
  }

  override open(nodeId: number, flags: number, _killSuidSgid: boolean, _caller: Requester): void {
    if ((flags & O.ACCMODE) !== 0 || (flags & O.TRUNC) !== 0) throw posixError('EROFS')
    this.inode(nodeId)
    this.openCount++
  }

  override release(_nodeId: number, _flags: number): void {
    if (this.openCount > 0) this.openCount--
  }

  override read(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number> {
    const result = super.read(nodeId, offsetBytes, lengthBytes, target, targetOffset)
    if (typeof result === 'number') return result
    this.#readCount++
    return result.finally(() => {
      if (--this.#readCount > 0) return
      for (const resolve of this.#idle.splice(0)) resolve()
    })
  }

  /** @throws ESTALE when deleted, NotReady while it is being opened */
  requireOpen(): void {
    if (this.isGone) throw posixError('ESTALE')
    if (this.opening !== undefined) throw new NotReady(this.opening)
  }
}
