// Making a file system larger on a device that has grown: the superblock, the last group, and
// descriptors for new groups; nothing that is there moves.
//
// Always true: descriptors that have no room behind the old ones go into the new groups themselves
// (meta_bg, from the first descriptor block that is new), which is what the kernel's own online resize
// does where nothing was reserved; where room was (resize_inode), it is given back before the first new
// group (resize-inode.ts). Backups are not written, as mkfs.ts has it. What lay past the old end
// is discarded first, so that new inode tables read as zeros. Nothing is committed; an Ext4 that is open
// on the device has written everything and reads the new layout afterwards (Ext4.grow()).
// Source: Documentation/filesystems/ext4/blockgroup.rst, "Meta Block Groups".

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { clearBits } from './bitmap.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import {
  COMPAT,
  DESCRIPTOR_SIZE_BYTES,
  GD,
  GROUP_FLAG,
  INCOMPAT,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
  Superblock,
} from './format.ts'
import { DESCRIPTORS_PER_BLOCK, descriptorBlock, descriptorBlockCount, groupBlockCount } from './layout.ts'
import { encodeDescriptor, LAST_GROUP_SPARE_BLOCKS, overhead, type Plan } from './mkfs.ts'
import { giveBackResizeInode, resizeInodeCost } from './resize-inode.ts'
import { type Geometry, readGeometry, superblockChecksum } from './superblock.ts'

const INODES_MAX = 2 ** 32 - 1
/** Of the device's block map. */
const LEVELS_MAX = 4

/**
 * Lets the file system fill its device, as far as a last group would be of use.
 * @returns its size afterwards, in blocks
 * @throws UmbraError UNSUPPORTED_FEATURE for what cannot be grown, READ_ONLY, OUT_OF_SPACE
 */
export function growExt4(device: BlockDevice): number {
  const { first, old, value, plan, givesBack } = prepare(device, device.blockCount)
  if (plan.blockCount <= old.blockCount) return old.blockCount
  const newTables = descriptorBlockCount(plan) - descriptorBlockCount(old)
  device.requireRoom(newTables + 8 + (givesBack ? resizeInodeCost(old) : 0), false)
  let freed = givesBack ? giveBackResizeInode(device, old) : 0
  device.discard(old.blockCount, plan.blockCount - old.blockCount)
  freed += growLastGroup(device, old, plan)
  freed += writeNewGroups(device, old, plan)
  const freeBlocks = value.freeBlocksHigh * 2 ** 32 + value.freeBlocksLow + freed
  const newInodes = (plan.groupCount - old.groupCount) * plan.inodesPerGroup
  const isMeta = plan.firstMetaGroup !== Number.POSITIVE_INFINITY
  Superblock.encode(
    {
      ...value,
      blocksCountLow: plan.blockCount % 2 ** 32,
      blocksCountHigh: Math.floor(plan.blockCount / 2 ** 32),
      freeBlocksLow: freeBlocks % 2 ** 32,
      freeBlocksHigh: Math.floor(freeBlocks / 2 ** 32),
      inodesCount: value.inodesCount + newInodes,
      freeInodesCount: value.freeInodesCount + newInodes,
      featureCompat: givesBack ? value.featureCompat & ~COMPAT.RESIZE_INODE : value.featureCompat,
      reservedDescriptorBlocks: plan.reservedDescriptorBlocks,
      featureIncompat: isMeta ? value.featureIncompat | INCOMPAT.META_BG : value.featureIncompat,
      firstMetaGroup: isMeta ? plan.firstMetaGroup : value.firstMetaGroup,
    },
    first,
    SUPERBLOCK_OFFSET_BYTES,
  )
  const raw = first.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_SIZE_BYTES)
  write32(raw, SUPERBLOCK_SIZE_BYTES - 4, superblockChecksum(raw))
  device.writeMetadata(0, first, 0)
  return plan.blockCount
}

/**
 * Whether growExt4() will do it once the device has so many blocks, and the room that takes.
 * @throws UmbraError as growExt4()
 */
export function checkGrowth(device: BlockDevice, blockCount: number): void {
  const { old, plan, givesBack } = prepare(device, blockCount)
  const tables =
    descriptorBlockCount(plan) - descriptorBlockCount(old) + (givesBack ? resizeInodeCost(old) : 0)
  // The map's nodes above them are more in the larger device.
  device.requireRoom(LEVELS_MAX * tables + 64, false)
}

function prepare(device: BlockDevice, blockCount: number) {
  const first = new Uint8Array(BLOCK_SIZE_BYTES)
  device.readSync(0, BLOCK_SIZE_BYTES, first, 0)
  const old = readGeometry(first, device)
  if (old.readOnlyReason !== undefined) throw new UmbraError('READ_ONLY', old.readOnlyReason)
  const value = Superblock.decode(first, SUPERBLOCK_OFFSET_BYTES)
  const kept = planGrowth(old, blockCount)
  const hasResizeInode = (value.featureCompat & COMPAT.RESIZE_INODE) !== 0
  const givesBack = hasResizeInode && kept.groupCount > old.groupCount
  const plan = givesBack ? planGrowth({ ...old, reservedDescriptorBlocks: 0 }, blockCount) : kept
  if (plan.blockCount > old.blockCount) refuse(plan)
  return { first, old, value, plan, givesBack }
}

/** A last group without room for files is left out, as mke2fs does. */
function planGrowth(old: Geometry, wantedBlocks: number): Plan {
  const plan = planFor(old, wantedBlocks)
  const last = plan.groupCount - 1
  const spare = groupBlockCount(plan, last) - overhead(plan, last)
  const isUseful = last < old.groupCount || spare >= LAST_GROUP_SPARE_BLOCKS
  return isUseful ? plan : planFor(old, last * old.blocksPerGroup)
}

function planFor(old: Geometry, blockCount: number): Plan {
  const { blocksPerGroup, inodesPerGroup, sparseSuper, backupGroups, reservedDescriptorBlocks } = old
  const groupCount = Math.ceil(blockCount / blocksPerGroup)
  const oldTables = descriptorBlockCount(old)
  const isMore = Math.ceil(groupCount / DESCRIPTORS_PER_BLOCK) > oldTables
  const firstMetaGroup = isMore ? Math.min(old.firstMetaGroup, oldTables) : old.firstMetaGroup
  return {
    blockCount,
    groupCount,
    blocksPerGroup,
    inodesPerGroup,
    sparseSuper,
    backupGroups,
    reservedDescriptorBlocks,
    firstMetaGroup,
    tableBlocks: (inodesPerGroup * old.inodeSizeBytes) / BLOCK_SIZE_BYTES,
    seed: old.checksumSeed,
    rootBlock: 0,
    freeBlocks: 0,
  }
}

function refuse(plan: Plan): void {
  if (plan.groupCount * plan.inodesPerGroup <= INODES_MAX) return
  throw new UmbraError(
    'UNSUPPORTED_FEATURE',
    `The file system cannot grow: ${plan.groupCount} groups of ${plan.inodesPerGroup} inodes are more than can be counted`,
  )
}

/** The group that was last gets the blocks that it lacked. @returns how many */
function growLastGroup(device: BlockDevice, old: Geometry, plan: Plan): number {
  const group = old.groupCount - 1
  const before = groupBlockCount(old, group)
  const after = groupBlockCount(plan, group)
  if (after === before) return 0
  const table = readTable(device, old, group)
  const at = (group % DESCRIPTORS_PER_BLOCK) * DESCRIPTOR_SIZE_BYTES
  const free = wide(table, at + GD.FREE_BLOCKS, at + GD.FREE_BLOCKS_HIGH) + after - before
  setWide(table, at + GD.FREE_BLOCKS, at + GD.FREE_BLOCKS_HIGH, free)
  if ((read16(table, at + GD.FLAGS) & GROUP_FLAG.BLOCK_UNINIT) === 0) {
    const bitmapBlock =
      read32(table, at + GD.BLOCK_BITMAP_HIGH) * 2 ** 32 + read32(table, at + GD.BLOCK_BITMAP)
    const bits = new Uint8Array(BLOCK_SIZE_BYTES)
    device.readSync(bitmapBlock * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, bits, 0)
    clearBits(bits, before, after - before)
    device.writeMetadata(bitmapBlock, bits, 0)
    setWide(table, at + GD.BLOCK_BITMAP_CSUM, at + GD.BLOCK_BITMAP_CSUM_HIGH, crc32c(plan.seed, bits))
  }
  write16(table, at + GD.CHECKSUM, 0)
  const number = new Uint8Array(4)
  write32(number, 0, group)
  write16(table, at + GD.CHECKSUM, crc32c(crc32c(plan.seed, number), table, at, DESCRIPTOR_SIZE_BYTES))
  device.writeMetadata(descriptorBlock(old, Math.floor(group / DESCRIPTORS_PER_BLOCK)), table, 0)
  return after - before
}

/** @returns the free blocks of the new groups */
function writeNewGroups(device: BlockDevice, old: Geometry, plan: Plan): number {
  let freed = 0
  for (let group = old.groupCount; group < plan.groupCount; ) {
    const index = Math.floor(group / DESCRIPTORS_PER_BLOCK)
    const end = Math.min((index + 1) * DESCRIPTORS_PER_BLOCK, plan.groupCount)
    const table = readTable(device, plan, group)
    for (; group < end; group++) {
      encodeDescriptor(device, plan, group, table, (group % DESCRIPTORS_PER_BLOCK) * DESCRIPTOR_SIZE_BYTES)
      freed += groupBlockCount(plan, group) - overhead(plan, group)
    }
    device.writeMetadata(descriptorBlock(plan, index), table, 0)
  }
  return freed
}

/** The block of descriptors that has this group's. */
function readTable(device: BlockDevice, geometry: Geometry | Plan, group: number): Uint8Array {
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  const at = descriptorBlock(geometry, Math.floor(group / DESCRIPTORS_PER_BLOCK))
  device.readSync(at * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
  return block
}

function wide(b: Uint8Array, low: number, high: number): number {
  return read16(b, low) + read16(b, high) * 0x10000
}

function setWide(b: Uint8Array, low: number, high: number, value: number): void {
  write16(b, low, value)
  write16(b, high, value >>> 16)
}
