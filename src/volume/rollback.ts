// Going back to a snapshot as a change forward: what differs is written again, in the current epoch.
//
// Always true: nothing is committed in between, so the caller commits all of it or drops all of it;
// memory is bounded, because data goes to its new place at once and dirty nodes are spilled.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { walkDelta } from './delta.ts'
import type { NodeReader } from './map-node.ts'
import type { Snapshot } from './points.ts'

const CHUNK_BLOCKS = 256

/** Makes `present`, which reads as snapshot `from` does, read as `target` does. */
export function writeDifference(
  nodes: NodeReader,
  from: Snapshot,
  target: Snapshot,
  targetDevice: BlockDevice,
  present: BlockDevice,
): void {
  const buffer = Buffer.allocUnsafe(CHUNK_BLOCKS * BLOCK_SIZE_BYTES)
  for (const extent of walkDelta(nodes, from.root, target.root, target.blockCount)) {
    if (extent.kind === 'zero') {
      present.discard(extent.blockIndex, extent.blockCount)
      continue
    }
    const end = extent.blockIndex + extent.blockCount
    for (let first = extent.blockIndex; first < end; first += CHUNK_BLOCKS) {
      const count = Math.min(CHUNK_BLOCKS, end - first)
      targetDevice.readSync(first * BLOCK_SIZE_BYTES, count * BLOCK_SIZE_BYTES, buffer, 0)
      present.writeData(first, count, buffer, 0)
    }
  }
}
