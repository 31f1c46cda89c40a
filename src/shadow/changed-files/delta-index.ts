// The runs of a delta in memory, for asking which part of a range of blocks is in it.
//
// Always true: runs rise and do not overlap; 17 bytes are kept for each.

import type { DeltaExtent } from '../../volume/points.ts'

const CAPACITY_MIN = 256

/** @returns false: had enough */
export type RunVisitor = (blockIndex: number, blockCount: number, isZero: boolean) => boolean

export class DeltaIndex {
  #begins = new Float64Array(CAPACITY_MIN)
  #ends = new Float64Array(CAPACITY_MIN)
  #zeros = new Uint8Array(CAPACITY_MIN)
  #count = 0

  constructor(extents: Iterable<DeltaExtent>) {
    for (const extent of extents) {
      if (this.#count === this.#zeros.length) this.#grow()
      this.#begins[this.#count] = extent.blockIndex
      this.#ends[this.#count] = extent.blockIndex + extent.blockCount
      this.#zeros[this.#count] = extent.kind === 'zero' ? 1 : 0
      this.#count++
    }
  }

  get count(): number {
    return this.#count
  }

  has(blockIndex: number): boolean {
    const at = this.#firstEndingAfter(blockIndex)
    return at < this.#count && (this.#begins[at] as number) <= blockIndex
  }

  /** Visits what of [blockIndex, + blockCount) is in the delta, in order. @returns false: had enough */
  forEachIn(blockIndex: number, blockCount: number, visit: RunVisitor): boolean {
    const end = blockIndex + blockCount
    for (let at = this.#firstEndingAfter(blockIndex); at < this.#count; at++) {
      const begin = Math.max(this.#begins[at] as number, blockIndex)
      if (begin >= end) return true
      if (!visit(begin, Math.min(this.#ends[at] as number, end) - begin, this.#zeros[at] === 1)) return false
    }
    return true
  }

  #firstEndingAfter(blockIndex: number): number {
    let low = 0
    let high = this.#count
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ends[middle] as number) > blockIndex) high = middle
      else low = middle + 1
    }
    return low
  }

  #grow(): void {
    const capacity = this.#zeros.length * 2
    const begins = new Float64Array(capacity)
    const ends = new Float64Array(capacity)
    const zeros = new Uint8Array(capacity)
    begins.set(this.#begins)
    ends.set(this.#ends)
    zeros.set(this.#zeros)
    this.#begins = begins
    this.#ends = ends
    this.#zeros = zeros
  }
}
