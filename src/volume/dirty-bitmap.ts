// A delta as a bitmap: one bit for each `granularityBytes` of the volume, set where anything in it
// differs. A view of the block map, made when asked for and never kept up to date by hand.
//
// Always true: bits past the volume's end are zero; memory grows with the number of dirty regions, not
// with the volume's size. sparse-bitfield counts bits from the most significant of each byte; the
// packed form, which qcow2 and NBD tools read, from the least significant.

import Bitfield from 'sparse-bitfield'
import { assert } from '../base/assert.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, type BlockRange } from '../base/units.ts'

const PAGE_BYTES = 1024
const PAGE_BITS = PAGE_BYTES * 8
/** Largest granularity that qcow2 allows for a persistent bitmap. */
const GRANULARITY_MAX_BYTES = 2 ** 31

export interface DirtyBitmapShape {
  /** Size of the volume in blocks of 4096 bytes. */
  readonly blockCount: number
  /** A power of two from 4096 to 2^31. Default 4096. */
  readonly granularityBytes?: number
}

/** One piece of a packed bitmap. */
export interface BitmapChunk {
  /** Position in the packed bitmap. */
  readonly offsetBytes: number
  /** Valid until the next piece is asked for. */
  readonly bytes: Uint8Array
  /** What all of the piece's bits that exist are, where they are all the same. */
  readonly uniform: 0 | 1 | null
}

export class DirtyBitmap {
  readonly blockCount: number
  readonly granularityBytes: number
  /** How many bits the bitmap has. */
  readonly bitCount: number
  readonly bitfield = new Bitfield({ pageSize: PAGE_BYTES })
  readonly #blocksPerBit: number

  /** @throws UmbraError INVALID_ARGUMENT for a granularity that is no power of two from 4096 to 2^31 */
  constructor(shape: DirtyBitmapShape) {
    this.blockCount = shape.blockCount
    this.granularityBytes = shape.granularityBytes ?? BLOCK_SIZE_BYTES
    this.#blocksPerBit = blocksPerBit(this.granularityBytes)
    this.bitCount = Math.ceil(this.blockCount / this.#blocksPerBit)
  }

  /** The view of a delta; what the extents say (data or zero) is dropped. */
  static from(extents: Iterable<BlockRange>, shape: DirtyBitmapShape): DirtyBitmap {
    const bitmap = new DirtyBitmap(shape)
    for (const extent of extents) bitmap.add(extent)
    return bitmap
  }

  /** Marks every bit that the range touches. */
  add(range: BlockRange): void {
    const end = Math.min(range.blockIndex + range.blockCount, this.blockCount)
    if (range.blockIndex >= end) return
    let bit = Math.floor(range.blockIndex / this.#blocksPerBit)
    const lastBit = Math.floor((end - 1) / this.#blocksPerBit)
    for (; bit <= lastBit && bit % 8 !== 0; bit++) this.bitfield.set(bit, true)
    for (; bit + 7 <= lastBit; bit += 8) this.bitfield.setByte(bit / 8, 0xff)
    for (; bit <= lastBit; bit++) this.bitfield.set(bit, true)
  }

  isDirty(blockIndex: number): boolean {
    assert(blockIndex >= 0 && blockIndex < this.blockCount, `block ${blockIndex} is in the bitmap`)
    return this.bitfield.get(Math.floor(blockIndex / this.#blocksPerBit))
  }

  /** The dirty ranges, rounded out to the granularity and cut at the volume's end, in order. */
  *extents(): Generator<BlockRange> {
    for (let bit = this.#next(true, 0); bit < this.bitCount; ) {
      const end = this.#next(false, bit)
      const blockIndex = bit * this.#blocksPerBit
      yield { blockIndex, blockCount: Math.min(end * this.#blocksPerBit, this.blockCount) - blockIndex }
      bit = this.#next(true, end)
    }
  }

  /** The first bit from `bit` on that is (or is not) set; at most bitCount. */
  #next(isSet: boolean, bit: number): number {
    const skipped = isSet ? 0 : 0xff
    let at = bit
    while (at < this.bitCount) {
      const page = this.bitfield.pages.get(Math.floor(at / PAGE_BITS), true)
      if (page === undefined) {
        if (!isSet) return at
        at = (Math.floor(at / PAGE_BITS) + 1) * PAGE_BITS
        continue
      }
      const within = at % PAGE_BITS
      const byte = page.buffer[within >>> 3] as number
      if (byte === skipped && within % 8 === 0) at += 8
      else if (((byte & (128 >> (within & 7))) !== 0) === isSet) return at
      else at++
    }
    return this.bitCount
  }

  /** See {@link packBitmap}. */
  packed(chunkBytes: number): Generator<BitmapChunk> {
    return packBitmap(this.extents(), this, chunkBytes)
  }
}

/**
 * The packed bitmap (bit n in byte n >> 3, from the least significant) of ranges that come in block
 * order, in pieces of `chunkBytes`; the last is filled up with zeros. Holds one piece in memory.
 */
export function* packBitmap(
  ranges: Iterable<BlockRange>,
  shape: DirtyBitmapShape,
  chunkBytes: number,
): Generator<BitmapChunk> {
  const perBit = blocksPerBit(shape.granularityBytes ?? BLOCK_SIZE_BYTES)
  const bitCount = Math.ceil(shape.blockCount / perBit)
  const chunkBits = chunkBytes * 8
  const bytes = new Uint8Array(chunkBytes)
  let chunkFirstBit = 0
  let setCount = 0
  let nextBit = 0
  const finish = (): BitmapChunk => {
    const uniform = setCount === 0 ? 0 : setCount === Math.min(chunkBits, bitCount - chunkFirstBit) ? 1 : null
    return { offsetBytes: chunkFirstBit / 8, bytes, uniform }
  }
  for (const range of ranges) {
    const endBlock = Math.min(range.blockIndex + range.blockCount, shape.blockCount)
    const endBit = Math.ceil(endBlock / perBit)
    // Two ranges may share a bit where the granularity is coarse.
    let bit = Math.max(nextBit, Math.floor(range.blockIndex / perBit))
    assert(range.blockIndex >= 0, 'ranges begin inside the volume')
    while (bit < endBit) {
      while (bit >= chunkFirstBit + chunkBits) {
        yield finish()
        bytes.fill(0)
        setCount = 0
        chunkFirstBit += chunkBits
      }
      const stop = Math.min(endBit, chunkFirstBit + chunkBits)
      setBits(bytes, bit - chunkFirstBit, stop - chunkFirstBit)
      setCount += stop - bit
      bit = stop
    }
    nextBit = Math.max(nextBit, endBit)
  }
  while (chunkFirstBit < bitCount) {
    yield finish()
    bytes.fill(0)
    setCount = 0
    chunkFirstBit += chunkBits
  }
}

/** Sets bits [begin, end), counted from the least significant of each byte. */
function setBits(bytes: Uint8Array, begin: number, end: number): void {
  let bit = begin
  for (; bit < end && bit % 8 !== 0; bit++) bytes[bit >>> 3] = (bytes[bit >>> 3] as number) | (1 << (bit & 7))
  const wholeEnd = end - (end % 8)
  if (wholeEnd > bit) {
    bytes.fill(0xff, bit / 8, wholeEnd / 8)
    bit = wholeEnd
  }
  for (; bit < end; bit++) bytes[bit >>> 3] = (bytes[bit >>> 3] as number) | (1 << (bit & 7))
}

function blocksPerBit(granularityBytes: number): number {
  const log2 = Math.log2(granularityBytes)
  if (
    !Number.isInteger(log2) ||
    granularityBytes < BLOCK_SIZE_BYTES ||
    granularityBytes > GRANULARITY_MAX_BYTES
  ) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `A bitmap's granularity is a power of two from 4096 to 2^31 bytes, not ${granularityBytes}`,
    )
  }
  return granularityBytes / BLOCK_SIZE_BYTES
}
