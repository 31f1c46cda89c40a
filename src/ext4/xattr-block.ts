// Extended attributes on disk: a table of entries from the front, values from the back.
//
//   inode area: magic u32, entries; value offsets count from the first entry
//   block:      magic u32, references u32, blocks u32 (1), hash u32, crc32c u32, 12 bytes, entries
//               sorted by (name index, name length, name); value offsets count from the block's start
//   entry:      name length u8, name index u8, value offset u16, value inode u32 (0), value size u32,
//               hash u32, name; padded to 4 bytes; four zero bytes end the table
//
// Always true: decoding bounds every length before it is used; what is encoded fits or is refused as a
// whole. Names are byte strings without their prefix.
// Source: Documentation/filesystems/ext4/attributes.rst; Linux fs/ext4/xattr.c for the hashes.

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { read16, read32, write16, write32 } from './bytes.ts'

const MAGIC = 0xea020000
const ENTRY_BYTES = 16
const AREA_HEADER_BYTES = 4
const BLOCK_HEADER_BYTES = 32
const END_BYTES = 4
const REFERENCES_AT = 4
const BLOCK_HASH_AT = 12
const BLOCK_CHECKSUM_AT = 16

export interface Xattr {
  /** Index of the name's prefix: 1 user, 2 and 3 ACLs, 4 trusted, 6 security. */
  readonly nameIndex: number
  /** The name after its prefix. */
  readonly name: string
  readonly value: Uint8Array
}

interface Bounds {
  /** First entry. */
  readonly entriesAt: number
  /** What value offsets are relative to. */
  readonly valuesBase: number
  readonly end: number
}

const BLOCK_BOUNDS: Bounds = { entriesAt: BLOCK_HEADER_BYTES, valuesBase: 0, end: BLOCK_SIZE_BYTES }

function areaBounds(area: Uint8Array): Bounds {
  return { entriesAt: AREA_HEADER_BYTES, valuesBase: AREA_HEADER_BYTES, end: area.length }
}

/** Attributes in an inode's own area; none without the magic. @throws UmbraError CORRUPT */
export function decodeXattrArea(area: Uint8Array, ino: number): Xattr[] {
  if (area.length < AREA_HEADER_BYTES + END_BYTES || read32(area, 0) !== MAGIC) return []
  return decodeEntries(area, areaBounds(area), ino)
}

/** Attributes of a checked block, of any size. @throws UmbraError CORRUPT */
export function decodeXattrBlock(bytes: Uint8Array, ino: number): Xattr[] {
  return decodeEntries(bytes, { ...BLOCK_BOUNDS, end: bytes.length }, ino)
}

function decodeEntries(bytes: Uint8Array, bounds: Bounds, ino: number): Xattr[] {
  const xattrs: Xattr[] = []
  let at = bounds.entriesAt
  for (;;) {
    if (at + END_BYTES > bounds.end) throw corrupt(ino, 'their table has no end')
    if (read32(bytes, at) === 0) return xattrs
    const nameLength = bytes[at] as number
    const next = at + entrySize(nameLength)
    if (next + END_BYTES > bounds.end) throw corrupt(ino, 'a name does not fit')
    const valueSize = read32(bytes, at + 8)
    const valueAt = bounds.valuesBase + read16(bytes, at + 2)
    if (read32(bytes, at + 4) !== 0) throw corrupt(ino, 'a value is in an inode of its own')
    if (valueSize > 0 && (valueAt < next || valueAt + valueSize > bounds.end)) {
      throw corrupt(ino, 'a value lies outside')
    }
    const nameAt = at + ENTRY_BYTES
    xattrs.push({
      nameIndex: bytes[at + 1] as number,
      name: Buffer.from(bytes.buffer, bytes.byteOffset + nameAt, nameLength).toString('latin1'),
      value: valueSize > 0 ? bytes.slice(valueAt, valueAt + valueSize) : new Uint8Array(0),
    })
    at = next
  }
}

function corrupt(ino: number, what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot read the extended attributes of inode ${ino}: ${what}`, { ino })
}

/** Whether the attributes fit an inode's area. */
export function fitsXattrArea(area: Uint8Array, xattrs: readonly Xattr[]): boolean {
  return xattrs.length === 0 || encodedSize(xattrs) <= area.length - AREA_HEADER_BYTES
}

/** Whether the attributes fit one block. */
export function fitsXattrBlock(xattrs: readonly Xattr[]): boolean {
  return encodedSize(xattrs) <= BLOCK_SIZE_BYTES - BLOCK_HEADER_BYTES
}

function encodedSize(xattrs: readonly Xattr[]): number {
  let sizeBytes = END_BYTES
  for (const { name, value } of xattrs) sizeBytes += entrySize(name.length) + pad(value.length)
  return sizeBytes
}

/** Rewrites the area; all zeros for none. */
export function encodeXattrArea(area: Uint8Array, xattrs: readonly Xattr[]): void {
  area.fill(0)
  if (xattrs.length === 0) return
  write32(area, 0, MAGIC)
  encodeEntries(area, areaBounds(area), xattrs)
}

/** Fills a block with one reference to it; its checksum comes from sealXattrBlock(). */
export function encodeXattrBlock(bytes: Uint8Array, xattrs: readonly Xattr[]): void {
  bytes.fill(0)
  write32(bytes, 0, MAGIC)
  write32(bytes, REFERENCES_AT, 1)
  write32(bytes, 8, 1)
  const sorted = [...xattrs].sort(
    (a, b) => a.nameIndex - b.nameIndex || a.name.length - b.name.length || (a.name < b.name ? -1 : 1),
  )
  write32(bytes, BLOCK_HASH_AT, encodeEntries(bytes, BLOCK_BOUNDS, sorted))
}

/** @returns the hash over all entries */
function encodeEntries(bytes: Uint8Array, bounds: Bounds, xattrs: readonly Xattr[]): number {
  let at = bounds.entriesAt
  let valueAt = bounds.end
  let blockHash = 0
  for (const { nameIndex, name, value } of xattrs) {
    valueAt -= pad(value.length)
    bytes[at] = name.length
    bytes[at + 1] = nameIndex
    write16(bytes, at + 2, value.length > 0 ? valueAt - bounds.valuesBase : 0)
    write32(bytes, at + 8, value.length)
    for (let i = 0; i < name.length; i++) bytes[at + ENTRY_BYTES + i] = name.charCodeAt(i)
    bytes.set(value, valueAt)
    const hash = entryHash(name, value)
    write32(bytes, at + 12, hash)
    blockHash = (blockHash << 16) ^ (blockHash >>> 16) ^ hash
    at += entrySize(name.length)
  }
  return blockHash >>> 0
}

function entryHash(name: string, value: Uint8Array): number {
  let hash = 0
  for (let i = 0; i < name.length; i++) hash = (hash << 5) ^ (hash >>> 27) ^ name.charCodeAt(i)
  for (let at = 0; at < value.length; at += 4) {
    let word = 0
    for (let i = Math.min(3, value.length - 1 - at); i >= 0; i--)
      word = (word << 8) | (value[at + i] as number)
    hash = (hash << 16) ^ (hash >>> 16) ^ word
  }
  return hash >>> 0
}

function entrySize(nameLength: number): number {
  return (ENTRY_BYTES + nameLength + 3) & ~3
}

function pad(sizeBytes: number): number {
  return (sizeBytes + 3) & ~3
}

export function xattrBlockReferences(bytes: Uint8Array): number {
  return read32(bytes, REFERENCES_AT)
}

export function setXattrBlockReferences(bytes: Uint8Array, count: number): void {
  write32(bytes, REFERENCES_AT, count)
}

/** @param seed the file system's checksum seed */
export function sealXattrBlock(bytes: Uint8Array, blockIndex: number, seed: number): void {
  write32(bytes, BLOCK_CHECKSUM_AT, checksum(bytes, blockIndex, seed))
}

/** @throws UmbraError CORRUPT, CHECKSUM_MISMATCH */
export function checkXattrBlock(bytes: Uint8Array, blockIndex: number, seed: number): void {
  if (read32(bytes, 0) !== MAGIC || read32(bytes, 8) !== 1 || read32(bytes, REFERENCES_AT) === 0) {
    throw new UmbraError('CORRUPT', `Block ${blockIndex} is no block of extended attributes`)
  }
  const computed = checksum(bytes, blockIndex, seed)
  const stored = read32(bytes, BLOCK_CHECKSUM_AT)
  if (computed !== stored) {
    throw new UmbraError(
      'CHECKSUM_MISMATCH',
      `Cannot read attribute block ${blockIndex}: checksum is 0x${computed.toString(16)} but 0x${stored.toString(16)} was stored`,
    )
  }
}

const NUMBER_BYTES = new Uint8Array(8)
const ZERO_WORD = new Uint8Array(4)

function checksum(bytes: Uint8Array, blockIndex: number, seed: number): number {
  write32(NUMBER_BYTES, 0, blockIndex)
  write32(NUMBER_BYTES, 4, Math.floor(blockIndex / 2 ** 32))
  const start = crc32c(crc32c(seed, NUMBER_BYTES, 0, 8), bytes, 0, BLOCK_CHECKSUM_AT)
  const after = BLOCK_CHECKSUM_AT + 4
  return crc32c(crc32c(start, ZERO_WORD, 0, 4), bytes, after, BLOCK_SIZE_BYTES - after)
}
