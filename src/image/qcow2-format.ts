// qcow2 as it lies on disk: header, header extensions, bitmap directory, table entries, limits.
// Everything is big endian. Source: QEMU docs/interop/qcow2.txt; limits: QEMU block/qcow2.h and
// block/qcow2-bitmap.c, which refuse what is larger.
//
// Layout that our writer makes (each part begins at a cluster, in this order):
//   header | refcount table | refcount blocks | L1 | bitmap directory, table, data | L2 tables | data
//
// Table entries are 64-bit words read as two 32-bit halves: offsets are below 2^56, and those we
// accept below 2^53, so a number holds them and no BigInt is needed.

import { ascii, struct, u8, u16be, u32be, u64be, zeros } from '../base/struct.ts'
import { MIB } from '../base/units.ts'

export const QCOW2_MAGIC = 0x514649fb

export const Qcow2HeaderV2 = struct('Qcow2HeaderV2', 72, {
  magic: u32be(0),
  version: u32be(4),
  backingNameOffset: u64be(8),
  backingNameBytes: u32be(16),
  clusterBits: u32be(20),
  sizeBytes: u64be(24),
  cryptMethod: u32be(32),
  l1EntryCount: u32be(36),
  l1Offset: u64be(40),
  refcountTableOffset: u64be(48),
  refcountTableClusters: u32be(56),
  snapshotCount: u32be(60),
  snapshotsOffset: u64be(64),
})

/** What version 3 adds behind the fields of version 2. */
export const Qcow2HeaderV3 = struct('Qcow2HeaderV3', 40, {
  incompatibleHigh: u32be(0),
  incompatible: u32be(4),
  compatibleHigh: u32be(8),
  compatible: u32be(12),
  autoclearHigh: u32be(16),
  autoclear: u32be(20),
  refcountOrder: u32be(24),
  headerBytes: u32be(28),
  compressionType: u8(32),
  reserved: zeros(33, 7),
})
export const QCOW2_HEADER_BYTES = Qcow2HeaderV2.sizeBytes + Qcow2HeaderV3.sizeBytes
/** Shortest header of version 3: without the compression type. */
export const QCOW2_V3_MIN_HEADER_BYTES = 104

export const INCOMPATIBLE = {
  dirty: 1,
  corrupt: 2,
  externalData: 4,
  compressionType: 8,
  extendedL2: 16,
} as const
export const AUTOCLEAR_BITMAPS = 1

export const Qcow2ExtensionHeader = struct('Qcow2ExtensionHeader', 8, {
  type: u32be(0),
  lengthBytes: u32be(4),
})
export const EXTENSION = {
  end: 0,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  externalData: 0x44415441,
  /** Ours: "Umb" and a byte that no other tool's type begins with; others skip types they do not know. */
  umbraIdentity: 0x556d6297,
} as const

export const Qcow2FeatureName = struct('Qcow2FeatureName', 48, {
  kind: u8(0),
  bit: u8(1),
  name: ascii(2, 46),
})
/** Names of all features that the specification defines, for messages of readers that lack one. */
export const FEATURE_NAMES = [
  { kind: 0, bit: 0, name: 'dirty bit' },
  { kind: 0, bit: 1, name: 'corrupt bit' },
  { kind: 0, bit: 2, name: 'external data file' },
  { kind: 0, bit: 3, name: 'compression type' },
  { kind: 0, bit: 4, name: 'extended L2 entries' },
  { kind: 1, bit: 0, name: 'lazy refcounts' },
  { kind: 2, bit: 0, name: 'bitmaps' },
  { kind: 2, bit: 1, name: 'raw external data' },
] as const

export const Qcow2BitmapsExtension = struct('Qcow2BitmapsExtension', 24, {
  bitmapCount: u32be(0),
  reserved: zeros(4, 4),
  directoryBytes: u64be(8),
  directoryOffset: u64be(16),
})
/** A bitmap directory entry's fixed part; extra data and the name follow, padded to 8 bytes. */
export const Qcow2BitmapEntry = struct('Qcow2BitmapEntry', 24, {
  tableOffset: u64be(0),
  tableEntryCount: u32be(8),
  flags: u32be(12),
  type: u8(16),
  granularityBits: u8(17),
  nameBytes: u16be(18),
  extraDataBytes: u32be(20),
})
export const BITMAP_TYPE_DIRTY = 1
export const BITMAP_NAME_MAX_BYTES = 1023

/** High half of entries: bit 63, refcount is exactly 1; bit 62, compressed. */
export const ENTRY_COPIED_HIGH = 0x80000000
export const ENTRY_COMPRESSED_HIGH = 0x40000000
/** Bits 9 to 55 of an entry are the offset. */
export const ENTRY_OFFSET_HIGH_MASK = 0x00ffffff
export const ENTRY_OFFSET_LOW_MASK = 0xfffffe00
/** Low half of a standard cluster's entry: bit 0, reads as zeros. */
export const ENTRY_ZERO_LOW = 1

export const LIMITS = {
  minClusterBits: 9,
  maxClusterBits: 21,
  /** Refcounts of our writer: 16 bits. */
  refcountOrder: 4,
  l1Bytes: 32 * MIB,
  refcountTableBytes: 8 * MIB,
  backingNameBytes: 1023,
  backingFormatBytes: 64,
  bitmapBytes: 512 * MIB,
  bitmapGranularityBits: 31,
} as const
