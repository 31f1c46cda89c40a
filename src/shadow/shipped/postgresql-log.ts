// PostgreSQL's write-ahead log by position and by file: which segment holds a position, which come next,
// and which of an archive's files a log backup takes.
//
// Always true: names are reckoned here and not by the server, whose functions answer differently at a
// segment's boundary in different versions; the order of segments is that of their positions, whatever
// their timeline. (PostgreSQL manual 30.6, "WAL Internals".)

import { UmbraError } from '../../base/errors.ts'

/** 24 hex digits: timeline, log, segment in the log. */
const SEGMENT = /^[0-9A-F]{24}$/
const HISTORY = /^[0-9A-F]{8}\.history$/
const LSN = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/

export interface WalGeometry {
  /** As in names: 8 hex digits. */
  readonly timeline: string
  /** A power of two, 1 MiB to 1 GiB. */
  readonly segmentBytes: number
}

export function isSegment(name: string): boolean {
  return SEGMENT.test(name)
}

/** @throws UmbraError WRITER_FAILED when it is no position */
export function lsnFrom(text: string): bigint {
  const parts = LSN.exec(text)
  if (parts) return (BigInt(`0x${parts[1]}`) << 32n) | BigInt(`0x${parts[2]}`)
  throw new UmbraError('WRITER_FAILED', `Not a position in PostgreSQL's log: ${JSON.stringify(text)}`)
}

/** Name of the segment that the byte at a position is in. */
export function segmentOf(position: bigint, { timeline, segmentBytes }: WalGeometry): string {
  const perLog = 0x1_0000_0000n / BigInt(segmentBytes)
  const number = position / BigInt(segmentBytes)
  return `${timeline}${hex8(number / perLog)}${hex8(number % perLog)}`
}

/** The segment after another one. */
export function nextSegment(name: string, geometry: WalGeometry): string {
  const perLog = 0x1_0000_0000n / BigInt(geometry.segmentBytes)
  const position = BigInt(`0x${name.slice(8, 16)}`) * perLog + BigInt(`0x${name.slice(16)}`) + 1n
  return segmentOf(position * BigInt(geometry.segmentBytes), {
    ...geometry,
    timeline: name.slice(0, 8),
  })
}

/** Whether a segment is for earlier positions than another one. */
export function isBefore(name: string, other: string): boolean {
  return name.slice(8) < other.slice(8)
}

/**
 * The files of an archive that a log backup takes, sorted.
 * @param names all files of the archive
 * @param first the first segment that is not in a log backup yet; null: everything that is there
 * @param last the newest segment that is whole
 * @throws UmbraError WRITER_FAILED when a segment of one timeline is missing between them
 */
export function archivedSince(
  names: readonly string[],
  first: string | null,
  last: string,
  geometry: WalGeometry,
): string[] {
  const segments = names.filter(
    (name) => isSegment(name) && !isBefore(last, name) && (first === null || !isBefore(name, first)),
  )
  segments.sort()
  const known = new Set(segments)
  // Other timelines come and go at positions of their own; the present one has to be whole.
  const isOwn = (name: string | null): name is string => name?.startsWith(geometry.timeline) === true
  const from = isOwn(first) ? first : segments.find(isOwn)
  for (let name = from; name !== undefined && !isBefore(last, name); name = nextSegment(name, geometry)) {
    if (known.has(name)) continue
    throw new UmbraError('WRITER_FAILED', `The archive lacks segment ${name}: a new full backup is needed`)
  }
  return [...names.filter((name) => HISTORY.test(name)).sort(), ...segments]
}

function hex8(number: bigint): string {
  return number.toString(16).toUpperCase().padStart(8, '0')
}
