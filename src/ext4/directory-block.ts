// A leaf block of a directory: records one after another to the block's end, the last 12 bytes a
// fake record with the block's checksum.
//
//   record: inode u32, rec_len u16, name_len u8, file_type u8, name; padded to 4 bytes
//   tail:   0 u32, 12 u16, 0 u8, 0xde u8, crc32c u32
//
// Always true: records fill the space up to the tail without holes; inode 0 marks an unused record.
// A block is checked as a whole when it is read (checkDirectoryBlock); after that its lengths are
// trusted. Names are byte strings (one char a byte).
// Source: Documentation/filesystems/ext4/directory.rst.

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { read16, read32, write16, write32 } from './bytes.ts'

export const DIRECTORY_TAIL_BYTES = 12
/** Where the records end and the tail starts. */
export const RECORDS_END = BLOCK_SIZE_BYTES - DIRECTORY_TAIL_BYTES
export const NAME_LENGTH_MAX = 255
const RECORD_HEADER_BYTES = 8
const TAIL_TYPE = 0xde

/** Bytes that a record with a name of this length needs. */
export function recordSize(nameLength: number): number {
  return (RECORD_HEADER_BYTES + nameLength + 3) & ~3
}

/** File type of a record from an inode's mode (0: unknown). */
export function fileTypeOf(mode: number): number {
  return FILE_TYPE_OF_FORMAT[(mode >>> 12) & 15] as number
}

/** d_type of readdir (S_IFMT >> 12) from a record's file type. */
export function entryTypeOf(fileType: number): number {
  return fileType < ENTRY_TYPE_OF_FILE_TYPE.length ? (ENTRY_TYPE_OF_FILE_TYPE[fileType] as number) : 0
}

const ENTRY_TYPE_OF_FILE_TYPE = [0, 8, 4, 2, 6, 1, 12, 10]
const FILE_TYPE_OF_FORMAT = Array.from({ length: 16 }, (_, format) =>
  Math.max(0, ENTRY_TYPE_OF_FILE_TYPE.indexOf(format)),
)

export function recordIno(bytes: Uint8Array, at: number): number {
  return read32(bytes, at)
}

export function recordLength(bytes: Uint8Array, at: number): number {
  return read16(bytes, at + 4)
}

export function recordFileType(bytes: Uint8Array, at: number): number {
  return bytes[at + 7] as number
}

export function recordName(bytes: Uint8Array, at: number): string {
  const length = bytes[at + 6] as number
  const start = at + RECORD_HEADER_BYTES
  // For short names this beats a Buffer call, which crosses into C++.
  if (length <= 24) {
    let name = ''
    for (let i = 0; i < length; i++) name += String.fromCharCode(bytes[start + i] as number)
    return name
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, length).toString('latin1')
}

/** One empty record over the whole block, and the tail without its checksum. */
export function initDirectoryBlock(bytes: Uint8Array): void {
  bytes.fill(0)
  write16(bytes, 4, RECORDS_END)
  initTail(bytes)
}

function initTail(bytes: Uint8Array): void {
  write32(bytes, RECORDS_END, 0)
  write16(bytes, RECORDS_END + 4, DIRECTORY_TAIL_BYTES)
  bytes[RECORDS_END + 6] = 0
  bytes[RECORDS_END + 7] = TAIL_TYPE
}

/** Stores the block's checksum. @param seed the directory's inode seed */
export function sealDirectoryBlock(bytes: Uint8Array, seed: number): void {
  write32(bytes, RECORDS_END + 8, crc32c(seed, bytes, 0, RECORDS_END))
}

/** @throws UmbraError CORRUPT, CHECKSUM_MISMATCH */
export function checkDirectoryBlock(bytes: Uint8Array, seed: number, ino: number): void {
  if (
    read32(bytes, RECORDS_END) !== 0 ||
    read16(bytes, RECORDS_END + 4) !== DIRECTORY_TAIL_BYTES ||
    read16(bytes, RECORDS_END + 6) !== TAIL_TYPE << 8
  ) {
    throw corruptDirectory(ino, 'a block has no checksum tail')
  }
  const computed = crc32c(seed, bytes, 0, RECORDS_END)
  const stored = read32(bytes, RECORDS_END + 8)
  if (computed !== stored) {
    throw new UmbraError(
      'CHECKSUM_MISMATCH',
      `Cannot read directory ${ino}: a block's checksum is 0x${computed.toString(16)} but 0x${stored.toString(16)} was stored`,
      { ino },
    )
  }
  for (let at = 0; at < RECORDS_END; at += read16(bytes, at + 4)) {
    const length = read16(bytes, at + 4)
    const needed = read32(bytes, at) === 0 ? recordSize(1) : recordSize(Math.max(1, bytes[at + 6] as number))
    if (length % 4 !== 0 || length < needed || at + length > RECORDS_END) {
      throw corruptDirectory(ino, `the record at ${at} has length ${length}, needs ${needed}`)
    }
  }
}

export function corruptDirectory(ino: number, what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot read directory ${ino}: ${what}`, { ino })
}

/** @returns offset of the record with this name, or -1 */
export function findRecord(bytes: Uint8Array, name: string): number {
  const length = name.length
  const first = name.charCodeAt(0)
  for (let at = 0; at < RECORDS_END; ) {
    if (bytes[at + 6] === length && bytes[at + 8] === first && matches(bytes, at, name)) return at
    at += (bytes[at + 4] as number) | ((bytes[at + 5] as number) << 8)
  }
  return -1
}

function matches(bytes: Uint8Array, at: number, name: string): boolean {
  if (isUnused(bytes, at)) return false
  for (let i = name.length - 1; i > 0; i--) {
    if (bytes[at + RECORD_HEADER_BYTES + i] !== name.charCodeAt(i)) return false
  }
  return true
}

/**
 * @param from where a record starts: those before it are not looked at
 * @returns offset of a record with room for one more of `sizeBytes` (unused, or with slack), or -1
 */
export function findRoom(bytes: Uint8Array, sizeBytes: number, from = 0): number {
  for (let at = from; at < RECORDS_END; ) {
    const length = (bytes[at + 4] as number) | ((bytes[at + 5] as number) << 8)
    if (length >= sizeBytes) {
      const slack = length - recordSize(bytes[at + 6] as number)
      if (slack >= sizeBytes || isUnused(bytes, at)) return at
    }
    at += length
  }
  return -1
}

function isUnused(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 0 && bytes[at + 3] === 0
}

function usedBytes(bytes: Uint8Array, at: number): number {
  return isUnused(bytes, at) ? 0 : recordSize(bytes[at + 6] as number)
}

/** Puts a record into the room that findRoom() found at `at`. @returns where it starts */
export function addRecord(
  bytes: Uint8Array,
  at: number,
  ino: number,
  name: string,
  fileType: number,
): number {
  const used = usedBytes(bytes, at)
  const length = recordLength(bytes, at)
  if (used > 0) write16(bytes, at + 4, used)
  writeRecord(bytes, at + used, length - used, ino, name, fileType)
  return at + used
}

export function writeRecord(
  bytes: Uint8Array,
  at: number,
  length: number,
  ino: number,
  name: string,
  fileType: number,
): void {
  write32(bytes, at, ino)
  write16(bytes, at + 4, length)
  bytes[at + 6] = name.length
  bytes[at + 7] = fileType
  for (let i = 0; i < name.length; i++) bytes[at + RECORD_HEADER_BYTES + i] = name.charCodeAt(i)
}

/** Makes the record's space part of the one before it, or marks it unused if it is the first. */
export function removeRecord(bytes: Uint8Array, at: number): void {
  let before = -1
  for (let walk = 0; walk < at; ) {
    before = walk
    walk += (bytes[walk + 4] as number) | ((bytes[walk + 5] as number) << 8)
  }
  const length = recordLength(bytes, at)
  if (before < 0) {
    write32(bytes, at, 0)
    bytes.fill(0, at + 6, at + RECORD_HEADER_BYTES)
    bytes.fill(0, at + RECORD_HEADER_BYTES, at + length)
    return
  }
  write16(bytes, before + 4, recordLength(bytes, before) + length)
  bytes.fill(0, at, at + length)
}

export function replaceRecord(bytes: Uint8Array, at: number, ino: number, fileType: number): void {
  write32(bytes, at, ino)
  bytes[at + 7] = fileType
}

/**
 * Writes the records of `source` at the given offsets into `target`, close together, the last one up
 * to the tail. @param source may be the same buffer only as a copy
 */
export function packRecords(target: Uint8Array, source: Uint8Array, offsets: readonly number[]): void {
  initDirectoryBlock(target)
  let at = 0
  let last = -1
  for (const from of offsets) {
    const size = recordSize(source[from + 6] as number)
    target.set(source.subarray(from, from + size), at)
    write16(target, at + 4, size)
    last = at
    at += size
  }
  if (last >= 0) write16(target, last + 4, RECORDS_END - last)
}
