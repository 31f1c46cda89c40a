// Bit operations on an allocation group's bitmap: 32768 bits in 1024 words. Bit i is bit i % 32 of
// word i / 32, which on disk (little endian) is bit i % 8 of byte i / 8.
//
// Always true: ranges are half-open and lie within the bitmap.

export type BitmapWords = Uint32Array

export function isBitSet(words: BitmapWords, bit: number): boolean {
  return (((words[bit >>> 5] as number) >>> (bit & 31)) & 1) === 1
}

/** Applies `change` to each word that [start, +count) touches, with a mask of the bits it covers. */
function overWords(start: number, count: number, change: (word: number, mask: number) => void): void {
  let at = start
  const end = start + count
  while (at < end) {
    const low = at & 31
    const length = Math.min(32 - low, end - at)
    change(at >>> 5, length === 32 ? -1 : ((1 << length) - 1) << low)
    at += length
  }
}

export function setBits(words: BitmapWords, start: number, count: number): void {
  overWords(start, count, (word, mask) => {
    words[word] = (words[word] as number) | mask
  })
}

export function clearBits(words: BitmapWords, start: number, count: number): void {
  overWords(start, count, (word, mask) => {
    words[word] = (words[word] as number) & ~mask
  })
}

export function areAllSet(words: BitmapWords, start: number, count: number): boolean {
  return nextClear(words, start, start + count) === start + count
}

export function areAllClear(words: BitmapWords, start: number, count: number): boolean {
  return nextSet(words, start, start + count) === start + count
}

/** First clear bit in [from, end), or `end`. */
export function nextClear(words: BitmapWords, from: number, end: number): number {
  return next(words, from, end, -1)
}

/** First set bit in [from, end), or `end`. */
export function nextSet(words: BitmapWords, from: number, end: number): number {
  return next(words, from, end, 0)
}

function next(words: BitmapWords, from: number, end: number, flip: number): number {
  if (from >= end) return end
  let word = from >>> 5
  let bits = ((words[word] as number) ^ flip) & (-1 << (from & 31))
  const last = (end - 1) >>> 5
  while (bits === 0) {
    if (++word > last) return end
    bits = (words[word] as number) ^ flip
  }
  return Math.min(end, word * 32 + 31 - Math.clz32(bits & -bits))
}

export function countSet(words: BitmapWords): number {
  let count = 0
  for (const word of words) {
    let v = word - ((word >>> 1) & 0x55555555)
    v = (v & 0x33333333) + ((v >>> 2) & 0x33333333)
    count += Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
  }
  return count
}
