// A snapshot as a read-only block device: in the process that has the volume open, or in another
// one that holds a lease and was given the root.
//
// Always true: nothing of the volume but the snapshot's own blocks is read, and they never change
// while the snapshot exists.

import { UmbraError } from '../base/errors.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
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
  /** @throws UmbraError EVICTED when the snapshot was deleted */
  check(): void
  beginRead(): number
  endRead(ticket: number): void
}

export class SnapshotDevice implements BlockDevice {
  readonly readOnly = true
  readonly blockCount: number
  readonly transaction = 0
  readonly durableTransaction = 0
  readonly epoch: number
  readonly #reader: RunReader
  readonly #guard: SnapshotGuard | undefined

  constructor(storage: BlockStorage, options: SnapshotDeviceOptions) {
    this.blockCount = options.blockCount
    this.epoch = options.epoch
    this.#guard = options.guard
    const cache = options.cache ?? new NodeCache(storage, CACHE_BYTES)
    this.#reader = new RunReader(storage, new TreeReader(cache, options.root), options.blockCount)
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#guard?.check()
    this.#reader.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.#guard?.check()
    return this.#reader.tryRead(offsetBytes, lengthBytes, target, targetOffset)
  }

  async read(
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
    }
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

  /** A snapshot has none: what it holds is what a clean unmount leaves. */
  readSideTable(): Uint8Array {
    return new Uint8Array(0)
  }

  async flush(): Promise<void> {}

  async commit(): Promise<void> {}

  onBeforeCommit(): void {}
}

function readOnly(): UmbraError {
  return new UmbraError('READ_ONLY', 'A snapshot cannot be changed')
}
