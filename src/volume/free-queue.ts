// Blocks on their way from "no longer referred to" to "may be handed out again".
//
// Always true: a block freed in transaction T is released only when T+1 is durable. Until T is, the
// committed state is T-1, which refers to it; until T+1 is, losing both copies of T's superblock
// leads back to T-1, which must be whole then. It is released only when no asynchronous read is in
// flight that began before T's cut, because it may be reading the block. Blocks handed out and freed
// within one uncommitted transaction are in no committed state: they go back at once unless a read
// is in flight.

import type { Allocator } from './allocator.ts'
import { BLOCKS_PER_GROUP } from './group-layout.ts'
import type { MetadataPool } from './metadata-pool.ts'
import type { Puncher } from './puncher.ts'
import type { ReadTickets } from './read-tickets.ts'

/** Runs as pairs of start and count. */
type Runs = number[]

interface Batch {
  readonly transaction: number
  /** Reads with a lower ticket may refer to these blocks. */
  readonly ticket: number
  readonly data: Runs
  readonly metadata: Runs
  readonly blockCount: number
}

export class FreeQueue {
  readonly #allocator: Allocator
  readonly #pool: MetadataPool
  readonly #puncher: Puncher
  readonly #reads: ReadTickets
  readonly #closed: Batch[] = []
  #data: Runs = []
  #metadata: Runs = []
  #durable: number
  #pendingBlocks = 0
  /** Those of them that were freed since the last cut. */
  #openBlocks = 0

  constructor(
    allocator: Allocator,
    pool: MetadataPool,
    puncher: Puncher,
    reads: ReadTickets,
    durableTransaction: number,
  ) {
    this.#allocator = allocator
    this.#pool = pool
    this.#puncher = puncher
    this.#reads = reads
    this.#durable = durableTransaction
    reads.onEnd = () => {
      if (this.#closed.length > 0) this.#pump()
    }
  }

  /** Blocks freed but not released. */
  get pendingBlocks(): number {
    return this.#pendingBlocks
  }

  /** Blocks freed by durable transactions, for which one more commit is wanting. */
  get awaitingBlocks(): number {
    let sum = 0
    for (const batch of this.#closed) if (batch.transaction === this.#durable) sum += batch.blockCount
    return sum
  }

  free(start: number, count: number, isMetadata: boolean): void {
    this.#allocator.unuse(start, count)
    if (this.#reads.oldest === undefined && this.#allocator.isFreshRun(start, count)) {
      this.#release(start, count, isMetadata)
      return
    }
    const runs = isMetadata ? this.#metadata : this.#data
    const last = runs.length - 2
    if (last >= 0 && (runs[last] as number) + (runs[last + 1] as number) === start && !startsGroup(start)) {
      runs[last + 1] = (runs[last + 1] as number) + count
    } else {
      runs.push(start, count)
    }
    this.#openBlocks += count
    this.#pendingBlocks += count
  }

  /** The cut of a transaction: what was freed so far waits for the one after it. */
  cut(transaction: number): void {
    if (this.#data.length === 0 && this.#metadata.length === 0) return
    this.#closed.push({
      transaction,
      ticket: this.#reads.next,
      data: this.#data,
      metadata: this.#metadata,
      blockCount: this.#openBlocks,
    })
    this.#openBlocks = 0
    this.#data = []
    this.#metadata = []
  }

  becameDurable(transaction: number): void {
    this.#durable = transaction
    this.#pump()
  }

  #pump(): void {
    for (;;) {
      const batch = this.#closed[0]
      if (batch === undefined || batch.transaction >= this.#durable) return
      const { oldest } = this.#reads
      if (oldest !== undefined && oldest < batch.ticket) return
      this.#closed.shift()
      this.#releaseBatch(batch)
    }
  }

  #releaseBatch(batch: Batch): void {
    for (const [start, count] of inOrder(batch.data)) {
      this.#pendingBlocks -= count
      this.#release(start, count, false)
    }
    for (const [start, count] of inOrder(batch.metadata)) {
      this.#pendingBlocks -= count
      this.#release(start, count, true)
    }
  }

  #release(start: number, count: number, isMetadata: boolean): void {
    if (isMetadata && this.#pool.giveBack(start, count)) return
    this.#allocator.release(start, count)
    this.#puncher.offer(start, count)
  }
}

function startsGroup(block: number): boolean {
  return block % BLOCKS_PER_GROUP === 0
}

/** The runs sorted by place, neighbours merged. */
function* inOrder(runs: Runs): Iterable<[start: number, count: number]> {
  const starts = Float64Array.from({ length: runs.length / 2 }, (_, i) => runs[i * 2] as number)
  const counts = new Map<number, number>()
  for (let i = 0; i < runs.length; i += 2) counts.set(runs[i] as number, runs[i + 1] as number)
  starts.sort()
  let start = -1
  let count = 0
  for (const next of starts) {
    const length = counts.get(next) as number
    if (next === start + count && start >= 0 && !startsGroup(next)) {
      count += length
      continue
    }
    if (start >= 0) yield [start, count]
    start = next
    count = length
  }
  if (start >= 0) yield [start, count]
}
