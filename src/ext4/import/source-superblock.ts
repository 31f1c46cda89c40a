// The superblock of a file system that is taken in: any of the ext2, ext3, ext4 family, whatever its
// block size, and what has to be done with it.
//
// Always true: every number that reading relies on was bounded here; an incompatible feature that we
// cannot even read is refused by name.
// Source: Documentation/filesystems/ext4 (globals.rst); e2fsprogs lib/ext2fs/ext2_fs.h for old revisions.

import { CRC32C_SEED, crc32c } from '../../base/crc32c.ts'
import { UmbraError } from '../../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import { read32 } from '../bytes.ts'
import {
  COMPAT,
  EXT4_MAGIC,
  INCOMPAT,
  INCOMPAT_NAMES,
  RO_COMPAT,
  STATE_VALID,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_SIZE_BYTES,
  Superblock,
} from '../format.ts'
import { RO_COMPAT_ORPHAN_PRESENT, type SuperblockValue, superblockChecksum } from '../superblock.ts'

/** Reading byte ranges, as of an image or a volume. */
export interface ByteSource {
  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void
  /** In blocks of 4096 bytes. */
  readonly blockCount: number
}

const GDT_CSUM = 0x10
const QUOTA = 0x100
const BIGALLOC = 0x200
const MMP = 0x100
const OLD_INODE_SIZE_BYTES = 128
const OLD_FIRST_INODE = 11
const ORPHAN_FILE_INODE_AT = 0x280
const LOG_BLOCK_SIZE_MAX = 6

const INCOMPAT_READ =
  INCOMPAT.FILETYPE |
  INCOMPAT.RECOVER |
  INCOMPAT.META_BG |
  INCOMPAT.EXTENTS |
  INCOMPAT.BIT64 |
  INCOMPAT.FLEX_BG |
  INCOMPAT.CSUM_SEED |
  INCOMPAT.LARGE_DIR |
  MMP
/** Needed by what is served in place; a file system without one of them is converted. */
const INCOMPAT_SERVED = INCOMPAT.FILETYPE | INCOMPAT.EXTENTS | INCOMPAT.BIT64
const RO_COMPAT_CONVERTED = GDT_CSUM | QUOTA | BIGALLOC

export interface SourceGeometry {
  readonly value: SuperblockValue
  readonly blockSizeBytes: number
  readonly blockCount: number
  readonly firstDataBlock: number
  readonly blocksPerGroup: number
  readonly inodesPerGroup: number
  readonly inodeCount: number
  readonly groupCount: number
  readonly inodeSizeBytes: number
  readonly firstInode: number
  readonly descriptorSizeBytes: number
  readonly hasFileType: boolean
  readonly hasChecksums: boolean
  readonly checksumSeed: number
  readonly isMetaGroup: boolean
  /** The journal has to be replayed. */
  readonly needsRecovery: boolean
  /** Inode number of the orphan file, 0: none. */
  readonly orphanFileInode: number
  readonly hasOrphans: boolean
  /** Why it cannot be served as it is but must be copied into a fresh file system; undefined: it can. */
  readonly conversion: string | undefined
}

/** Whether there is a file system of the family at all. */
export function isExtFamily(source: ByteSource): boolean {
  const block = readSuperblockBytes(source)
  return block !== undefined && Superblock.decode(block, 0).magic === EXT4_MAGIC
}

/** @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH, CORRUPT */
export function readSourceGeometry(source: ByteSource): SourceGeometry {
  const raw = readSuperblockBytes(source)
  const value = raw && Superblock.decode(raw, 0)
  if (!raw || value?.magic !== EXT4_MAGIC) {
    throw new UmbraError('NOT_A_VOLUME', 'The image holds no file system of the ext2, ext3, ext4 family')
  }
  const unknown = value.revision > 0 ? value.featureIncompat & ~INCOMPAT_READ : 0
  if (unknown !== 0) {
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `Cannot take in the file system: it needs ${namesOf(unknown)}`,
    )
  }
  const hasChecksums = value.revision > 0 && (value.featureRoCompat & RO_COMPAT.METADATA_CSUM) !== 0
  if (hasChecksums && superblockChecksum(raw) !== value.checksum) {
    throw new UmbraError('CHECKSUM_MISMATCH', 'The superblock of the image does not match its checksum')
  }
  const hasJournal = value.revision > 0 && (value.featureCompat & COMPAT.HAS_JOURNAL) !== 0
  if (!hasJournal && (value.state & STATE_VALID) === 0) {
    throw new UmbraError(
      'CORRUPT',
      'Cannot take in the file system: it was not unmounted and has no journal; run e2fsck on the image',
    )
  }
  return geometryOf(value, raw, hasChecksums, source)
}

function readSuperblockBytes(source: ByteSource): Uint8Array | undefined {
  if (source.blockCount < 1) return undefined
  const bytes = new Uint8Array(SUPERBLOCK_SIZE_BYTES)
  source.readSync(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_SIZE_BYTES, bytes, 0)
  return bytes
}

function geometryOf(
  value: SuperblockValue,
  raw: Uint8Array,
  hasChecksums: boolean,
  source: ByteSource,
): SourceGeometry {
  const isOld = value.revision === 0
  const has64 = !isOld && (value.featureIncompat & INCOMPAT.BIT64) !== 0
  if (value.logBlockSize > LOG_BLOCK_SIZE_MAX) throw corrupt(`blocks of 2^${10 + value.logBlockSize} bytes`)
  const blockSizeBytes = 1024 << value.logBlockSize
  const blockCount = (has64 ? value.blocksCountHigh * 2 ** 32 : 0) + value.blocksCountLow
  const hasSeed = (value.featureIncompat & INCOMPAT.CSUM_SEED) !== 0
  const geometry: SourceGeometry = {
    value,
    blockSizeBytes,
    blockCount,
    firstDataBlock: value.firstDataBlock,
    blocksPerGroup: value.blocksPerGroup,
    inodesPerGroup: value.inodesPerGroup,
    inodeCount: value.inodesCount,
    groupCount: Math.ceil((blockCount - value.firstDataBlock) / Math.max(1, value.blocksPerGroup)),
    inodeSizeBytes: isOld ? OLD_INODE_SIZE_BYTES : value.inodeSize,
    firstInode: isOld ? OLD_FIRST_INODE : value.firstInode,
    descriptorSizeBytes: has64 ? value.descriptorSize : 32,
    hasFileType: !isOld && (value.featureIncompat & INCOMPAT.FILETYPE) !== 0,
    hasChecksums,
    checksumSeed: hasSeed ? value.checksumSeed : crc32c(CRC32C_SEED, value.uuid),
    isMetaGroup: !isOld && (value.featureIncompat & INCOMPAT.META_BG) !== 0,
    needsRecovery: !isOld && (value.featureIncompat & INCOMPAT.RECOVER) !== 0,
    orphanFileInode:
      !isOld && (value.featureCompat & COMPAT.ORPHAN_FILE) !== 0 ? read32(raw, ORPHAN_FILE_INODE_AT) : 0,
    hasOrphans: value.lastOrphan !== 0 || (value.featureRoCompat & RO_COMPAT_ORPHAN_PRESENT) !== 0,
    conversion: conversionReason(value, blockSizeBytes, hasChecksums),
  }
  checkBounds(geometry, source)
  return geometry
}

function checkBounds(geometry: SourceGeometry, source: ByteSource): void {
  const { blockSizeBytes, blockCount, inodesPerGroup, blocksPerGroup, groupCount, inodeSizeBytes } = geometry
  if (blockCount * blockSizeBytes > source.blockCount * BLOCK_SIZE_BYTES)
    throw corrupt(`${blockCount} blocks of ${blockSizeBytes} bytes, more than the image has`)
  if (blockCount < 1 || blocksPerGroup < 8 || blocksPerGroup > 8 * blockSizeBytes * 16)
    throw corrupt(`${blocksPerGroup} blocks in a group`)
  if (inodesPerGroup < 1 || inodesPerGroup > 8 * blockSizeBytes)
    throw corrupt(`${inodesPerGroup} inodes in a group`)
  if (geometry.inodeCount > groupCount * inodesPerGroup) throw corrupt(`${geometry.inodeCount} inodes`)
  const isPower = (inodeSizeBytes & (inodeSizeBytes - 1)) === 0
  if (!isPower || inodeSizeBytes < OLD_INODE_SIZE_BYTES || inodeSizeBytes > blockSizeBytes)
    throw corrupt(`inodes of ${inodeSizeBytes} bytes`)
  if (geometry.descriptorSizeBytes < 32 || geometry.descriptorSizeBytes > blockSizeBytes)
    throw corrupt(`descriptors of ${geometry.descriptorSizeBytes} bytes`)
}

function conversionReason(
  value: SuperblockValue,
  blockSizeBytes: number,
  hasChecksums: boolean,
): string | undefined {
  if (value.revision === 0) return 'it is of the first revision of ext2'
  if (blockSizeBytes !== BLOCK_SIZE_BYTES) return `its blocks are ${blockSizeBytes} bytes`
  if (value.inodeSize !== 256) return `its inodes are ${value.inodeSize} bytes`
  if (!hasChecksums) return 'it has no metadata checksums'
  if ((INCOMPAT_SERVED & ~value.featureIncompat) !== 0) return 'it lacks extents, file types or 64 bits'
  if (value.featureIncompat & MMP) return 'it is protected against multiple mounts'
  if (value.featureRoCompat & RO_COMPAT_CONVERTED) return 'it has quotas or clusters of blocks'
  if (value.descriptorSize !== 64) return `its descriptors are ${value.descriptorSize} bytes`
  if (value.blocksPerGroup !== 8 * BLOCK_SIZE_BYTES) return `its groups have ${value.blocksPerGroup} blocks`
  if (value.inodesPerGroup % 16 !== 0) return `its groups have ${value.inodesPerGroup} inodes`
  const hasOwnJournal = value.journalDevice === 0 || value.journalInode !== 0
  if (value.featureCompat & COMPAT.HAS_JOURNAL && !hasOwnJournal) return 'its journal is on another device'
  return undefined
}

function namesOf(bits: number): string {
  const names: string[] = []
  for (let bit = 0; bit < 32; bit++) {
    const mask = (1 << bit) >>> 0
    if ((bits & mask) !== 0) names.push(INCOMPAT_NAMES[mask] ?? `feature 0x${mask.toString(16)}`)
  }
  return names.join(', ')
}

function corrupt(what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot take in the file system: its superblock says ${what}`)
}
