// Metadata blocks in memory, by block number, within a byte limit.
//
// Always true: one object for each block number; a dirty block stays until flush() has given it to
// the device; a clean one stays for at least half the limit's worth of further loads (two
// generations), so an operation may hold what it has just asked for. A freed block is forgotten at
// once: a flush must never write over what the block was reused for.

import { assert } from '../base/assert.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { MetadataBlock, Seal, Verify } from './core.ts'

const GENERATION_BLOCKS_MIN = 256

class CachedBlock implements MetadataBlock {
  readonly blockIndex: number
  readonly bytes: Uint8Array
  readonly view: DataView
  /** Undefined while clean. */
  seal: Seal | undefined

  constructor(blockIndex: number) {
    this.blockIndex = blockIndex
    this.bytes = new Uint8Array(BLOCK_SIZE_BYTES)
    this.view = new DataView(this.bytes.buffer)
  }
}

export class BlockCache {
  readonly #device: BlockDevice
  readonly #generationBlocks: number
  #young = new Map<number, CachedBlock>()
  #old = new Map<number, CachedBlock>()
  readonly #dirty = new Map<number, CachedBlock>()

  constructor(device: BlockDevice, limitBytes: number = 64 * MIB) {
    this.#device = device
    this.#generationBlocks = Math.max(GENERATION_BLOCKS_MIN, Math.floor(limitBytes / BLOCK_SIZE_BYTES / 2))
  }

  get dirtyCount(): number {
    return this.#dirty.size
  }

  /** Blocks in memory, dirty ones included. */
  get blockCount(): number {
    let count = this.#young.size
    for (const key of this.#old.keys()) if (!this.#young.has(key)) count++
    for (const key of this.#dirty.keys()) if (!this.#young.has(key) && !this.#old.has(key)) count++
    return count
  }

  /** @throws UmbraError IO_FAILED, what `verify` throws */
  get(blockIndex: number, verify?: Verify): MetadataBlock {
    const cached = this.#find(blockIndex)
    if (cached) return cached
    const block = new CachedBlock(blockIndex)
    this.#device.readSync(blockIndex * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block.bytes, 0)
    verify?.(block.bytes)
    this.#keep(block)
    return block
  }

  /** A zero-filled block, already dirty; whatever was there is forgotten. */
  create(blockIndex: number, seal: Seal): MetadataBlock {
    this.forget(blockIndex)
    const block = new CachedBlock(blockIndex)
    this.#keep(block)
    this.markDirty(block, seal)
    return block
  }

  markDirty(block: MetadataBlock, seal: Seal): void {
    const cached = block as CachedBlock
    if (cached.seal === undefined) {
      const present = this.#find(cached.blockIndex)
      assert(present === undefined || present === cached, 'a block has one object in the cache')
      if (!present) this.#keep(cached)
      this.#dirty.set(cached.blockIndex, cached)
    }
    cached.seal = seal
  }

  forget(blockIndex: number): void {
    const block = this.#find(blockIndex)
    if (!block) return
    block.seal = undefined
    this.#young.delete(blockIndex)
    this.#old.delete(blockIndex)
    this.#dirty.delete(blockIndex)
  }

  /** The device was changed by others; nothing is dirty. */
  forgetAll(): void {
    assert(this.#dirty.size === 0, 'what is dirty is not forgotten')
    this.#young.clear()
    this.#old.clear()
  }

  /** Seals every dirty block and gives it to the device. */
  flush(): void {
    if (this.#dirty.size === 0) return
    const blocks = [...this.#dirty.values()].sort((a, b) => a.blockIndex - b.blockIndex)
    for (const block of blocks) {
      block.seal?.(block.bytes)
      this.#device.writeMetadata(block.blockIndex, block.bytes, 0)
      block.seal = undefined
    }
    this.#dirty.clear()
  }

  #find(blockIndex: number): CachedBlock | undefined {
    const young = this.#young.get(blockIndex)
    if (young) return young
    const other = this.#old.get(blockIndex) ?? this.#dirty.get(blockIndex)
    if (other) this.#young.set(blockIndex, other)
    return other
  }

  #keep(block: CachedBlock): void {
    if (this.#young.size >= this.#generationBlocks) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(block.blockIndex, block)
  }
}
