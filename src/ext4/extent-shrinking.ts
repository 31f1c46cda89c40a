// How the extent tree of a file loses entries and, with them, nodes.
//
// Always true: no node below the root is left empty; neighbouring nodes are packed once they could
// do with one fewer, and a root's only child is pulled in while it fits, so a tree
// that shrinks gives its blocks back. Every node freed is taken off the inode's sectorCount.
// The path is stale afterwards: the caller finds its leaf anew.

import { assert } from '../base/assert.ts'
import type { BlockAllocator } from './block-allocator.ts'
import {
  BLOCK_ENTRIES,
  childBlock,
  closeEntry,
  entryCount,
  entryKey,
  moveEntries,
  nodeDepth,
  ROOT_ENTRIES,
  setEntryKey,
  setNodeDepth,
} from './extent-node.ts'
import {
  type ExtentPath,
  type ExtentTreeHost,
  NEIGHBOURHOOD_LEAVES,
  SECTORS_PER_NODE,
  type Step,
} from './extent-path.ts'
import type { Inode } from './inode.ts'

/** Entries that a leaf of a large tree loses between two looks at its siblings. */
const LOSSES_PER_LOOK = 8

export class ExtentShrinking {
  readonly #path: ExtentPath
  readonly #allocator: BlockAllocator
  readonly #host: ExtentTreeHost

  constructor(path: ExtentPath, allocator: BlockAllocator, host: ExtentTreeHost) {
    this.#path = path
    this.#allocator = allocator
    this.#host = host
  }

  /** Removes the entry at the path's leaf index; frees nodes left empty; keeps the tree shallow. */
  deleteEntry(inode: Inode): void {
    let level = this.#path.depth
    for (;;) {
      const step = this.#path.steps[level] as Step
      closeEntry(step.bytes, step.index)
      this.#path.touch(inode, step)
      if (entryCount(step.bytes) > 0 || level === 0) {
        if (level === 0 && entryCount(step.bytes) === 0) setNodeDepth(inode.blockArea, 0)
        else if (step.index === 0) this.#path.fixKeys(inode, level)
        break
      }
      this.#freeNode(inode, step)
      level--
    }
    this.#mergeSiblings(inode, level)
    this.#collapse(inode)
  }

  #freeNode(inode: Inode, step: Step): void {
    assert(step.block !== undefined, 'only nodes below the root are freed')
    inode.sectorCount -= SECTORS_PER_NODE
    inode.packCredit = 0
    this.#allocator.free(step.block.blockIndex, 1, inode.orphaned, true)
  }

  /** Frees a node once its neighbourhood has room for all its entries; then the same for its parent. */
  #mergeSiblings(inode: Inode, level: number): void {
    if (level === 0 || !this.#mayPack(inode, level)) return
    const parent = this.#path.steps[level - 1] as Step
    const last = entryCount(parent.bytes)
    // As wide at the ends of the parent as in its middle: up to that many children, all are seen.
    const first = Math.max(0, Math.min(parent.index - NEIGHBOURHOOD_LEAVES / 2, last - NEIGHBOURHOOD_LEAVES))
    const end = Math.min(last, first + NEIGHBOURHOOD_LEAVES)
    if (end - first < 2) return
    let room = 0
    for (let i = first; i < end; i++) {
      room += BLOCK_ENTRIES - entryCount(this.#path.child(inode, parent, i).bytes)
    }
    if (room < BLOCK_ENTRIES) {
      if (level === this.#path.depth && last <= NEIGHBOURHOOD_LEAVES) inode.packCredit = BLOCK_ENTRIES - room
      return
    }
    if (!this.#host.mayDirty(end - first + 1)) return
    this.#pack(inode, parent, first, end)
    this.#mergeSiblings(inode, level - 1)
  }

  /**
   * Whether the node at `level` has lost enough for a look at its siblings to pay. Where all leaves are
   * siblings within reach, the last look said how many entries they could lose.
   */
  #mayPack(inode: Inode, level: number): boolean {
    if (level !== this.#path.depth) return true
    for (let above = 0; above < level - 1; above++) {
      if (entryCount((this.#path.steps[above] as Step).bytes) > 1) return this.#isOften(level)
    }
    if (entryCount((this.#path.steps[level - 1] as Step).bytes) > NEIGHBOURHOOD_LEAVES)
      return this.#isOften(level)
    if (inode.packCredit > 0) inode.packCredit--
    return inode.packCredit === 0
  }

  /** In larger trees, now and then for each leaf. */
  #isOften(level: number): boolean {
    return (BLOCK_ENTRIES - entryCount((this.#path.steps[level] as Step).bytes)) % LOSSES_PER_LOOK === 0
  }

  /** Moves entries of the parent's children [first, end) down until all but the last are full. */
  #pack(inode: Inode, parent: Step, first: number, end: number): void {
    let index = first
    let stop = end
    while (index + 1 < stop) {
      const target = this.#path.child(inode, parent, index)
      const source = this.#path.child(inode, parent, index + 1)
      const room = BLOCK_ENTRIES - entryCount(target.bytes)
      const moved = Math.min(room, entryCount(source.bytes))
      if (moved > 0) {
        moveEntries(source.bytes, 0, moved, target.bytes, entryCount(target.bytes))
        this.#path.touch(inode, { bytes: target.bytes, block: target, index: 0 })
      }
      if (entryCount(source.bytes) === 0) {
        this.#freeNode(inode, { bytes: source.bytes, block: source, index: 0 })
        closeEntry(parent.bytes, index + 1)
        stop--
        continue
      }
      if (moved > 0) {
        setEntryKey(parent.bytes, index + 1, entryKey(source.bytes, 0))
        this.#path.touch(inode, { bytes: source.bytes, block: source, index: 0 })
      }
      index++
    }
    this.#path.touch(inode, parent)
  }

  /** Pulls the only child into the root while it fits there. */
  #collapse(inode: Inode): void {
    const root = inode.blockArea
    while (nodeDepth(root) > 0 && entryCount(root) === 1) {
      const depth = nodeDepth(root)
      const block = this.#path.load(inode, childBlock(root, 0), depth - 1)
      if (entryCount(block.bytes) > ROOT_ENTRIES) return
      closeEntry(root, 0)
      setNodeDepth(root, depth - 1)
      moveEntries(block.bytes, 0, entryCount(block.bytes), root, 0)
      this.#freeNode(inode, { bytes: block.bytes, block, index: 0 })
      this.#host.markInodeDirty(inode)
    }
  }
}
