// Dirty bitmaps: against a set of dirty bits, in every granularity, packed in every chunk size.

import test, { type Assertion } from 'brittle'
import type { BlockRange } from '../../src/base/units.ts'
import { type BitmapChunk, DirtyBitmap, packBitmap } from '../../src/volume/dirty-bitmap.ts'
import { codeOf } from '../contract/block-storage.ts'
import { chosenSeed, Random } from '../support/random.ts'

/** Ranges in order, now and then touching or far apart. */
function randomRanges(random: Random, blockCount: number): BlockRange[] {
  const ranges: BlockRange[] = []
  for (let at = random.below(20); at < blockCount; ) {
    const length = Math.min(
      random.chance(0.1) ? random.below(20_000) + 1 : random.below(9) + 1,
      blockCount - at,
    )
    ranges.push({ blockIndex: at, blockCount: length })
    at += length + (random.chance(0.1) ? random.below(blockCount) : random.below(12))
  }
  return ranges
}

/** One byte for each bit of the bitmap that the ranges make. */
function expectedBits(ranges: readonly BlockRange[], blockCount: number, blocksPerBit: number): Uint8Array {
  const dirty = new Uint8Array(Math.ceil(blockCount / blocksPerBit))
  for (const range of ranges) {
    const end = range.blockIndex + range.blockCount
    for (let i = range.blockIndex; i < end; i++) dirty[Math.floor(i / blocksPerBit)] = 1
  }
  return dirty
}

/** The same from the bitmap's extents, which must be apart, in order and on the granularity's edges. */
function bitsOfExtents(t: Assertion, bitmap: DirtyBitmap, blocksPerBit: number): Uint8Array {
  const bits = new Uint8Array(bitmap.bitCount)
  let lastEnd = -1
  for (const range of bitmap.extents()) {
    const end = range.blockIndex + range.blockCount
    const isSound = range.blockIndex > lastEnd && end <= bitmap.blockCount
    if (!isSound || range.blockIndex % blocksPerBit !== 0) t.fail(`extent at ${range.blockIndex}`)
    lastEnd = end
    bits.fill(1, range.blockIndex / blocksPerBit, Math.ceil(end / blocksPerBit))
  }
  return bits
}

/** The same from packed pieces, whose padding must be zero and whose `uniform` must be true. */
function bitsOfChunks(t: Assertion, chunks: Iterable<BitmapChunk>, bitCount: number): Uint8Array {
  const unpacked: number[] = []
  for (const chunk of chunks) {
    if (chunk.offsetBytes * 8 !== unpacked.length) t.fail('chunk offset')
    const bits = [...chunk.bytes].flatMap((byte) => [0, 1, 2, 3, 4, 5, 6, 7].map((i) => (byte >> i) & 1))
    const real = bits.slice(0, bitCount - unpacked.length)
    const uniform = real.every((bit) => bit === real[0]) ? real[0] : null
    if (chunk.uniform !== uniform) t.fail(`uniform is ${chunk.uniform}, not ${uniform}`)
    unpacked.push(...bits)
  }
  if (unpacked.slice(bitCount).some((bit) => bit !== 0)) t.fail('padding is set')
  return Uint8Array.from(unpacked.slice(0, bitCount))
}

test('DirtyBitmap agrees with a set of bits', async (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 60; round++) {
    const blockCount = random.between(1, 60_000)
    const blocksPerBit = 2 ** random.below(8)
    const ranges = randomRanges(random, blockCount)
    const expected = expectedBits(ranges, blockCount, blocksPerBit)
    const shape = { blockCount, granularityBytes: blocksPerBit * 4096 }
    const bitmap = DirtyBitmap.from(ranges, shape)
    const chunkBytes = random.pick([1, 3, 64, 4096])
    const views = [
      bitsOfExtents(t, bitmap, blocksPerBit),
      bitsOfChunks(t, bitmap.packed(chunkBytes), expected.length),
      bitsOfChunks(t, packBitmap(ranges, shape, chunkBytes), expected.length),
    ]
    for (const [i, view] of views.entries()) {
      if (Buffer.compare(view, expected) !== 0) t.fail(`view ${i} in round ${round}`)
    }
    for (let i = 0; i < 50; i++) {
      const block = random.below(blockCount)
      if (bitmap.isDirty(block) !== (expected[Math.floor(block / blocksPerBit)] === 1))
        t.fail(`block ${block}`)
    }
  }
  t.pass()
})

test('DirtyBitmap of 16 TiB is cheap where little is dirty', (t) => {
  const blockCount = 2 ** 32
  const last = { blockIndex: blockCount - 9, blockCount: 9 }
  const bitmap = DirtyBitmap.from([{ blockIndex: 0, blockCount: 1 }, last], { blockCount })
  t.alike([...bitmap.extents()], [{ blockIndex: 0, blockCount: 1 }, last])
  let pages = 0
  for (let i = 0; i < bitmap.bitfield.pages.length; i++) if (bitmap.bitfield.pages.get(i, true)) pages++
  t.is(pages, 2)
})

test('DirtyBitmap refuses a granularity that is no power of two from 4096 on', async (t) => {
  for (const granularityBytes of [0, 512, 4097, 12_288, 2 ** 32]) {
    t.is(await codeOf(() => new DirtyBitmap({ blockCount: 10, granularityBytes })), 'INVALID_ARGUMENT')
  }
})
