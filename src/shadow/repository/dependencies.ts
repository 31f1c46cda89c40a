// Which backups need which: every image and every component of a backup names the one that it builds on.
//
// Always true: only what the records themselves say counts, not the list that a manifest keeps for people;
// a base is older than what builds on it, so going from the newest to the oldest meets every dependent
// before its bases.

import type { Manifest } from './manifest.ts'
import type { BackupEntry } from './repository.ts'

/** Ids of the backups that parts of this one build on directly. */
export function basesOf(manifest: Pick<Manifest, 'images' | 'writers'>): Set<string> {
  const bases = new Set<string>()
  for (const { baseBackupId } of manifest.images) if (baseBackupId !== null) bases.add(baseBackupId)
  for (const { components } of manifest.writers)
    for (const { succeeded, baseBackupId } of components)
      if (succeeded && baseBackupId !== null) bases.add(baseBackupId)
  return bases
}

/** These and everything that they need, whether it is there or not. */
export function withBases(entries: readonly BackupEntry[], ids: Iterable<string>): Set<string> {
  const byId = new Map(entries.map((entry) => [entry.id, entry.manifest]))
  const needed = new Set<string>()
  const waiting = [...ids]
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (needed.has(id)) continue
    needed.add(id)
    const manifest = byId.get(id)
    if (manifest) waiting.push(...basesOf(manifest))
  }
  return needed
}

/** Ids of the backups that cannot be restored without this one, the oldest first; itself left out. */
export function dependentsOf(entries: readonly BackupEntry[], id: string): string[] {
  return entries.flatMap((entry) =>
    entry.id !== id && withBases(entries, [entry.id]).has(id) ? [entry.id] : [],
  )
}

/** What a manifest's `chain` says: every backup that some part of it needs, the oldest first, itself last. */
export function chainOf(entries: readonly BackupEntry[], manifest: Manifest): string[] {
  const needed = withBases(entries, basesOf(manifest))
  needed.delete(manifest.id)
  return [...[...needed].sort(), manifest.id]
}
