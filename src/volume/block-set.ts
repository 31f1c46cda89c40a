// A set of physical blocks: a bitmap for each allocation group in which something was ever added.
//
// Always true: memory follows the groups in use, 4 KiB each.

import type { PhysicalRun } from './allocator.ts'
import { type BitmapWords, clearBits, countSet, isBitSet, nextClear, nextSet, setBits } from './bitmap.ts'
import { BLOCKS_PER_GROUP } from './group-layout.ts'

const EMPTY: BitmapWords = new Uint32Array(BLOCKS_PER_GROUP / 32)

export class BlockSet {
  readonly #groups = new Map<number, BitmapWords>()

  has(physicalBlock: number): boolean {
    const words = this.#groups.get(Math.floor(physicalBlock / BLOCKS_PER_GROUP))
    return words !== undefined && isBitSet(words, physicalBlock % BLOCKS_PER_GROUP)
  }

  /** @returns whether the block was not there before */
  add(physicalBlock: number): boolean {
    const group = Math.floor(physicalBlock / BLOCKS_PER_GROUP)
    let words = this.#groups.get(group)
    if (words === undefined) {
      words = new Uint32Array(BLOCKS_PER_GROUP / 32)
      this.#groups.set(group, words)
    }
    const bit = physicalBlock % BLOCKS_PER_GROUP
    if (isBitSet(words, bit)) return false
    setBits(words, bit, 1)
    return true
  }

  /** @returns whether the block was there */
  delete(physicalBlock: number): boolean {
    const words = this.#groups.get(Math.floor(physicalBlock / BLOCKS_PER_GROUP))
    const bit = physicalBlock % BLOCKS_PER_GROUP
    if (words === undefined || !isBitSet(words, bit)) return false
    clearBits(words, bit, 1)
    return true
  }

  /** Everything in it by place; no run crosses a group's end. */
  *runs(): Iterable<PhysicalRun> {
    const groups = [...this.#groups].sort((a, b) => a[0] - b[0])
    for (const [group, words] of groups) {
      let at = nextSet(words, 0, BLOCKS_PER_GROUP)
      while (at < BLOCKS_PER_GROUP) {
        const end = nextClear(words, at, BLOCKS_PER_GROUP)
        yield { start: group * BLOCKS_PER_GROUP + at, count: end - at }
        at = nextSet(words, end, BLOCKS_PER_GROUP)
      }
    }
  }

  /** The bitmap of a group; not to be changed. */
  group(group: number): BitmapWords {
    return this.#groups.get(group) ?? EMPTY
  }

  get size(): number {
    let size = 0
    for (const words of this.#groups.values()) size += countSet(words)
    return size
  }
}
