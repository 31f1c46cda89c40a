// Byte ranges of a file, as writers give them for partial files and directed targets: text, or a ranges
// file (vss.md section 4.5). Where VSS is silent: ranges are sorted and merged when read; an empty range is dropped; the
// ranges file is little endian; a range past the end of the file ends at its end. Numbers have 64 bits on
// paper; what lies past 2^53 - 1 no file holds, so a range that reaches there ends there.
//
// Always true of a parsed list: sorted, disjoint, not touching, none empty; all numbers are safe integers.

import { UmbraError } from '../../base/errors.ts'

export interface ByteRange {
  readonly offsetBytes: number
  readonly lengthBytes: number
}

/** A document is at most 16 MiB, so no text holds more. */
const RANGES_TEXT_MAX = 16 * 1024 * 1024
const UINT64_MAX = 2n ** 64n - 1n
/** The end of everything. */
export const END_MAX_BYTES = Number.MAX_SAFE_INTEGER

const FILE_PREFIX = /^\s*file=/i

/**
 * The ranges file that the text refers to, if it is no list of ranges: `File=PATH` (what we write) or an absolute path by
 * itself, since Microsoft's pages say both.
 * @throws UmbraError INVALID_DOCUMENT when the path is not absolute
 */
export function rangesFilePathIn(text: string): string | undefined {
  const path = FILE_PREFIX.test(text) ? text.replace(FILE_PREFIX, '') : text
  if (path === text && !text.startsWith('/')) return undefined
  if (path.startsWith('/') && !path.includes('\0')) return path
  throw new UmbraError('INVALID_DOCUMENT', `Not an absolute path of a ranges file: ${shown(text)}`)
}

/** The reference to a ranges file as it stands in a document. */
export function rangesFileReference(path: string): string {
  return `File=${path}`
}

/**
 * Parses `OFFSET:LENGTH, ...` in bytes, decimal or 0x hexadecimal.
 * @throws UmbraError INVALID_DOCUMENT for anything else; an empty text is malformed too
 */
export function parseByteRanges(text: string): ByteRange[] {
  if (text.length > RANGES_TEXT_MAX) throw malformed(text, 'it is too long')
  const ranges = text.split(',').map((pair) => {
    const numbers = pair.split(':').map((number) => number.trim())
    const [offset, length] = numbers
    if (numbers.length !== 2 || offset === undefined || length === undefined) {
      throw malformed(text, `${shown(pair)} is no OFFSET:LENGTH`)
    }
    return { offsetBytes: parseNumber(text, offset), lengthBytes: parseNumber(text, length) }
  })
  return normalizeRanges(ranges)
}

/** The text form: decimal, without blanks. Of an empty list `0:0`, which is read as empty again. */
export function formatByteRanges(ranges: readonly ByteRange[]): string {
  if (ranges.length === 0) return '0:0'
  return ranges.map(({ offsetBytes, lengthBytes }) => `${offsetBytes}:${lengthBytes}`).join(',')
}

/** Sorted, with what touches or overlaps in one, without empty ones. */
export function normalizeRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const sorted = [...ranges].sort((a, b) => a.offsetBytes - b.offsetBytes)
  const merged: { offsetBytes: number; lengthBytes: number }[] = []
  for (const { offsetBytes, lengthBytes } of sorted) {
    const length = Math.min(lengthBytes, END_MAX_BYTES - offsetBytes)
    if (length <= 0) continue
    const last = merged.at(-1)
    if (last && offsetBytes <= last.offsetBytes + last.lengthBytes) {
      const end = Math.max(last.offsetBytes + last.lengthBytes, offsetBytes + length)
      last.lengthBytes = end - last.offsetBytes
    } else {
      merged.push({ offsetBytes, lengthBytes: length })
    }
  }
  return merged
}

/** What of the ranges a file of this size has. */
export function clipRanges(ranges: readonly ByteRange[], sizeBytes: number): ByteRange[] {
  return normalizeRanges(
    ranges.map(({ offsetBytes, lengthBytes }) => ({
      offsetBytes,
      lengthBytes: Math.min(lengthBytes, sizeBytes - offsetBytes),
    })),
  )
}

/** Bytes in all; the ranges are disjoint. */
export function totalLengthBytes(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
}

function parseNumber(text: string, number: string): number {
  if (!/^(?:\d+|0x[0-9a-f]+)$/i.test(number) || number.length > 32) {
    throw malformed(text, `${shown(number)} is no number`)
  }
  const value = Number(number)
  if (Number.isSafeInteger(value)) return value
  if (BigInt(number) > UINT64_MAX) throw malformed(text, `${shown(number)} does not fit 64 bits`)
  return END_MAX_BYTES
}

function malformed(text: string, why: string): UmbraError {
  return new UmbraError('INVALID_DOCUMENT', `Not byte ranges: ${shown(text)}: ${why}`)
}

function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text)
}
