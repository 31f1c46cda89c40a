// A block device directly on a storage, without copy-on-write: for image files, for import, and for
// testing the file system by itself.
//
// Always true: block n lies at byte 4096 n of the storage; every write is in place, so a commit is a
// flush and gives no atomicity; nothing that belongs to a volume alone is stored: the side table
// lives in memory and the transaction counter starts at 1 with each opening.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from './block-device.ts'
import type { BlockStorage } from './block-storage.ts'
import { readOnlyError } from './storage-error.ts'

const SIDE_TABLE_MAX_BYTES = 1024 * 1024

export class PlainDevice implements BlockDevice {
  readonly blockCount: number
  readonly epoch = 1
  readonly #storage: BlockStorage
  readonly #beforeCommit: (() => void)[] = []
  #transaction = 1
  #durableTransaction = 0
  #sideTable = new Uint8Array(0)
  /** Settles when the commits before have; the next one starts behind it. */
  #lastCommit: Promise<void> = Promise.resolve()
  /** A commit that has not made its cut yet, for latecomers to share. */
  #openCommit: Promise<void> | null = null

  /** @param blockCount default: the whole blocks that the storage holds now */
  constructor(storage: BlockStorage, blockCount = Math.floor(storage.sizeBytes / BLOCK_SIZE_BYTES)) {
    this.#storage = storage
    this.blockCount = blockCount
  }

  get readOnly(): boolean {
    return this.#storage.readOnly
  }

  get transaction(): number {
    return this.#transaction
  }

  get durableTransaction(): number {
    return this.#durableTransaction
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#checkBytes(offsetBytes, lengthBytes)
    this.#storage.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.#checkBytes(offsetBytes, lengthBytes)
    return this.#storage.tryRead(offsetBytes, lengthBytes, target, targetOffset)
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.#checkBytes(offsetBytes, lengthBytes)
    await this.#storage.read(offsetBytes, lengthBytes, target, targetOffset)
  }

  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): boolean {
    this.#checkBlocks(blockIndex, blockCount)
    const lengthBytes = blockCount * BLOCK_SIZE_BYTES
    this.#storage.write(blockIndex * BLOCK_SIZE_BYTES, lengthBytes, source, sourceOffset)
    return false
  }

  writeMetadata(blockIndex: number, source: Uint8Array, sourceOffset: number): void {
    this.writeData(blockIndex, 1, source, sourceOffset)
  }

  discard(blockIndex: number, blockCount: number): void {
    this.#checkBlocks(blockIndex, blockCount)
    this.#storage.punchSync(blockIndex * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES)
  }

  requireRoom(): void {
    // The host decides, write by write.
    if (this.readOnly) throw readOnlyError(this.#storage.name)
  }

  readSideTable(): Uint8Array {
    return this.#sideTable.slice()
  }

  writeSideTable(bytes: Uint8Array): void {
    if (bytes.length > SIDE_TABLE_MAX_BYTES) {
      throw new UmbraError('LIMIT_EXCEEDED', `A side table of ${bytes.length} bytes; 1 MiB is the most`)
    }
    this.#sideTable = new Uint8Array(bytes)
  }

  flush(): Promise<void> {
    return this.#storage.flush()
  }

  commit(): Promise<void> {
    if (this.#openCommit !== null) return this.#openCommit
    const commit = this.#lastCommit.then(async () => {
      this.#openCommit = null
      for (const write of this.#beforeCommit) write()
      // What is written while the flush runs belongs to the next one.
      const transaction = this.#transaction++
      await this.#storage.flush()
      this.#durableTransaction = transaction
    })
    this.#openCommit = commit
    this.#lastCommit = commit.catch(() => undefined)
    return commit
  }

  onBeforeCommit(write: () => void): void {
    this.#beforeCommit.push(write)
  }

  #checkBytes(offsetBytes: number, lengthBytes: number): void {
    const endBytes = this.blockCount * BLOCK_SIZE_BYTES
    if (offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= endBytes) return
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `${lengthBytes} bytes at ${offsetBytes} lie outside ${this.#storage.name}, which has ${endBytes}`,
    )
  }

  #checkBlocks(blockIndex: number, blockCount: number): void {
    if (this.readOnly) throw readOnlyError(this.#storage.name)
    this.#checkBytes(blockIndex * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES)
  }
}
