// The bookmarks that backups leave in volumes, so that the next delta has something to start from.
//
// Always true: names begin with the repository's, so that several repositories on one volume do not
// meet; what no later backup of this repository can build on is deleted; what cannot be deleted now is
// by the next backup.

import { imageOf } from '../repository/chains.ts'
import type { Manifest } from '../repository/manifest.ts'
import type { BackupEntry, Repository } from '../repository/repository.ts'
import type { VolumeAccess } from './surroundings.ts'

/** Of everything that this repository leaves in volumes. */
export function namePrefix(repository: Repository): string {
  return `backup-${repository.id.slice(0, 13)}-`
}

/** Name of a backup's snapshots and of the bookmarks that are left of them. */
export function snapshotName(repository: Repository, backupId: string): string {
  return `${namePrefix(repository)}${backupId}`
}

/** Ids of the points of a volume that a later backup may start from. */
export function neededPoints(entries: readonly BackupEntry[], volumeUuid: string): Set<string> {
  const needed = new Set<string>()
  const manifests = entries.flatMap(({ manifest }) => (manifest ? [manifest] : []))
  for (const chosen of [
    manifests.findLast((manifest) => manifest.type === 'full' && hasVolume(manifest, volumeUuid)),
    manifests.findLast((manifest) => isHistory(manifest) && hasVolume(manifest, volumeUuid)),
    manifests.findLast((manifest) => manifest.type === 'full' && imageOf(manifest, volumeUuid)),
    manifests.findLast((manifest) => isHistory(manifest) && imageOf(manifest, volumeUuid)),
  ]) {
    const volume = chosen?.volumes.find((candidate) => candidate.volumeUuid === volumeUuid)
    if (volume) needed.add(volume.point.id)
  }
  return needed
}

/** Deletes what this repository no longer needs. @returns what could not be deleted, one sentence each */
export async function tidyBookmarks(
  volumes: VolumeAccess,
  repository: Repository,
  touched: readonly { readonly volumeUuid: string; readonly volumePath: string }[],
): Promise<string[]> {
  const problems: string[] = []
  const entries = repository.list()
  for (const { volumeUuid, volumePath } of touched) {
    const needed = neededPoints(entries, volumeUuid)
    try {
      for (const point of await volumes.points(volumePath)) {
        const isOurs = point.kind === 'bookmark' && point.name.startsWith(namePrefix(repository))
        if (isOurs && !needed.has(point.id)) await volumes.deleteBookmark(volumePath, point.id)
      }
    } catch (error) {
      problems.push(`Old bookmarks of ${volumePath} were not deleted: ${(error as Error).message}`)
    }
  }
  return problems
}

function isHistory({ type }: Manifest): boolean {
  return type === 'full' || type === 'incremental'
}

function hasVolume(manifest: Manifest, volumeUuid: string): boolean {
  return manifest.volumes.some((volume) => volume.volumeUuid === volumeUuid && volume.bookmark !== null)
}
