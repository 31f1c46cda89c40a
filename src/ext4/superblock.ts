// Reading and judging a superblock: what may be opened, and how. What it says is turned once into a
// Geometry that the rest of the room works with.
//
// Always true: the order is magic, revision, checksum, features, limits; an unknown incompatible
// feature refuses the file system, an unknown read-only one refuses writing; every count is bounded
// by the device before anything is computed from it.

import { CRC32C_SEED, crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import type { StructValue } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { uuidText } from '../base/uuid.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import {
  COMPAT,
  DESCRIPTOR_SIZE_BYTES,
  EXT4_MAGIC,
  FLAG_UNSIGNED_HASH,
  INCOMPAT,
  INCOMPAT_NAMES,
  RO_COMPAT,
  RO_COMPAT_NAMES,
  STATE_ERROR,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
  Superblock,
} from './format.ts'

export type SuperblockValue = StructValue<(typeof Superblock)['fields']>

const INCOMPAT_SERVED =
  INCOMPAT.FILETYPE |
  INCOMPAT.META_BG |
  INCOMPAT.EXTENTS |
  INCOMPAT.BIT64 |
  INCOMPAT.FLEX_BG |
  INCOMPAT.CSUM_SEED |
  INCOMPAT.LARGE_DIR
const INCOMPAT_NEEDED = INCOMPAT.FILETYPE | INCOMPAT.EXTENTS | INCOMPAT.BIT64
const RO_COMPAT_SERVED =
  RO_COMPAT.SPARSE_SUPER |
  RO_COMPAT.LARGE_FILE |
  RO_COMPAT.HUGE_FILE |
  RO_COMPAT.DIR_NLINK |
  RO_COMPAT.EXTRA_ISIZE |
  RO_COMPAT.METADATA_CSUM
/** The orphan file has entries. */
export const RO_COMPAT_ORPHAN_PRESENT = 0x10000

export interface Geometry {
  readonly blockCount: number
  readonly groupCount: number
  readonly blocksPerGroup: number
  readonly inodesPerGroup: number
  readonly inodeCount: number
  readonly inodeSizeBytes: number
  readonly firstInode: number
  readonly groupsPerFlex: number
  readonly reservedBlockCount: number
  readonly reservedDescriptorBlocks: number
  /** Seed of every metadata checksum. */
  readonly checksumSeed: number
  readonly hashSeed: Uint32Array
  readonly hashVersion: number
  readonly hashUnsigned: boolean
  readonly sparseSuper: boolean
  /** Groups with copies under sparse_super2; undefined: the feature is off. */
  readonly backupGroups: readonly [number, number] | undefined
  /** First meta group with its descriptors inside, in descriptor blocks; Infinity: none. */
  readonly firstMetaGroup: number
  readonly uuid: string
  readonly label: string
  /** Why writing is refused; undefined: it is not. */
  readonly readOnlyReason: string | undefined
}

/**
 * Reads the superblock of `device` and judges it.
 * @param block the whole of block 0
 * @throws UmbraError NOT_A_VOLUME, CHECKSUM_MISMATCH, UNSUPPORTED_FEATURE, CORRUPT
 */
export function readGeometry(block: Uint8Array, device: BlockDevice): Geometry {
  const value = Superblock.decode(block, SUPERBLOCK_OFFSET_BYTES)
  if (value.magic !== EXT4_MAGIC) {
    throw new UmbraError(
      'NOT_A_VOLUME',
      `Not an ext4 file system: magic is 0x${value.magic.toString(16)}, not 0x${EXT4_MAGIC.toString(16)}`,
    )
  }
  checkFeatures(value)
  const raw = block.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_SIZE_BYTES)
  const computed = superblockChecksum(raw)
  if (computed !== value.checksum) {
    throw new UmbraError(
      'CHECKSUM_MISMATCH',
      `Cannot open the file system: superblock checksum is 0x${computed.toString(16)} but 0x${value.checksum.toString(16)} was stored`,
    )
  }
  checkLimits(value, device)
  return geometryOf(value)
}

export function superblockChecksum(raw: Uint8Array): number {
  return crc32c(CRC32C_SEED, raw, 0, SUPERBLOCK_SIZE_BYTES - 4)
}

function checkFeatures(value: SuperblockValue): void {
  const unknown = value.featureIncompat & ~INCOMPAT_SERVED
  if (unknown !== 0) {
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `Cannot open the file system: it needs ${featureNames(unknown, INCOMPAT_NAMES)}${
        unknown & INCOMPAT.RECOVER ? '; mount it with the kernel or run e2fsck to replay its journal' : ''
      }`,
    )
  }
  const missing = INCOMPAT_NEEDED & ~value.featureIncompat
  if (missing !== 0 || (value.featureRoCompat & RO_COMPAT.METADATA_CSUM) === 0) {
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      'Cannot open the file system: it lacks one of filetype, extent, 64bit, metadata_csum',
    )
  }
}

function featureNames(bits: number, names: Readonly<Record<number, string>>): string {
  const found: string[] = []
  for (let bit = 0; bit < 32; bit++) {
    const mask = (1 << bit) >>> 0
    if ((bits & mask) !== 0) found.push(names[mask] ?? `feature 0x${mask.toString(16)}`)
  }
  return found.join(', ')
}

function checkLimits(value: SuperblockValue, device: BlockDevice): void {
  const blocks = value.blocksCountHigh * 2 ** 32 + value.blocksCountLow
  const fail = (what: string): never => {
    throw new UmbraError('CORRUPT', `Cannot open the file system: ${what}`)
  }
  if (value.logBlockSize !== 2) {
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `Cannot open the file system: its blocks are ${2 ** (10 + Math.min(value.logBlockSize, 20))} bytes, only 4096 are served`,
    )
  }
  if (value.inodeSize !== 256) {
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `Cannot open the file system: its inodes are ${value.inodeSize} bytes, only 256 are served`,
    )
  }
  if (value.descriptorSize !== DESCRIPTOR_SIZE_BYTES) fail(`descriptors of ${value.descriptorSize} bytes`)
  if (value.checksumType !== 1) fail(`checksum type ${value.checksumType}`)
  if (value.firstDataBlock !== 0) fail(`first data block ${value.firstDataBlock}`)
  if (value.blocksPerGroup !== 8 * BLOCK_SIZE_BYTES) fail(`${value.blocksPerGroup} blocks in a group`)
  if (value.inodesPerGroup % 16 !== 0 || value.inodesPerGroup < 16 || value.inodesPerGroup > 32768)
    fail(`${value.inodesPerGroup} inodes in a group`)
  if (blocks < 8 || blocks > device.blockCount)
    fail(`it has ${blocks} blocks and the device ${device.blockCount}`)
  const groups = Math.ceil(blocks / value.blocksPerGroup)
  if (value.inodesCount !== groups * value.inodesPerGroup)
    fail(`${value.inodesCount} inodes in ${groups} groups`)
  if (value.firstInode < 11 || value.firstInode > value.inodesPerGroup)
    fail(`first inode ${value.firstInode}`)
}

function geometryOf(value: SuperblockValue): Geometry {
  const blockCount = value.blocksCountHigh * 2 ** 32 + value.blocksCountLow
  const words = new DataView(value.hashSeed.buffer, value.hashSeed.byteOffset, 16)
  const backup = new DataView(value.backupGroups.buffer, value.backupGroups.byteOffset, 8)
  const hasSeed = (value.featureIncompat & INCOMPAT.CSUM_SEED) !== 0
  return {
    blockCount,
    groupCount: Math.ceil(blockCount / value.blocksPerGroup),
    blocksPerGroup: value.blocksPerGroup,
    inodesPerGroup: value.inodesPerGroup,
    inodeCount: value.inodesCount,
    inodeSizeBytes: value.inodeSize,
    firstInode: value.firstInode,
    groupsPerFlex: 2 ** Math.min(value.logGroupsPerFlex, 16),
    reservedBlockCount: value.reservedBlocksHigh * 2 ** 32 + value.reservedBlocksLow,
    reservedDescriptorBlocks: value.reservedDescriptorBlocks,
    checksumSeed: hasSeed ? value.checksumSeed : crc32c(CRC32C_SEED, value.uuid),
    hashSeed: Uint32Array.from([0, 4, 8, 12], (at) => words.getUint32(at, true)),
    hashVersion: value.hashVersion,
    hashUnsigned: (value.flags & FLAG_UNSIGNED_HASH) !== 0,
    sparseSuper: (value.featureRoCompat & RO_COMPAT.SPARSE_SUPER) !== 0,
    backupGroups:
      value.featureCompat & COMPAT.SPARSE_SUPER2
        ? [backup.getUint32(0, true), backup.getUint32(4, true)]
        : undefined,
    firstMetaGroup:
      value.featureIncompat & INCOMPAT.META_BG ? value.firstMetaGroup : Number.POSITIVE_INFINITY,
    uuid: uuidText(value.uuid),
    label: value.label,
    readOnlyReason: readOnlyReason(value),
  }
}

function readOnlyReason(value: SuperblockValue): string | undefined {
  const unknown = value.featureRoCompat & ~RO_COMPAT_SERVED
  if (unknown !== 0) return `it uses ${featureNames(unknown, RO_COMPAT_NAMES)}`
  // A journal or orphan file that is empty may stay: whoever mounts it next finds nothing in it.
  const hasForeignJournal = value.featureCompat & COMPAT.HAS_JOURNAL && value.journalInode === 0
  if (hasForeignJournal) return 'its journal is on another device'
  if (value.state & STATE_ERROR) return 'it is marked as having errors; run e2fsck'
  if (value.lastOrphan !== 0) return 'it has orphans to be cleaned up; run e2fsck'
  return undefined
}
