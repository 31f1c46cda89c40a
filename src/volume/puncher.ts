// Gives the space of freed runs back to the host, in the background.
//
// Always true: a range being punched is taken in the allocator, so that nothing can be written
// there meanwhile; only ranges that are still free when their turn comes are punched. Runs shorter
// than 64 blocks are left: punching costs as much for one block as for a MiB, and small holes are
// what small writes reuse soonest, unless the host is full. A failed punch ends punching for good; it loses only space.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import type { Allocator } from './allocator.ts'
import { BLOCKS_PER_GROUP } from './group-layout.ts'

const PUNCH_BLOCKS_MIN = 64

export class Puncher {
  readonly #storage: BlockStorage
  readonly #allocator: Allocator
  #queue: number[] = []
  #running: Promise<void> | undefined
  #stopped: boolean
  #queuedBlocks = 0
  /** Every free block is given back: the host has no room left. */
  isThorough = false

  constructor(storage: BlockStorage, allocator: Allocator) {
    this.#storage = storage
    this.#allocator = allocator
    this.#stopped = !storage.supports.punch || storage.readOnly
  }

  /** Blocks released but still held by the host, waiting for their turn. */
  get queuedBlocks(): number {
    return this.#queuedBlocks
  }

  get isIdle(): boolean {
    return this.#running === undefined
  }

  /** A run became available; it will be punched if it, with its free neighbours, is long enough. */
  offer(start: number, count: number): void {
    if (this.#stopped) return
    this.#queue.push(start, count)
    this.#queuedBlocks += count
    this.#running ??= this.#run()
  }

  /** Ends when everything offered has been dealt with. */
  async drain(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  stop(): void {
    this.#stopped = true
  }

  async #run(): Promise<void> {
    // Whoever offered goes on first: what is offered together is dealt with together.
    await Promise.resolve()
    try {
      while (this.#queue.length > 0 && !this.#stopped) {
        const queue = this.#queue
        this.#queue = []
        for (let i = 0; i < queue.length && !this.#stopped; i += 2) {
          await this.#punchAround(queue[i] as number, queue[i + 1] as number)
          this.#queuedBlocks -= queue[i + 1] as number
        }
      }
    } catch {
      this.#stopped = true
    } finally {
      this.#running = undefined
    }
  }

  async #punchAround(start: number, count: number): Promise<void> {
    const groupFirst = start - (start % BLOCKS_PER_GROUP)
    const from = Math.max(groupFirst, start - PUNCH_BLOCKS_MIN)
    const end = Math.min(groupFirst + BLOCKS_PER_GROUP, start + count + PUNCH_BLOCKS_MIN)
    for (const run of [...this.#allocator.freeRuns(from, end - from)]) {
      if (
        (run.count < PUNCH_BLOCKS_MIN && !this.isThorough) ||
        run.start >= start + count ||
        run.start + run.count <= start
      )
        continue
      this.#allocator.take(run)
      try {
        await this.#storage.punch(run.start * BLOCK_SIZE_BYTES, run.count * BLOCK_SIZE_BYTES)
      } finally {
        this.#allocator.release(run.start, run.count)
      }
    }
  }
}
