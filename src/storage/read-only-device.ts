// What every block device that is only read has in common: a file system can be opened on it, and
// nothing can be changed.
//
// Always true: each change throws READ_ONLY, and there is nothing to flush or to commit.

import { UmbraError } from '../base/errors.ts'
import type { BlockDevice } from './block-device.ts'

export abstract class ReadOnlyDevice implements BlockDevice {
  readonly readOnly = true
  readonly transaction = 0
  readonly durableTransaction = 0
  readonly blockCount: number
  readonly epoch: number

  constructor(blockCount: number, epoch: number) {
    this.blockCount = blockCount
    this.epoch = epoch
  }

  abstract readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void

  abstract tryRead(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): boolean

  abstract read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void>

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

  /** None is kept: what is only read is as a clean unmount left it. */
  readSideTable(): Uint8Array {
    return new Uint8Array(0)
  }

  async flush(): Promise<void> {}

  async commit(): Promise<void> {}

  onBeforeCommit(): void {}
}

function readOnly(): UmbraError {
  return new UmbraError('READ_ONLY', 'What is only read, as a snapshot is, cannot be changed')
}
