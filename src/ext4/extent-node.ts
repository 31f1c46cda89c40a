// One node of an extent tree, read and changed in place: a 12-byte header and 12-byte entries.
//
// Always true: keys ascend; in a leaf, extents do not overlap; entry i starts at 12 + 12 * i in both
// the inode's 60 bytes (4 entries) and a block (340 entries and a checksum).
// Source: Documentation/filesystems/ext4/ifork.rst, "Extent Tree".

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import { EXTENT_DEPTH_MAX, EXTENT_ENTRY_BYTES, EXTENT_LENGTH_MAX, EXTENT_MAGIC } from './format.ts'

/** Entries that fit into the root, in the inode. */
export const ROOT_ENTRIES = 4
/** Entries that fit into a node of a block of its own. */
export const BLOCK_ENTRIES = 340
const HEADER_BYTES = 12

export function initNode(b: Uint8Array, depth: number, max: number): void {
  b.fill(0)
  write16(b, 0, EXTENT_MAGIC)
  write16(b, 4, max)
  write16(b, 6, depth)
}

export const entryCount = (b: Uint8Array): number => read16(b, 2)
export const setEntryCount = (b: Uint8Array, count: number): void => write16(b, 2, count)
export const entryMax = (b: Uint8Array): number => read16(b, 4)
export const nodeDepth = (b: Uint8Array): number => read16(b, 6)
export const setNodeDepth = (b: Uint8Array, depth: number): void => write16(b, 6, depth)

const at = (index: number): number => HEADER_BYTES + index * EXTENT_ENTRY_BYTES

/** First file block that the entry speaks of, in leaves and inner nodes alike. */
export const entryKey = (b: Uint8Array, index: number): number => read32(b, at(index))
export const setEntryKey = (b: Uint8Array, index: number, key: number): void => write32(b, at(index), key)

/** Length in blocks, whatever the state. */
export function extentCount(b: Uint8Array, index: number): number {
  const length = read16(b, at(index) + 4)
  return length > EXTENT_LENGTH_MAX ? length - EXTENT_LENGTH_MAX : length
}
export const isUnwritten = (b: Uint8Array, index: number): boolean =>
  read16(b, at(index) + 4) > EXTENT_LENGTH_MAX
export function extentTarget(b: Uint8Array, index: number): number {
  return read16(b, at(index) + 6) * 2 ** 32 + read32(b, at(index) + 8)
}
export function setExtent(
  b: Uint8Array,
  index: number,
  fileBlock: number,
  count: number,
  deviceBlock: number,
  unwritten: boolean,
): void {
  const o = at(index)
  write32(b, o, fileBlock)
  write16(b, o + 4, unwritten ? count + EXTENT_LENGTH_MAX : count)
  write16(b, o + 6, Math.floor(deviceBlock / 2 ** 32))
  write32(b, o + 8, deviceBlock % 2 ** 32)
}

/** Block of the child that an inner node's entry points to. */
export function childBlock(b: Uint8Array, index: number): number {
  return read16(b, at(index) + 8) * 2 ** 32 + read32(b, at(index) + 4)
}
export function setChild(b: Uint8Array, index: number, key: number, block: number): void {
  const o = at(index)
  write32(b, o, key)
  write32(b, o + 4, block % 2 ** 32)
  write16(b, o + 8, Math.floor(block / 2 ** 32))
  write16(b, o + 10, 0)
}

/** Last entry whose key is at most `fileBlock`, or -1. */
export function searchNode(b: Uint8Array, fileBlock: number): number {
  let low = 0
  let high = entryCount(b) - 1
  while (low <= high) {
    const middle = (low + high) >> 1
    if (entryKey(b, middle) <= fileBlock) low = middle + 1
    else high = middle - 1
  }
  return high
}

/** Makes room for an entry at `index`; its bytes are what was there before. */
export function openEntry(b: Uint8Array, index: number): void {
  const count = entryCount(b)
  b.copyWithin(at(index + 1), at(index), at(count))
  setEntryCount(b, count + 1)
}

export function closeEntry(b: Uint8Array, index: number): void {
  const count = entryCount(b)
  b.copyWithin(at(index), at(index + 1), at(count))
  b.fill(0, at(count - 1), at(count))
  setEntryCount(b, count - 1)
}

/** Moves `count` entries from `index` of `source` to the place `targetIndex` of `target`. */
export function moveEntries(
  source: Uint8Array,
  index: number,
  count: number,
  target: Uint8Array,
  targetIndex: number,
): void {
  const targetCount = entryCount(target)
  target.copyWithin(at(targetIndex + count), at(targetIndex), at(targetCount))
  target.set(source.subarray(at(index), at(index + count)), at(targetIndex))
  setEntryCount(target, targetCount + count)
  const sourceCount = entryCount(source)
  source.copyWithin(at(index), at(index + count), at(sourceCount))
  source.fill(0, at(sourceCount - count), at(sourceCount))
  setEntryCount(source, sourceCount - count)
}

const tailAt = (b: Uint8Array): number => at(entryMax(b))

export function sealNode(b: Uint8Array, seed: number): void {
  const tail = tailAt(b)
  write32(b, tail, crc32c(seed, b, 0, tail))
}

/** Checks a node's header, order and bounds. @throws UmbraError CORRUPT */
export function checkNode(b: Uint8Array, depth: number | undefined, blockCount: number, ino: number): void {
  const fail = (what: string): never => {
    throw new UmbraError('CORRUPT', `The extent tree of inode ${ino} is damaged: ${what}`)
  }
  if (read16(b, 0) !== EXTENT_MAGIC) fail('a node has no magic')
  const room = b.length === 60 ? 4 : Math.floor((b.length - HEADER_BYTES - 4) / EXTENT_ENTRY_BYTES)
  if (entryMax(b) > room || entryMax(b) === 0 || entryCount(b) > entryMax(b))
    fail(`a node has ${entryCount(b)} of ${entryMax(b)} entries`)
  if (nodeDepth(b) > EXTENT_DEPTH_MAX || (depth !== undefined && nodeDepth(b) !== depth))
    fail(`a node has depth ${nodeDepth(b)}`)
  let next = 0
  for (let i = 0; i < entryCount(b); i++) {
    const key = entryKey(b, i)
    if (key < next) fail(`entries ${i - 1} and ${i} overlap`)
    const leaf = nodeDepth(b) === 0
    const count = leaf ? extentCount(b, i) : 1
    const target = leaf ? extentTarget(b, i) : childBlock(b, i)
    if (count === 0 || target === 0 || target + count > blockCount || key + count > 2 ** 32)
      fail(`entry ${i} points outside`)
    next = key + count
  }
  if (nodeDepth(b) > 0 && entryCount(b) === 0) fail('an inner node is empty')
}

/** @throws UmbraError CHECKSUM_MISMATCH */
export function checkNodeChecksum(b: Uint8Array, seed: number, ino: number): void {
  const tail = tailAt(b)
  if (tail + 4 > b.length || read32(b, tail) !== crc32c(seed, b, 0, tail))
    throw new UmbraError('CHECKSUM_MISMATCH', `An extent block of inode ${ino} does not match its checksum`)
}
