// The reading half of a block device as a whole, read-only one, so that a file system can be opened on
// a snapshot, a chain of images or anything else that only reads.
//
// Always true: nothing can be changed through it; it counts the blocks that are read.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { ReadOnlyDevice } from '../storage/read-only-device.ts'
import type { BlockReader } from './image-source.ts'

export class ReaderDevice extends ReadOnlyDevice {
  readonly #reader: BlockReader
  #blocksRead = 0

  constructor(reader: BlockReader) {
    super(reader.blockCount, 0)
    this.#reader = reader
  }

  /** 4 KiB blocks read so far; one read twice counts twice. */
  get blocksRead(): number {
    return this.#blocksRead
  }

  override readSync(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): void {
    this.#count(lengthBytes)
    this.#reader.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  override tryRead(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): boolean {
    const isRead = this.#reader.tryRead(offsetBytes, lengthBytes, target, targetOffset)
    if (isRead) this.#count(lengthBytes)
    return isRead
  }

  override read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.#count(lengthBytes)
    return this.#reader.read(offsetBytes, lengthBytes, target, targetOffset)
  }

  #count(lengthBytes: number): void {
    this.#blocksRead += Math.ceil(lengthBytes / BLOCK_SIZE_BYTES)
  }
}
