// Tells zero blocks from others, the same way for digests and for everything that writes sparsely.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'

const ZERO_BLOCK = Buffer.alloc(BLOCK_SIZE_BYTES)

/** Whether bytes[offsetBytes, +4096) are all zero. */
export function isZeroBlock(bytes: Buffer, offsetBytes: number): boolean {
  if (bytes[offsetBytes] !== 0 || bytes[offsetBytes + 2049] !== 0) return false
  return bytes.compare(ZERO_BLOCK, 0, BLOCK_SIZE_BYTES, offsetBytes, offsetBytes + BLOCK_SIZE_BYTES) === 0
}

/** Calls `visit` for each longest run of zero or of other blocks, in order; indexes count from 0. */
export function forEachZeroRun(
  bytes: Buffer,
  offsetBytes: number,
  blockCount: number,
  visit: (isZero: boolean, firstBlock: number, runBlockCount: number) => void,
): void {
  let first = 0
  let runIsZero = false
  for (let i = 0; i < blockCount; i++) {
    const isZero = isZeroBlock(bytes, offsetBytes + i * BLOCK_SIZE_BYTES)
    if (i > 0 && isZero !== runIsZero) {
      visit(runIsZero, first, i - first)
      first = i
    }
    runIsZero = isZero
  }
  if (blockCount > 0) visit(runIsZero, first, blockCount - first)
}
