// Deletes the backups that a plan does not keep.
//
// Always true: the newest goes first, and each becomes invisible by one rename before its bytes go, so that at no
// instant a visible backup lacks what it builds on; a plan that would break a chain is refused whole.

import { existsSync, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { MIB } from '../../base/units.ts'
import { HostFile } from '../../image/host-file.ts'
import { decodeFirstCluster } from '../../image/qcow2-header.ts'
import { readResumeNote } from '../requester/resume-note.ts'
import { parseBackupId } from './backup-id.ts'
import { refreshChains } from './consolidate.ts'
import { basesOf, withBases } from './dependencies.ts'
import type { BackupEntry, Repository } from './repository.ts'
import type { PlannedBackup } from './retention.ts'

const SECTOR_BYTES = 512
/** qcow2 has no larger ones. */
const CLUSTER_MAX_BYTES = 2 * MIB

/**
 * Ids that backups need of which the list of them tells nothing: those of runs that can be gone on with, and
 * damaged ones whose images still name what they lie on.
 */
export function pinnedIds(repository: Repository): Set<string> {
  const pinned = new Set<string>()
  for (const { folder, problem } of repository.list())
    if (problem) for (const base of backingIds(folder)) pinned.add(base)
  for (const id of repository.partialIds()) {
    const manifest = repository.preparedManifest(id)
    if (manifest) for (const base of basesOf(manifest)) pinned.add(base)
    const note = readResumeNote(repository.partial(id))
    for (const { baseBackupId } of note?.volumes ?? []) if (baseBackupId !== null) pinned.add(baseBackupId)
  }
  return pinned
}

/** Ids of the backups whose images those in a folder have as their backing files. */
function* backingIds(folder: string): Generator<string> {
  const images = join(folder, 'images')
  if (!existsSync(images)) return
  for (const name of readdirSync(images)) {
    if (!name.endsWith('.qcow2')) continue
    const id = backingName(join(images, name))?.split('/').at(-3)
    if (id !== undefined && parseBackupId(id) !== null) yield id
  }
}

function backingName(path: string): string | undefined {
  try {
    const file = new HostFile(path)
    try {
      const first = Buffer.alloc(Math.min(file.sizeBytes, CLUSTER_MAX_BYTES))
      file.read(0, first.length, first, 0)
      return decodeFirstCluster(first, path).backing?.name
    } finally {
      file.close()
    }
  } catch (error) {
    // Damaged as well, or no image.
    if (error instanceof UmbraError) return undefined
    throw error
  }
}

/**
 * Under the repository's lock.
 * @param onRemoved after each backup that has gone
 * @returns the manifests' entries of what was deleted
 * @throws UmbraError BROKEN_CHAIN when the plan keeps something without what it builds on
 */
export function prune(
  repository: Repository,
  plan: readonly PlannedBackup[],
  onRemoved?: (id: string) => void,
): BackupEntry[] {
  refreshChains(repository)
  const entries = repository.list()
  const doomed = new Set(plan.filter(({ keep }) => !keep).map(({ id }) => id))
  const kept = entries.filter(({ id }) => !doomed.has(id))
  for (const { id } of kept)
    for (const base of withBases(entries, [id]))
      if (doomed.has(base))
        throw new UmbraError('BROKEN_CHAIN', `Backup ${id} builds on ${base}, which is not deleted`, {
          backup: id,
        })
  if (kept.length === 0 && doomed.size > 0)
    throw new UmbraError('INVALID_ARGUMENT', 'The last backup is not deleted')
  const removed = entries.filter(({ id }) => doomed.has(id))
  for (const { id } of [...removed].reverse()) {
    repository.remove(id)
    onRemoved?.(id)
  }
  return removed
}

/** Space that a folder takes on the host. */
export function allocatedBytes(folder: string): number {
  let bytes = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    bytes += entry.isDirectory() ? allocatedBytes(path) : lstatSync(path).blocks * SECTOR_BYTES
  }
  return bytes
}
