// Zeros written ahead of a writer that makes small pieces durable one by one.
//
// A flush that covers blocks which the host had not allocated costs it a commit of its own journal,
// twice and more the price of one that covers only blocks written before. So the free blocks that
// such a writer will be given next are written beforehand, many at a time.
// Always true: only blocks that nothing refers to and nobody has taken are written; that it fails
// for lack of space changes nothing.

import { hasCode } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import type { Allocator, PhysicalRun } from './allocator.ts'

const AHEAD_BLOCKS = 32
/** A commit with at most so many new blocks of data is a small one. */
const SMALL_BLOCKS = 8
/** Small commits in a row after which the next is expected to be small too. */
const SMALL_COMMITS = 4
const ZEROS = new Uint8Array(AHEAD_BLOCKS * BLOCK_SIZE_BYTES)

export class WriteAhead {
  readonly #storage: BlockStorage
  readonly #allocator: Allocator
  /** New blocks of data since the last cut. */
  #blocks = 0
  #smallCommits = 0
  /** What was written last: [start, end). */
  #start = 0
  #end = 0

  constructor(storage: BlockStorage, allocator: Allocator) {
    this.#storage = storage
    this.#allocator = allocator
  }

  cut(): void {
    if (this.#blocks > 0) this.#smallCommits = this.#blocks <= SMALL_BLOCKS ? this.#smallCommits + 1 : 0
    this.#blocks = 0
  }

  /** A run was taken for new data. */
  took(run: PhysicalRun): void {
    this.#blocks += run.count
    if (this.#smallCommits < SMALL_COMMITS || this.#blocks > SMALL_BLOCKS) return
    const end = run.start + run.count
    if (run.start >= this.#start && end <= this.#end) return
    this.#writeFrom(end)
  }

  #writeFrom(block: number): void {
    for (const run of this.#allocator.freeRuns(block, AHEAD_BLOCKS)) {
      if (run.start !== block) return
      try {
        this.#storage.write(run.start * BLOCK_SIZE_BYTES, run.count * BLOCK_SIZE_BYTES, ZEROS, 0)
      } catch (error) {
        if (!hasCode(error, 'OUT_OF_SPACE')) throw error
      }
      this.#start = block
      this.#end = block + run.count
      return
    }
  }
}
