// The extent tree of a file: where its blocks are, of any depth.
//
// Always true: neighbours that can be one extent are one; room for the blocks that an insertion may
// need is asked for with `blocksNeeded` before anything changes, so nothing here fails half way.
// The shape of the tree is seen to elsewhere: the path to a leaf, growth, and shrinking have files of
// their own.

import { assert } from '../base/assert.ts'
import type { BlockAllocator } from './block-allocator.ts'
import type { BlockCache } from './block-cache.ts'
import { ExtentGrowth } from './extent-growth.ts'
import {
  checkNode,
  childBlock,
  entryCount,
  entryKey,
  entryMax,
  extentCount,
  extentTarget,
  initNode,
  isUnwritten,
  nodeDepth,
  openEntry,
  ROOT_ENTRIES,
  setExtent,
} from './extent-node.ts'
import { ExtentPath, type ExtentTreeHost, type Step } from './extent-path.ts'
import { ExtentShrinking } from './extent-shrinking.ts'
import { EXTENT_LENGTH_MAX, FILE_BLOCKS_MAX, UNWRITTEN_LENGTH_MAX } from './format.ts'
import type { Inode } from './inode.ts'

export type { ExtentTreeHost }

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
  readonly #host: ExtentTreeHost
  readonly #path: ExtentPath
  readonly #growth: ExtentGrowth
  readonly #shrinking: ExtentShrinking

  constructor(cache: BlockCache, allocator: BlockAllocator, host: ExtentTreeHost) {
    this.#host = host
    this.#path = new ExtentPath(cache, host)
    this.#growth = new ExtentGrowth(this.#path, cache, allocator, host)
    this.#shrinking = new ExtentShrinking(this.#path, allocator, host)
  }

  /** Checks the root when an inode is loaded. @throws UmbraError CORRUPT */
  checkRoot(inode: Inode): void {
    checkNode(inode.blockArea, undefined, this.#host.blockCount, inode.ino)
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
    const leaf = this.#path.find(inode, fileBlock)
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
    const next = this.#path.nextKey()
    run.blockCount = (next < 0 ? FILE_BLOCKS_MAX : next) - fileBlock
  }

  /** Where the next block of the file should go: after what precedes it. */
  goal(inode: Inode, fileBlock: number): number {
    const leaf = this.#path.find(inode, fileBlock)
    if (leaf.index < 0) return this.#host.homeBlock(inode)
    const start = entryKey(leaf.bytes, leaf.index)
    const goal = extentTarget(leaf.bytes, leaf.index) + (fileBlock - start)
    return goal < this.#host.blockCount ? goal : this.#host.homeBlock(inode)
  }

  /** Blocks that `insertions` new entries near `fileBlock` may take for the tree itself. */
  blocksNeeded(inode: Inode, fileBlock: number, insertions: number): number {
    const leaf = this.#path.find(inode, fileBlock)
    if (entryCount(leaf.bytes) + insertions <= entryMax(leaf.bytes)) return 0
    return (this.#path.depth + 2) * insertions
  }

  /**
   * Maps a hole. Lengths above an extent's are the caller's mistake.
   * @throws UmbraError ENOSPC if blocksNeeded() was not asked or not heeded, EFBIG
   */
  insert(inode: Inode, fileBlock: number, count: number, deviceBlock: number, unwritten: boolean): void {
    const max = unwritten ? UNWRITTEN_LENGTH_MAX : EXTENT_LENGTH_MAX
    assert(count > 0 && count <= max, `an extent of ${count} blocks can be written`)
    inode.hintCount = 0
    let leaf = this.#path.find(inode, fileBlock)
    if (this.#mergeWithNeighbours(inode, leaf, fileBlock, count, deviceBlock, unwritten)) return
    while (entryCount(leaf.bytes) === entryMax(leaf.bytes)) {
      this.#growth.makeRoom(inode, fileBlock)
      leaf = this.#path.find(inode, fileBlock)
    }
    const index = leaf.index + 1
    openEntry(leaf.bytes, index)
    setExtent(leaf.bytes, index, fileBlock, count, deviceBlock, unwritten)
    leaf.index = index
    this.#path.touch(inode, leaf)
    if (index === 0) this.#path.fixKeys(inode, this.#path.depth)
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
      this.#shrinking.deleteEntry(inode)
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
      if (next === 0) this.#path.fixKeys(inode, this.#path.depth)
    } else return false
    this.#path.touch(inode, leaf)
    return true
  }

  /** Makes written what is unwritten in [from, to). Up to two more entries for each extent cut. */
  setWritten(inode: Inode, from: number, to: number): void {
    let at = from
    while (at < to) {
      const leaf = this.#path.findNext(inode, at)
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
      this.#path.touch(inode, leaf)
      this.#joinRight(inode, leaf)
      const again = this.#path.find(inode, start)
      if (again.index > 0) {
        again.index--
        this.#joinRight(inode, again)
      }
      return
    }
    if (begin === start) {
      setExtent(bytes, index, end, stop - end, target + (end - start), true)
      this.#path.touch(inode, leaf)
      if (index === 0) this.#path.fixKeys(inode, this.#path.depth)
    } else {
      setExtent(bytes, index, start, begin - start, target, true)
      this.#path.touch(inode, leaf)
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
    this.#shrinking.deleteEntry(inode)
  }

  /** Unmaps [from, to), handing each run that was mapped to `onFree`. May need room for one entry. */
  remove(inode: Inode, from: number, to: number, onFree: (deviceBlock: number, count: number) => void): void {
    let at = from
    inode.hintCount = 0
    while (at < to) {
      const leaf = this.#path.findNext(inode, at)
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
        this.#shrinking.deleteEntry(inode)
      } else if (begin === start) {
        setExtent(bytes, index, end, stop - end, target + (end - start), unwritten)
        this.#path.touch(inode, leaf)
        if (index === 0) this.#path.fixKeys(inode, this.#path.depth)
      } else {
        setExtent(bytes, index, start, begin - start, target, unwritten)
        this.#path.touch(inode, leaf)
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
      const leaf = this.#path.findNext(inode, at)
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
        if (depth > 1) walk(this.#path.load(inode, child, depth - 1).bytes, depth - 1)
        visit(child)
      }
    }
    walk(inode.blockArea, nodeDepth(inode.blockArea))
  }
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
