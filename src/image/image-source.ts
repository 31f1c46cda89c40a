// What an image is made from: one point of a volume, read at that point, and the extents to export.
//
// Always true: extents come in block order, are never empty, do not overlap, and every call of
// extents() gives the same ones. A full source (base null) lists what may hold something other than
// zeros; a delta source lists everything that differs, discards as `zero`, and nothing else is needed
// to get from base to point.

import type { BlockDevice } from '../storage/block-device.ts'
import type { DeltaExtent } from '../volume/points.ts'

/** The reading half of a block device: byte ranges without alignment, sizes in blocks of 4096. */
export type BlockReader = Pick<BlockDevice, 'blockCount' | 'readSync' | 'tryRead' | 'read'>

/** The point that an image leads to. */
export interface ImagePoint {
  readonly id: string
  readonly epoch: number
  readonly name: string
  readonly createdAtMs: number
}

/** The point that a delta starts from. */
export interface ImageBase {
  readonly id: string
  readonly epoch: number
  readonly name: string
}

export interface ImageSource {
  readonly volumeUuid: string
  readonly point: ImagePoint
  /** Null: a full image. */
  readonly base: ImageBase | null
  /** Reads as the volume was at the point. */
  readonly device: BlockReader
  /** Virtual size at the point. */
  readonly blockCount: number
  extents(): Iterable<DeltaExtent>
  /**
   * Asked after the last read, before an image is given its name: throws where the point may have gone
   * meanwhile, so that what was read may be wrong. @throws UmbraError EVICTED
   */
  confirm?(): Promise<void>
}

/**
 * Rounds extents out to units of `unitBlockCount` blocks, as an image with larger clusters needs it: a
 * unit that is wholly zero stays zero, one that is touched otherwise becomes data (read at the point,
 * so it says more than it must and nothing wrong). Neighbours of one kind come out merged.
 */
export function* roundExtents(
  extents: Iterable<DeltaExtent>,
  unitBlockCount: number,
  blockCount: number,
): Generator<DeltaExtent> {
  if (unitBlockCount === 1) {
    yield* extents
    return
  }
  let pending: DeltaExtent | null = null
  for (const extent of roundEach(extents, unitBlockCount, blockCount)) {
    if (pending === null) pending = extent
    else if (pending.kind === extent.kind && endOf(pending) >= extent.blockIndex)
      pending = span(pending.kind, pending.blockIndex, Math.max(endOf(pending), endOf(extent)))
    else {
      const overlaps: boolean = endOf(pending) > extent.blockIndex
      yield pending
      pending = overlaps ? span(extent.kind, endOf(pending), endOf(extent)) : extent
      if (pending.blockCount <= 0) pending = null
    }
  }
  if (pending) yield pending
}

/** Data rounded outwards; zero split into its whole units and its ragged ends, which become data. */
function* roundEach(extents: Iterable<DeltaExtent>, unit: number, limit: number): Generator<DeltaExtent> {
  const held: DeltaExtent[] = []
  for (const extent of extents) {
    const outFirst = Math.floor(extent.blockIndex / unit) * unit
    const outEnd = Math.min(limit, Math.ceil(endOf(extent) / unit) * unit)
    if (extent.kind === 'data') held.push(span('data', outFirst, outEnd))
    else {
      const inFirst = Math.min(outEnd, Math.ceil(extent.blockIndex / unit) * unit)
      const inEnd = endOf(extent) >= limit ? limit : Math.floor(endOf(extent) / unit) * unit
      if (inEnd <= inFirst) held.push(span('data', outFirst, outEnd))
      else {
        if (outFirst < inFirst) held.push(span('data', outFirst, inFirst))
        held.push(span('zero', inFirst, inEnd))
        if (inEnd < outEnd) held.push(span('data', inEnd, outEnd))
      }
    }
    yield* held
    held.length = 0
  }
}

function endOf(extent: DeltaExtent): number {
  return extent.blockIndex + extent.blockCount
}

function span(kind: 'data' | 'zero', first: number, end: number): DeltaExtent {
  return { kind, blockIndex: first, blockCount: end - first }
}
