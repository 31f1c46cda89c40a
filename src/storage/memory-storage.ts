// A block storage in memory: for tests, and for what is put together before it is written.
//
// Always true: memory is taken in chunks, only for ranges that were written, so a storage of many
// TiB costs what it holds; a chunk that a fork shares is copied before it is changed; flushing does
// nothing (the write-logging device is what knows of crashes).

import { constants } from 'node:os'
import { assert } from '../base/assert.ts'
import type { BlockStorage, BlockStorageSupport } from './block-storage.ts'
import { closedError, readOnlyError, storageError } from './storage-error.ts'

const CHUNK_BYTES = 16 * 1024

export interface MemoryStorageOptions {
  readonly name?: string
  readonly sizeBytes?: number
  /** What the storage may hold before it answers OUT_OF_SPACE; counted in chunks of 16 KiB. */
  readonly capacityBytes?: number
}

export class MemoryStorage implements BlockStorage {
  readonly supports: BlockStorageSupport = { punch: true, reserve: true }
  readonly name: string
  /** Settable, so that one set of contents can be looked at both ways. */
  readOnly = false
  readonly #capacityBytes: number
  readonly #chunks: Map<number, Uint8Array>
  /** Chunks that a fork may also refer to. */
  readonly #shared = new Set<number>()
  #sizeBytes: number
  #closed = false

  constructor(options: MemoryStorageOptions = {}, chunks = new Map<number, Uint8Array>()) {
    this.name = options.name ?? 'memory'
    this.#capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY
    this.#sizeBytes = options.sizeBytes ?? 0
    this.#chunks = chunks
  }

  /** A copy of these bytes, sized exactly. */
  static from(bytes: Uint8Array, name?: string): MemoryStorage {
    const storage = new MemoryStorage(name === undefined ? {} : { name })
    storage.write(0, bytes.length, bytes, 0)
    return storage
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  /** Bytes of memory that hold contents. */
  get allocatedBytes(): number {
    return this.#chunks.size * CHUNK_BYTES
  }

  /** An independent copy of the present contents, open and writable, that shares memory until either changes. */
  fork(name = this.name): MemoryStorage {
    const sizeBytes = this.#sizeBytes
    const copy = new MemoryStorage(
      { name, sizeBytes, capacityBytes: this.#capacityBytes },
      new Map(this.#chunks),
    )
    for (const index of this.#chunks.keys()) {
      this.#shared.add(index)
      copy.#shared.add(index)
    }
    return copy
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    if (this.#closed) throw closedError(this.name)
    checkRange(offsetBytes, lengthBytes)
    for (let done = 0; done < lengthBytes; ) {
      const at = offsetBytes + done
      const within = at % CHUNK_BYTES
      const count = Math.min(CHUNK_BYTES - within, lengthBytes - done)
      const chunk = this.#chunks.get((at - within) / CHUNK_BYTES)
      const to = targetOffset + done
      if (chunk) target.set(chunk.subarray(within, within + count), to)
      else target.fill(0, to, to + count)
      done += count
    }
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.readSync(offsetBytes, lengthBytes, target, targetOffset)
    return true
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): void {
    this.#checkWritable()
    checkRange(offsetBytes, lengthBytes)
    for (let done = 0; done < lengthBytes; ) {
      const at = offsetBytes + done
      const within = at % CHUNK_BYTES
      const count = Math.min(CHUNK_BYTES - within, lengthBytes - done)
      const chunk = this.#ownChunk((at - within) / CHUNK_BYTES, 'write')
      chunk.set(source.subarray(sourceOffset + done, sourceOffset + done + count), within)
      done += count
      this.#sizeBytes = Math.max(this.#sizeBytes, offsetBytes + done)
    }
  }

  flushSync(): void {
    this.#checkWritable()
  }

  async flush(): Promise<void> {
    this.#checkWritable()
  }

  async punch(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.punchSync(offsetBytes, lengthBytes)
  }

  punchSync(offsetBytes: number, lengthBytes: number): void {
    this.#checkWritable()
    checkRange(offsetBytes, lengthBytes)
    this.#zero(offsetBytes, offsetBytes + lengthBytes)
  }

  reserve(offsetBytes: number, lengthBytes: number): void {
    this.#checkWritable()
    checkRange(offsetBytes, lengthBytes)
    // Room is only ever short where a capacity was set.
    if (this.#capacityBytes === Number.POSITIVE_INFINITY || lengthBytes === 0) return
    const last = Math.floor((offsetBytes + lengthBytes - 1) / CHUNK_BYTES)
    for (let i = Math.floor(offsetBytes / CHUNK_BYTES); i <= last; i++) this.#ownChunk(i, 'reserve space in')
  }

  truncate(sizeBytes: number): void {
    this.#checkWritable()
    checkRange(sizeBytes, 0)
    if (sizeBytes < this.#sizeBytes) this.#zero(sizeBytes, Number.MAX_SAFE_INTEGER)
    this.#sizeBytes = sizeBytes
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #ownChunk(index: number, verb: string): Uint8Array {
    const chunk = this.#chunks.get(index)
    if (chunk && !this.#shared.has(index)) return chunk
    if (!chunk && this.allocatedBytes + CHUNK_BYTES > this.#capacityBytes) {
      const call = { verb, name: this.name, offsetBytes: index * CHUNK_BYTES, lengthBytes: CHUNK_BYTES }
      throw storageError(constants.errno.ENOSPC, call)
    }
    const own = chunk ? chunk.slice() : new Uint8Array(CHUNK_BYTES)
    this.#chunks.set(index, own)
    this.#shared.delete(index)
    return own
  }

  #zero(beginBytes: number, endBytes: number): void {
    const first = Math.ceil(beginBytes / CHUNK_BYTES)
    const end = Math.floor(endBytes / CHUNK_BYTES)
    this.#zeroWithin(beginBytes, Math.min(endBytes, first * CHUNK_BYTES))
    if (end >= first) this.#zeroWithin(end * CHUNK_BYTES, endBytes)
    // The range may span many more chunks than there are.
    if (end - first > this.#chunks.size) {
      for (const index of [...this.#chunks.keys()]) if (index >= first && index < end) this.#drop(index)
    } else {
      for (let index = first; index < end; index++) this.#drop(index)
    }
  }

  #zeroWithin(beginBytes: number, endBytes: number): void {
    if (endBytes <= beginBytes) return
    const index = Math.floor(beginBytes / CHUNK_BYTES)
    if (!this.#chunks.has(index)) return
    const base = index * CHUNK_BYTES
    this.#ownChunk(index, 'punch').fill(0, beginBytes - base, endBytes - base)
  }

  #drop(index: number): void {
    this.#chunks.delete(index)
    this.#shared.delete(index)
  }

  #checkWritable(): void {
    if (this.readOnly) throw readOnlyError(this.name)
    if (this.#closed) throw closedError(this.name)
  }
}

function checkRange(offsetBytes: number, lengthBytes: number): void {
  assert(
    Number.isSafeInteger(offsetBytes + lengthBytes) && offsetBytes >= 0 && lengthBytes >= 0,
    `${lengthBytes} bytes at ${offsetBytes} are a range`,
  )
}
