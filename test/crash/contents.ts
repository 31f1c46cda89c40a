// Everything that a device holds, to compare with later.

import { BLOCK_SIZE_BYTES } from '../../src/base/units.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'

const ZERO_BLOCK = new Uint8Array(BLOCK_SIZE_BYTES)

/** Contents of a device: its blocks that are not all zeros. */
export type Contents = ReadonlyMap<number, Uint8Array>

export function readContents(device: Pick<BlockDevice, 'readSync' | 'blockCount'>): Contents {
  const contents = new Map<number, Uint8Array>()
  const bytes = new Uint8Array(BLOCK_SIZE_BYTES * 64)
  for (let first = 0; first < device.blockCount; first += 64) {
    const count = Math.min(64, device.blockCount - first)
    device.readSync(first * BLOCK_SIZE_BYTES, count * BLOCK_SIZE_BYTES, bytes, 0)
    for (let i = 0; i < count; i++) {
      const block = bytes.subarray(i * BLOCK_SIZE_BYTES, (i + 1) * BLOCK_SIZE_BYTES)
      if (Buffer.compare(block, ZERO_BLOCK) !== 0) contents.set(first + i, block.slice())
    }
  }
  return contents
}
