// Reading bytes of a virtual device through a plan of physical runs: the live volume, snapshots.
//
// Always true: the plan is made synchronously, so a read sees one instant; each physically contiguous
// run is one read of the storage; what is not mapped is zero-filled.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { type LeafSource, planRuns } from './tree-reader.ts'

export class RunReader {
  readonly #storage: BlockStorage
  readonly #source: LeafSource
  #sizeBytes: number
  readonly #plan: number[] = []

  constructor(storage: BlockStorage, source: LeafSource, blockCount: number) {
    this.#storage = storage
    this.#source = source
    this.#sizeBytes = blockCount * BLOCK_SIZE_BYTES
  }

  /** The device has become larger. */
  grow(blockCount: number): void {
    this.#sizeBytes = blockCount * BLOCK_SIZE_BYTES
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#makePlan(offsetBytes, lengthBytes, true)
    this.#eachPiece(offsetBytes, lengthBytes, target, targetOffset, (from, length, to) => {
      this.#storage.readSync(from, length, target, to)
      return true
    })
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    if (!this.#makePlan(offsetBytes, lengthBytes, false)) return false
    return this.#eachPiece(offsetBytes, lengthBytes, target, targetOffset, (from, length, to) =>
      this.#storage.tryRead(from, length, target, to),
    )
  }

  /** The storage's reads have all begun when it returns. */
  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): Promise<unknown> {
    this.#makePlan(offsetBytes, lengthBytes, true)
    const reads: Promise<void>[] = []
    this.#eachPiece(offsetBytes, lengthBytes, target, targetOffset, (from, length, to) => {
      reads.push(this.#storage.read(from, length, target, to))
      return true
    })
    // Every read has to have ended before the blocks may be reused, also when one fails.
    return reads.length === 1
      ? (reads[0] as Promise<void>)
      : Promise.allSettled(reads).then(() => Promise.all(reads))
  }

  #makePlan(offsetBytes: number, lengthBytes: number, wait: boolean): boolean {
    const isInside =
      Number.isSafeInteger(offsetBytes) &&
      offsetBytes >= 0 &&
      lengthBytes >= 0 &&
      offsetBytes + lengthBytes <= this.#sizeBytes
    if (!isInside) {
      throw new UmbraError(
        'INVALID_ARGUMENT',
        `Cannot read ${lengthBytes} bytes at ${offsetBytes}: the device has ${this.#sizeBytes}`,
      )
    }
    this.#plan.length = 0
    if (lengthBytes === 0) return true
    const first = Math.floor(offsetBytes / BLOCK_SIZE_BYTES)
    const last = Math.floor((offsetBytes + lengthBytes - 1) / BLOCK_SIZE_BYTES)
    return planRuns(this.#source, first, last - first + 1, this.#plan, wait)
  }

  #eachPiece(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
    read: (offsetBytes: number, lengthBytes: number, targetOffset: number) => boolean,
  ): boolean {
    const plan = this.#plan
    let skip = offsetBytes % BLOCK_SIZE_BYTES
    let left = lengthBytes
    let to = targetOffset
    for (let i = 0; i < plan.length; i += 2) {
      const physicalBlock = plan[i] as number
      const length = Math.min(left, (plan[i + 1] as number) * BLOCK_SIZE_BYTES - skip)
      if (physicalBlock === 0) target.fill(0, to, to + length)
      else if (!read(physicalBlock * BLOCK_SIZE_BYTES + skip, length, to)) return false
      skip = 0
      left -= length
      to += length
    }
    return true
  }
}
