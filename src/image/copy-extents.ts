// The one loop that reads a source's data: in pieces of 1 MiB, digesting while it goes, so that every
// writer hashes exactly what it writes.

import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { DeltaExtent } from '../volume/points.ts'
import type { ContentDigest } from './digest.ts'
import type { BlockReader } from './image-source.ts'
import type { Pace } from './pace.ts'

const PIECE_BLOCKS = MIB / BLOCK_SIZE_BYTES

/** Takes bytes[0, blockCount * 4096); they are overwritten once it has returned or its promise settled. */
export type BlockSink = (blockIndex: number, blockCount: number, bytes: Buffer) => void | Promise<void>

/** @throws UmbraError what the device throws on reading, ABORTED */
export async function copyExtents(
  device: BlockReader,
  extents: Iterable<DeltaExtent>,
  digest: ContentDigest,
  pace: Pace,
  sink: BlockSink,
): Promise<void> {
  const piece = Buffer.allocUnsafe(PIECE_BLOCKS * BLOCK_SIZE_BYTES)
  for (const extent of extents) {
    if (extent.kind === 'zero') {
      digest.zero(extent.blockIndex, extent.blockCount)
      continue
    }
    const end = extent.blockIndex + extent.blockCount
    for (let at = extent.blockIndex; at < end; at += PIECE_BLOCKS) {
      const blockCount = Math.min(PIECE_BLOCKS, end - at)
      const lengthBytes = blockCount * BLOCK_SIZE_BYTES
      if (!device.tryRead(at * BLOCK_SIZE_BYTES, lengthBytes, piece, 0))
        await device.read(at * BLOCK_SIZE_BYTES, lengthBytes, piece, 0)
      digest.data(at, blockCount, piece, 0)
      const pending = sink(at, blockCount, piece)
      if (pending !== undefined) await pending
      if (pace.advance(lengthBytes)) await pace.breathe()
    }
  }
}
