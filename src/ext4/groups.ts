// The group descriptors in memory, and the two bitmaps of each group on demand.
//
// Always true: descriptors are one byte array as on disk; free counts are kept beside it in typed
// arrays for searching and written back at flush. A bitmap that was never initialised is synthesised
// (own metadata, padding) and its UNINIT flag cleared only when something is allocated there.
// Order at flush: bitmap checksum, descriptor fields, descriptor checksum; superblock counts after.

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { countClear, setBits } from './bitmap.ts'
import type { BlockCache } from './block-cache.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import type { MetadataBlock, Seal } from './core.ts'
import { DESCRIPTOR_SIZE_BYTES, GD, GROUP_FLAG } from './format.ts'
import {
  baseMetadataBlocks,
  DESCRIPTORS_PER_BLOCK,
  descriptorBlock,
  descriptorBlockCount,
  groupBlockCount,
} from './layout.ts'
import type { Geometry } from './superblock.ts'

const NO_SEAL: Seal = () => undefined
const BLOCK_BITMAP_DIRTY = 1
const INODE_BITMAP_DIRTY = 2

export class Groups {
  geometry: Geometry
  freeBlocks = new Uint32Array(0)
  freeInodes = new Uint32Array(0)
  usedDirectories = new Uint32Array(0)
  readonly #device: BlockDevice
  readonly #cache: BlockCache
  #table = new Uint8Array(0)
  readonly #dirtyGroups = new Map<number, number>()
  readonly #dirtyTableBlocks = new Set<number>()
  readonly #scratch = new Uint8Array(4)

  constructor(device: BlockDevice, cache: BlockCache, geometry: Geometry) {
    this.geometry = geometry
    this.#device = device
    this.#cache = cache
    this.load(geometry)
  }

  /**
   * Reads all descriptors from the device: at first, and when the file system has grown. Nothing is dirty.
   * @throws UmbraError CHECKSUM_MISMATCH, CORRUPT
   */
  load(geometry: Geometry): void {
    this.geometry = geometry
    const tableBlocks = descriptorBlockCount(geometry)
    this.#table = new Uint8Array(tableBlocks * BLOCK_SIZE_BYTES)
    this.freeBlocks = new Uint32Array(geometry.groupCount)
    this.freeInodes = new Uint32Array(geometry.groupCount)
    this.usedDirectories = new Uint32Array(geometry.groupCount)
    for (let i = 0; i < tableBlocks; i++) {
      this.#device.readSync(
        descriptorBlock(geometry, i) * BLOCK_SIZE_BYTES,
        BLOCK_SIZE_BYTES,
        this.#table,
        i * BLOCK_SIZE_BYTES,
      )
    }
    for (let group = 0; group < geometry.groupCount; group++) this.#load(group)
  }

  /** Descriptor blocks that the next flush writes. */
  get dirtyBlockCount(): number {
    return this.#dirtyTableBlocks.size
  }

  #load(group: number): void {
    const at = group * DESCRIPTOR_SIZE_BYTES
    const table = this.#table
    const stored = read16(table, at + GD.CHECKSUM)
    const computed = this.#descriptorChecksum(group)
    if (stored !== computed) {
      throw new UmbraError(
        'CHECKSUM_MISMATCH',
        `Cannot read group descriptor ${group}: checksum is 0x${computed.toString(16)} but 0x${stored.toString(16)} was stored`,
      )
    }
    const { geometry } = this
    this.freeBlocks[group] = wide16(table, at + GD.FREE_BLOCKS, at + GD.FREE_BLOCKS_HIGH)
    this.freeInodes[group] = wide16(table, at + GD.FREE_INODES, at + GD.FREE_INODES_HIGH)
    this.usedDirectories[group] = wide16(table, at + GD.USED_DIRECTORIES, at + GD.USED_DIRECTORIES_HIGH)
    const inodeTableEnd = this.inodeTable(group) + this.inodeTableBlocks
    const sane =
      this.blockBitmap(group) > 0 &&
      this.blockBitmap(group) < geometry.blockCount &&
      this.inodeBitmap(group) > 0 &&
      this.inodeBitmap(group) < geometry.blockCount &&
      this.inodeTable(group) > 0 &&
      inodeTableEnd <= geometry.blockCount &&
      (this.freeBlocks[group] as number) <= geometry.blocksPerGroup &&
      (this.freeInodes[group] as number) <= geometry.inodesPerGroup &&
      this.itableUnused(group) <= geometry.inodesPerGroup
    if (!sane) throw new UmbraError('CORRUPT', `Group descriptor ${group} points outside the file system`)
  }

  #descriptorChecksum(group: number): number {
    const at = group * DESCRIPTOR_SIZE_BYTES
    write32(this.#scratch, 0, group)
    let crc = crc32c(this.geometry.checksumSeed, this.#scratch, 0, 4)
    crc = crc32c(crc, this.#table, at, GD.CHECKSUM)
    this.#scratch.fill(0)
    crc = crc32c(crc, this.#scratch, 0, 2)
    crc = crc32c(crc, this.#table, at + GD.CHECKSUM + 2, DESCRIPTOR_SIZE_BYTES - GD.CHECKSUM - 2)
    return crc & 0xffff
  }

  get inodeTableBlocks(): number {
    return (this.geometry.inodesPerGroup * this.geometry.inodeSizeBytes) / BLOCK_SIZE_BYTES
  }

  blockBitmap(group: number): number {
    return this.#wide32(group, GD.BLOCK_BITMAP, GD.BLOCK_BITMAP_HIGH)
  }
  inodeBitmap(group: number): number {
    return this.#wide32(group, GD.INODE_BITMAP, GD.INODE_BITMAP_HIGH)
  }
  inodeTable(group: number): number {
    return this.#wide32(group, GD.INODE_TABLE, GD.INODE_TABLE_HIGH)
  }
  #wide32(group: number, low: number, high: number): number {
    const at = group * DESCRIPTOR_SIZE_BYTES
    return read32(this.#table, at + high) * 2 ** 32 + read32(this.#table, at + low)
  }

  flags(group: number): number {
    return read16(this.#table, group * DESCRIPTOR_SIZE_BYTES + GD.FLAGS)
  }
  itableUnused(group: number): number {
    const at = group * DESCRIPTOR_SIZE_BYTES
    return wide16(this.#table, at + GD.ITABLE_UNUSED, at + GD.ITABLE_UNUSED_HIGH)
  }
  setItableUnused(group: number, count: number): void {
    const at = group * DESCRIPTOR_SIZE_BYTES
    setWide16(this.#table, at + GD.ITABLE_UNUSED, at + GD.ITABLE_UNUSED_HIGH, count)
    this.touch(group)
  }
  #clearFlag(group: number, flag: number): void {
    const at = group * DESCRIPTOR_SIZE_BYTES + GD.FLAGS
    write16(this.#table, at, read16(this.#table, at) & ~flag)
    this.touch(group)
  }

  /** The descriptor's counts changed. */
  touch(group: number): void {
    this.#markGroup(group, 0)
  }
  #markGroup(group: number, bitmap: number): void {
    const before = this.#dirtyGroups.get(group)
    if (before !== undefined && (before | bitmap) === before) return
    this.#dirtyGroups.set(group, (before ?? 0) | bitmap)
    this.#dirtyTableBlocks.add(Math.floor(group / DESCRIPTORS_PER_BLOCK))
  }

  /** The group's block bitmap for looking at; undefined: never initialised, only own metadata is used. */
  peekBlockBitmap(group: number): MetadataBlock | undefined {
    if (this.flags(group) & GROUP_FLAG.BLOCK_UNINIT) return undefined
    return this.#cache.get(this.blockBitmap(group), (bytes) => this.#verifyBitmap(group, bytes, 'block'))
  }

  /** The group's block bitmap, synthesised if need be; the caller is about to change it. */
  blockBitmapForChange(group: number): MetadataBlock {
    let block: MetadataBlock
    if (this.flags(group) & GROUP_FLAG.BLOCK_UNINIT) {
      block = this.#cache.create(this.blockBitmap(group), NO_SEAL)
      this.initialBlockBitmap(group, block.bytes)
      this.#checkInitialCount(group, block.bytes)
      this.#clearFlag(group, GROUP_FLAG.BLOCK_UNINIT)
    } else {
      block = this.#cache.get(this.blockBitmap(group), (bytes) => this.#verifyBitmap(group, bytes, 'block'))
      this.#cache.markDirty(block, NO_SEAL)
    }
    this.#markGroup(group, BLOCK_BITMAP_DIRTY)
    return block
  }

  #checkInitialCount(group: number, bits: Uint8Array): void {
    const free = countClear(bits, groupBlockCount(this.geometry, group))
    if (free === this.freeBlocks[group]) return
    this.#cache.forget(this.blockBitmap(group))
    throw new UmbraError(
      'CORRUPT',
      `Group ${group} is uninitialised with ${free} free blocks, but its descriptor says ${this.freeBlocks[group]}`,
    )
  }

  /** Fills a zeroed bitmap with what an uninitialised group holds: its own metadata and padding. */
  initialBlockBitmap(group: number, bits: Uint8Array): void {
    const { geometry } = this
    const first = group * geometry.blocksPerGroup
    const count = groupBlockCount(geometry, group)
    setBits(bits, 0, baseMetadataBlocks(geometry, group))
    const mark = (block: number, blocks: number) => {
      const from = Math.max(block, first)
      const to = Math.min(block + blocks, first + count)
      if (from < to) setBits(bits, from - first, to - from)
    }
    mark(this.blockBitmap(group), 1)
    mark(this.inodeBitmap(group), 1)
    mark(this.inodeTable(group), this.inodeTableBlocks)
    setBits(bits, count, geometry.blocksPerGroup - count)
  }

  peekInodeBitmap(group: number): MetadataBlock | undefined {
    if (this.flags(group) & GROUP_FLAG.INODE_UNINIT) return undefined
    return this.#cache.get(this.inodeBitmap(group), (bytes) => this.#verifyBitmap(group, bytes, 'inode'))
  }

  inodeBitmapForChange(group: number): MetadataBlock {
    let block: MetadataBlock
    if (this.flags(group) & GROUP_FLAG.INODE_UNINIT) {
      block = this.#cache.create(this.inodeBitmap(group), NO_SEAL)
      const { inodesPerGroup } = this.geometry
      setBits(block.bytes, inodesPerGroup, BLOCK_SIZE_BYTES * 8 - inodesPerGroup)
      this.#clearFlag(group, GROUP_FLAG.INODE_UNINIT)
    } else {
      block = this.#cache.get(this.inodeBitmap(group), (bytes) => this.#verifyBitmap(group, bytes, 'inode'))
      this.#cache.markDirty(block, NO_SEAL)
    }
    this.#markGroup(group, INODE_BITMAP_DIRTY)
    return block
  }

  #bitmapBytes(kind: 'block' | 'inode'): number {
    return (kind === 'block' ? this.geometry.blocksPerGroup : this.geometry.inodesPerGroup) / 8
  }

  #verifyBitmap(group: number, bytes: Uint8Array, kind: 'block' | 'inode'): void {
    const at = group * DESCRIPTOR_SIZE_BYTES
    const [low, high] =
      kind === 'block'
        ? [GD.BLOCK_BITMAP_CSUM, GD.BLOCK_BITMAP_CSUM_HIGH]
        : [GD.INODE_BITMAP_CSUM, GD.INODE_BITMAP_CSUM_HIGH]
    const stored = read16(this.#table, at + low) + read16(this.#table, at + high) * 0x10000
    const computed = crc32c(this.geometry.checksumSeed, bytes, 0, this.#bitmapBytes(kind))
    if (stored !== computed) {
      throw new UmbraError(
        'CHECKSUM_MISMATCH',
        `Cannot read the ${kind} bitmap of group ${group}: checksum is 0x${computed.toString(16)} but 0x${stored.toString(16)} was stored`,
      )
    }
  }

  /** Checksums dirty bitmaps, then writes their descriptors' blocks to the device. */
  flush(): void {
    for (const [group, bitmaps] of this.#dirtyGroups) this.#sealGroup(group, bitmaps)
    this.#dirtyGroups.clear()
    for (const index of this.#dirtyTableBlocks) {
      this.#device.writeMetadata(descriptorBlock(this.geometry, index), this.#table, index * BLOCK_SIZE_BYTES)
    }
    this.#dirtyTableBlocks.clear()
  }

  #sealGroup(group: number, bitmaps: number): void {
    const at = group * DESCRIPTOR_SIZE_BYTES
    const table = this.#table
    const seed = this.geometry.checksumSeed
    if (bitmaps & BLOCK_BITMAP_DIRTY) {
      const bits = this.#cache.get(this.blockBitmap(group)).bytes
      const crc = crc32c(seed, bits, 0, this.#bitmapBytes('block'))
      setWide16(table, at + GD.BLOCK_BITMAP_CSUM, at + GD.BLOCK_BITMAP_CSUM_HIGH, crc)
    }
    if (bitmaps & INODE_BITMAP_DIRTY) {
      const bits = this.#cache.get(this.inodeBitmap(group)).bytes
      const crc = crc32c(seed, bits, 0, this.#bitmapBytes('inode'))
      setWide16(table, at + GD.INODE_BITMAP_CSUM, at + GD.INODE_BITMAP_CSUM_HIGH, crc)
    }
    setWide16(table, at + GD.FREE_BLOCKS, at + GD.FREE_BLOCKS_HIGH, this.freeBlocks[group] as number)
    setWide16(table, at + GD.FREE_INODES, at + GD.FREE_INODES_HIGH, this.freeInodes[group] as number)
    setWide16(
      table,
      at + GD.USED_DIRECTORIES,
      at + GD.USED_DIRECTORIES_HIGH,
      this.usedDirectories[group] as number,
    )
    write16(table, at + GD.CHECKSUM, this.#descriptorChecksum(group))
  }
}

function wide16(b: Uint8Array, low: number, high: number): number {
  return read16(b, low) + read16(b, high) * 0x10000
}

function setWide16(b: Uint8Array, low: number, high: number, value: number): void {
  write16(b, low, value)
  write16(b, high, value >>> 16)
}
