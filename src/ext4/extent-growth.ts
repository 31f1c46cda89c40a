// How the extent tree of a file gains nodes: room for one more entry in a leaf that is full.
//
// Always true: entries move to a neighbour before a node is split, at the end of the file too;
// appending to full nodes leaves them full. Every node made is counted in the inode's sectorCount.
// The path is stale afterwards: the caller finds its leaf anew.

import { posixError } from '../base/errors.ts'
import type { BlockAllocator } from './block-allocator.ts'
import type { BlockCache } from './block-cache.ts'
import type { MetadataBlock } from './core.ts'
import {
  BLOCK_ENTRIES,
  entryCount,
  entryKey,
  entryMax,
  initNode,
  moveEntries,
  nodeDepth,
  openEntry,
  sealNode,
  setChild,
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
import { EXTENT_DEPTH_MAX } from './format.ts'
import type { Inode } from './inode.ts'

export class ExtentGrowth {
  readonly #path: ExtentPath
  readonly #cache: BlockCache
  readonly #allocator: BlockAllocator
  readonly #host: ExtentTreeHost

  constructor(path: ExtentPath, cache: BlockCache, allocator: BlockAllocator, host: ExtentTreeHost) {
    this.#path = path
    this.#cache = cache
    this.#allocator = allocator
    this.#host = host
  }

  /**
   * For the full leaf that the path leads to: moves entries aside, splits the highest full node below
   * one with room, or deepens the tree. One step towards room, not always all of it.
   * @throws UmbraError ENOSPC, EFBIG
   */
  makeRoom(inode: Inode, fileBlock: number): void {
    let level = this.#path.depth
    while (level >= 0 && isFull(this.#path.steps[level] as Step)) level--
    if (this.#path.depth > 0 && this.#shift(inode, this.#path.depth - 1)) return
    if (level < 0) this.#growRoot(inode)
    else this.#split(inode, level, fileBlock)
  }

  /**
   * Makes room in the full leaf below `level` by moving entries towards the nearest sibling that has
   * some. A split, which may leave a leaf's worth of room, thus only happens where there is none yet:
   * e2fsck proposes to rebuild a tree whose leaves have more room than one of them holds.
   */
  #shift(inode: Inode, level: number): boolean {
    const parent = this.#path.steps[level] as Step
    const last = entryCount(parent.bytes) - 1
    const here = parent.index
    for (let distance = 1; distance <= NEIGHBOURHOOD_LEAVES; distance++) {
      for (const side of [1, -1]) {
        const index = here + side * distance
        if (index < 0 || index > last) continue
        const room = BLOCK_ENTRIES - entryCount(this.#path.child(inode, parent, index).bytes)
        // A target left full could be where the new entry belongs: moving would then never end.
        if (room < 2) continue
        // Where the volume is that full, a split will do.
        if (!this.#host.mayDirty(distance + 2)) return false
        this.#shiftTowards(inode, parent, index, side, Math.ceil(room / 2))
        return true
      }
    }
    return false
  }

  /** Moves `count` entries from each leaf between the path's and `index` to the one behind it. */
  #shiftTowards(inode: Inode, parent: Step, index: number, side: number, count: number): void {
    for (let i = index; i !== parent.index; i -= side) {
      const target = this.#path.child(inode, parent, i)
      const source = this.#path.child(inode, parent, i - side)
      if (side > 0) {
        moveEntries(source.bytes, entryCount(source.bytes) - count, count, target.bytes, 0)
        setEntryKey(parent.bytes, i, entryKey(target.bytes, 0))
      } else {
        moveEntries(source.bytes, 0, count, target.bytes, entryCount(target.bytes))
        setEntryKey(parent.bytes, i + 1, entryKey(source.bytes, 0))
      }
      this.#path.touch(inode, { bytes: target.bytes, block: target, index: 0 })
      this.#path.touch(inode, { bytes: source.bytes, block: source, index: 0 })
    }
    this.#path.touch(inode, parent)
  }

  #growRoot(inode: Inode): void {
    const root = inode.blockArea
    const depth = nodeDepth(root)
    if (depth >= EXTENT_DEPTH_MAX) throw posixError('EFBIG', 'The file is too fragmented')
    const block = this.#newNode(inode, depth, this.#host.homeBlock(inode))
    moveEntries(root, 0, entryCount(root), block.bytes, 0)
    setNodeDepth(root, depth + 1)
    openEntry(root, 0)
    setChild(root, 0, entryKey(block.bytes, 0), block.blockIndex)
    this.#host.markInodeDirty(inode)
  }

  /** Splits the child of the path at `level`; appending leaves the full node as it is. */
  #split(inode: Inode, level: number, fileBlock: number): void {
    const parent = this.#path.steps[level] as Step
    const child = this.#path.steps[level + 1] as Step
    const count = entryCount(child.bytes)
    const isLeaf = level + 1 === this.#path.depth
    const appending = child.index === count - 1 && parent.index === entryCount(parent.bytes) - 1
    const block = this.#newNode(inode, nodeDepth(child.bytes), child.block?.blockIndex ?? 0)
    const moved = appending ? (isLeaf ? 0 : 1) : count >> 1
    moveEntries(child.bytes, count - moved, moved, block.bytes, 0)
    const key = moved === 0 ? fileBlock : entryKey(block.bytes, 0)
    openEntry(parent.bytes, parent.index + 1)
    setChild(parent.bytes, parent.index + 1, key, block.blockIndex)
    this.#path.touch(inode, child)
    this.#path.touch(inode, parent)
  }

  #newNode(inode: Inode, depth: number, goal: number): MetadataBlock {
    const blockIndex = this.#allocator.allocate(goal, 1, inode.orphaned)
    inode.sectorCount += SECTORS_PER_NODE
    inode.packCredit = 0
    const block = this.#cache.create(blockIndex, (bytes) => sealNode(bytes, this.#host.inodeSeed(inode)))
    initNode(block.bytes, depth, BLOCK_ENTRIES)
    return block
  }
}

function isFull(step: Step): boolean {
  return entryCount(step.bytes) === entryMax(step.bytes)
}
