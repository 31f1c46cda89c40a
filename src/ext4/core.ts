// The seam inside the ext4 room: what the structure layer (superblock, groups, block cache, inodes,
// allocators, extents) gives to the layers above it (directories, xattrs, namespace operations).
//
// Always true: everything here is synchronous and atomic between two calls of the event loop; only
// blocks handed out by `metadata()` or `newMetadata()` and marked dirty reach the device, each with
// its checksum made by `seal` just before the commit's cut. Metadata blocks are shared objects: hold
// them only within one operation (the cache may evict clean ones between operations).

import type { BlockDevice } from '../storage/block-device.ts'
import type { Inode, Time } from './inode.ts'

/** Computes and stores a block's checksum in place; called once before the block is written. */
export type Seal = (bytes: Uint8Array) => void
/** Verifies a block just read; throws UmbraError CHECKSUM_MISMATCH or CORRUPT. */
export type Verify = (bytes: Uint8Array) => void

export interface MetadataBlock {
  readonly blockIndex: number
  /** 4096 bytes (or the file system's block size), edited in place. */
  readonly bytes: Uint8Array
  readonly view: DataView
}

export interface Ext4Core {
  readonly device: BlockDevice
  readonly readOnly: boolean
  readonly blockSizeBytes: number
  /** s_hash_seed and version, for hash trees. */
  readonly hashSeed: Uint32Array
  readonly hashVersion: number
  readonly hashUnsigned: boolean
  /** The dir_index feature: a directory that outgrows its first block gets a hash tree. */
  readonly hasDirectoryIndex: boolean
  /** The large_dir feature: hash trees of three levels instead of two. */
  readonly hasLargeDirectories: boolean
  /** crc32c seed of the file system (uuid or s_checksum_seed), for xattr blocks. */
  readonly checksumSeed: number
  now(): Time

  // -- operations
  /**
   * Starts an operation that changes something: claims room for the metadata it may dirty.
   * @throws UmbraError EROFS, ENOSPC
   */
  begin(dirtyBlockCount: number, freeing?: boolean): void

  // -- metadata blocks
  metadata(blockIndex: number, verify: Verify): MetadataBlock
  /** A zero-filled block for a just allocated place, already dirty. */
  newMetadata(blockIndex: number, seal: Seal): MetadataBlock
  markDirty(block: MetadataBlock, seal: Seal): void

  // -- inodes
  /** crc32c seed of the inode (uuid, number, generation). */
  inodeSeed(inode: Inode): number
  /** @throws UmbraError ESTALE for a free or reserved inode, CORRUPT, CHECKSUM_MISMATCH */
  inode(ino: number): Inode
  /** A new inode near its parent: generation, times, flags, empty extent tree; linkCount 0; dirty. */
  allocateInode(parent: Inode, mode: number, uid: number, gid: number): Inode
  markInodeDirty(inode: Inode): void
  /**
   * The last link is gone. With no handle and no lookup left the inode and all its blocks are freed
   * now; otherwise it becomes an orphan: freed in the committed view, kept in memory.
   */
  dropInode(inode: Inode): void
  /** Makes an inode without links (O_TMPFILE) an orphan whether or not anyone uses it yet. */
  makeOrphan(inode: Inode): void
  /** An orphan (O_TMPFILE) got a link: it enters the committed view. */
  adoptOrphan(inode: Inode): void
  /** A handle or a lookup is gone: frees the inode if it is an orphan that nobody uses any more. */
  releaseOrphan(inode: Inode): void

  // -- blocks of a file
  /** The device block that holds `fileBlock`, or 0 for a hole or an unwritten one. */
  mapBlock(inode: Inode, fileBlock: number): number
  /** Allocates and maps one metadata block of a directory or long symlink at `fileBlock`. */
  appendBlock(inode: Inode, fileBlock: number): number
  /** Metadata blocks that freeing the whole inode may dirty: add it to begin() before the last link goes. */
  releaseCost(inode: Inode): number
  /** Frees the file's blocks from `fromFileBlock` on; size is the caller's. */
  releaseBlocks(inode: Inode, fromFileBlock: number): void

  // -- loose blocks (xattr blocks); counted in sectorCount by the caller
  allocateBlock(inode: Inode): number
  freeBlock(blockIndex: number, inode: Inode): void
}
