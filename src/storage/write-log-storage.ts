// A block storage that writes down what it was asked for, in order: what crash replay is made from
// (see crash-states.ts).
//
// Always true: an entry's bytes are its own copy; an asynchronous call has an entry where it began
// and one where it ended, since it may take effect anywhere between; a write into a range that is
// being punched is refused as a bug of the caller, because the host may do the two in either order.

import { assert } from '../base/assert.ts'
import type { BlockStorage, BlockStorageSupport } from './block-storage.ts'

export type LogEntry =
  | { readonly kind: 'write'; readonly offsetBytes: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly sizeBytes: number }
  | {
      readonly kind: 'punch-begin'
      readonly id: number
      readonly offsetBytes: number
      readonly lengthBytes: number
    }
  | { readonly kind: 'punch-end'; readonly id: number }
  | { readonly kind: 'flush-begin'; readonly id: number }
  | { readonly kind: 'flush-end'; readonly id: number }
  /** A note of the test: what had been promised to a caller by this time. */
  | { readonly kind: 'mark'; readonly label: string }

export class WriteLogStorage implements BlockStorage {
  readonly entries: LogEntry[] = []
  readonly #inner: BlockStorage
  readonly #punching = new Map<number, { beginBytes: number; endBytes: number }>()
  #nextId = 1

  constructor(inner: BlockStorage) {
    this.#inner = inner
  }

  mark(label: string): void {
    this.entries.push({ kind: 'mark', label })
  }

  get supports(): BlockStorageSupport {
    return this.#inner.supports
  }

  get name(): string {
    return this.#inner.name
  }

  get readOnly(): boolean {
    return this.#inner.readOnly
  }

  get sizeBytes(): number {
    return this.#inner.sizeBytes
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#inner.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    return this.#inner.tryRead(offsetBytes, lengthBytes, target, targetOffset)
  }

  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): Promise<void> {
    return this.#inner.read(offsetBytes, lengthBytes, target, targetOffset)
  }

  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): void {
    this.#refuseWhilePunching('written', offsetBytes, offsetBytes + lengthBytes)
    this.#inner.write(offsetBytes, lengthBytes, source, sourceOffset)
    // Not slice(): on a Buffer that shares memory.
    const bytes = new Uint8Array(source.subarray(sourceOffset, sourceOffset + lengthBytes))
    this.entries.push({ kind: 'write', offsetBytes, bytes })
  }

  flushSync(): void {
    const id = this.#nextId++
    this.entries.push({ kind: 'flush-begin', id })
    this.#inner.flushSync()
    this.entries.push({ kind: 'flush-end', id })
  }

  async flush(): Promise<void> {
    const id = this.#nextId++
    this.entries.push({ kind: 'flush-begin', id })
    await this.#inner.flush()
    this.entries.push({ kind: 'flush-end', id })
  }

  async punch(offsetBytes: number, lengthBytes: number): Promise<void> {
    const id = this.#nextId++
    const endBytes = offsetBytes + lengthBytes
    this.#refuseWhilePunching('punched', offsetBytes, endBytes)
    this.entries.push({ kind: 'punch-begin', id, offsetBytes, lengthBytes })
    this.#punching.set(id, { beginBytes: offsetBytes, endBytes })
    try {
      await this.#inner.punch(offsetBytes, lengthBytes)
    } finally {
      this.#punching.delete(id)
    }
    this.entries.push({ kind: 'punch-end', id })
  }

  punchSync(offsetBytes: number, lengthBytes: number): void {
    const id = this.#nextId++
    this.#refuseWhilePunching('punched', offsetBytes, offsetBytes + lengthBytes)
    this.#inner.punchSync(offsetBytes, lengthBytes)
    this.entries.push({ kind: 'punch-begin', id, offsetBytes, lengthBytes }, { kind: 'punch-end', id })
  }

  reserve(offsetBytes: number, lengthBytes: number): void {
    // Changes no byte, so a crash cannot show it.
    this.#inner.reserve(offsetBytes, lengthBytes)
  }

  truncate(sizeBytes: number): void {
    this.#refuseWhilePunching('cut off', sizeBytes, Number.POSITIVE_INFINITY)
    this.#inner.truncate(sizeBytes)
    this.entries.push({ kind: 'truncate', sizeBytes })
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  #refuseWhilePunching(what: string, beginBytes: number, endBytes: number): void {
    for (const range of this.#punching.values()) {
      assert(
        endBytes <= range.beginBytes || beginBytes >= range.endBytes,
        `bytes ${beginBytes} to ${endBytes} are not ${what} while ${range.beginBytes} to ${range.endBytes} are punched`,
      )
    }
  }
}
