// The reading half of a block device as a whole, read-only one, so that a file system can be opened on
// a snapshot, a chain of images or anything else that only reads.
//
// Always true: nothing can be changed through it; it counts the blocks that are read.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { BlockReader } from './image-source.ts'

export class ReaderDevice implements BlockDevice {
  readonly readOnly = true
  readonly blockCount: number
  readonly transaction = 0
  readonly durableTransaction = 0
  readonly epoch = 0
  readonly #reader: BlockReader
  #blocksRead = 0

  constructor(reader: BlockReader) {
    this.#reader = reader
    this.blockCount = reader.blockCount
  }

  /** 4 KiB blocks read so far; one read twice counts twice. */
  get blocksRead(): number {
    return this.#blocksRead
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#count(lengthBytes)
    this.#reader.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    const isRead = this.#reader.tryRead(offsetBytes, lengthBytes, target, targetOffset)
    if (isRead) this.#count(lengthBytes)
    return isRead
  }

  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): Promise<void> {
    this.#count(lengthBytes)
    return this.#reader.read(offsetBytes, lengthBytes, target, targetOffset)
  }

  writeData(): boolean {
    throw readOnly()
  }

  writeMetadata(): void {
    throw readOnly()
  }

  discard(): void {
    throw readOnly()
  }

  requireRoom(): void {
    throw readOnly()
  }

  writeSideTable(): void {
    throw readOnly()
  }

  readSideTable(): Uint8Array {
    return new Uint8Array(0)
  }

  async flush(): Promise<void> {}

  async commit(): Promise<void> {}

  onBeforeCommit(): void {}

  #count(lengthBytes: number): void {
    this.#blocksRead += Math.ceil(lengthBytes / BLOCK_SIZE_BYTES)
  }
}

function readOnly(): UmbraError {
  return new UmbraError('READ_ONLY', 'What is only read cannot be changed')
}
