// The superblock: where everything of one transaction is. 4096 bytes, little endian.
//
// Always true: a superblock is validated in the order magic, version, features, checksum, meaning,
// and each has its own error code; the checksum and the transaction stay at their places in every
// version, so that a newer format is told from a damaged one. Nothing else in the file is trusted
// before a superblock is.
//
// Versions: 1, the first.

import { CRC32C_SEED, crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { ascii, bytes, struct, u32le, u64le, zeros } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { uuidBytes, uuidText } from '../base/uuid.ts'
import { BLOCKS_PER_GROUP, GROUPS_MAX, GROUPS_PER_TABLE, TABLES_MAX } from './group-layout.ts'
import { BIRTH_MAX, levelsFor, TREE_LEVELS_MAX } from './map-node.ts'
import type { TreeRoot } from './points.ts'
import { decodePolicy, encodePolicy, type SpacePolicy } from './space-policy.ts'

export const VOLUME_MAGIC = 'UMBRAVOL'
export const FORMAT_VERSION = 1
/** Incompatible, while a point has a window list or a snapshot is unsealed: deltas and listings need to know. */
export const FEATURE_WINDOWS = 0x1
/** Read-only, while a snapshot is a shadow copy: who does not know its properties would lose them. */
export const FEATURE_SHADOWS = 0x1
/** Feature bits this program knows; a volume with others is refused (or opened read-only for ro). */
export const KNOWN_FEATURES = { incompatible: FEATURE_WINDOWS, readOnly: FEATURE_SHADOWS, compatible: 0 }
/** Virtual size limits, in blocks: 1 MiB to 16 TiB. */
export const BLOCK_COUNT_MIN = 256
export const BLOCK_COUNT_MAX = 2 ** 32
export const LABEL_BYTES_MAX = 64
export const SIDE_TABLE_BYTES_MAX = 1024 * 1024

const TABLE_ENTRIES_OFFSET = 1020
const CHECKSUM_OFFSET = 4092

/** A tree root as it lies in superblocks and catalog records. */
export const TREE_ROOT = struct('TreeRoot', 24, {
  physicalBlock: u64le(0),
  birthEpoch: u64le(8),
  checksum: u32le(16),
  levels: u32le(20),
})

/** One table block's current home (bit 0) and checksum. */
export const TABLE_ENTRY = struct('TableEntry', 8, {
  checksum: u32le(0),
  flags: u32le(4),
})

export const SUPERBLOCK = struct('Superblock', BLOCK_SIZE_BYTES, {
  magic: ascii(0, 8),
  version: u32le(8),
  incompatibleFeatures: u32le(12),
  readOnlyFeatures: u32le(16),
  compatibleFeatures: u32le(20),
  transaction: u64le(24),
  uuid: bytes(32, 16),
  epoch: u64le(48),
  createdAtMs: u64le(56),
  /** Virtual size in blocks. */
  blockCount: u64le(64),
  /** Size of the volume file in blocks, whole groups. */
  physicalBlockCount: u64le(72),
  intentLogStart: u64le(80),
  intentLogBlocks: u32le(88),
  /** Slots of the catalog in use or free: its size in records. */
  catalogSlots: u32le(92),
  liveRoot: bytes(96, 24),
  catalogRoot: bytes(120, 24),
  /** Directory of the present's dead list, and its size in slots. */
  deadListRoot: bytes(144, 24),
  sideTableRoot: bytes(168, 24),
  deadListSlots: u32le(192),
  sideTableBytes: u32le(196),
  /** Head of the to-free list: a list node, 0 if empty. */
  toFreeBlock: u64le(200),
  toFreeChecksum: u32le(208),
  tableCount: u32le(212),
  /** Blocks that the to-free list stands for, without its own nodes. */
  toFreeCount: u64le(216),
  /** Blocks the present refers to: data and map nodes. */
  liveBlocks: u64le(224),
  label: bytes(232, LABEL_BYTES_MAX),
  /** Bytes that snapshots alone may hold; 0: no limit. */
  snapshotLimitBytes: u64le(296),
  /** Snapshots there may be; 0: no limit. */
  snapshotCountLimit: u32le(304),
  /** Bit 0: protect snapshots rather than live writes. */
  policyFlags: u32le(308),
  reserved: zeros(312, TABLE_ENTRIES_OFFSET - 312),
  tables: bytes(TABLE_ENTRIES_OFFSET, TABLES_MAX * TABLE_ENTRY.sizeBytes),
  checksum: u32le(CHECKSUM_OFFSET),
})

export interface ListPointer {
  /** Physical block of a list node; 0: an empty list. */
  readonly physicalBlock: number
  readonly checksum: number
  /** Blocks that the list stands for, without its own nodes. */
  readonly blockCount: number
}

export const EMPTY_LIST: ListPointer = { physicalBlock: 0, checksum: 0, blockCount: 0 }

/** A small object: a tree whose leaves point at metadata blocks, and its size in its own unit. */
export interface ObjectPointer {
  readonly root: TreeRoot
  readonly size: number
}

export interface Superblock {
  readonly transaction: number
  readonly uuid: string
  readonly label: string
  readonly epoch: number
  readonly createdAtMs: number
  readonly blockCount: number
  readonly physicalBlockCount: number
  readonly intentLogStart: number
  readonly intentLogBlocks: number
  readonly liveRoot: TreeRoot
  readonly liveBlocks: number
  /** Size in records. */
  readonly catalog: ObjectPointer
  /** Size in directory slots. */
  readonly deadList: ObjectPointer
  /** Size in bytes. */
  readonly sideTable: ObjectPointer
  readonly toFree: ListPointer
  /** Current home and checksum of each table block. */
  readonly tables: readonly { readonly checksum: number; readonly home: number }[]
  readonly policy: SpacePolicy
  readonly incompatibleFeatures: number
  readonly readOnlyFeatures: number
  /** Kept as found. */
  readonly compatibleFeatures: number
}

export function encodeRoot(root: TreeRoot): Uint8Array {
  return TREE_ROOT.encode({ ...root })
}

/** @throws UmbraError CORRUPT */
export function decodeRoot(bytes: Uint8Array, offsetBytes: number, what: string): TreeRoot {
  const root = TREE_ROOT.decode(bytes, offsetBytes)
  if (root.levels < 1 || root.levels > TREE_LEVELS_MAX || root.birthEpoch > BIRTH_MAX) {
    throw new UmbraError('CORRUPT', `The root of the ${what} has ${root.levels} levels`)
  }
  return root
}

const scratchTables = new Uint8Array(TABLES_MAX * TABLE_ENTRY.sizeBytes)
const textEncoder = new TextEncoder()

/** @param target 4096 bytes to be filled; new ones unless given */
export function encodeSuperblock(value: Superblock, target?: Uint8Array): Uint8Array {
  const tables = scratchTables.fill(0)
  for (const [i, table] of value.tables.entries()) {
    TABLE_ENTRY.encode({ checksum: table.checksum, flags: table.home }, tables, i * TABLE_ENTRY.sizeBytes)
  }
  const fields = {
    magic: VOLUME_MAGIC,
    version: FORMAT_VERSION,
    incompatibleFeatures: value.incompatibleFeatures,
    readOnlyFeatures: value.readOnlyFeatures,
    compatibleFeatures: value.compatibleFeatures,
    transaction: value.transaction,
    uuid: uuidBytes(value.uuid),
    epoch: value.epoch,
    createdAtMs: value.createdAtMs,
    blockCount: value.blockCount,
    physicalBlockCount: value.physicalBlockCount,
    intentLogStart: value.intentLogStart,
    intentLogBlocks: value.intentLogBlocks,
    catalogSlots: value.catalog.size,
    liveRoot: encodeRoot(value.liveRoot),
    catalogRoot: encodeRoot(value.catalog.root),
    deadListRoot: encodeRoot(value.deadList.root),
    sideTableRoot: encodeRoot(value.sideTable.root),
    deadListSlots: value.deadList.size,
    sideTableBytes: value.sideTable.size,
    toFreeBlock: value.toFree.physicalBlock,
    toFreeChecksum: value.toFree.checksum,
    tableCount: value.tables.length,
    toFreeCount: value.toFree.blockCount,
    liveBlocks: value.liveBlocks,
    label: textEncoder.encode(value.label),
    ...encodePolicy(value.policy),
    tables,
    checksum: 0,
  }
  const block = SUPERBLOCK.encode(fields, target)
  viewOf(block).setUint32(CHECKSUM_OFFSET, superblockChecksum(block), true)
  return block
}

function superblockChecksum(block: Uint8Array): number {
  return crc32c(CRC32C_SEED, block, 0, CHECKSUM_OFFSET)
}

/** Whether the bytes begin as a superblock of any version does. */
export function hasVolumeMagic(block: Uint8Array): boolean {
  return SUPERBLOCK.fields.magic.get(viewOf(block), 0) === VOLUME_MAGIC
}

/** Whether the checksum, which has its place in every version, is right. */
export function hasGoodChecksum(block: Uint8Array): boolean {
  return superblockChecksum(block) === viewOf(block).getUint32(CHECKSUM_OFFSET, true)
}

function viewOf(block: Uint8Array): DataView {
  return new DataView(block.buffer, block.byteOffset, block.byteLength)
}

/**
 * Reads and validates one copy.
 * @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH,
 * CORRUPT: in this order
 */
export function decodeSuperblock(block: Uint8Array, readOnly: boolean): Superblock {
  if (!hasVolumeMagic(block)) throw new UmbraError('NOT_A_VOLUME', 'No Umbra volume begins here')
  const view = viewOf(block)
  const version = SUPERBLOCK.fields.version.get(view, 0)
  if (version !== FORMAT_VERSION) {
    throw new UmbraError(
      'UNSUPPORTED_VERSION',
      `The volume has format version ${version}, this program knows version ${FORMAT_VERSION}`,
    )
  }
  const incompatible = SUPERBLOCK.fields.incompatibleFeatures.get(view, 0) & ~KNOWN_FEATURES.incompatible
  const forWriting = SUPERBLOCK.fields.readOnlyFeatures.get(view, 0) & ~KNOWN_FEATURES.readOnly
  if (incompatible !== 0 || (forWriting !== 0 && !readOnly)) {
    const bits = ((incompatible || forWriting) >>> 0).toString(16)
    const how = incompatible ? 'read' : 'write'
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `The volume has features 0x${bits} that this program cannot ${how}`,
    )
  }
  if (!hasGoodChecksum(block)) {
    throw new UmbraError('CHECKSUM_MISMATCH', 'The checksum of a superblock is wrong')
  }
  return meaningOf(block)
}

function meaningOf(block: Uint8Array): Superblock {
  const raw = SUPERBLOCK.decode(block)
  const groups = raw.physicalBlockCount / BLOCKS_PER_GROUP
  demand(raw.blockCount >= BLOCK_COUNT_MIN && raw.blockCount <= BLOCK_COUNT_MAX, 'virtual size')
  demand(Number.isInteger(groups) && groups >= 1 && groups <= GROUPS_MAX, 'size of the file')
  demand(raw.tableCount === Math.ceil(groups / GROUPS_PER_TABLE), 'number of table blocks')
  demand(raw.epoch >= 1 && raw.epoch <= BIRTH_MAX, 'epoch')
  demand(raw.sideTableBytes <= SIDE_TABLE_BYTES_MAX, 'size of the side table')
  demand(raw.toFreeBlock < raw.physicalBlockCount, 'to-free list')
  const root = (bytes: Uint8Array, what: string) => {
    const found = decodeRoot(bytes, 0, what)
    demand(found.physicalBlock < raw.physicalBlockCount, `root of the ${what}`)
    return found
  }
  const liveRoot = root(raw.liveRoot, 'block map')
  demand(liveRoot.levels === levelsFor(raw.blockCount), 'number of levels')
  const tables = Array.from({ length: raw.tableCount }, (_, i) => {
    const entry = TABLE_ENTRY.decode(raw.tables, i * TABLE_ENTRY.sizeBytes)
    return { checksum: entry.checksum, home: entry.flags & 1 }
  })
  return {
    transaction: raw.transaction,
    uuid: uuidText(raw.uuid),
    label: labelText(raw.label),
    epoch: raw.epoch,
    createdAtMs: raw.createdAtMs,
    blockCount: raw.blockCount,
    physicalBlockCount: raw.physicalBlockCount,
    intentLogStart: raw.intentLogStart,
    intentLogBlocks: raw.intentLogBlocks,
    liveRoot,
    liveBlocks: raw.liveBlocks,
    catalog: { root: root(raw.catalogRoot, 'catalog'), size: raw.catalogSlots },
    deadList: { root: root(raw.deadListRoot, 'dead list'), size: raw.deadListSlots },
    sideTable: { root: root(raw.sideTableRoot, 'side table'), size: raw.sideTableBytes },
    toFree: {
      physicalBlock: raw.toFreeBlock,
      checksum: raw.toFreeChecksum,
      blockCount: raw.toFreeCount,
    },
    tables,
    policy: decodePolicy(raw),
    incompatibleFeatures: raw.incompatibleFeatures,
    readOnlyFeatures: raw.readOnlyFeatures,
    compatibleFeatures: raw.compatibleFeatures,
  }
}

function labelText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0)
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end))
}

function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new UmbraError('CORRUPT', `The superblock's ${what} makes no sense`)
}
