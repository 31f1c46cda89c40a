// Making an ext4 file system: only what differs from zeros is written.
//
// Always true: the volume reads as zeros, so inode tables need no writing and groups are marked
// INODE_ZEROED. Each group keeps its own bitmaps and inode table, so every group but the first and
// the last has an uninitialised block bitmap that follows from its descriptor alone; flex_bg is on
// for allocation's sake. No backup superblock or descriptor is written: their room is kept (as
// sparse_super says, so that e2fsck -y may write them in an exported image), their content is the volume's redundancy.
// Source: Documentation/filesystems/ext4; features as `mke2fs -O ^has_journal,^resize_inode` has them.

import { randomBytes } from 'node:crypto'
import { CRC32C_SEED, crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { randomUuid, uuidBytes } from '../base/uuid.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { setBits } from './bitmap.ts'
import { write16, write32 } from './bytes.ts'
import { initNode, setEntryCount, setExtent } from './extent-node.ts'
import {
  COMPAT,
  DESCRIPTOR_SIZE_BYTES,
  EXT4_MAGIC,
  FIRST_INO,
  FLAG_SIGNED_HASH,
  GD,
  GROUP_FLAG,
  HASH_HALF_MD4,
  INCOMPAT,
  LOST_FOUND_INO,
  RO_COMPAT,
  STATE_VALID,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
  Superblock,
} from './format.ts'
import { INODE_FLAG, Inode, ROOT_INO, S_IFDIR, type Time } from './inode.ts'
import { encodeInode } from './inode-record.ts'
import {
  baseMetadataBlocks,
  DESCRIPTORS_PER_BLOCK,
  descriptorBlockCount,
  groupBlockCount,
  type LayoutGeometry,
} from './layout.ts'
import { superblockChecksum } from './superblock.ts'

export interface FormatOptions {
  /** At most 16 bytes. */
  readonly label?: string
  readonly uuid?: string
  /** One inode for so many bytes; 16384 unless said. */
  readonly inodeRatioBytes?: number
  /** Blocks of the file system; the device's unless said. */
  readonly blockCount?: number
  readonly now?: Time
  /** Who owns the root and lost+found; root unless said. */
  readonly owner?: { readonly uid: number; readonly gid: number }
}

const BLOCKS_PER_GROUP = 8 * BLOCK_SIZE_BYTES
const INODE_SIZE_BYTES = 256
const INODES_PER_BLOCK = BLOCK_SIZE_BYTES / INODE_SIZE_BYTES
const LOST_FOUND_BLOCKS = 4
const BLOCKS_MIN = 64
/** 16 TiB: as far as 32-bit file blocks and the volume go. */
const BLOCKS_MAX = 2 ** 32
/** A last group with less room than this for files is left out, as mke2fs does. */
export const LAST_GROUP_SPARE_BLOCKS = 50
const DEFAULT_MOUNT_OPTIONS_XATTR_ACL = 0x4 | 0x8
const DIRECTORY_TAIL_BYTES = 12
const TYPE_DIRECTORY = 2
const OS_LINUX = 0

export interface Plan extends LayoutGeometry {
  readonly inodesPerGroup: number
  readonly tableBlocks: number
  readonly seed: number
  readonly rootBlock: number
  readonly freeBlocks: number
}

/**
 * Makes an empty ext4 file system on a device that reads as zeros. Nothing is committed.
 * @throws UmbraError INVALID_ARGUMENT for sizes, labels and UUIDs that do not fit, OUT_OF_SPACE
 */
export function formatExt4(device: BlockDevice, options: FormatOptions = {}): void {
  const uuid = uuidBytes(options.uuid ?? randomUuid())
  const label = Buffer.from(options.label ?? '', 'utf8').toString('latin1')
  if (label.length > 16)
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `A file system's label has at most 16 bytes, not ${label.length}`,
    )
  const now = options.now ?? { sec: Math.floor(Date.now() / 1000), nsec: 0 }
  const plan = makePlan(
    options.blockCount ?? device.blockCount,
    device,
    uuid,
    options.inodeRatioBytes ?? 16384,
  )
  device.requireRoom(descriptorBlockCount(plan) + LOST_FOUND_BLOCKS + 8, false)
  writeDescriptors(device, plan)
  writeRootGroup(device, plan, now, options.owner ?? { uid: 0, gid: 0 })
  writeSuperblock(device, plan, uuid, label, now)
}

function makePlan(wantedBlocks: number, device: BlockDevice, uuid: Uint8Array, ratioBytes: number): Plan {
  if (!Number.isInteger(wantedBlocks) || wantedBlocks < BLOCKS_MIN || wantedBlocks > BLOCKS_MAX) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `A file system has ${BLOCKS_MIN} to ${BLOCKS_MAX} blocks of 4096 bytes, not ${wantedBlocks}`,
    )
  }
  if (wantedBlocks > device.blockCount)
    throw new UmbraError('INVALID_ARGUMENT', `The device has only ${device.blockCount} blocks`)
  if (!Number.isInteger(ratioBytes) || ratioBytes < 1024 || ratioBytes > 2 ** 26)
    throw new UmbraError('INVALID_ARGUMENT', `One inode for ${ratioBytes} bytes is out of range`)
  let plan = planFor(wantedBlocks, uuid, ratioBytes)
  const last = plan.groupCount - 1
  const lastRoom = groupBlockCount(plan, last) - overhead(plan, last)
  if (last > 0 && lastRoom < LAST_GROUP_SPARE_BLOCKS)
    plan = planFor(last * BLOCKS_PER_GROUP, uuid, ratioBytes)
  return plan
}

function planFor(blockCount: number, uuid: Uint8Array, ratioBytes: number): Plan {
  const groupCount = Math.ceil(blockCount / BLOCKS_PER_GROUP)
  const wanted = (blockCount * BLOCK_SIZE_BYTES) / ratioBytes / groupCount
  const rounded = Math.ceil(Math.max(wanted, INODES_PER_BLOCK) / INODES_PER_BLOCK) * INODES_PER_BLOCK
  // 2^32 - 1 inodes are the most that the superblock can count.
  const most = Math.floor((2 ** 32 - 1) / groupCount / INODES_PER_BLOCK) * INODES_PER_BLOCK
  const inodesPerGroup = Math.min(rounded, BLOCKS_PER_GROUP, most)
  const base = {
    groupCount,
    blockCount,
    blocksPerGroup: BLOCKS_PER_GROUP,
    sparseSuper: true,
    backupGroups: undefined,
    firstMetaGroup: Number.POSITIVE_INFINITY,
    reservedDescriptorBlocks: 0,
    inodesPerGroup,
    tableBlocks: inodesPerGroup / INODES_PER_BLOCK,
    seed: crc32c(CRC32C_SEED, uuid),
  }
  let used = 1 + LOST_FOUND_BLOCKS
  for (let group = 0; group < groupCount; group++) used += overhead(base, group)
  const rootBlock = overhead(base, 0)
  if (rootBlock + 1 + LOST_FOUND_BLOCKS > groupBlockCount(base, 0)) {
    throw new UmbraError('INVALID_ARGUMENT', `${blockCount} blocks have no room for so many inodes`)
  }
  return { ...base, rootBlock, freeBlocks: blockCount - used }
}

/** Blocks of a group that its own metadata takes, all at its start. */
export function overhead(plan: LayoutGeometry & { tableBlocks: number }, group: number): number {
  return baseMetadataBlocks(plan, group) + 2 + plan.tableBlocks
}

function writeDescriptors(device: BlockDevice, plan: Plan): void {
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  for (let i = 0; i < descriptorBlockCount(plan); i++) {
    block.fill(0)
    const first = i * DESCRIPTORS_PER_BLOCK
    const end = Math.min(first + DESCRIPTORS_PER_BLOCK, plan.groupCount)
    for (let group = first; group < end; group++)
      encodeDescriptor(device, plan, group, block, (group - first) * DESCRIPTOR_SIZE_BYTES)
    device.writeMetadata(1 + i, block, 0)
  }
}

export function encodeDescriptor(
  device: BlockDevice,
  plan: Plan,
  group: number,
  b: Uint8Array,
  at: number,
): void {
  const start = group * BLOCKS_PER_GROUP + baseMetadataBlocks(plan, group)
  const wide = (low: number, high: number, value: number) => {
    write32(b, at + low, value % 2 ** 32)
    write32(b, at + high, Math.floor(value / 2 ** 32))
  }
  wide(GD.BLOCK_BITMAP, GD.BLOCK_BITMAP_HIGH, start)
  wide(GD.INODE_BITMAP, GD.INODE_BITMAP_HIGH, start + 1)
  wide(GD.INODE_TABLE, GD.INODE_TABLE_HIGH, start + 2)
  const usedInodes = group === 0 ? FIRST_INO : 0
  const usedBlocks = overhead(plan, group) + (group === 0 ? 1 + LOST_FOUND_BLOCKS : 0)
  write16(b, at + GD.FREE_BLOCKS, groupBlockCount(plan, group) - usedBlocks)
  write16(b, at + GD.FREE_INODES, plan.inodesPerGroup - usedInodes)
  write16(b, at + GD.ITABLE_UNUSED, plan.inodesPerGroup - usedInodes)
  write16(b, at + GD.USED_DIRECTORIES, group === 0 ? 2 : 0)
  let flags: number = GROUP_FLAG.INODE_ZEROED
  if (group > 0) flags |= GROUP_FLAG.INODE_UNINIT
  if (group > 0 && group < plan.groupCount - 1) flags |= GROUP_FLAG.BLOCK_UNINIT
  write16(b, at + GD.FLAGS, flags)
  if (group === 0) {
    const csum = writeInodeBitmap(device, plan, start + 1)
    write16(b, at + GD.INODE_BITMAP_CSUM, csum)
    write16(b, at + GD.INODE_BITMAP_CSUM_HIGH, csum >>> 16)
  }
  if (group === 0 || group === plan.groupCount - 1) {
    const csum = writeBlockBitmap(device, plan, group, start, usedBlocks)
    write16(b, at + GD.BLOCK_BITMAP_CSUM, csum)
    write16(b, at + GD.BLOCK_BITMAP_CSUM_HIGH, csum >>> 16)
  }
  const number = new Uint8Array(4)
  write32(number, 0, group)
  write16(b, at + GD.CHECKSUM, crc32c(crc32c(plan.seed, number), b, at, DESCRIPTOR_SIZE_BYTES))
}

/** @returns the bitmap's checksum */
function writeInodeBitmap(device: BlockDevice, plan: Plan, blockIndex: number): number {
  const bits = new Uint8Array(BLOCK_SIZE_BYTES)
  setBits(bits, 0, FIRST_INO)
  setBits(bits, plan.inodesPerGroup, 8 * BLOCK_SIZE_BYTES - plan.inodesPerGroup)
  device.writeMetadata(blockIndex, bits, 0)
  return crc32c(plan.seed, bits, 0, plan.inodesPerGroup / 8)
}

function writeBlockBitmap(
  device: BlockDevice,
  plan: Plan,
  group: number,
  blockIndex: number,
  usedBlocks: number,
): number {
  const bits = new Uint8Array(BLOCK_SIZE_BYTES)
  setBits(bits, 0, usedBlocks)
  const count = groupBlockCount(plan, group)
  setBits(bits, count, BLOCKS_PER_GROUP - count)
  device.writeMetadata(blockIndex, bits, 0)
  return crc32c(plan.seed, bits)
}

/** The inode table's first block, the root directory and lost+found. */
function writeRootGroup(
  device: BlockDevice,
  plan: Plan,
  now: Time,
  owner: { readonly uid: number; readonly gid: number },
): void {
  const table = new Uint8Array(BLOCK_SIZE_BYTES)
  const tableAt = baseMetadataBlocks(plan, 0) + 2
  const root = directoryInode(ROOT_INO, 0o755, 3, plan.rootBlock, 1, now)
  const lostFound = directoryInode(LOST_FOUND_INO, 0o700, 2, plan.rootBlock + 1, LOST_FOUND_BLOCKS, now)
  for (const inode of [root, lostFound]) {
    inode.uid = owner.uid
    inode.gid = owner.gid
    const at = (inode.ino - 1) * INODE_SIZE_BYTES
    encodeInode(inode, table, at, INODE_SIZE_BYTES, inodeSeed(plan, inode))
  }
  device.writeMetadata(tableAt, table, 0)
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  const end = BLOCK_SIZE_BYTES - DIRECTORY_TAIL_BYTES
  writeEntry(block, 0, 12, ROOT_INO, '.')
  writeEntry(block, 12, 12, ROOT_INO, '..')
  writeEntry(block, 24, end - 24, LOST_FOUND_INO, 'lost+found')
  device.writeMetadata(plan.rootBlock, sealDirectory(block, inodeSeed(plan, root)), 0)
  for (let i = 0; i < LOST_FOUND_BLOCKS; i++) {
    block.fill(0)
    if (i === 0) {
      writeEntry(block, 0, 12, LOST_FOUND_INO, '.')
      writeEntry(block, 12, end - 12, ROOT_INO, '..')
    } else write16(block, 4, end)
    device.writeMetadata(plan.rootBlock + 1 + i, sealDirectory(block, inodeSeed(plan, lostFound)), 0)
  }
}

function directoryInode(
  ino: number,
  permissions: number,
  linkCount: number,
  firstBlock: number,
  blockCount: number,
  now: Time,
): Inode {
  const inode = new Inode(ino)
  inode.mode = S_IFDIR | permissions
  inode.linkCount = linkCount
  inode.sizeBytes = blockCount * BLOCK_SIZE_BYTES
  inode.sectorCount = blockCount * (BLOCK_SIZE_BYTES / 512)
  inode.flags = INODE_FLAG.EXTENTS
  inode.atime = inode.mtime = inode.ctime = inode.crtime = now
  initNode(inode.blockArea, 0, 4)
  setEntryCount(inode.blockArea, 1)
  setExtent(inode.blockArea, 0, 0, blockCount, firstBlock, false)
  return inode
}

function inodeSeed(plan: Plan, inode: Inode): number {
  const words = new Uint8Array(8)
  write32(words, 0, inode.ino)
  write32(words, 4, inode.generation)
  return crc32c(plan.seed, words)
}

function writeEntry(b: Uint8Array, at: number, lengthBytes: number, ino: number, name: string): void {
  write32(b, at, ino)
  write16(b, at + 4, lengthBytes)
  b[at + 6] = name.length
  b[at + 7] = TYPE_DIRECTORY
  for (let i = 0; i < name.length; i++) b[at + 8 + i] = name.charCodeAt(i)
}

function sealDirectory(b: Uint8Array, seed: number): Uint8Array {
  const tail = BLOCK_SIZE_BYTES - DIRECTORY_TAIL_BYTES
  write16(b, tail + 4, DIRECTORY_TAIL_BYTES)
  b[tail + 7] = 0xde
  write32(b, tail + 8, crc32c(seed, b, 0, tail))
  return b
}

function writeSuperblock(device: BlockDevice, plan: Plan, uuid: Uint8Array, label: string, now: Time): void {
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  const sec = Math.min(Math.max(now.sec, 0), 0xffffffff)
  const zero = Superblock.decode(block, SUPERBLOCK_OFFSET_BYTES)
  Superblock.encode(
    {
      ...zero,
      inodesCount: plan.inodesPerGroup * plan.groupCount,
      blocksCountLow: plan.blockCount % 2 ** 32,
      blocksCountHigh: Math.floor(plan.blockCount / 2 ** 32),
      freeBlocksLow: plan.freeBlocks % 2 ** 32,
      freeBlocksHigh: Math.floor(plan.freeBlocks / 2 ** 32),
      freeInodesCount: plan.inodesPerGroup * plan.groupCount - FIRST_INO,
      logBlockSize: 2,
      logClusterSize: 2,
      blocksPerGroup: BLOCKS_PER_GROUP,
      clustersPerGroup: BLOCKS_PER_GROUP,
      inodesPerGroup: plan.inodesPerGroup,
      writtenAtSec: sec,
      maxMountCount: 0xffff,
      magic: EXT4_MAGIC,
      state: STATE_VALID,
      errorBehaviour: 1,
      checkedAtSec: sec,
      creatorOs: OS_LINUX,
      revision: 1,
      firstInode: FIRST_INO,
      inodeSize: INODE_SIZE_BYTES,
      featureCompat: COMPAT.EXT_ATTR | COMPAT.DIR_INDEX,
      featureIncompat: INCOMPAT.FILETYPE | INCOMPAT.EXTENTS | INCOMPAT.BIT64 | INCOMPAT.FLEX_BG,
      featureRoCompat:
        RO_COMPAT.SPARSE_SUPER |
        RO_COMPAT.LARGE_FILE |
        RO_COMPAT.HUGE_FILE |
        RO_COMPAT.DIR_NLINK |
        RO_COMPAT.EXTRA_ISIZE |
        RO_COMPAT.METADATA_CSUM,
      uuid,
      label,
      hashSeed: randomBytes(16),
      hashVersion: HASH_HALF_MD4,
      descriptorSize: DESCRIPTOR_SIZE_BYTES,
      defaultMountOptions: DEFAULT_MOUNT_OPTIONS_XATTR_ACL,
      madeAtSec: sec,
      minExtraIsize: 32,
      wantExtraIsize: 32,
      flags: FLAG_SIGNED_HASH,
      logGroupsPerFlex: 4,
      checksumType: 1,
    },
    block,
    SUPERBLOCK_OFFSET_BYTES,
  )
  const raw = block.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_SIZE_BYTES)
  write32(raw, SUPERBLOCK_SIZE_BYTES - 4, superblockChecksum(raw))
  device.writeMetadata(0, block, 0)
}
