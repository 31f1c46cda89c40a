// Ends persistent shadow copies that runs of this repository left behind and that nobody goes on with.
//
// Always true: it runs under the repository's lock and for nothing that is to be gone on with, so no run of this
// repository needs what it finds; only what bears this repository's prefix and the name of a backup is looked
// at, so that nobody else's is touched; one that is being read or was pinned stays.

import { existsSync } from 'node:fs'
import { hasCode } from '../../base/errors.ts'
import { parseBackupId } from '../repository/backup-id.ts'
import type { Repository } from '../repository/repository.ts'
import { namePrefix } from './bookmark-care.ts'
import type { VolumeAccess } from './surroundings.ts'

export interface StrayShadows {
  /** What was done and what could not be, one sentence each. */
  readonly notes: readonly string[]
  /** Volumes that are there and could not be asked, or kept one all the same. */
  readonly failedPaths: ReadonlySet<string>
}

/** @param volumePaths those that are not there are left out */
export async function dropStrayShadows(
  access: VolumeAccess,
  repository: Repository,
  volumePaths: Iterable<string>,
): Promise<StrayShadows> {
  const notes: string[] = []
  const failedPaths = new Set<string>()
  for (const volumePath of new Set(volumePaths)) {
    if (!existsSync(volumePath)) continue
    const fails = (error: unknown, what: string) => {
      failedPaths.add(volumePath)
      notes.push(`${what} was not ended: ${error instanceof Error ? error.message : String(error)}`)
    }
    try {
      for (const { id, name, keeps } of await strays(access, repository, volumePath)) {
        const what = `The shadow copy ${name} that an earlier run had left in ${volumePath}`
        await access.deleteSnapshot(volumePath, id, keeps).then(
          () => notes.push(`${what} was ended`),
          // Gone in the meantime is as good; what somebody reads or has pinned is tried again by the next run.
          (error: unknown) => hasCode(error, 'NOT_FOUND') || fails(error, what),
        )
      }
    } catch (error) {
      fails(error, `What earlier runs had left in ${volumePath}`)
    }
  }
  return { notes, failedPaths }
}

interface Stray {
  readonly id: string
  readonly name: string
  /** Whether its backup is complete and wants its bookmark. */
  readonly keeps: boolean
}

async function strays(access: VolumeAccess, repository: Repository, volumePath: string): Promise<Stray[]> {
  const prefix = namePrefix(repository)
  const complete = new Map(repository.list().map(({ id, manifest }) => [id, manifest]))
  return (await access.points(volumePath)).flatMap(({ kind, id, name }) => {
    const backupId = name.startsWith(prefix) ? name.slice(prefix.length) : ''
    if (kind !== 'snapshot' || parseBackupId(backupId) === null) return []
    const manifest = complete.get(backupId)
    // Of one that is damaged nobody knows whether it wants one; a bookmark too many is tidied later.
    const keeps = manifest
      ? manifest.volumes.some(({ bookmark }) => bookmark !== null)
      : complete.has(backupId)
    return [{ id, name, keeps }]
  })
}
