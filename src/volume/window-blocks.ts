// The blocks of the volume file that an open auto-recovery window writes to: private to one snapshot.
//
// Always true: until the window is sealed nothing committed says that these blocks are in use (they are
// only taken, in memory), so a process that ends meanwhile leaves nothing behind, commits of the present
// go on beside them, and all of them may be rewritten where they are. What may hold nodes or metadata
// was reserved from the host or written before, so that writing it needs no new space. A block that the
// window drops is handed out again only when no read is in flight.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { Cursor, PhysicalRun } from './allocator.ts'
import { BlockSet } from './block-set.ts'
import type { NodeCache } from './node-cache.ts'
import type { NodeStore } from './radix-tree.ts'
import type { VolumeState } from './volume-state.ts'

/** Blocks reserved at a time, at least and at most: 256 KiB to 8 MiB. */
const CHUNK_BLOCKS_MIN = 64
const CHUNK_BLOCKS_MAX = 2048

export class WindowBlocks implements NodeStore {
  readonly cache: NodeCache
  readonly #state: VolumeState
  /** Away from where the present lays out its metadata and its data. */
  readonly #cursor: Cursor = { group: 0, offset: 8192 }
  #held = new BlockSet()
  #heldCount = 0
  /** Taken, with space on the host, in use by nothing. */
  readonly #spare: number[] = []
  /** Dropped while a read was in flight that may be reading them. */
  readonly #dropped: number[] = []
  /** Spare blocks that are kept for metadata. */
  #reserved = 0
  #readCount = 0
  #whenIdle: (() => void)[] = []

  constructor(state: VolumeState) {
    this.#state = state
    this.cache = state.cache
  }

  /** Blocks the window has written. */
  get blockCount(): number {
    return this.#heldCount
  }

  has(physicalBlock: number): boolean {
    return this.#held.has(physicalBlock)
  }

  /** What the window has written, by place. */
  runs(): Iterable<PhysicalRun> {
    return this.#held.runs()
  }

  /**
   * Makes room for so many nodes or blocks of metadata.
   * @throws UmbraError OUT_OF_SPACE; what it holds stays
   */
  ensure(blockCount: number): void {
    const { allocator, storage } = this.#state
    while (this.#spare.length < blockCount) {
      const missing = blockCount - this.#spare.length
      const want = Math.min(CHUNK_BLOCKS_MAX, Math.max(CHUNK_BLOCKS_MIN, missing))
      const run = allocator.find(this.#cursor, want)
      allocator.take(run)
      try {
        if (storage.supports.reserve) {
          storage.reserve(run.start * BLOCK_SIZE_BYTES, run.count * BLOCK_SIZE_BYTES)
        }
      } catch (error) {
        allocator.release(run.start, run.count)
        throw error
      }
      for (let block = run.start + run.count - 1; block >= run.start; block--) this.#spare.push(block)
    }
    this.#reserved = Math.max(this.#reserved, blockCount)
  }

  /** A block for a node or metadata, for which there is room. @throws UmbraError OUT_OF_SPACE */
  allocate(): number {
    if (this.#spare.length === 0) this.ensure(1)
    const block = this.#spare.pop() as number
    if (this.#reserved > 0) this.#reserved--
    this.#hold(block)
    return block
  }

  /** Blocks for data. @throws UmbraError OUT_OF_SPACE with nothing taken */
  allocateData(blockCount: number): number[] {
    const { allocator } = this.#state
    const blocks: number[] = []
    while (blocks.length < blockCount && this.#spare.length > this.#reserved) {
      blocks.push(this.#spare.pop() as number)
    }
    const reusedCount = blocks.length
    try {
      while (blocks.length < blockCount) {
        const run = allocator.find(this.#cursor, blockCount - blocks.length)
        allocator.take(run)
        for (let i = 0; i < run.count; i++) blocks.push(run.start + i)
      }
    } catch (error) {
      // The host may have no space for the new ones: only the others are spare.
      for (const block of blocks.splice(reusedCount)) allocator.release(block, 1)
      this.#spare.push(...blocks)
      throw error
    }
    for (const block of blocks) this.#hold(block)
    return blocks
  }

  /** What was claimed for has been written. */
  settleReserve(): void {
    this.#reserved = 0
  }

  /** The window refers to the block no longer. @returns false: it is not one of the window's */
  drop(physicalBlock: number): boolean {
    if (!this.#held.delete(physicalBlock)) return false
    this.#heldCount--
    if (this.#readCount > 0) this.#dropped.push(physicalBlock)
    else this.#spare.push(physicalBlock)
    return true
  }

  /** Data blocks that could not be written: the host may have no space for them. */
  giveBack(blocks: readonly number[]): void {
    for (const block of blocks) {
      this.#held.delete(block)
      this.#heldCount--
      this.#state.allocator.release(block, 1)
    }
  }

  // -- as a store of nodes

  flush(): void {}

  isFresh(physicalBlock: number): boolean {
    return this.#held.has(physicalBlock)
  }

  write(physicalBlock: number, source: Uint8Array, sourceOffset: number): void {
    this.#state.storage.write(physicalBlock * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, source, sourceOffset)
  }

  // -- reads in flight

  beginRead(): void {
    this.#readCount++
  }

  endRead(): void {
    if (--this.#readCount > 0) return
    this.#spare.push(...this.#dropped.splice(0))
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  /** Settles when no read is in flight. */
  async idle(): Promise<void> {
    if (this.#readCount > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve))
  }

  // -- end

  /** In the cut that seals the snapshot: what was written is in use from now on. */
  use(): void {
    for (const { start, count } of this.#held.runs()) this.#state.allocator.use(start, count)
  }

  /** Gives back what is not in use; with `all`, also what was written. No read is in flight. */
  release(all: boolean): void {
    const { allocator, puncher } = this.#state
    const unused = all ? this.#held : new BlockSet()
    for (const block of this.#spare.splice(0)) unused.add(block)
    for (const block of this.#dropped.splice(0)) unused.add(block)
    for (const { start, count } of unused.runs()) {
      allocator.release(start, count)
      puncher.offer(start, count)
    }
    if (!all) return
    this.#held = new BlockSet()
    this.#heldCount = 0
  }

  #hold(physicalBlock: number): void {
    this.#held.add(physicalBlock)
    this.#heldCount++
  }
}
