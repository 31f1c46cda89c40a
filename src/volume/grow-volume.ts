// Making a volume larger while it is open: its virtual size, and levels on top of the block map where
// they are needed.
//
// Always true: it takes effect with the next commit, together with whatever else that commits, so a
// crash leaves the old size or the new one; no block that is there moves; snapshots keep the size and
// the tree that they have. The map of the present may have more levels than theirs afterwards, which
// every walk of two trees allows for.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, formatSize } from '../base/units.ts'
import { levelsFor } from './map-node.ts'
import type { Present } from './present.ts'
import { BLOCK_COUNT_MAX } from './superblock.ts'

/**
 * Does nothing where the volume has that size.
 * @param sizeBytes a multiple of 4096, at least the present size
 * @throws UmbraError INVALID_ARGUMENT for a smaller size or one past 16 TiB, OUT_OF_SPACE; then nothing
 *   has changed
 */
export function growPresent({ state, room }: Present, sizeBytes: number): void {
  const blockCount = sizeBytes / BLOCK_SIZE_BYTES
  if (!Number.isInteger(blockCount) || blockCount > BLOCK_COUNT_MAX) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `A volume has up to 16 TiB in blocks of 4096 bytes, not ${sizeBytes} bytes`,
    )
  }
  if (blockCount < state.blockCount) {
    const is = formatSize(state.blockCount * BLOCK_SIZE_BYTES)
    throw new UmbraError('INVALID_ARGUMENT', `The volume has ${is}, and volumes cannot be made smaller`)
  }
  if (blockCount === state.blockCount) return
  const levels = levelsFor(blockCount)
  room.ensure(levels - state.map.root.levels, 0, true)
  state.isDirty = true
  state.map.raise(levels)
  state.blockCount = blockCount
}
