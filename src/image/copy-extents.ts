// The one loop that reads a source's data: in pieces of 1 MiB, digesting while it goes, so that every
// writer hashes exactly what it writes. While one piece is being written, the next is read and hashed.
//
// Always true: sinks are called in order; when this has ended, well or not, no sink is at work any more.

import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { DeltaExtent } from '../volume/points.ts'
import type { ContentDigest } from './digest.ts'
import type { BlockReader } from './image-source.ts'
import type { Pace } from './pace.ts'

const PIECE_BLOCKS = MIB / BLOCK_SIZE_BYTES

/**
 * Takes bytes[0, blockCount * 4096), which stay as they are until its promise settles. A sink that was
 * given a piece while another is at work must not depend on that one having ended.
 */
export type BlockSink = (blockIndex: number, blockCount: number, bytes: Buffer) => void | Promise<void>

/** @throws UmbraError what the device throws on reading and the sink on writing, ABORTED */
export async function copyExtents(
  device: BlockReader,
  extents: Iterable<DeltaExtent>,
  digest: ContentDigest,
  pace: Pace,
  sink: BlockSink,
): Promise<void> {
  const slots = [new Slot(), new Slot()] as const
  let next = 0
  try {
    for (const extent of extents) {
      if (extent.kind === 'zero') {
        digest.zero(extent.blockIndex, extent.blockCount)
        continue
      }
      const end = extent.blockIndex + extent.blockCount
      for (let at = extent.blockIndex; at < end; at += PIECE_BLOCKS) {
        const blockCount = Math.min(PIECE_BLOCKS, end - at)
        const lengthBytes = blockCount * BLOCK_SIZE_BYTES
        const slot = slots[next] as Slot
        next = 1 - next
        await slot.settled()
        if (!device.tryRead(at * BLOCK_SIZE_BYTES, lengthBytes, slot.bytes, 0))
          await device.read(at * BLOCK_SIZE_BYTES, lengthBytes, slot.bytes, 0)
        const written = sink(at, blockCount, slot.bytes)
        if (written !== undefined) slot.holdUntil(written)
        digest.data(at, blockCount, slot.bytes, 0)
        if (pace.advance(lengthBytes)) await pace.breathe()
      }
    }
    for (const slot of slots) await slot.settled()
  } finally {
    for (const slot of slots) await slot.released()
  }
}

/** A buffer, and the write that still needs it. */
class Slot {
  readonly bytes = Buffer.allocUnsafe(PIECE_BLOCKS * BLOCK_SIZE_BYTES)
  #busy: Promise<{ error: unknown } | null> | null = null

  holdUntil(written: Promise<void>): void {
    this.#busy = written.then(
      () => null,
      (error: unknown) => ({ error }),
    )
  }

  /** Throws what the write failed with. */
  async settled(): Promise<void> {
    if (this.#busy === null) return
    const failure = await this.#busy
    this.#busy = null
    if (failure) throw failure.error
  }

  /** Waits like settled(), and forgets how it ended. */
  async released(): Promise<void> {
    await this.#busy
  }
}
