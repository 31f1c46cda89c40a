// Ranges files: byte ranges too many for a document, in a file beside it. First a 64-bit count, then
// as many pairs of 64-bit offset and length, little endian (vss.md section 4.5; VSS leaves the order of bytes open).
//
// Always true: a file whose size is not what its count says is refused before anything is believed.

import { closeSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs'
import { UmbraError } from '../../base/errors.ts'
import { type ByteRange, END_MAX_BYTES, normalizeRanges } from './byte-ranges.ts'

const COUNT_BYTES = 8
const PAIR_BYTES = 16
/** 64 MiB of file; a database with more scattered changes saves the file whole. */
export const RANGES_FILE_COUNT_MAX = 4 * 1024 * 1024

/** The file's bytes. @throws UmbraError LIMIT_EXCEEDED beyond RANGES_FILE_COUNT_MAX ranges */
export function encodeRangesFile(ranges: readonly ByteRange[]): Uint8Array {
  if (ranges.length > RANGES_FILE_COUNT_MAX) {
    throw new UmbraError('LIMIT_EXCEEDED', `A ranges file holds at most ${RANGES_FILE_COUNT_MAX} ranges`)
  }
  const bytes = new Uint8Array(COUNT_BYTES + ranges.length * PAIR_BYTES)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(ranges.length), true)
  ranges.forEach(({ offsetBytes, lengthBytes }, index) => {
    view.setBigUint64(COUNT_BYTES + index * PAIR_BYTES, BigInt(offsetBytes), true)
    view.setBigUint64(COUNT_BYTES + index * PAIR_BYTES + 8, BigInt(lengthBytes), true)
  })
  return bytes
}

/** Sorted and merged. @throws UmbraError INVALID_DOCUMENT */
export function decodeRangesFile(bytes: Uint8Array, path = 'the ranges file'): ByteRange[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const count = bytes.length < COUNT_BYTES ? -1n : view.getBigUint64(0, true)
  if (count < 0n || count > BigInt(RANGES_FILE_COUNT_MAX) || !hasSizeFor(Number(count), bytes.length)) {
    throw new UmbraError('INVALID_DOCUMENT', `${path}: ${bytes.length} bytes do not hold ${count} ranges`)
  }
  const ranges: ByteRange[] = []
  for (let at = COUNT_BYTES; at < bytes.length; at += PAIR_BYTES) {
    ranges.push({ offsetBytes: numberAt(view, at), lengthBytes: numberAt(view, at + 8) })
  }
  return normalizeRanges(ranges)
}

/** @throws UmbraError NOT_FOUND, INVALID_DOCUMENT */
export function readRangesFile(path: string): ByteRange[] {
  let descriptor: number
  try {
    descriptor = openSync(path, 'r')
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `Cannot read the ranges file ${path}`, { path }, error)
  }
  try {
    const { size } = fstatSync(descriptor)
    if (size > COUNT_BYTES + RANGES_FILE_COUNT_MAX * PAIR_BYTES) {
      throw new UmbraError('INVALID_DOCUMENT', `The ranges file ${path} is too large: ${size} bytes`)
    }
    const bytes = new Uint8Array(size)
    let filled = 0
    while (filled < size) {
      const count = readSync(descriptor, bytes, filled, size - filled, filled)
      if (count === 0) break
      filled += count
    }
    return decodeRangesFile(bytes.subarray(0, filled), path)
  } finally {
    closeSync(descriptor)
  }
}

/** Writes the ranges as they are: for a new file of the writer's own. */
export function writeRangesFile(path: string, ranges: readonly ByteRange[]): void {
  writeFileSync(path, encodeRangesFile(ranges), { mode: 0o600 })
}

function hasSizeFor(count: number, sizeBytes: number): boolean {
  return sizeBytes === COUNT_BYTES + count * PAIR_BYTES
}

function numberAt(view: DataView, at: number): number {
  const value = view.getBigUint64(at, true)
  return value > BigInt(END_MAX_BYTES) ? END_MAX_BYTES : Number(value)
}
