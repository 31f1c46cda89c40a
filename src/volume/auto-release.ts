// Deleting auto-release shadow copies whose requester is gone.
//
// In VSS a shadow copy lives as long as the session that made it unless its context says otherwise
// (NO_AUTO_RELEASE). Sessions end with the process that serves the volume, so what is found when the
// volume is opened for writing belongs to none.

import { SHADOW_ATTRIBUTES, type Snapshot } from './points.ts'
import type { Volume } from './volume.ts'

export function isAutoReleased({ shadow }: Snapshot): boolean {
  return shadow !== null && (shadow.attributes & SHADOW_ATTRIBUTES.NO_AUTO_RELEASE) === 0
}

/**
 * Right after opening for writing, before anybody makes a shadow copy; pinned ones stay.
 * @returns those that were deleted
 * @throws UmbraError OUT_OF_SPACE, READ_ONLY
 */
export async function dropAutoReleased(volume: Volume): Promise<Snapshot[]> {
  const released = volume.snapshots().filter((snapshot) => isAutoReleased(snapshot) && !snapshot.pinned)
  for (const { id } of released) await volume.deleteSnapshot(id)
  return released
}
