// The bookmarks that backups leave in volumes, so that the next delta has something to start from.
//
// Always true: names begin with the repository's, so that several repositories on one volume do not
// meet; what no later backup of this repository can build on is deleted; what cannot be deleted now is
// by the next backup.

import { isComponentBase, newestImageBase } from '../repository/chains.ts'
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

/**
 * Ids of the points of a volume that a later backup may start from.
 * @param existing ids of those that the volume has: of what has lost its point the next older is needed
 */
export function neededPoints(
  entries: readonly BackupEntry[],
  volumeUuid: string,
  existing: ReadonlySet<string>,
): Set<string> {
  const needed = new Set<string>(componentPoints(entries, volumeUuid))
  for (const type of ['incremental', 'differential'] as const) {
    const image = newestImageBase(entries, volumeUuid, type, ({ id }) => existing.has(id))
    if (image) needed.add(image.point.id)
  }
  return needed
}

/** Where the components' next backups start when they look for changed ranges. */
function* componentPoints(entries: readonly BackupEntry[], volumeUuid: string): Generator<string> {
  const settled = new Set<string>()
  for (const { manifest, name, component } of componentRecords(entries)) {
    const volume = manifest.volumes.find((candidate) => candidate.volumeUuid === volumeUuid)
    for (const type of ['incremental', 'differential'] as const) {
      const key = `${type} ${name}`
      if (settled.has(key) || !isComponentBase(component, type)) continue
      settled.add(key)
      if (volume) yield volume.point.id
    }
  }
}

/** All of them, of the newest backup first. */
function* componentRecords(entries: readonly BackupEntry[]) {
  for (const { manifest } of [...entries].reverse())
    for (const { classId, instanceName, components } of manifest?.writers ?? [])
      for (const component of components) {
        const name = JSON.stringify([classId, instanceName, component.logicalPath, component.name])
        if (manifest) yield { manifest, name, component }
      }
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
    try {
      const points = await volumes.points(volumePath)
      const needed = neededPoints(entries, volumeUuid, new Set(points.map(({ id }) => id)))
      for (const point of points) {
        const isOurs = point.kind === 'bookmark' && point.name.startsWith(namePrefix(repository))
        if (isOurs && !needed.has(point.id)) await volumes.deleteBookmark(volumePath, point.id)
      }
    } catch (error) {
      problems.push(`Old bookmarks of ${volumePath} were not deleted: ${(error as Error).message}`)
    }
  }
  return problems
}
