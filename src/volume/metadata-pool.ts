// Free blocks that the host has set aside, from which all metadata is written: so that a commit
// never fails for lack of space.
//
// Always true: a block in the pool is taken in the allocator, is in use by nothing, and writing it
// needs no new space from the host (it was reserved, or held metadata before). Blocks of metadata
// that are freed come back here while the pool is not large, which also saves reserving again.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import type { Allocator, Cursor, PhysicalRun } from './allocator.ts'

/** Blocks reserved at a time, at least and at most: 256 KiB to 8 MiB. */
const CHUNK_BLOCKS_MIN = 64
const CHUNK_BLOCKS_MAX = 2048
interface Run {
  start: number
  count: number
}

/** Freed metadata blocks stay in the pool up to so many. */
const KEEP_BLOCKS = 1024

export class MetadataPool {
  readonly #storage: BlockStorage
  readonly #allocator: Allocator
  /** Metadata begins in the middle of a group, away from where data is laid out. */
  readonly #cursor: Cursor = { group: 0, offset: 16385 }
  /** Sorted by place, neighbours merged. */
  #runs: Run[] = []
  /** The block after the one allocated last. */
  #next = -1
  #free = 0

  constructor(storage: BlockStorage, allocator: Allocator) {
    this.#storage = storage
    this.#allocator = allocator
  }

  /** Blocks that can be allocated without asking the host. */
  get freeBlocks(): number {
    return this.#free
  }

  /**
   * Makes the pool hold at least so many blocks.
   * @throws UmbraError OUT_OF_SPACE; what it holds stays
   */
  ensure(blockCount: number): void {
    while (this.#free < blockCount) {
      const missing = blockCount - this.#free
      const want = Math.min(CHUNK_BLOCKS_MAX, Math.max(CHUNK_BLOCKS_MIN, missing))
      const run = this.#allocator.find(this.#cursor, want)
      this.#allocator.take(run)
      try {
        if (this.#storage.supports.reserve) {
          this.#storage.reserve(run.start * BLOCK_SIZE_BYTES, run.count * BLOCK_SIZE_BYTES)
        }
      } catch (error) {
        this.#allocator.release(run.start, run.count)
        throw error
      }
      this.#add(run.start, run.count)
    }
  }

  /**
   * One block, in use from now on: the one after the last where that is free, so that what is written
   * together lies together.
   * @throws UmbraError OUT_OF_SPACE if room was not ensured
   */
  allocate(): number {
    if (this.#free === 0) this.ensure(1)
    const at = this.#choose()
    const run = this.#runs[at] as Run
    const block = run.start++
    this.#next = run.start
    if (--run.count === 0) this.#runs.splice(at, 1)
    this.#free--
    this.#allocator.use(block, 1)
    return block
  }

  /** Takes a freed metadata run back; false when the pool has plenty and does not want it. */
  giveBack(start: number, count: number): boolean {
    if (this.#free + count > KEEP_BLOCKS) return false
    this.#allocator.retake(start, count)
    this.#add(start, count)
    return true
  }

  /** Empties the pool, on close; the runs stay taken until the caller releases them. */
  takeAll(): PhysicalRun[] {
    const runs = this.#runs
    this.#runs = []
    this.#free = 0
    return runs
  }

  /** Index of the run that goes on where the last block was taken, else of the longest. */
  #choose(): number {
    let best = 0
    for (let i = 0; i < this.#runs.length; i++) {
      const run = this.#runs[i] as Run
      if (run.start === this.#next) return i
      if (run.count > (this.#runs[best] as Run).count) best = i
    }
    return best
  }

  /** Keeps the runs sorted by place, neighbours merged. */
  #add(start: number, count: number): void {
    const runs = this.#runs
    let at = runs.length
    while (at > 0 && (runs[at - 1] as Run).start > start) at--
    const before = runs[at - 1]
    const after = runs[at]
    const joinsBefore = before !== undefined && before.start + before.count === start
    const joinsAfter = after !== undefined && start + count === after.start
    if (joinsBefore && joinsAfter) {
      before.count += count + after.count
      runs.splice(at, 1)
    } else if (joinsBefore) {
      before.count += count
    } else if (joinsAfter) {
      after.start = start
      after.count += count
    } else {
      runs.splice(at, 0, { start, count })
    }
    this.#free += count
  }
}
