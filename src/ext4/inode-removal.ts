// The end of an inode: freed with all it holds, or an orphan while somebody still uses it.
//
// Always true: an orphan is free in the committed view (number, record and blocks) and whole in
// memory; it is freed there too when its last handle and lookup are gone, or gets a link and enters
// the committed view again. A block of attributes shared with others is theirs: an orphan has none.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockAllocator } from './block-allocator.ts'
import type { BlockCache } from './block-cache.ts'
import type { Ext4Core, Seal } from './core.ts'
import type { ExtentTree } from './extent-tree.ts'
import { INODE_FLAG, type Inode } from './inode.ts'
import type { InodeAllocator } from './inode-allocator.ts'
import type { InodeCache } from './inode-cache.ts'
import { encodeFreeInode } from './inode-record.ts'
import type { OrphanOverlay } from './orphan-overlay.ts'
import { sealXattrBlock, setXattrBlockReferences, xattrBlockReferences } from './xattr-block.ts'

const NO_SEAL: Seal = () => undefined

/** What removing inodes works on, all of one file system. */
export interface RemovalParts {
  readonly cache: BlockCache
  readonly overlay: OrphanOverlay
  readonly inodes: InodeCache
  /** Inodes whose records the next flush writes. */
  readonly dirtyInodes: Set<Inode>
  readonly allocator: BlockAllocator
  readonly inodeAllocator: InodeAllocator
  readonly extents: ExtentTree
  readonly inodeSizeBytes: number
}

export class InodeRemoval {
  readonly #core: Ext4Core
  readonly #cache: BlockCache
  readonly #overlay: OrphanOverlay
  readonly #inodes: InodeCache
  readonly #dirtyInodes: Set<Inode>
  readonly #allocator: BlockAllocator
  readonly #inodeAllocator: InodeAllocator
  readonly #extents: ExtentTree
  readonly #inodeSizeBytes: number

  constructor(core: Ext4Core, parts: RemovalParts) {
    this.#core = core
    this.#cache = parts.cache
    this.#overlay = parts.overlay
    this.#inodes = parts.inodes
    this.#dirtyInodes = parts.dirtyInodes
    this.#allocator = parts.allocator
    this.#inodeAllocator = parts.inodeAllocator
    this.#extents = parts.extents
    this.#inodeSizeBytes = parts.inodeSizeBytes
  }

  /** The last link is gone: frees the inode now, or makes it an orphan while somebody uses it. */
  drop(inode: Inode): void {
    if (inode.orphaned) {
      this.releaseOrphan(inode)
      return
    }
    if (inode.openCount > 0 || inode.lookupCount > 0) {
      this.makeOrphan(inode)
      return
    }
    this.#freeContents(inode)
    this.#freeRecord(inode, false)
    this.#inodes.remove(inode.ino)
  }

  /** Frees every block of the inode, wherever its kind keeps them. */
  #freeContents(inode: Inode): void {
    if (inode.xattrBlock !== 0) this.#dropXattrBlock(inode)
    if (inode.flags & INODE_FLAG.EXTENTS) this.#core.releaseBlocks(inode, 0)
  }

  /** Frees number and record in the committed view; an orphan holds on to its number. */
  #freeRecord(inode: Inode, isHeld: boolean): void {
    this.#inodeAllocator.release(inode.ino, inode.isDirectory, isHeld)
    const block = this.#cache.get(this.#inodeAllocator.tableBlock(inode.ino))
    const at = this.#inodeAllocator.recordOffset(inode.ino)
    inode.deletedAtSec = Math.min(Math.max(1, Math.floor(this.#core.now().sec)), 0xffffffff)
    encodeFreeInode(
      block.bytes,
      at,
      this.#inodeSizeBytes,
      inode.generation,
      inode.deletedAtSec,
      this.#core.inodeSeed(inode),
    )
    this.#cache.markDirty(block, NO_SEAL)
    this.#dirtyInodes.delete(inode)
    inode.dirty = false
  }

  /** Frees the inode in the committed view and keeps it in memory. */
  makeOrphan(inode: Inode): void {
    if (inode.orphaned) return
    // A shared xattr block stays behind for its other owners: the orphan does without it.
    if (inode.xattrBlock !== 0 && this.#xattrReferences(inode.xattrBlock) > 1) this.#dropXattrBlock(inode)
    this.#eachBlock(inode, (block, count) => this.#allocator.moveToOverlay(block, count))
    this.#freeRecord(inode, true)
    inode.orphaned = true
    this.#overlay.inodes.add(inode.ino)
  }

  /** The orphan got a link: it enters the committed view. */
  adoptOrphan(inode: Inode): void {
    if (!inode.orphaned) return
    this.#eachBlock(inode, (block, count) => this.#allocator.moveFromOverlay(block, count))
    this.#overlay.inodes.delete(inode.ino)
    this.#inodeAllocator.take(inode.ino, inode.isDirectory)
    inode.orphaned = false
    inode.deletedAtSec = 0
    // Whatever was committed so far, it was without this inode.
    inode.mappingTransaction = this.#core.device.transaction
    this.#core.markInodeDirty(inode)
  }

  /** Frees what the orphan held, unless somebody uses it still. */
  releaseOrphan(inode: Inode): void {
    if (!inode.orphaned || inode.openCount > 0 || inode.lookupCount > 0) return
    this.#freeContents(inode)
    this.#inodeAllocator.letGo(inode.ino)
    this.#inodes.remove(inode.ino)
  }

  /** Visits every run of blocks that the inode holds, tree and xattr blocks included. */
  #eachBlock(inode: Inode, visit: (blockIndex: number, count: number) => void): void {
    if (inode.xattrBlock !== 0) visit(inode.xattrBlock, 1)
    if ((inode.flags & INODE_FLAG.EXTENTS) === 0) return
    this.#extents.forEachNode(inode, (block) => visit(block, 1))
    this.#extents.forEach(inode, (_fileBlock, count, block) => visit(block, count))
  }

  #xattrReferences(blockIndex: number): number {
    return xattrBlockReferences(this.#core.metadata(blockIndex, () => undefined).bytes)
  }

  /** Gives up the inode's share of its xattr block. */
  #dropXattrBlock(inode: Inode): void {
    const { xattrBlock } = inode
    const block = this.#core.metadata(xattrBlock, () => undefined)
    const references = xattrBlockReferences(block.bytes)
    if (references > 1) {
      setXattrBlockReferences(block.bytes, references - 1)
      this.#core.markDirty(block, (bytes) => sealXattrBlock(bytes, xattrBlock, this.#core.checksumSeed))
    } else {
      this.#core.freeBlock(xattrBlock, inode)
    }
    inode.xattrBlock = 0
    inode.sectorCount -= BLOCK_SIZE_BYTES / 512
  }
}
