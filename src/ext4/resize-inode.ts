// Taking the resize inode off a file system that grows: inode 7 keeps room behind the descriptors of
// every group with a superblock, for a resizer that moves into it; here descriptors of new groups go into
// the groups themselves (see grow.ts), so that the room is given back instead.
//
// Always true: all that is given back was found in use before anything was written, else nothing is
// changed; it is discarded, so that it reads as zeros for who gets it next. As after `tune2fs -O
// ^resize_inode` and e2fsck, feature, room and inode are gone together.
// Source: e2fsprogs lib/ext2fs/res_gdt.c, e2fsck/super.c (check_resize_inode()).

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { clearBits, setRun } from './bitmap.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import { DESCRIPTOR_SIZE_BYTES, GD, GROUP_FLAG, INODE } from './format.ts'
import { encodeFreeInode } from './inode-record.ts'
import { DESCRIPTORS_PER_BLOCK, descriptorBlock, descriptorBlockCount, hasSuperblock } from './layout.ts'
import type { Geometry } from './superblock.ts'

const RESIZE_INO = 7
/** In the map of an inode without extents. */
const DOUBLE_INDIRECT_AT = INODE.BLOCK + 4 * 13

interface Run {
  readonly group: number
  /** Within the group. */
  readonly start: number
  readonly blockCount: number
}

/** Blocks of descriptors and bitmaps that giveBackResizeInode() writes at most. */
export function resizeInodeCost(geometry: Geometry): number {
  return 2 * superblockGroups(geometry).length + 4
}

/**
 * Frees what the resize inode keeps, and its record; the superblock is the caller's to write.
 * @returns how many blocks are free again
 * @throws UmbraError CORRUPT with nothing changed
 */
export function giveBackResizeInode(device: BlockDevice, geometry: Geometry): number {
  const tables = new Map<number, Uint8Array>()
  const table = (group: number): Uint8Array => {
    const index = Math.floor(group / DESCRIPTORS_PER_BLOCK)
    const found = tables.get(index) ?? readBlock(device, descriptorBlock(geometry, index))
    tables.set(index, found)
    return found
  }
  const inodeBlockIndex = wide32(table(0), GD.INODE_TABLE, GD.INODE_TABLE_HIGH)
  const inodeBlock = readBlock(device, inodeBlockIndex)
  const runs = reservedRuns(geometry, inodeBlock)
  const bitmaps = new Map<number, Uint8Array>()
  for (const { group, start, blockCount } of runs) {
    const at = (group % DESCRIPTORS_PER_BLOCK) * DESCRIPTOR_SIZE_BYTES
    // Its bitmap follows from the geometry.
    if (read16(table(group), at + GD.FLAGS) & GROUP_FLAG.BLOCK_UNINIT) continue
    const bits = bitmaps.get(group) ?? readBlock(device, bitmapBlock(table(group), at))
    if (setRun(bits, start, start + blockCount) < blockCount)
      throw corrupt(`room that it keeps in group ${group} is not in use`)
    clearBits(bits, start, blockCount)
    bitmaps.set(group, bits)
  }
  let freed = 0
  for (const { group, start, blockCount } of runs) {
    device.discard(group * geometry.blocksPerGroup + start, blockCount)
    addFreeBlocks(table(group), group, blockCount)
    freed += blockCount
  }
  for (const [group, bits] of bitmaps) {
    const at = (group % DESCRIPTORS_PER_BLOCK) * DESCRIPTOR_SIZE_BYTES
    device.writeMetadata(bitmapBlock(table(group), at), bits, 0)
    const checksum = crc32c(geometry.checksumSeed, bits)
    write16(table(group), at + GD.BLOCK_BITMAP_CSUM, checksum)
    write16(table(group), at + GD.BLOCK_BITMAP_CSUM_HIGH, checksum >>> 16)
  }
  for (const { group } of runs) sealDescriptor(geometry, table(group), group)
  for (const [index, bytes] of tables) device.writeMetadata(descriptorBlock(geometry, index), bytes, 0)
  clearRecord(geometry, inodeBlock)
  device.writeMetadata(inodeBlockIndex, inodeBlock, 0)
  return freed
}

/** @throws UmbraError CORRUPT where the inode does not lead to its own block of pointers */
function reservedRuns(geometry: Geometry, inodeBlock: Uint8Array): Run[] {
  const { blocksPerGroup, reservedDescriptorBlocks: blockCount } = geometry
  const start = 1 + descriptorBlockCount(geometry)
  const runs: Run[] = []
  if (blockCount > 0) for (const group of superblockGroups(geometry)) runs.push({ group, start, blockCount })
  const pointers = read32(inodeBlock, (RESIZE_INO - 1) * geometry.inodeSizeBytes + DOUBLE_INDIRECT_AT)
  if (pointers === 0) return runs
  if (pointers <= start + blockCount || pointers >= geometry.blockCount)
    throw corrupt(`its pointers are in block ${pointers}`)
  runs.push({ group: Math.floor(pointers / blocksPerGroup), start: pointers % blocksPerGroup, blockCount: 1 })
  return runs
}

function superblockGroups(geometry: Geometry): number[] {
  const groups: number[] = []
  for (let group = 0; group < geometry.groupCount; group++) {
    if (hasSuperblock(geometry, group)) groups.push(group)
  }
  return groups
}

function clearRecord(geometry: Geometry, inodeBlock: Uint8Array): void {
  const words = new Uint8Array(8)
  write32(words, 0, RESIZE_INO)
  const seed = crc32c(geometry.checksumSeed, words)
  const at = (RESIZE_INO - 1) * geometry.inodeSizeBytes
  encodeFreeInode(inodeBlock, at, geometry.inodeSizeBytes, 0, 0, seed)
}

function addFreeBlocks(table: Uint8Array, group: number, blockCount: number): void {
  const at = (group % DESCRIPTORS_PER_BLOCK) * DESCRIPTOR_SIZE_BYTES
  const free =
    read16(table, at + GD.FREE_BLOCKS) + read16(table, at + GD.FREE_BLOCKS_HIGH) * 0x10000 + blockCount
  write16(table, at + GD.FREE_BLOCKS, free)
  write16(table, at + GD.FREE_BLOCKS_HIGH, free >>> 16)
}

function sealDescriptor(geometry: Geometry, table: Uint8Array, group: number): void {
  const at = (group % DESCRIPTORS_PER_BLOCK) * DESCRIPTOR_SIZE_BYTES
  const number = new Uint8Array(4)
  write32(number, 0, group)
  write16(table, at + GD.CHECKSUM, 0)
  const checksum = crc32c(crc32c(geometry.checksumSeed, number), table, at, DESCRIPTOR_SIZE_BYTES)
  write16(table, at + GD.CHECKSUM, checksum)
}

function bitmapBlock(table: Uint8Array, at: number): number {
  return wide32(table, at + GD.BLOCK_BITMAP, at + GD.BLOCK_BITMAP_HIGH)
}

function wide32(bytes: Uint8Array, low: number, high: number): number {
  return read32(bytes, high) * 2 ** 32 + read32(bytes, low)
}

function readBlock(device: BlockDevice, blockIndex: number): Uint8Array {
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  device.readSync(blockIndex * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
  return block
}

function corrupt(what: string): UmbraError {
  return new UmbraError(
    'CORRUPT',
    `The file system cannot grow: its resize inode is damaged (${what}); run e2fsck`,
  )
}
