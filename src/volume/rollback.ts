// Going back to a snapshot as a change forward: what differs is written again, in the current epoch.
//
// Always true: nothing is committed in between, so the caller commits all of it or drops all of it;
// memory is bounded, because data goes to its new place at once and dirty nodes are spilled.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { walkDelta } from './delta.ts'
import type { Snapshot } from './points.ts'
import type { Volume } from './volume.ts'

const CHUNK_BLOCKS = 256

/** What only the volume itself can do. */
export interface RollbackSteps {
  /** Waits until everything is durable and nothing is under way in the background. */
  settle(): Promise<void>
  /** Back to what is durable: everything since is forgotten. */
  dropTransaction(): void
}

/** As Volume.rollback(), for a volume that is writable and not mounted. */
export async function rollBack(
  volume: Volume,
  steps: RollbackSteps,
  nameOrId: string,
  keepAs = `before-rollback-${new Date().toISOString()}`,
): Promise<Snapshot> {
  const lease = volume.lease(volume.snapshot(nameOrId).id)
  try {
    const kept = await volume.createSnapshot(keepAs)
    await steps.settle()
    try {
      // Dropping the transaction would pull the ground from under a window that was opened meanwhile.
      if (volume.unsealed) throw new UmbraError('BUSY', 'A shadow copy is being made')
      writeDifference(volume, kept, volume.snapshot(lease.id))
      if (volume.readSideTable().length > 0) volume.writeSideTable(new Uint8Array(0))
    } catch (error) {
      if (volume.failure) throw error
      if (!volume.unsealed) steps.dropTransaction()
      await volume.deleteSnapshot(kept.id)
      throw error
    }
    await volume.commit()
    return kept
  } finally {
    lease.release()
  }
}

/** Makes the present, which reads as snapshot `from` does, read as `target` does. */
function writeDifference(volume: Volume, from: Snapshot, target: Snapshot): void {
  const buffer = Buffer.allocUnsafe(CHUNK_BLOCKS * BLOCK_SIZE_BYTES)
  const device = volume.openSnapshot(target.id)
  for (const extent of walkDelta(volume.nodes, from.root, target.root, target.blockCount)) {
    if (extent.kind === 'zero') {
      volume.discard(extent.blockIndex, extent.blockCount)
      continue
    }
    const end = extent.blockIndex + extent.blockCount
    for (let first = extent.blockIndex; first < end; first += CHUNK_BLOCKS) {
      const count = Math.min(CHUNK_BLOCKS, end - first)
      device.readSync(first * BLOCK_SIZE_BYTES, count * BLOCK_SIZE_BYTES, buffer, 0)
      volume.writeData(first, count, buffer, 0)
    }
  }
}
