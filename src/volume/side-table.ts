// The small table the file system keeps beside its blocks: at most 1 MiB, committed with each
// transaction.
//
// Always true: only blocks whose contents changed are written.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { MetadataStore } from './metadata-store.ts'
import { SmallObject } from './small-object.ts'
import { type ObjectPointer, SIDE_TABLE_BYTES_MAX } from './superblock.ts'

export const SIDE_TABLE_LEVELS = 1

export class SideTable {
  readonly #object: SmallObject
  #bytes: Uint8Array
  #size: number

  /** @throws UmbraError CHECKSUM_MISMATCH, IO_FAILED */
  constructor(store: MetadataStore, pointer: ObjectPointer) {
    this.#object = new SmallObject(store, pointer.root)
    this.#size = pointer.size
    this.#bytes = new Uint8Array(padded(pointer.size))
    for (let at = 0; at < this.#bytes.length; at += BLOCK_SIZE_BYTES) {
      const block = this.#object.read(at / BLOCK_SIZE_BYTES)
      if (block) this.#bytes.set(block, at)
    }
  }

  /** Right after settle(). */
  get pointer(): ObjectPointer {
    return { root: this.#object.root, size: this.#size }
  }

  read(): Uint8Array {
    return this.#bytes.slice(0, this.#size)
  }

  /** Blocks that replace() with so many bytes allocates, at most. */
  static blocksFor(lengthBytes: number): number {
    return padded(lengthBytes) / BLOCK_SIZE_BYTES + 1
  }

  /** @returns whether anything changed. @throws UmbraError LIMIT_EXCEEDED */
  replace(bytes: Uint8Array): boolean {
    if (bytes.length > SIDE_TABLE_BYTES_MAX) {
      throw new UmbraError('LIMIT_EXCEEDED', `The side table holds 1 MiB at most, not ${bytes.length} bytes`)
    }
    const next = new Uint8Array(padded(bytes.length))
    next.set(bytes)
    let changed = bytes.length !== this.#size
    for (let at = 0; at < next.length; at += BLOCK_SIZE_BYTES) {
      const block = next.subarray(at, at + BLOCK_SIZE_BYTES)
      const before = this.#bytes.subarray(at, at + BLOCK_SIZE_BYTES)
      if (Buffer.compare(block, before) === 0) continue
      this.#object.write(at / BLOCK_SIZE_BYTES, block)
      changed = true
    }
    if (next.length < this.#bytes.length) {
      this.#object.remove(next.length / BLOCK_SIZE_BYTES, this.#bytes.length / BLOCK_SIZE_BYTES - 1)
    }
    this.#bytes = next
    this.#size = bytes.length
    return changed
  }

  settle(): void {
    this.#object.settle()
  }
}

function padded(lengthBytes: number): number {
  return Math.ceil(lengthBytes / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES
}
