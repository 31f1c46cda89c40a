// The end of persistent shadow copies, which nobody releases but the requester that had them made.

import type { VolumePoint } from '../repository/manifest.ts'
import type { VolumeAccess } from './surroundings.ts'

/** @returns what could not be deleted, one sentence each */
export async function endPersistent(
  access: VolumeAccess,
  volumes: readonly VolumePoint[],
  keepBookmark: boolean,
): Promise<string[]> {
  const problems: string[] = []
  for (const { volumePath, point } of volumes) {
    try {
      const points = await access.points(volumePath)
      const isThere = points.some(({ kind, id }) => kind === 'snapshot' && id === point.id)
      if (isThere) await access.deleteSnapshot(volumePath, point.id, keepBookmark)
    } catch (error) {
      problems.push(
        `The shadow copy ${point.id} of ${volumePath} was not deleted: ${(error as Error).message}`,
      )
    }
  }
  return problems
}
