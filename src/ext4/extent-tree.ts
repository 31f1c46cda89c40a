// The extent tree of a file: where its blocks are, of any depth.
//
// Always true: an index entry's key is the first key of its child (e2fsck insists); neighbours that
// can be one extent are one; room for the blocks that an insertion may need is asked for with
// `blocksNeeded` before anything changes, so nothing here fails half way. Every tree block is counted
// in the inode's sectorCount.

import { assert } from '../base/assert.ts'
import { posixError, UmbraError } from '../base/errors.ts'
import type { BlockAllocator } from './block-allocator.ts'
import type { BlockCache } from './block-cache.ts'
import type { MetadataBlock } from './core.ts'
import {
  checkNode,
  checkNodeChecksum,
  childBlock,
  closeEntry,
  entryCount,
  entryKey,
  entryMax,
  extentCount,
  extentTarget,
  initNode,
  isUnwritten,
  moveEntries,
  nodeDepth,
  openEntry,
  sealNode,
  searchNode,
  setChild,
  setEntryKey,
  setExtent,
  setNodeDepth,
} from './extent-node.ts'
import { EXTENT_DEPTH_MAX, EXTENT_LENGTH_MAX, FILE_BLOCKS_MAX, UNWRITTEN_LENGTH_MAX } from './format.ts'
import type { Inode } from './inode.ts'

const ROOT_ENTRIES = 4
const BLOCK_ENTRIES = 340
const SECTORS_PER_BLOCK = 8
/** How far entries are moved between leaves to keep them full, in leaves. */
const SHIFT_LEAVES_MAX = 16

interface Step {
  bytes: Uint8Array
  /** Undefined for the root, which lives in the inode. */
  block: MetadataBlock | undefined
  index: number
}

/** What the tree needs of its surroundings. */
export interface ExtentTreeHost {
  inodeSeed(inode: Inode): number
  markInodeDirty(inode: Inode): void
  /** A block near which the inode's first blocks should lie. */
  homeBlock(inode: Inode): number
}

/** A mapped run, or a hole (deviceBlock 0). Filled by lookup(). */
export interface MappedRun {
  fileBlock: number
  blockCount: number
  deviceBlock: number
  unwritten: boolean
}

export function initExtentRoot(inode: Inode): void {
  initNode(inode.blockArea, 0, ROOT_ENTRIES)
}

export class ExtentTree {
  readonly #cache: BlockCache
  readonly #allocator: BlockAllocator
  readonly #host: ExtentTreeHost
  readonly #blockCount: number
  readonly #path: Step[] = []
  #depth = 0

  constructor(cache: BlockCache, allocator: BlockAllocator, host: ExtentTreeHost, blockCount: number) {
    this.#cache = cache
    this.#allocator = allocator
    this.#host = host
    this.#blockCount = blockCount
    for (let i = 0; i <= EXTENT_DEPTH_MAX; i++)
      this.#path.push({ bytes: new Uint8Array(0), block: undefined, index: -1 })
  }

  /** Checks the root when an inode is loaded. @throws UmbraError CORRUPT */
  checkRoot(inode: Inode): void {
    checkNode(inode.blockArea, undefined, this.#blockCount, inode.ino)
  }

  /** What `fileBlock` maps to: the run from it on, or the hole up to the next extent. */
  lookup(inode: Inode, fileBlock: number, run: MappedRun): void {
    const within = fileBlock - inode.hintFileBlock
    if (inode.hintCount > 0 && within >= 0 && within < inode.hintCount) {
      run.fileBlock = fileBlock
      run.blockCount = inode.hintCount - within
      run.deviceBlock = inode.hintDeviceBlock + within
      run.unwritten = inode.hintUnwritten
      return
    }
    const leaf = this.#find(inode, fileBlock)
    run.fileBlock = fileBlock
    run.unwritten = false
    const { bytes, index } = leaf
    if (index >= 0) {
      const start = entryKey(bytes, index)
      const count = extentCount(bytes, index)
      if (fileBlock < start + count) {
        inode.hintFileBlock = start
        inode.hintCount = count
        inode.hintDeviceBlock = extentTarget(bytes, index)
        inode.hintUnwritten = isUnwritten(bytes, index)
        run.blockCount = start + count - fileBlock
        run.deviceBlock = inode.hintDeviceBlock + (fileBlock - start)
        run.unwritten = inode.hintUnwritten
        return
      }
    }
    run.deviceBlock = 0
    const next = this.#nextKey()
    run.blockCount = (next < 0 ? FILE_BLOCKS_MAX : next) - fileBlock
  }

  /** Where the next block of the file should go: after what precedes it. */
  goal(inode: Inode, fileBlock: number): number {
    const leaf = this.#find(inode, fileBlock)
    if (leaf.index < 0) return this.#host.homeBlock(inode)
    const start = entryKey(leaf.bytes, leaf.index)
    const goal = extentTarget(leaf.bytes, leaf.index) + (fileBlock - start)
    return goal < this.#blockCount ? goal : this.#host.homeBlock(inode)
  }

  /** Blocks that `insertions` new entries near `fileBlock` may take for the tree itself. */
  blocksNeeded(inode: Inode, fileBlock: number, insertions: number): number {
    const leaf = this.#find(inode, fileBlock)
    if (entryCount(leaf.bytes) + insertions <= entryMax(leaf.bytes)) return 0
    return (this.#depth + 2) * insertions
  }

  /**
   * Maps a hole. Lengths above an extent's are the caller's mistake.
   * @throws UmbraError ENOSPC if blocksNeeded() was not asked or not heeded, EFBIG
   */
  insert(inode: Inode, fileBlock: number, count: number, deviceBlock: number, unwritten: boolean): void {
    const max = unwritten ? UNWRITTEN_LENGTH_MAX : EXTENT_LENGTH_MAX
    assert(count > 0 && count <= max, `an extent of ${count} blocks can be written`)
    inode.hintCount = 0
    let leaf = this.#find(inode, fileBlock)
    if (this.#mergeWithNeighbours(inode, leaf, fileBlock, count, deviceBlock, unwritten)) return
    while (entryCount(leaf.bytes) === entryMax(leaf.bytes)) {
      this.#makeRoom(inode, fileBlock)
      leaf = this.#find(inode, fileBlock)
    }
    const index = leaf.index + 1
    openEntry(leaf.bytes, index)
    setExtent(leaf.bytes, index, fileBlock, count, deviceBlock, unwritten)
    leaf.index = index
    this.#touch(inode, leaf)
    if (index === 0) this.#fixKeys(inode, this.#depth)
  }

  #mergeWithNeighbours(
    inode: Inode,
    leaf: Step,
    fileBlock: number,
    count: number,
    deviceBlock: number,
    unwritten: boolean,
  ): boolean {
    const { bytes, index } = leaf
    const max = unwritten ? UNWRITTEN_LENGTH_MAX : EXTENT_LENGTH_MAX
    const left = index >= 0 && joins(bytes, index, fileBlock, deviceBlock, unwritten)
    const next = index + 1
    const right =
      next < entryCount(bytes) &&
      entryKey(bytes, next) === fileBlock + count &&
      extentTarget(bytes, next) === deviceBlock + count &&
      isUnwritten(bytes, next) === unwritten
    const leftCount = left ? extentCount(bytes, index) : 0
    const rightCount = right ? extentCount(bytes, next) : 0
    if (left && right && leftCount + count + rightCount <= max) {
      const start = entryKey(bytes, index)
      setExtent(bytes, index, start, leftCount + count + rightCount, extentTarget(bytes, index), unwritten)
      leaf.index = next
      this.#deleteEntry(inode)
      return true
    }
    if (left && leftCount + count <= max) {
      setExtent(
        bytes,
        index,
        entryKey(bytes, index),
        leftCount + count,
        extentTarget(bytes, index),
        unwritten,
      )
    } else if (right && rightCount + count <= max) {
      setExtent(bytes, next, fileBlock, count + rightCount, deviceBlock, unwritten)
      leaf.index = next
      if (next === 0) this.#fixKeys(inode, this.#depth)
    } else return false
    this.#touch(inode, leaf)
    return true
  }

  /** Makes written what is unwritten in [from, to). Up to two more entries for each extent cut. */
  setWritten(inode: Inode, from: number, to: number): void {
    let at = from
    while (at < to) {
      const leaf = this.#findNext(inode, at)
      if (!leaf) return
      const { bytes, index } = leaf
      const start = entryKey(bytes, index)
      const count = extentCount(bytes, index)
      if (start >= to) return
      const begin = Math.max(start, at)
      const end = Math.min(start + count, to)
      if (isUnwritten(bytes, index)) this.#convert(inode, leaf, begin, end)
      at = end
    }
  }

  /** Makes [begin, end) of the unwritten extent at `leaf` written. */
  #convert(inode: Inode, leaf: Step, begin: number, end: number): void {
    const { bytes, index } = leaf
    const start = entryKey(bytes, index)
    const stop = start + extentCount(bytes, index)
    const target = extentTarget(bytes, index)
    const beginTarget = target + (begin - start)
    inode.hintCount = 0
    if (begin === start && end === stop) {
      setExtent(bytes, index, start, stop - start, target, false)
      this.#touch(inode, leaf)
      this.#joinRight(inode, leaf)
      const again = this.#find(inode, start)
      if (again.index > 0) {
        again.index--
        this.#joinRight(inode, again)
      }
      return
    }
    if (begin === start) {
      setExtent(bytes, index, end, stop - end, target + (end - start), true)
      this.#touch(inode, leaf)
      if (index === 0) this.#fixKeys(inode, this.#depth)
    } else {
      setExtent(bytes, index, start, begin - start, target, true)
      this.#touch(inode, leaf)
      if (end < stop) this.insert(inode, end, stop - end, target + (end - start), true)
    }
    this.insert(inode, begin, end - begin, beginTarget, false)
  }

  /** Makes one extent of the one at the path's leaf index and the next, where they are neighbours. */
  #joinRight(inode: Inode, leaf: Step): void {
    const { bytes, index } = leaf
    const next = index + 1
    if (next >= entryCount(bytes)) return
    const unwritten = isUnwritten(bytes, index)
    const total = extentCount(bytes, index) + extentCount(bytes, next)
    const max = unwritten ? UNWRITTEN_LENGTH_MAX : EXTENT_LENGTH_MAX
    if (total > max || isUnwritten(bytes, next) !== unwritten) return
    if (!joins(bytes, index, entryKey(bytes, next), extentTarget(bytes, next), unwritten)) return
    setExtent(bytes, index, entryKey(bytes, index), total, extentTarget(bytes, index), unwritten)
    leaf.index = next
    this.#deleteEntry(inode)
  }

  /** Unmaps [from, to), handing each run that was mapped to `onFree`. May need room for one entry. */
  remove(inode: Inode, from: number, to: number, onFree: (deviceBlock: number, count: number) => void): void {
    let at = from
    inode.hintCount = 0
    while (at < to) {
      const leaf = this.#findNext(inode, at)
      if (!leaf) return
      const { bytes, index } = leaf
      const start = entryKey(bytes, index)
      const stop = start + extentCount(bytes, index)
      if (start >= to) return
      const target = extentTarget(bytes, index)
      const unwritten = isUnwritten(bytes, index)
      const begin = Math.max(start, at)
      const end = Math.min(stop, to)
      if (begin === start && end === stop) {
        this.#deleteEntry(inode)
      } else if (begin === start) {
        setExtent(bytes, index, end, stop - end, target + (end - start), unwritten)
        this.#touch(inode, leaf)
        if (index === 0) this.#fixKeys(inode, this.#depth)
      } else {
        setExtent(bytes, index, start, begin - start, target, unwritten)
        this.#touch(inode, leaf)
        if (end < stop) this.insert(inode, end, stop - end, target + (end - start), unwritten)
      }
      onFree(target + (begin - start), end - begin)
      at = end
    }
  }

  /** Visits every extent in order. */
  forEach(
    inode: Inode,
    visit: (fileBlock: number, count: number, deviceBlock: number, unwritten: boolean) => void,
  ): void {
    let at = 0
    for (;;) {
      const leaf = this.#findNext(inode, at)
      if (!leaf) return
      const { bytes, index } = leaf
      const start = entryKey(bytes, index)
      const count = extentCount(bytes, index)
      visit(start, count, extentTarget(bytes, index), isUnwritten(bytes, index))
      at = start + count
    }
  }

  /** Visits the block of every node below the root. */
  forEachNode(inode: Inode, visit: (blockIndex: number) => void): void {
    const walk = (bytes: Uint8Array, depth: number): void => {
      for (let i = 0; depth > 0 && i < entryCount(bytes); i++) {
        const child = childBlock(bytes, i)
        if (depth > 1) walk(this.#load(inode, child, depth - 1).bytes, depth - 1)
        visit(child)
      }
    }
    walk(inode.blockArea, nodeDepth(inode.blockArea))
  }

  // -- the path from the root to a leaf

  #load(inode: Inode, blockIndex: number, depth: number): MetadataBlock {
    return this.#cache.get(blockIndex, (bytes) => {
      checkNode(bytes, depth, this.#blockCount, inode.ino)
      checkNodeChecksum(bytes, this.#host.inodeSeed(inode), inode.ino)
    })
  }

  /** Sets the path to the leaf for `fileBlock`; its index is the last entry at or before it, or -1. */
  #find(inode: Inode, fileBlock: number): Step {
    const depth = nodeDepth(inode.blockArea)
    let bytes: Uint8Array = inode.blockArea
    let block: MetadataBlock | undefined
    for (let level = 0; ; level++) {
      const step = this.#path[level] as Step
      step.bytes = bytes
      step.block = block
      step.index = searchNode(bytes, fileBlock)
      if (level === depth) {
        this.#depth = depth
        return step
      }
      if (step.index < 0) step.index = 0
      const child = childBlock(bytes, step.index)
      if (child <= 0 || child >= this.#blockCount)
        throw new UmbraError('CORRUPT', `The extent tree of inode ${inode.ino} points outside`)
      block = this.#load(inode, child, depth - level - 1)
      bytes = block.bytes
    }
  }

  /** Like #find but for the first extent that ends after `fileBlock`; undefined: there is none. */
  #findNext(inode: Inode, fileBlock: number): Step | undefined {
    const leaf = this.#find(inode, fileBlock)
    const { bytes, index } = leaf
    if (index >= 0 && entryKey(bytes, index) + extentCount(bytes, index) > fileBlock) return leaf
    if (index + 1 < entryCount(bytes)) {
      leaf.index = index + 1
      return leaf
    }
    const next = this.#nextKey()
    return next < 0 ? undefined : this.#find(inode, next)
  }

  /** First key after the path's place, or -1. */
  #nextKey(): number {
    for (let level = this.#depth; level >= 0; level--) {
      const step = this.#path[level] as Step
      if (step.index + 1 < entryCount(step.bytes)) return entryKey(step.bytes, step.index + 1)
    }
    return -1
  }

  #touch(inode: Inode, step: Step): void {
    if (step.block) {
      this.#cache.markDirty(step.block, (bytes) => sealNode(bytes, this.#host.inodeSeed(inode)))
    }
    this.#host.markInodeDirty(inode)
  }

  /** The first key of the node at `level` changed: its parents' keys follow. */
  #fixKeys(inode: Inode, level: number): void {
    for (let i = level; i > 0; i--) {
      const parent = this.#path[i - 1] as Step
      setEntryKey(parent.bytes, parent.index, entryKey((this.#path[i] as Step).bytes, 0))
      this.#touch(inode, parent)
      if (parent.index > 0) return
    }
  }

  // -- growing

  #newNode(inode: Inode, depth: number, goal: number): MetadataBlock {
    const blockIndex = this.#allocator.allocate(goal, 1, inode.orphaned)
    inode.sectorCount += SECTORS_PER_BLOCK
    const block = this.#cache.create(blockIndex, (bytes) => sealNode(bytes, this.#host.inodeSeed(inode)))
    initNode(block.bytes, depth, BLOCK_ENTRIES)
    return block
  }

  /** Moves entries aside, splits the highest full node below one with room, or deepens the tree. */
  #makeRoom(inode: Inode, fileBlock: number): void {
    let level = this.#depth
    while (level >= 0 && isFull(this.#path[level] as Step)) level--
    if (this.#depth > 0 && this.#shift(inode, this.#depth - 1)) return
    if (level < 0) this.#growRoot(inode)
    else this.#split(inode, level, fileBlock)
  }

  /**
   * Makes room in the full leaf below `level` by moving entries towards the nearest sibling that has
   * some: leaves stay as full as e2fsck likes them. Appending keeps to full leaves by itself.
   */
  #shift(inode: Inode, level: number): boolean {
    const parent = this.#path[level] as Step
    const leaf = this.#path[level + 1] as Step
    const last = entryCount(parent.bytes) - 1
    const here = parent.index
    if (here === last && leaf.index === entryCount(leaf.bytes) - 1) return false
    for (let distance = 1; distance <= SHIFT_LEAVES_MAX; distance++) {
      for (const side of [1, -1]) {
        const index = here + side * distance
        if (index < 0 || index > last) continue
        const room = BLOCK_ENTRIES - entryCount(this.#child(inode, parent, index).bytes)
        // A target left full could be where the new entry belongs: moving would then never end.
        if (room < 2) continue
        this.#shiftTowards(inode, parent, index, side, Math.ceil(room / 2))
        return true
      }
    }
    return false
  }

  /** Moves `count` entries from each leaf between the path's and `index` to the one behind it. */
  #shiftTowards(inode: Inode, parent: Step, index: number, side: number, count: number): void {
    for (let i = index; i !== parent.index; i -= side) {
      const target = this.#child(inode, parent, i)
      const source = this.#child(inode, parent, i - side)
      if (side > 0) {
        moveEntries(source.bytes, entryCount(source.bytes) - count, count, target.bytes, 0)
        setEntryKey(parent.bytes, i, entryKey(target.bytes, 0))
      } else {
        moveEntries(source.bytes, 0, count, target.bytes, entryCount(target.bytes))
        setEntryKey(parent.bytes, i + 1, entryKey(source.bytes, 0))
      }
      this.#touch(inode, { bytes: target.bytes, block: target, index: 0 })
      this.#touch(inode, { bytes: source.bytes, block: source, index: 0 })
    }
    this.#touch(inode, parent)
  }

  /** The block of the parent's child at `index`. */
  #child(inode: Inode, parent: Step, index: number): MetadataBlock {
    return this.#load(inode, childBlock(parent.bytes, index), nodeDepth(parent.bytes) - 1)
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
    const parent = this.#path[level] as Step
    const child = this.#path[level + 1] as Step
    const count = entryCount(child.bytes)
    const isLeaf = level + 1 === this.#depth
    const appending = child.index === count - 1 && parent.index === entryCount(parent.bytes) - 1
    const block = this.#newNode(inode, nodeDepth(child.bytes), child.block?.blockIndex ?? 0)
    const moved = appending ? (isLeaf ? 0 : 1) : count >> 1
    moveEntries(child.bytes, count - moved, moved, block.bytes, 0)
    const key = moved === 0 ? fileBlock : entryKey(block.bytes, 0)
    openEntry(parent.bytes, parent.index + 1)
    setChild(parent.bytes, parent.index + 1, key, block.blockIndex)
    this.#touch(inode, child)
    this.#touch(inode, parent)
  }

  // -- shrinking

  /** Removes the entry at the path's leaf index; frees nodes left empty; keeps the tree shallow. */
  #deleteEntry(inode: Inode): void {
    let level = this.#depth
    for (;;) {
      const step = this.#path[level] as Step
      closeEntry(step.bytes, step.index)
      this.#touch(inode, step)
      if (entryCount(step.bytes) > 0 || level === 0) {
        if (level === 0 && entryCount(step.bytes) === 0) setNodeDepth(inode.blockArea, 0)
        else if (step.index === 0) this.#fixKeys(inode, level)
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
    inode.sectorCount -= SECTORS_PER_BLOCK
    this.#allocator.free(step.block.blockIndex, 1, inode.orphaned, true)
  }

  /** Frees a leaf once its neighbourhood has room for all its entries. */
  #mergeSiblings(inode: Inode, level: number): void {
    if (level === 0) return
    const parent = this.#path[level - 1] as Step
    const first = Math.max(0, parent.index - SHIFT_LEAVES_MAX / 2)
    const end = Math.min(entryCount(parent.bytes), first + SHIFT_LEAVES_MAX)
    let room = 0
    for (let i = first; i < end; i++) {
      room += BLOCK_ENTRIES - entryCount(this.#child(inode, parent, i).bytes)
    }
    if (room >= BLOCK_ENTRIES && end - first > 1) this.#pack(inode, parent, first, end)
  }

  /** Moves entries of the parent's children [first, end) down until all but the last are full. */
  #pack(inode: Inode, parent: Step, first: number, end: number): void {
    let index = first
    let stop = end
    while (index + 1 < stop) {
      const target = this.#child(inode, parent, index)
      const source = this.#child(inode, parent, index + 1)
      const room = BLOCK_ENTRIES - entryCount(target.bytes)
      const moved = Math.min(room, entryCount(source.bytes))
      if (moved > 0) {
        moveEntries(source.bytes, 0, moved, target.bytes, entryCount(target.bytes))
        this.#touch(inode, { bytes: target.bytes, block: target, index: 0 })
      }
      if (entryCount(source.bytes) === 0) {
        this.#freeNode(inode, { bytes: source.bytes, block: source, index: 0 })
        closeEntry(parent.bytes, index + 1)
        stop--
        continue
      }
      if (moved > 0) {
        setEntryKey(parent.bytes, index + 1, entryKey(source.bytes, 0))
        this.#touch(inode, { bytes: source.bytes, block: source, index: 0 })
      }
      index++
    }
    this.#touch(inode, parent)
  }

  /** Pulls the only child into the root while it fits there. */
  #collapse(inode: Inode): void {
    const root = inode.blockArea
    while (nodeDepth(root) > 0 && entryCount(root) === 1) {
      const depth = nodeDepth(root)
      const block = this.#load(inode, childBlock(root, 0), depth - 1)
      if (entryCount(block.bytes) > ROOT_ENTRIES) return
      closeEntry(root, 0)
      setNodeDepth(root, depth - 1)
      moveEntries(block.bytes, 0, entryCount(block.bytes), root, 0)
      this.#freeNode(inode, { bytes: block.bytes, block, index: 0 })
      this.#host.markInodeDirty(inode)
    }
  }
}

function isFull(step: Step): boolean {
  return entryCount(step.bytes) === entryMax(step.bytes)
}

/** Whether [fileBlock...] at deviceBlock continues the extent. */
function joins(
  b: Uint8Array,
  index: number,
  fileBlock: number,
  deviceBlock: number,
  unwritten: boolean,
): boolean {
  const count = extentCount(b, index)
  return (
    entryKey(b, index) + count === fileBlock &&
    extentTarget(b, index) + count === deviceBlock &&
    isUnwritten(b, index) === unwritten
  )
}
