// ext4 on disk: the superblock as a table, offsets of the records that hot code reads in place, and
// the feature bits that decide what may be opened.
//
//   block 0: 1024 bytes of boot room, superblock (1024), rest unused
//   block 1...: group descriptors, 64 bytes each
//   each group: block bitmap, inode bitmap, inode table, data
//
// Always true: every number here is little endian; offsets are from the start of the record.
// Source: Documentation/filesystems/ext4 (globals.rst, group_descr.rst, inodes.rst, ifork.rst).

import { ascii, bytes, struct, u8, u16le, u32le, u64le, zeros } from '../base/struct.ts'

export const SUPERBLOCK_OFFSET_BYTES = 1024
export const SUPERBLOCK_SIZE_BYTES = 1024
export const EXT4_MAGIC = 0xef53
export const STATE_VALID = 1
export const STATE_ERROR = 2

export const COMPAT = {
  HAS_JOURNAL: 0x4,
  EXT_ATTR: 0x8,
  RESIZE_INODE: 0x10,
  DIR_INDEX: 0x20,
  SPARSE_SUPER2: 0x200,
  ORPHAN_FILE: 0x1000,
} as const

export const INCOMPAT = {
  FILETYPE: 0x2,
  RECOVER: 0x4,
  META_BG: 0x10,
  EXTENTS: 0x40,
  BIT64: 0x80,
  FLEX_BG: 0x200,
  CSUM_SEED: 0x2000,
  LARGE_DIR: 0x4000,
} as const

export const RO_COMPAT = {
  SPARSE_SUPER: 0x1,
  LARGE_FILE: 0x2,
  HUGE_FILE: 0x8,
  DIR_NLINK: 0x20,
  EXTRA_ISIZE: 0x40,
  METADATA_CSUM: 0x400,
  ORPHAN_PRESENT: 0x10000,
} as const

/** Names for messages, of features that are known but not served. */
export const INCOMPAT_NAMES: Readonly<Record<number, string>> = {
  1: 'compression',
  4: 'needs_recovery',
  8: 'journal_dev',
  256: 'mmp',
  1024: 'ea_inode',
  4096: 'dirdata',
  32768: 'inline_data',
  65536: 'encrypt',
  131072: 'casefold',
}

export const RO_COMPAT_NAMES: Readonly<Record<number, string>> = {
  16: 'gdt_csum',
  256: 'quota',
  512: 'bigalloc',
  4096: 'read-only',
  8192: 'project',
  16384: 'shared_blocks',
  32768: 'verity',
  65536: 'orphan_present',
}

export const Superblock = struct('Ext4Superblock', SUPERBLOCK_SIZE_BYTES, {
  inodesCount: u32le(0x00),
  blocksCountLow: u32le(0x04),
  reservedBlocksLow: u32le(0x08),
  freeBlocksLow: u32le(0x0c),
  freeInodesCount: u32le(0x10),
  firstDataBlock: u32le(0x14),
  logBlockSize: u32le(0x18),
  logClusterSize: u32le(0x1c),
  blocksPerGroup: u32le(0x20),
  clustersPerGroup: u32le(0x24),
  inodesPerGroup: u32le(0x28),
  mountedAtSec: u32le(0x2c),
  writtenAtSec: u32le(0x30),
  mountCount: u16le(0x34),
  maxMountCount: u16le(0x36),
  magic: u16le(0x38),
  state: u16le(0x3a),
  errorBehaviour: u16le(0x3c),
  minorRevision: u16le(0x3e),
  checkedAtSec: u32le(0x40),
  checkIntervalSec: u32le(0x44),
  creatorOs: u32le(0x48),
  revision: u32le(0x4c),
  reservedUid: u16le(0x50),
  reservedGid: u16le(0x52),
  firstInode: u32le(0x54),
  inodeSize: u16le(0x58),
  groupOfThisCopy: u16le(0x5a),
  featureCompat: u32le(0x5c),
  featureIncompat: u32le(0x60),
  featureRoCompat: u32le(0x64),
  uuid: bytes(0x68, 16),
  label: ascii(0x78, 16),
  lastMounted: ascii(0x88, 64),
  algorithmUsage: u32le(0xc8),
  preallocBlocks: u8(0xcc),
  preallocDirectoryBlocks: u8(0xcd),
  reservedDescriptorBlocks: u16le(0xce),
  journalUuid: bytes(0xd0, 16),
  journalInode: u32le(0xe0),
  journalDevice: u32le(0xe4),
  lastOrphan: u32le(0xe8),
  hashSeed: bytes(0xec, 16),
  hashVersion: u8(0xfc),
  journalBackupType: u8(0xfd),
  descriptorSize: u16le(0xfe),
  defaultMountOptions: u32le(0x100),
  firstMetaGroup: u32le(0x104),
  madeAtSec: u32le(0x108),
  journalBlocks: bytes(0x10c, 68),
  blocksCountHigh: u32le(0x150),
  reservedBlocksHigh: u32le(0x154),
  freeBlocksHigh: u32le(0x158),
  minExtraIsize: u16le(0x15c),
  wantExtraIsize: u16le(0x15e),
  flags: u32le(0x160),
  raidStride: u16le(0x164),
  mmpInterval: u16le(0x166),
  mmpBlock: u64le(0x168),
  raidStripeWidth: u32le(0x170),
  logGroupsPerFlex: u8(0x174),
  checksumType: u8(0x175),
  encryptionLevel: u8(0x176),
  padding: zeros(0x177, 1),
  kibWritten: u64le(0x178),
  snapshotFields: bytes(0x180, 20),
  errorFields: bytes(0x194, 108),
  mountOptions: ascii(0x200, 64),
  quotaInodes: bytes(0x240, 8),
  overheadBlocks: u32le(0x248),
  backupGroups: bytes(0x24c, 8),
  encryptFields: bytes(0x254, 20),
  lostFoundInode: u32le(0x268),
  projectQuotaInode: u32le(0x26c),
  checksumSeed: u32le(0x270),
  rest: bytes(0x274, 0x3fc - 0x274),
  checksum: u32le(0x3fc),
})

/** Fields that the running file system changes in place. */
export const SB = {
  LABEL: 0x78,
  FREE_BLOCKS_LOW: 0x0c,
  FREE_INODES: 0x10,
  WRITTEN_AT: 0x30,
  STATE: 0x3a,
  LAST_ORPHAN: 0xe8,
  FREE_BLOCKS_HIGH: 0x158,
  CHECKSUM: 0x3fc,
} as const

export const FLAG_SIGNED_HASH = 1
export const FLAG_UNSIGNED_HASH = 2
export const HASH_HALF_MD4 = 1

/** Group descriptor: low halves at 0, high halves at 32 (64-bit feature). */
export const GD = {
  BLOCK_BITMAP: 0x00,
  INODE_BITMAP: 0x04,
  INODE_TABLE: 0x08,
  FREE_BLOCKS: 0x0c,
  FREE_INODES: 0x0e,
  USED_DIRECTORIES: 0x10,
  FLAGS: 0x12,
  BLOCK_BITMAP_CSUM: 0x18,
  INODE_BITMAP_CSUM: 0x1a,
  ITABLE_UNUSED: 0x1c,
  CHECKSUM: 0x1e,
  BLOCK_BITMAP_HIGH: 0x20,
  INODE_BITMAP_HIGH: 0x24,
  INODE_TABLE_HIGH: 0x28,
  FREE_BLOCKS_HIGH: 0x2c,
  FREE_INODES_HIGH: 0x2e,
  USED_DIRECTORIES_HIGH: 0x30,
  ITABLE_UNUSED_HIGH: 0x32,
  BLOCK_BITMAP_CSUM_HIGH: 0x38,
  INODE_BITMAP_CSUM_HIGH: 0x3a,
} as const
export const DESCRIPTOR_SIZE_BYTES = 64
export const GROUP_FLAG = { INODE_UNINIT: 1, BLOCK_UNINIT: 2, INODE_ZEROED: 4 } as const

/** Inode record. */
export const INODE = {
  MODE: 0x00,
  UID: 0x02,
  SIZE: 0x04,
  ATIME: 0x08,
  CTIME: 0x0c,
  MTIME: 0x10,
  DTIME: 0x14,
  GID: 0x18,
  LINKS: 0x1a,
  BLOCKS: 0x1c,
  FLAGS: 0x20,
  VERSION: 0x24,
  BLOCK: 0x28,
  GENERATION: 0x64,
  FILE_ACL: 0x68,
  SIZE_HIGH: 0x6c,
  BLOCKS_HIGH: 0x74,
  FILE_ACL_HIGH: 0x76,
  UID_HIGH: 0x78,
  GID_HIGH: 0x7a,
  CHECKSUM: 0x7c,
  EXTRA_ISIZE: 0x80,
  CHECKSUM_HIGH: 0x82,
  CTIME_EXTRA: 0x84,
  MTIME_EXTRA: 0x88,
  ATIME_EXTRA: 0x8c,
  CRTIME: 0x90,
  CRTIME_EXTRA: 0x94,
  VERSION_HIGH: 0x98,
  PROJECT_ID: 0x9c,
} as const
export const INODE_BASE_SIZE_BYTES = 128
export const EXTRA_ISIZE = 32

/** Extent tree: a 12-byte header, then 12-byte entries (leaf: extents, inner: indexes). */
export const EXTENT_MAGIC = 0xf30a
export const EXTENT_ENTRY_BYTES = 12
export const EXTENT_DEPTH_MAX = 5
export const EXTENT_LENGTH_MAX = 32768
export const UNWRITTEN_LENGTH_MAX = 32767
/** Blocks of the largest file: 2^32 - 1. */
export const FILE_BLOCKS_MAX = 0xffffffff

export const LOST_FOUND_INO = 11
export const FIRST_INO = 11
