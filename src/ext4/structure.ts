// The structure layer of the file system: everything that Ext4Core promises, over one block device.
//
// Always true: between two calls the in-memory state is complete and consistent; flush() turns it into
// blocks in the order that checksums need (inodes, bitmaps, descriptors, superblock) and hands them
// to the device, which commits them together. The committed view never contains an orphan.

import { randomFillSync } from 'node:crypto'
import { coarseTime } from '../base/clock.ts'
import { crc32c } from '../base/crc32c.ts'
import { posixError, UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { BlockAllocator } from './block-allocator.ts'
import { BlockCache } from './block-cache.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import type { Ext4Core, MetadataBlock, Seal, Verify } from './core.ts'
import { ExtentTree, initExtentRoot, type MappedRun } from './extent-tree.ts'
import {
  COMPAT,
  EXTRA_ISIZE,
  INCOMPAT,
  INODE_BASE_SIZE_BYTES,
  SB,
  STATE_VALID,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
  Superblock,
} from './format.ts'
import { Groups } from './groups.ts'
import { growExt4 } from './grow.ts'
import {
  INODE_FLAG,
  type Inode,
  Inode as InodeObject,
  ROOT_INO,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type Time,
} from './inode.ts'
import { InodeAllocator } from './inode-allocator.ts'
import { InodeCache } from './inode-cache.ts'
import { inheritedFlags } from './inode-flags.ts'
import { decodeInode, encodeInode, recordGeneration } from './inode-record.ts'
import { InodeRemoval } from './inode-removal.ts'
import { OrphanOverlay } from './orphan-overlay.ts'
import { SavedOrphans } from './saved-orphans.ts'
import { type Geometry, readGeometry, superblockChecksum } from './superblock.ts'
import { Trimmer } from './trimmer.ts'

export interface StructureOptions {
  readonly readOnly?: boolean
  /** Bytes of clean metadata blocks kept; 64 MiB unless said. */
  readonly cacheBytes?: number
  /** Inodes kept that nobody uses; 65,536 unless said. */
  readonly inodeCacheCount?: number
  /** The clock; real time unless a test says otherwise. */
  readonly now?: () => Time
}

/** Blocks that any operation may dirty besides those it names: bitmaps, tables, descriptors. */
const OPERATION_SLACK_BLOCKS = 8
const GENERATION_POOL_BYTES = 4096
const LABEL_BYTES_MAX = 16
const NO_SEAL: Seal = () => undefined

export class Ext4Structure implements Ext4Core {
  readonly device: BlockDevice
  readonly readOnly: boolean
  readonly blockSizeBytes = BLOCK_SIZE_BYTES
  geometry: Geometry
  readonly hashSeed: Uint32Array
  readonly hashVersion: number
  readonly hashUnsigned: boolean
  readonly hasDirectoryIndex: boolean
  readonly hasLargeDirectories: boolean
  readonly checksumSeed: number
  readonly extents: ExtentTree
  readonly allocator: BlockAllocator
  readonly inodeAllocator: InodeAllocator
  readonly #cache: BlockCache
  /** What the operation under way has claimed. */
  #operationBlocks = OPERATION_SLACK_BLOCKS
  readonly #groups: Groups
  readonly #overlay: OrphanOverlay
  readonly #savedOrphans: SavedOrphans
  readonly #trimmer: Trimmer
  readonly #removal: InodeRemoval
  readonly #inodes: InodeCache
  readonly #dirtyInodes = new Set<Inode>()
  readonly #superblock: Uint8Array
  readonly #now: () => Time
  readonly #run: MappedRun = { fileBlock: 0, blockCount: 0, deviceBlock: 0, unwritten: false }
  /** What every new inode begins with. */
  readonly #emptyXattrArea: Uint8Array
  readonly #seedScratch = new Uint8Array(8)
  readonly #generationPool = new Uint8Array(GENERATION_POOL_BYTES)
  #generationAt = GENERATION_POOL_BYTES

  /**
   * Opens the file system on `device`.
   * @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH, CORRUPT, READ_ONLY
   */
  static open(device: BlockDevice, options: StructureOptions = {}): Ext4Structure {
    return new Ext4Structure(device, options)
  }

  private constructor(device: BlockDevice, options: StructureOptions) {
    this.device = device
    this.#superblock = new Uint8Array(BLOCK_SIZE_BYTES)
    device.readSync(0, BLOCK_SIZE_BYTES, this.#superblock, 0)
    const geometry = readGeometry(this.#superblock, device)
    this.geometry = geometry
    this.readOnly = options.readOnly === true || device.readOnly
    if (!this.readOnly && geometry.readOnlyReason !== undefined) {
      throw new UmbraError(
        'READ_ONLY',
        `Cannot open the file system for writing: ${geometry.readOnlyReason}; open it read-only`,
      )
    }
    const features = Superblock.decode(this.#superblock, SUPERBLOCK_OFFSET_BYTES)
    this.#emptyXattrArea = new Uint8Array(geometry.inodeSizeBytes - INODE_BASE_SIZE_BYTES - EXTRA_ISIZE)
    this.hashSeed = geometry.hashSeed
    this.hashVersion = geometry.hashVersion
    this.hashUnsigned = geometry.hashUnsigned
    this.hasDirectoryIndex = (features.featureCompat & COMPAT.DIR_INDEX) !== 0
    this.hasLargeDirectories = (features.featureIncompat & INCOMPAT.LARGE_DIR) !== 0
    this.checksumSeed = geometry.checksumSeed
    this.#now = options.now ?? coarseTime
    this.#cache = new BlockCache(device, options.cacheBytes ?? 64 * MIB)
    this.#inodes = new InodeCache(options.inodeCacheCount ?? 65_536, () => device.durableTransaction)
    this.#overlay = new OrphanOverlay(geometry.blocksPerGroup)
    this.#groups = new Groups(device, this.#cache, geometry)
    this.allocator = new BlockAllocator(device, this.#cache, this.#groups, this.#overlay)
    this.inodeAllocator = new InodeAllocator(this.#cache, this.#groups, this.#overlay)
    this.extents = new ExtentTree(this.#cache, this.allocator, this)
    this.#savedOrphans = new SavedOrphans(device, this.#overlay)
    this.#trimmer = new Trimmer(device, this.#groups, this.#overlay)
    this.#removal = new InodeRemoval(this, {
      cache: this.#cache,
      overlay: this.#overlay,
      inodes: this.#inodes,
      dirtyInodes: this.#dirtyInodes,
      allocator: this.allocator,
      inodeAllocator: this.inodeAllocator,
      extents: this.extents,
      inodeSizeBytes: geometry.inodeSizeBytes,
    })
    if (!this.readOnly) {
      this.#savedOrphans.discard(this.#trimmer)
      device.onBeforeCommit(() => this.flush())
    }
  }

  get label(): string {
    return this.geometry.label
  }
  /** @param label one char a byte, at most 16; in the superblock with the next commit. @throws EINVAL EROFS ENOSPC */
  setLabel(label: string): void {
    if (label.length > LABEL_BYTES_MAX) throw posixError('EINVAL', 'The label is too long')
    this.begin(1)
    this.geometry = { ...this.geometry, label }
    const at = SUPERBLOCK_OFFSET_BYTES + SB.LABEL
    this.#superblock.fill(0, at, at + LABEL_BYTES_MAX)
    Buffer.from(this.#superblock.buffer).write(label, at, 'latin1')
    this.#writeSuperblock()
  }
  get uuid(): string {
    return this.geometry.uuid
  }

  get blockCount(): number {
    return this.geometry.blockCount
  }

  now(): Time {
    return this.#now()
  }

  // -- operations

  begin(dirtyBlockCount: number, freeing = false): void {
    if (this.readOnly) throw posixError('EROFS', 'The file system is read-only')
    this.#operationBlocks = dirtyBlockCount + OPERATION_SLACK_BLOCKS
    this.device.requireRoom(this.#dirtyBlockCount + this.#operationBlocks, freeing)
    this.allocator.retryDiscards()
  }

  mayDirty(blockCount: number): boolean {
    try {
      this.device.requireRoom(this.#dirtyBlockCount + this.#operationBlocks + blockCount, true)
      return true
    } catch (error) {
      if (error instanceof UmbraError) return false
      throw error
    }
  }

  /** Blocks that the next commit writes, the superblock included. */
  get #dirtyBlockCount(): number {
    return this.#cache.dirtyCount + this.#groups.dirtyBlockCount + 1
  }

  // -- metadata blocks

  metadata(blockIndex: number, verify: Verify): MetadataBlock {
    this.#checkBlock(blockIndex)
    return this.#cache.get(blockIndex, verify)
  }
  newMetadata(blockIndex: number, seal: Seal): MetadataBlock {
    this.#checkBlock(blockIndex)
    return this.#cache.create(blockIndex, seal)
  }
  markDirty(block: MetadataBlock, seal: Seal): void {
    this.#cache.markDirty(block, seal)
  }
  #checkBlock(blockIndex: number): void {
    if (!(blockIndex > 0 && blockIndex < this.geometry.blockCount))
      throw new UmbraError('CORRUPT', `Block ${blockIndex} lies outside the file system`)
  }

  // -- inodes

  inodeSeed(inode: Inode): number {
    return this.#seed(inode.ino, inode.generation)
  }
  #seed(ino: number, generation: number): number {
    write32(this.#seedScratch, 0, ino)
    write32(this.#seedScratch, 4, generation)
    return crc32c(this.checksumSeed, this.#seedScratch, 0, 8)
  }

  inode(ino: number): Inode {
    const cached = this.#inodes.get(ino)
    if (cached) return cached
    const { firstInode, inodeCount, inodeSizeBytes } = this.geometry
    const valid = Number.isInteger(ino) && ino <= inodeCount && (ino === ROOT_INO || ino >= firstInode)
    if (!valid || !this.inodeAllocator.isUsed(ino)) throw posixError('ESTALE', `Inode ${ino} is not in use`)
    const inode = new InodeObject(ino)
    const block = this.#cache.get(this.inodeAllocator.tableBlock(ino))
    const at = this.inodeAllocator.recordOffset(ino)
    decodeInode(inode, block.bytes, at, inodeSizeBytes, (generation) => this.#seed(ino, generation))
    if (inode.linkCount === 0 || inode.mode === 0) throw posixError('ESTALE', `Inode ${ino} is not in use`)
    this.#checkContents(inode)
    this.#inodes.add(inode)
    return inode
  }

  #checkContents(inode: Inode): void {
    if (inode.flags & INODE_FLAG.EXTENTS) this.extents.checkRoot(inode)
    else if (inode.isRegular || inode.isDirectory || (inode.isSymlink && inode.sizeBytes >= 60)) {
      throw new UmbraError(
        'UNSUPPORTED_FEATURE',
        `Inode ${inode.ino} is mapped by blocks, not extents; convert the file system with e2fsck -E bmap2extent`,
      )
    }
  }

  allocateInode(parent: Inode, mode: number, uid: number, gid: number): Inode {
    const directory = (mode & S_IFMT) === S_IFDIR
    const ino = this.inodeAllocator.allocate(parent.ino, directory)
    const inode = new InodeObject(ino)
    const block = this.#cache.get(this.inodeAllocator.tableBlock(ino))
    const before = recordGeneration(block.bytes, this.inodeAllocator.recordOffset(ino))
    inode.generation = this.#newGeneration(before)
    inode.mode = mode
    inode.uid = uid
    inode.gid = gid
    const now = this.#now()
    inode.atime = inode.mtime = inode.ctime = inode.crtime = now
    inode.extraIsize = EXTRA_ISIZE
    inode.xattrArea = this.#emptyXattrArea
    const type = mode & S_IFMT
    inode.flags = parent.flags & inheritedFlags(mode)
    if (type === S_IFREG || type === S_IFDIR || type === S_IFLNK) {
      inode.flags |= INODE_FLAG.EXTENTS
      initExtentRoot(inode)
    }
    // Before the record is committed there is nothing that fdatasync could make durable by a flush.
    inode.mappingTransaction = this.device.transaction
    this.#inodes.add(inode)
    this.markInodeDirty(inode)
    return inode
  }

  #newGeneration(before: number): number {
    for (;;) {
      if (this.#generationAt === GENERATION_POOL_BYTES) {
        randomFillSync(this.#generationPool)
        this.#generationAt = 0
      }
      const generation = read32(this.#generationPool, this.#generationAt)
      this.#generationAt += 4
      if (generation !== before) return generation
    }
  }

  markInodeDirty(inode: Inode): void {
    inode.inodeTransaction = this.device.transaction
    if (inode.dirty || inode.orphaned) return
    const known = this.#inodes.get(inode.ino)
    // Somebody held it for so long that it left the cache: what another object says would be lost.
    if (known === undefined) this.#inodes.add(inode)
    else if (known !== inode) throw posixError('EIO', `Inode ${inode.ino} was changed through an old object`)
    const block = this.#cache.get(this.inodeAllocator.tableBlock(inode.ino))
    this.#cache.markDirty(block, NO_SEAL)
    inode.dirty = true
    this.#dirtyInodes.add(inode)
  }

  /** Of an inode that need not be in memory: lookups that the kernel holds no longer. */
  forgetLookups(ino: number, count: number): void {
    if (this.#inodes.forgetLookups(ino, count)) return
    const inode = this.#inodes.get(ino)
    if (!inode) return
    inode.lookupCount = Math.max(0, inode.lookupCount - count)
    if (inode.orphaned) this.#removal.releaseOrphan(inode)
  }

  dropInode(inode: Inode): void {
    this.#removal.drop(inode)
  }
  makeOrphan(inode: Inode): void {
    this.#removal.makeOrphan(inode)
  }
  adoptOrphan(inode: Inode): void {
    this.#removal.adoptOrphan(inode)
  }
  releaseOrphan(inode: Inode): void {
    this.#removal.releaseOrphan(inode)
  }

  // -- blocks of a file

  mapBlock(inode: Inode, fileBlock: number): number {
    this.extents.lookup(inode, fileBlock, this.#run)
    return this.#run.unwritten ? 0 : this.#run.deviceBlock
  }

  appendBlock(inode: Inode, fileBlock: number): number {
    const needed = this.extents.blocksNeeded(inode, fileBlock, 1)
    if (this.allocator.freeCount < needed + 1) throw posixError('ENOSPC', 'No free blocks in the file system')
    const block = this.allocator.allocate(this.extents.goal(inode, fileBlock), 1, inode.orphaned)
    this.extents.insert(inode, fileBlock, 1, block, false)
    inode.sectorCount += BLOCK_SIZE_BYTES / 512
    inode.mappingTransaction = this.device.transaction
    this.markInodeDirty(inode)
    return block
  }

  releaseCost(inode: Inode): number {
    let cost = 4
    let last = -1
    if ((inode.flags & INODE_FLAG.EXTENTS) === 0) return cost
    const { blocksPerGroup } = this.geometry
    const visit = (block: number) => {
      const group = Math.floor(block / blocksPerGroup)
      if (group !== last) cost++
      last = group
    }
    this.extents.forEachNode(inode, visit)
    this.extents.forEach(inode, (_fileBlock, count, block) => {
      visit(block)
      visit(block + count - 1)
    })
    // A bitmap is one block however often a fragmented file comes back to it; so is a descriptor's.
    return Math.min(cost, 4 + this.geometry.groupCount) + Math.ceil(this.geometry.groupCount / 64)
  }

  releaseBlocks(inode: Inode, fromFileBlock: number): void {
    const metadata = !inode.isRegular
    this.extents.remove(inode, fromFileBlock, 2 ** 32, (block, count) => {
      inode.sectorCount -= count * (BLOCK_SIZE_BYTES / 512)
      this.allocator.free(block, count, inode.orphaned, metadata)
    })
    inode.mappingTransaction = this.device.transaction
    this.markInodeDirty(inode)
  }

  // -- loose blocks

  allocateBlock(inode: Inode): number {
    return this.allocator.allocate(this.homeBlock(inode), 1, inode.orphaned)
  }
  freeBlock(blockIndex: number, inode: Inode): void {
    this.allocator.free(blockIndex, 1, inode.orphaned, true)
  }

  homeBlock(inode: Inode): number {
    return this.inodeAllocator.groupOf(inode.ino) * this.geometry.blocksPerGroup + 1
  }

  // -- what makes it durable

  /** Hands all dirty metadata to the device, sealed. Called before each commit's cut. */
  flush(): void {
    if (this.readOnly) return
    this.#savedOrphans.save(this.#dirtyBlockCount)
    const { inodeSizeBytes } = this.geometry
    for (const inode of this.#dirtyInodes) {
      const block = this.#cache.get(this.inodeAllocator.tableBlock(inode.ino))
      const at = this.inodeAllocator.recordOffset(inode.ino)
      encodeInode(inode, block.bytes, at, inodeSizeBytes, this.inodeSeed(inode))
      inode.dirty = false
    }
    this.#dirtyInodes.clear()
    const changed = this.#cache.dirtyCount > 0 || this.#groups.dirtyBlockCount > 0
    this.#groups.flush()
    this.#cache.flush()
    if (changed) this.#writeSuperblock()
  }

  #writeSuperblock(): void {
    const raw = this.#superblock.subarray(
      SUPERBLOCK_OFFSET_BYTES,
      SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_SIZE_BYTES,
    )
    const free = this.allocator.committedFreeCount
    write32(raw, SB.FREE_BLOCKS_LOW, free % 2 ** 32)
    write32(raw, SB.FREE_BLOCKS_HIGH, Math.floor(free / 2 ** 32))
    write32(raw, SB.FREE_INODES, this.inodeAllocator.committedFreeCount)
    write32(raw, SB.WRITTEN_AT, Math.min(Math.max(0, Math.floor(this.#now().sec)), 0xffffffff))
    write16(raw, SB.STATE, read16(raw, SB.STATE) | STATE_VALID)
    write32(raw, SB.CHECKSUM, superblockChecksum(raw))
    this.device.writeMetadata(0, this.#superblock, 0)
  }

  /**
   * Makes the file system as large as the device, between two operations; what is open stays so.
   * @throws UmbraError as growExt4(), with nothing changed
   */
  grow(): void {
    this.flush()
    const oldBlockCount = this.blockCount
    const blockCount = growExt4(this.device)
    if (blockCount === oldBlockCount) return
    this.device.readSync(0, BLOCK_SIZE_BYTES, this.#superblock, 0)
    this.geometry = readGeometry(this.#superblock, this.device)
    // Bitmaps, descriptors and inodes were changed below it; nothing is dirty.
    this.#cache.forgetAll()
    this.#groups.load(this.geometry)
    this.allocator.load()
    this.inodeAllocator.load()
  }

  /** Discards every free block of initialised groups (FITRIM). */
  trim(): void {
    this.#trimmer.trim()
  }
}
