// The content digest of an image: SHA-256 over a canonical stream, so that it costs what the image
// costs, not what the volume costs, and so that two images of one content have one digest.
//
// The stream, all integers little endian: 32 bytes {16 bytes "umbra-digest-1", u64 kind (1 full,
// 2 delta), u64 virtual size in bytes}; then for each longest run of blocks, in block order, its bytes
// (data runs only) followed by 24 bytes {u64 kind (1 data, 2 zero), u64 first block, u64 blocks}. The
// record follows its bytes so that a run's length need not be known when it begins; read backwards
// the stream has one meaning only.
//
// Always true: blocks of zeros count as zero however they are stored. In a full image zero runs are left out,
// so a raw file, its sparse copy and a qcow2 image of the same content agree.

import { createHash, type Hash } from 'node:crypto'
import { assert } from '../base/assert.ts'
import { ascii, struct, u64le } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { forEachZeroRun } from './zero-runs.ts'

const Preamble = struct('DigestPreamble', 32, {
  magic: ascii(0, 16),
  kind: u64le(16),
  sizeBytes: u64le(24),
})
const RunRecord = struct('DigestRunRecord', 24, {
  kind: u64le(0),
  blockIndex: u64le(8),
  blockCount: u64le(16),
})
const MAGIC = 'umbra-digest-1'
const NONE = 0
const DATA = 1
const ZERO = 2

export type DigestKind = 'full' | 'delta'

export class ContentDigest {
  readonly #hash: Hash = createHash('sha256')
  readonly #keepsZeros: boolean
  readonly #record = new Uint8Array(RunRecord.sizeBytes)
  #runKind = NONE
  #runFirst = 0
  #runEnd = 0

  constructor(kind: DigestKind, sizeBytes: number) {
    this.#keepsZeros = kind === 'delta'
    this.#hash.update(Preamble.encode({ magic: MAGIC, kind: kind === 'full' ? 1 : 2, sizeBytes }))
  }

  /** Adds blocks with their bytes, at bytes[offsetBytes]; behind everything added before. */
  data(blockIndex: number, blockCount: number, bytes: Buffer, offsetBytes: number): void {
    forEachZeroRun(bytes, offsetBytes, blockCount, (isZero, first, count) => {
      if (isZero) return this.zero(blockIndex + first, count)
      this.#extend(DATA, blockIndex + first, count)
      const from = offsetBytes + first * BLOCK_SIZE_BYTES
      this.#hash.update(bytes.subarray(from, from + count * BLOCK_SIZE_BYTES))
    })
  }

  /** Adds blocks that read as zeros. */
  zero(blockIndex: number, blockCount: number): void {
    if (this.#keepsZeros) this.#extend(ZERO, blockIndex, blockCount)
    else this.#endRun()
  }

  /** @returns the digest as 64 hexadecimal digits */
  finish(): string {
    this.#endRun()
    return this.#hash.digest('hex')
  }

  #extend(kind: number, blockIndex: number, blockCount: number): void {
    assert(blockIndex >= this.#runEnd, `block ${blockIndex} comes behind ${this.#runEnd}`)
    if (kind !== this.#runKind || blockIndex !== this.#runEnd) {
      this.#endRun()
      this.#runKind = kind
      this.#runFirst = blockIndex
    }
    this.#runEnd = blockIndex + blockCount
  }

  #endRun(): void {
    if (this.#runKind === NONE) return
    const blockCount = this.#runEnd - this.#runFirst
    RunRecord.encode({ kind: this.#runKind, blockIndex: this.#runFirst, blockCount }, this.#record)
    this.#hash.update(this.#record)
    this.#runKind = NONE
  }
}
