// Searching and changing bitmaps in place: bit i is bit (i & 7) of byte i >> 3.
//
// Always true: nothing here looks past `limit`; runs of whole bytes are handled as bytes.

/** First clear bit at or after `from`, or -1. */
export function findClear(bits: Uint8Array, from: number, limit: number): number {
  let at = from
  while (at < limit) {
    const byte = bits[at >> 3] as number
    if ((at & 7) === 0 && byte === 0xff) {
      let i = (at >> 3) + 1
      const end = (limit + 7) >> 3
      while (i < end && bits[i] === 0xff) i++
      at = i << 3
      continue
    }
    if ((byte & (1 << (at & 7))) === 0) return at
    at++
  }
  return -1
}

/** Length of the run of clear bits from `from`, at most `max`. */
export function clearRun(bits: Uint8Array, from: number, limit: number, max: number): number {
  const end = Math.min(limit, from + max)
  let at = from
  while (at < end) {
    const byte = bits[at >> 3] as number
    if ((at & 7) === 0 && byte === 0 && at + 8 <= end) {
      at += 8
      continue
    }
    if ((byte & (1 << (at & 7))) !== 0) break
    at++
  }
  return at - from
}

/** Length of the run of set bits from `from`, at most up to `limit`. */
export function setRun(bits: Uint8Array, from: number, limit: number): number {
  let at = from
  while (at < limit) {
    const byte = bits[at >> 3] as number
    if ((at & 7) === 0 && byte === 0xff && at + 8 <= limit) {
      at += 8
      continue
    }
    if ((byte & (1 << (at & 7))) === 0) break
    at++
  }
  return at - from
}

/** First set bit at or after `from`, or -1. */
export function findSet(bits: Uint8Array, from: number, limit: number): number {
  let at = from
  while (at < limit) {
    const byte = bits[at >> 3] as number
    if ((at & 7) === 0 && byte === 0) {
      at += 8
      continue
    }
    if ((byte & (1 << (at & 7))) !== 0) return at
    at++
  }
  return -1
}

export function isSet(bits: Uint8Array, at: number): boolean {
  return ((bits[at >> 3] as number) & (1 << (at & 7))) !== 0
}

export function setBits(bits: Uint8Array, from: number, count: number): void {
  change(bits, from, count, true)
}

export function clearBits(bits: Uint8Array, from: number, count: number): void {
  change(bits, from, count, false)
}

function change(bits: Uint8Array, from: number, count: number, value: boolean): void {
  let at = from
  const end = from + count
  while (at < end) {
    if ((at & 7) === 0 && at + 8 <= end) {
      const bytes = (end - at) >> 3
      bits.fill(value ? 0xff : 0, at >> 3, (at >> 3) + bytes)
      at += bytes << 3
      continue
    }
    const mask = 1 << (at & 7)
    bits[at >> 3] = value ? (bits[at >> 3] as number) | mask : (bits[at >> 3] as number) & ~mask
    at++
  }
}

/** How many of the first `limit` bits are clear. */
export function countClear(bits: Uint8Array, limit: number): number {
  let total = 0
  for (let at = findClear(bits, 0, limit); at >= 0; at = findClear(bits, at, limit)) {
    const count = clearRun(bits, at, limit, limit - at)
    total += count
    at += count
  }
  return total
}
