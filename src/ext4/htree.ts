// Index blocks of a hashed directory: the root, which hides in the first block behind ".." and the
// nodes, which hide in an empty record.
//
//   root: "." record (12), ".." record (the rest of the block), at 24: reserved u32, hash version u8,
//         info length u8 (8), indirect levels u8, flags u8; at 32: entries
//   node: empty record (8); at 8: entries
//   entries: the first {limit u16, count u16, block u32}, the others {hash u32, block u32}
//   after `limit` entries: reserved u32, crc32c u32
//
// Always true: 1 <= count <= limit; hashes rise; entry 0 stands for every hash below entry 1's. An odd
// hash means that names with the even hash below it begin in the block before.
// Source: Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories"; Linux fs/ext4/namei.c.

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import { corruptDirectory } from './directory-block.ts'
import { HASH_TEA } from './htree-hash.ts'

export const ROOT_ENTRIES_AT = 32
export const NODE_ENTRIES_AT = 8
const ROOT_INFO_AT = 24
const ROOT_INFO_BYTES = 8
const ENTRY_BYTES = 8
const TAIL_BYTES = 8
const BLOCK_MASK = 0x0fffffff

/** Deepest tree: index levels below the root. */
export const LEVELS_MAX = 1
export const LEVELS_MAX_LARGE = 2

export function entryLimit(entriesAt: number): number {
  return Math.floor((BLOCK_SIZE_BYTES - entriesAt - TAIL_BYTES) / ENTRY_BYTES)
}

export function entryCount(bytes: Uint8Array, entriesAt: number): number {
  return read16(bytes, entriesAt + 2)
}

export function setEntryCount(bytes: Uint8Array, entriesAt: number, count: number): void {
  write16(bytes, entriesAt + 2, count)
}

export function isIndexFull(bytes: Uint8Array, entriesAt: number): boolean {
  return entryCount(bytes, entriesAt) >= entryLimit(entriesAt)
}

export function entryHash(bytes: Uint8Array, entriesAt: number, index: number): number {
  return index === 0 ? 0 : read32(bytes, entriesAt + index * ENTRY_BYTES)
}

/** File block that entry `index` points to. */
export function entryBlock(bytes: Uint8Array, entriesAt: number, index: number): number {
  return read32(bytes, entriesAt + index * ENTRY_BYTES + 4) & BLOCK_MASK
}

export function setEntryBlock(bytes: Uint8Array, entriesAt: number, index: number, fileBlock: number): void {
  write32(bytes, entriesAt + index * ENTRY_BYTES + 4, fileBlock)
}

/** The last entry whose hash is at most `hash`. */
export function searchEntries(bytes: Uint8Array, entriesAt: number, hash: number): number {
  let low = 1
  let high = entryCount(bytes, entriesAt) - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    if (entryHash(bytes, entriesAt, middle) > hash) high = middle - 1
    else low = middle + 1
  }
  return low - 1
}

export function insertEntry(
  bytes: Uint8Array,
  entriesAt: number,
  index: number,
  hash: number,
  fileBlock: number,
): void {
  const count = entryCount(bytes, entriesAt)
  const at = entriesAt + index * ENTRY_BYTES
  bytes.copyWithin(at + ENTRY_BYTES, at, entriesAt + count * ENTRY_BYTES)
  write32(bytes, at, hash)
  write32(bytes, at + 4, fileBlock)
  setEntryCount(bytes, entriesAt, count + 1)
}

/** Moves entries [from, count) of one block to the start of an initialised other one. */
export function moveEntries(
  source: Uint8Array,
  sourceAt: number,
  from: number,
  target: Uint8Array,
  targetAt: number,
): void {
  const count = entryCount(source, sourceAt)
  const start = sourceAt + from * ENTRY_BYTES
  const end = sourceAt + count * ENTRY_BYTES
  target.set(source.subarray(start, end), targetAt)
  write16(target, targetAt, entryLimit(targetAt))
  setEntryCount(target, targetAt, count - from)
  source.fill(0, start + (from === 0 ? 4 : 0), end)
  setEntryCount(source, sourceAt, from)
}

/** Turns the first block of a directory into a root with one entry; "." and ".." stay. */
export function initRoot(bytes: Uint8Array, hashVersion: number, fileBlock: number): void {
  bytes.fill(0, ROOT_INFO_AT)
  write16(bytes, 12 + 4, BLOCK_SIZE_BYTES - 12)
  bytes[ROOT_INFO_AT + 4] = hashVersion
  bytes[ROOT_INFO_AT + 5] = ROOT_INFO_BYTES
  write16(bytes, ROOT_ENTRIES_AT, entryLimit(ROOT_ENTRIES_AT))
  setEntryCount(bytes, ROOT_ENTRIES_AT, 1)
  setEntryBlock(bytes, ROOT_ENTRIES_AT, 0, fileBlock)
}

export function initNode(bytes: Uint8Array): void {
  bytes.fill(0)
  write16(bytes, 4, BLOCK_SIZE_BYTES)
  write16(bytes, NODE_ENTRIES_AT, entryLimit(NODE_ENTRIES_AT))
}

export function rootHashVersion(bytes: Uint8Array): number {
  return bytes[ROOT_INFO_AT + 4] as number
}

/** Index levels below the root: 0, 1, or 2 with large_dir. */
export function rootLevels(bytes: Uint8Array): number {
  return bytes[ROOT_INFO_AT + 6] as number
}

export function setRootLevels(bytes: Uint8Array, levels: number): void {
  bytes[ROOT_INFO_AT + 6] = levels
}

export function sealIndexBlock(bytes: Uint8Array, entriesAt: number, seed: number): void {
  write32(bytes, tailAt(entriesAt) + 4, indexChecksum(bytes, entriesAt, seed))
}

function tailAt(entriesAt: number): number {
  return entriesAt + entryLimit(entriesAt) * ENTRY_BYTES
}

const ZERO_WORD = new Uint8Array(4)

function indexChecksum(bytes: Uint8Array, entriesAt: number, seed: number): number {
  const covered = entriesAt + entryCount(bytes, entriesAt) * ENTRY_BYTES
  const withReserved = crc32c(crc32c(seed, bytes, 0, covered), bytes, tailAt(entriesAt), 4)
  return crc32c(withReserved, ZERO_WORD, 0, 4)
}

/** @throws UmbraError CORRUPT, CHECKSUM_MISMATCH, UNSUPPORTED_FEATURE */
export function checkRoot(bytes: Uint8Array, seed: number, ino: number): void {
  const dots =
    read16(bytes, 4) === 12 &&
    read16(bytes, 16) === BLOCK_SIZE_BYTES - 12 &&
    bytes[6] === 1 &&
    bytes[18] === 2
  if (!dots || bytes[ROOT_INFO_AT + 5] !== ROOT_INFO_BYTES || rootLevels(bytes) > LEVELS_MAX_LARGE) {
    throw corruptDirectory(ino, 'its index root is malformed')
  }
  if (rootHashVersion(bytes) > HASH_TEA) {
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `Cannot read directory ${ino}: hash version ${rootHashVersion(bytes)}`,
    )
  }
  checkEntries(bytes, ROOT_ENTRIES_AT, seed, ino)
}

/** @throws UmbraError CORRUPT, CHECKSUM_MISMATCH */
export function checkNode(bytes: Uint8Array, seed: number, ino: number): void {
  if (read32(bytes, 0) !== 0 || read16(bytes, 4) !== BLOCK_SIZE_BYTES) {
    throw corruptDirectory(ino, 'an index node does not start with an empty record')
  }
  checkEntries(bytes, NODE_ENTRIES_AT, seed, ino)
}

function checkEntries(bytes: Uint8Array, entriesAt: number, seed: number, ino: number): void {
  const count = entryCount(bytes, entriesAt)
  if (read16(bytes, entriesAt) !== entryLimit(entriesAt) || count < 1 || count > entryLimit(entriesAt)) {
    throw corruptDirectory(ino, `an index block has ${count} entries of ${read16(bytes, entriesAt)}`)
  }
  const computed = indexChecksum(bytes, entriesAt, seed)
  const stored = read32(bytes, tailAt(entriesAt) + 4)
  if (computed !== stored) {
    throw new UmbraError(
      'CHECKSUM_MISMATCH',
      `Cannot read directory ${ino}: an index block's checksum is 0x${computed.toString(16)} but 0x${stored.toString(16)} was stored`,
      { ino },
    )
  }
}
