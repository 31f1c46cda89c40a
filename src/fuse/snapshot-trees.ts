// Which snapshots have a tree, in which slot of node ids, and which of them are open.
//
// Always true: a snapshot keeps its slot while the mount lives (it is derived from its epoch; on a
// collision the next free one is taken and kept), so node ids and st_ino are stable; at most
// `openLimit` file systems are open beyond those with open files or running reads, the longest unused
// being closed first. A tree that the kernel still knows is never forgotten, even when deleted.

import { posixError } from '../base/errors.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import { SLOT_SPAN, SNAPSHOT_SLOT_MAX } from './node-ids.ts'
import { NotReady } from './operations.ts'
import type { TreePlace } from './read-only-tree.ts'
import type { SnapshotEntry, SnapshotProvider } from './snapshot-provider.ts'
import { SnapshotTree } from './snapshot-tree.ts'

/** Trees remembered before those that nobody knows any more are dropped. */
const TREES_KEPT = 64

export class SnapshotTrees {
  readonly #provider: SnapshotProvider
  readonly #openLimit: number
  readonly #parentOfRoot: NonNullable<TreePlace['parentOfRoot']>
  readonly #bySlot = new Map<number, SnapshotTree>()
  readonly #byEpoch = new Map<number, SnapshotTree>()
  #turn = 0

  constructor(
    provider: SnapshotProvider,
    parentOfRoot: NonNullable<TreePlace['parentOfRoot']>,
    openLimit: number,
  ) {
    this.#provider = provider
    this.#parentOfRoot = parentOfRoot
    this.#openLimit = openLimit
  }

  get openCount(): number {
    let count = 0
    for (const tree of this.#bySlot.values()) if (tree.isOpen || tree.opening !== undefined) count++
    return count
  }

  /** The tree for bookkeeping (forget, release): whatever its state. */
  known(slot: number): SnapshotTree | undefined {
    return this.#bySlot.get(slot)
  }

  /** The slot that a snapshot has or would get. */
  slotFor(epoch: number): number {
    return this.#byEpoch.get(epoch)?.slot ?? homeSlot(epoch)
  }

  /** The open tree in a slot. @throws ESTALE when deleted or unknown, NotReady while it opens */
  inSlot(slot: number): SnapshotTree {
    let tree = this.#bySlot.get(slot)
    if (tree === undefined) {
      // A node from before it was forgotten (an exported file handle).
      const entry = this.#provider.list().find((candidate) => homeSlot(candidate.epoch) === slot)
      if (entry === undefined) throw posixError('ESTALE')
      tree = this.of(entry)
      if (tree.slot !== slot) throw posixError('ESTALE')
    }
    return this.#use(tree)
  }

  /** The open tree of a listed snapshot. @throws NotReady while it opens */
  opened(entry: SnapshotEntry): SnapshotTree {
    return this.#use(this.of(entry))
  }

  /** The tree of a listed snapshot, open or not. */
  of(entry: SnapshotEntry): SnapshotTree {
    let tree = this.#byEpoch.get(entry.epoch)
    if (tree === undefined) {
      this.#dropUnknown()
      let slot = homeSlot(entry.epoch)
      while (this.#bySlot.has(slot)) slot = (slot % SNAPSHOT_SLOT_MAX) + 1
      tree = new SnapshotTree(entry.epoch, slot, {
        nodeBase: slot * SLOT_SPAN,
        parentOfRoot: this.#parentOfRoot,
      })
      this.#bySlot.set(slot, tree)
      this.#byEpoch.set(entry.epoch, tree)
    }
    return tree
  }

  /**
   * The snapshot is about to be deleted: everything below it is ESTALE from now on. Settles when its
   * running reads have ended, so its blocks may be freed.
   * @returns undo, for when the deletion then failed
   */
  async retire(epoch: number): Promise<() => void> {
    const tree = this.#byEpoch.get(epoch)
    if (tree === undefined) return () => {}
    tree.isGone = true
    await tree.opening?.catch(() => {})
    await tree.readsEnded()
    this.#close(tree)
    return () => {
      tree.isGone = false
    }
  }

  /** Whether files of the snapshot are open. */
  isBusy(epoch: number): boolean {
    return (this.#byEpoch.get(epoch)?.openCount ?? 0) > 0
  }

  #use(tree: SnapshotTree): SnapshotTree {
    tree.lastUse = ++this.#turn
    if (tree.isOpen && !tree.isGone) return tree
    tree.requireOpen()
    const name = this.#provider.list().find((entry) => entry.epoch === tree.epoch)?.name
    if (name === undefined) throw posixError('ESTALE')
    this.#makeRoom()
    const opened = this.#provider.open(name)
    if (!(opened instanceof Promise)) {
      tree.attach(opened)
      return tree
    }
    tree.opening = this.#openLater(tree, opened)
    // Whoever waits sees the failure when asking again; nobody waiting must not be an unhandled one.
    tree.opening.catch(() => {})
    throw new NotReady(tree.opening)
  }

  async #openLater(tree: SnapshotTree, opened: Promise<FileSystem>): Promise<void> {
    try {
      tree.attach(await opened)
    } finally {
      tree.opening = undefined
    }
  }

  #makeRoom(): void {
    while (this.openCount >= this.#openLimit) {
      let oldest: SnapshotTree | undefined
      for (const tree of this.#bySlot.values()) {
        if (tree.isOpen && tree.isIdle && (oldest === undefined || tree.lastUse < oldest.lastUse)) {
          oldest = tree
        }
      }
      if (oldest === undefined) return
      this.#close(oldest)
    }
  }

  #close(tree: SnapshotTree): void {
    const fileSystem = tree.detach()
    if (fileSystem !== undefined) this.#provider.close?.(fileSystem)
  }

  #dropUnknown(): void {
    if (this.#bySlot.size < TREES_KEPT) return
    for (const tree of this.#bySlot.values()) {
      if (tree.lookupCount > 0 || !tree.isIdle) continue
      this.#close(tree)
      this.#bySlot.delete(tree.slot)
      this.#byEpoch.delete(tree.epoch)
    }
  }
}

function homeSlot(epoch: number): number {
  return (epoch % SNAPSHOT_SLOT_MAX) + 1
}
