// Blocks of the volume's own metadata and of the file system's: allocating, writing, freeing them.
//
// Always true: a block written here was handed out since the last cut, so nothing committed refers
// to it, and may be rewritten until the cut. Writes to blocks that lie side by side are gathered into
// one, in whatever order they come; whoever reads the storage calls flush() first.

import { assert } from '../base/assert.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import type { Allocator } from './allocator.ts'
import type { FreeQueue } from './free-queue.ts'
import { blockChecksum } from './map-node.ts'
import type { MetadataPool } from './metadata-pool.ts'
import { mismatch, type NodeCache } from './node-cache.ts'

const GATHER_BLOCKS = 64
/** Room before the first block: nodes are allocated from the root down and written from the leaves up. */
const GATHER_BELOW_BLOCKS = 16

export class MetadataStore {
  readonly cache: NodeCache
  readonly #storage: BlockStorage
  readonly #allocator: Allocator
  readonly #pool: MetadataPool
  readonly #frees: FreeQueue
  readonly #gathered = Buffer.allocUnsafeSlow(GATHER_BLOCKS * BLOCK_SIZE_BYTES)
  readonly #isGathered = new Uint8Array(GATHER_BLOCKS)
  /** The block that the gathering buffer begins with. */
  #base = 0
  /** What is gathered lies within [begin, end) of the buffer; end is 0 when nothing is. */
  #begin = 0
  #end = 0

  constructor(
    storage: BlockStorage,
    allocator: Allocator,
    pool: MetadataPool,
    frees: FreeQueue,
    cache: NodeCache,
  ) {
    this.#storage = storage
    this.#allocator = allocator
    this.#pool = pool
    this.#frees = frees
    this.cache = cache
  }

  allocate(): number {
    return this.#pool.allocate()
  }

  /** Whether a block may be rewritten where it is. */
  isFresh(physicalBlock: number): boolean {
    return this.#allocator.isFresh(physicalBlock)
  }

  free(physicalBlock: number): void {
    this.freeRun(physicalBlock, 1)
  }

  /** Frees metadata blocks. What is gathered for them must not be written over their next owner. */
  freeRun(start: number, count: number): void {
    if (start < this.#base + this.#end && start + count > this.#base + this.#begin) this.flush()
    this.#frees.free(start, count, true)
  }

  /** The bytes are taken before it returns. */
  write(physicalBlock: number, source: Uint8Array, sourceOffset: number): void {
    let index = physicalBlock - this.#base
    if (this.#end === 0 || index < 0 || index >= GATHER_BLOCKS) {
      this.flush()
      this.#isGathered.fill(0)
      this.#base = Math.max(0, physicalBlock - GATHER_BELOW_BLOCKS)
      index = physicalBlock - this.#base
      this.#begin = index
    }
    this.#gathered.set(
      source.subarray(sourceOffset, sourceOffset + BLOCK_SIZE_BYTES),
      index * BLOCK_SIZE_BYTES,
    )
    this.#isGathered[index] = 1
    this.#begin = Math.min(this.#begin, index)
    this.#end = Math.max(this.#end, index + 1)
  }

  /** Hands gathered writes to the storage. */
  flush(): void {
    const end = this.#end
    this.#end = 0
    for (let at = this.#begin; at < end; at++) {
      const first = at
      while (at < end && this.#isGathered[at] === 1) this.#isGathered[at++] = 0
      if (at > first) this.#writeOut(first, at - first)
    }
  }

  #writeOut(first: number, count: number): void {
    this.#storage.write(
      (this.#base + first) * BLOCK_SIZE_BYTES,
      count * BLOCK_SIZE_BYTES,
      this.#gathered,
      first * BLOCK_SIZE_BYTES,
    )
  }

  /** A block that is not a node, verified. @throws UmbraError CHECKSUM_MISMATCH, IO_FAILED */
  read(physicalBlock: number, checksum: number): Uint8Array {
    assert(physicalBlock !== 0, 'metadata is never at block 0')
    this.flush()
    const bytes = new Uint8Array(BLOCK_SIZE_BYTES)
    this.#storage.readSync(physicalBlock * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, bytes, 0)
    const found = blockChecksum(bytes)
    if (found !== checksum) throw mismatch(physicalBlock, checksum, found)
    return bytes
  }
}
