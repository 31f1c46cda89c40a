// A snapshot as a read-only block device: in the process that has the volume open, or in another
// one that holds a lease and was given the root.
//
// Always true: nothing of the volume but the snapshot's own blocks is read, and they never change
// while the snapshot exists; where another process may drop it, what was read is confirmed before it
// is passed on, and damage met meanwhile counts as the snapshot's end, not as damage.

import type { BlockStorage } from '../storage/block-storage.ts'
import { ReadOnlyDevice } from '../storage/read-only-device.ts'
import { NodeCache } from './node-cache.ts'
import type { TreeRoot } from './points.ts'
import { RunReader } from './run-reader.ts'
import { TreeReader } from './tree-reader.ts'

const CACHE_BYTES = 16 * 1024 * 1024

export interface SnapshotDeviceOptions {
  readonly root: TreeRoot
  readonly epoch: number
  /** Virtual size in blocks. */
  readonly blockCount: number
  /** Shared with others, or made here. */
  readonly cache?: NodeCache
  /** Runs an asynchronous read so that its blocks stay unreused; @throws if the snapshot is gone. */
  readonly guard?: SnapshotGuard
}

export interface SnapshotGuard {
  /** Before a read. @throws UmbraError EVICTED when the snapshot was deleted */
  check(): void
  /**
   * After a read, whole or failed, where blocks may be reused meanwhile: what was read is passed on only
   * if it returns. @throws UmbraError EVICTED when the snapshot was deleted
   */
  confirm?(): void
  beginRead(): number
  endRead(ticket: number): void
}

export class SnapshotDevice extends ReadOnlyDevice {
  readonly #reader: RunReader
  readonly #guard: SnapshotGuard | undefined

  constructor(storage: BlockStorage, options: SnapshotDeviceOptions) {
    super(options.blockCount, options.epoch)
    this.#guard = options.guard
    const cache = options.cache ?? new NodeCache(storage, CACHE_BYTES)
    this.#reader = new RunReader(storage, new TreeReader(cache, options.root), options.blockCount)
  }

  override readSync(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): void {
    this.#guard?.check()
    try {
      this.#reader.readSync(offsetBytes, lengthBytes, target, targetOffset)
    } finally {
      this.#guard?.confirm?.()
    }
  }

  override tryRead(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): boolean {
    this.#guard?.check()
    try {
      return this.#reader.tryRead(offsetBytes, lengthBytes, target, targetOffset)
    } finally {
      this.#guard?.confirm?.()
    }
  }

  override async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.#guard?.check()
    const ticket = this.#guard?.beginRead()
    try {
      await this.#reader.read(offsetBytes, lengthBytes, target, targetOffset)
    } finally {
      if (ticket !== undefined) this.#guard?.endRead(ticket)
      this.#guard?.confirm?.()
    }
  }
}
