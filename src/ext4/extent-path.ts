// The way from the root of a file's extent tree down to one leaf: finding, and keeping keys true.
//
// Always true: `steps` up to `depth` are the nodes of the last find() and the places taken in them;
// whoever adds or takes away nodes must find() anew before relying on them. An index entry's key is
// the first key of its child (e2fsck insists): fixKeys() sees to it. A node is checked before use.

import { UmbraError } from '../base/errors.ts'
import type { BlockCache } from './block-cache.ts'
import type { MetadataBlock } from './core.ts'
import {
  checkNode,
  checkNodeChecksum,
  childBlock,
  entryCount,
  entryKey,
  extentCount,
  nodeDepth,
  sealNode,
  searchNode,
  setEntryKey,
} from './extent-node.ts'
import { EXTENT_DEPTH_MAX } from './format.ts'
import type { Inode } from './inode.ts'

/** Sectors of 512 bytes that a node below the root adds to the inode's count. */
export const SECTORS_PER_NODE = 8
/** How far entries are moved between leaves to keep them full, in leaves; a file of more than some 20,000
 * extents may thus have room that e2fsck would take out of it (the kernel's own trees have more). */
export const NEIGHBOURHOOD_LEAVES = 64

export interface Step {
  bytes: Uint8Array
  /** Undefined for the root, which lives in the inode. */
  block: MetadataBlock | undefined
  index: number
}

/** What the tree needs of its surroundings. */
export interface ExtentTreeHost {
  inodeSeed(inode: Inode): number
  markInodeDirty(inode: Inode): void
  /** Claims room for so many more blocks to become dirty than the operation has asked for; false: there is none. */
  mayDirty(blockCount: number): boolean
  /** Size of the file system, which may grow. */
  readonly blockCount: number
  /** A block near which the inode's first blocks should lie. */
  homeBlock(inode: Inode): number
}

export class ExtentPath {
  readonly steps: Step[] = []
  /** Level of the leaf in `steps`; 0 when it is the root. */
  depth = 0
  readonly #cache: BlockCache
  readonly #host: ExtentTreeHost

  constructor(cache: BlockCache, host: ExtentTreeHost) {
    this.#cache = cache
    this.#host = host
    for (let i = 0; i <= EXTENT_DEPTH_MAX; i++)
      this.steps.push({ bytes: new Uint8Array(0), block: undefined, index: -1 })
  }

  /** A checked node below the root. @throws UmbraError CORRUPT, CHECKSUM_MISMATCH */
  load(inode: Inode, blockIndex: number, depth: number): MetadataBlock {
    return this.#cache.get(blockIndex, (bytes) => {
      checkNode(bytes, depth, this.#host.blockCount, inode.ino)
      checkNodeChecksum(bytes, this.#host.inodeSeed(inode), inode.ino)
    })
  }

  /** Sets the path to the leaf for `fileBlock`; its index is the last entry at or before it, or -1. */
  find(inode: Inode, fileBlock: number): Step {
    const depth = nodeDepth(inode.blockArea)
    let bytes: Uint8Array = inode.blockArea
    let block: MetadataBlock | undefined
    for (let level = 0; ; level++) {
      const step = this.steps[level] as Step
      step.bytes = bytes
      step.block = block
      step.index = searchNode(bytes, fileBlock)
      if (level === depth) {
        this.depth = depth
        return step
      }
      if (step.index < 0) step.index = 0
      const child = childBlock(bytes, step.index)
      if (child <= 0 || child >= this.#host.blockCount)
        throw new UmbraError('CORRUPT', `The extent tree of inode ${inode.ino} points outside`)
      block = this.load(inode, child, depth - level - 1)
      bytes = block.bytes
    }
  }

  /** Like find() but for the first extent that ends after `fileBlock`; undefined: there is none. */
  findNext(inode: Inode, fileBlock: number): Step | undefined {
    const leaf = this.find(inode, fileBlock)
    const { bytes, index } = leaf
    if (index >= 0 && entryKey(bytes, index) + extentCount(bytes, index) > fileBlock) return leaf
    if (index + 1 < entryCount(bytes)) {
      leaf.index = index + 1
      return leaf
    }
    const next = this.nextKey()
    return next < 0 ? undefined : this.find(inode, next)
  }

  /** First key after the path's place, or -1. */
  nextKey(): number {
    for (let level = this.depth; level >= 0; level--) {
      const step = this.steps[level] as Step
      if (step.index + 1 < entryCount(step.bytes)) return entryKey(step.bytes, step.index + 1)
    }
    return -1
  }

  /** The node of `step` changed, and with it the inode. */
  touch(inode: Inode, step: Step): void {
    if (step.block) {
      this.#cache.markDirty(step.block, (bytes) => sealNode(bytes, this.#host.inodeSeed(inode)))
    }
    this.#host.markInodeDirty(inode)
  }

  /** The first key of the node at `level` changed: its parents' keys follow. */
  fixKeys(inode: Inode, level: number): void {
    for (let i = level; i > 0; i--) {
      const parent = this.steps[i - 1] as Step
      setEntryKey(parent.bytes, parent.index, entryKey((this.steps[i] as Step).bytes, 0))
      this.touch(inode, parent)
      if (parent.index > 0) return
    }
  }

  /** The block of the parent's child at `index`. */
  child(inode: Inode, parent: Step, index: number): MetadataBlock {
    return this.load(inode, childBlock(parent.bytes, index), nodeDepth(parent.bytes) - 1)
  }
}
