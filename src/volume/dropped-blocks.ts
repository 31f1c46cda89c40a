// What went between two neighbouring trees, with births: what the newer one's dead list must hold,
// no more and no less.
//
// Always true: memory follows the number of runs of one birth, not of blocks.

import { BlockSet } from './block-set.ts'

export class DroppedBlocks {
  /** Triples of first block, count, birth. */
  #runs: number[] = []
  #isSorted = true
  readonly #listed = new BlockSet()
  #blockCount = 0
  #listedCount = 0
  #at = 0

  get blockCount(): number {
    return this.#blockCount
  }

  /** Blocks that went and that no list named. */
  get missingCount(): number {
    return this.#blockCount - this.#listedCount
  }

  add(physicalBlock: number, birth: number): void {
    const runs = this.#runs
    const last = runs.length - 3
    this.#blockCount++
    if (last >= 0 && runs[last + 2] === birth) {
      if (physicalBlock === (runs[last] as number) + (runs[last + 1] as number)) {
        runs[last + 1] = (runs[last + 1] as number) + 1
        return
      }
    }
    runs.push(physicalBlock, 1, birth)
    this.#isSorted = false
  }

  /** The birth of a block that went; undefined: it did not. */
  birthOf(physicalBlock: number): number | undefined {
    if (!this.#isSorted) this.#sort()
    if (!this.#holds(this.#at, physicalBlock)) this.#at = this.#find(physicalBlock)
    return this.#holds(this.#at, physicalBlock) ? this.#runs[this.#at * 3 + 2] : undefined
  }

  /** Notes that a list names the block, which went. @returns false if one did before */
  list(physicalBlock: number): boolean {
    if (!this.#listed.add(physicalBlock)) return false
    this.#listedCount++
    return true
  }

  /** One block that no list named, for a message. */
  firstMissing(): number | undefined {
    for (let i = 0; i < this.#runs.length; i += 3) {
      const first = this.#runs[i] as number
      const end = first + (this.#runs[i + 1] as number)
      for (let block = first; block < end; block++) if (!this.#listed.has(block)) return block
    }
    return undefined
  }

  #holds(index: number, physicalBlock: number): boolean {
    const first = this.#runs[index * 3]
    if (first === undefined || physicalBlock < first) return false
    return physicalBlock < first + (this.#runs[index * 3 + 1] as number)
  }

  /** Index of the last run that begins at or before the block; 0 if none does. */
  #find(physicalBlock: number): number {
    let low = 0
    let high = this.#runs.length / 3
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if ((this.#runs[middle * 3] as number) <= physicalBlock) low = middle
      else high = middle
    }
    return low
  }

  #sort(): void {
    const order = Array.from({ length: this.#runs.length / 3 }, (_, i) => i * 3)
    order.sort((a, b) => (this.#runs[a] as number) - (this.#runs[b] as number))
    const sorted: number[] = []
    for (const i of order) {
      sorted.push(this.#runs[i] as number, this.#runs[i + 1] as number, this.#runs[i + 2] as number)
    }
    this.#runs = sorted
    this.#isSorted = true
    this.#at = 0
  }
}
