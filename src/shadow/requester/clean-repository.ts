// Clears what runs left that died: half-made backups, their persistent shadow copies, and backups that only
// lacked their name.
//
// Always true: it runs under the repository's lock, so whatever is partial is nobody's; a backup that was
// whole when its maker died gets its name, but its components are nobody's base, since it is not known
// whether their writers heard of it.

import { existsSync } from 'node:fs'
import type { BackupFolder } from '../repository/backup-folder.ts'
import type { Manifest, VolumePoint } from '../repository/manifest.ts'
import type { Repository } from '../repository/repository.ts'
import { snapshotName, tidyBookmarks } from './bookmark-care.ts'
import { readResumeNote, removeResumeNote } from './resume-note.ts'
import { readSetNote, removeSetNote, writeSetNote } from './set-note.ts'
import { dropStrayShadows } from './stray-shadows.ts'
import type { VolumeAccess } from './surroundings.ts'

/**
 * @param volumePaths volumes that are to be looked through besides those that the repository knows of
 * @returns what was done, one sentence each
 */
export async function cleanRepository(
  access: VolumeAccess,
  repository: Repository,
  volumePaths: readonly string[] = [],
): Promise<string[]> {
  const notes: string[] = []
  const touched = new Set(volumePaths)
  const whole: VolumePoint[] = []
  const doomed: { readonly partial: BackupFolder; readonly paths: readonly string[] }[] = []
  for (const id of repository.partialIds()) {
    const partial = repository.partial(id)
    const manifest = repository.preparedManifest(id)
    if (manifest) {
      adopt(partial, manifest)
      whole.push(...manifest.volumes)
      notes.push(`Backup ${id} was whole when its run ended early, and is complete now`)
    } else doomed.push({ partial, paths: notedPaths(partial) })
  }
  for (const { paths } of doomed) for (const path of paths) touched.add(path)
  const newest = repository.list().at(-1)?.manifest?.volumes ?? []
  for (const { volumePath } of [...whole, ...newest]) touched.add(volumePath)
  const strays = await dropStrayShadows(access, repository, touched)
  notes.push(...strays.notes)
  for (const { partial, paths } of doomed) {
    partial.discard()
    notes.push(`The half-made backup ${partial.id} was removed`)
    const left = paths.filter((path) => strays.failedPaths.has(path))
    if (left.length > 0) await remember(repository, partial, left)
  }
  const there = whole.filter(({ volumePath }) => existsSync(volumePath))
  notes.push(...(await tidyBookmarks(access, repository, there)))
  return notes
}

function adopt(partial: BackupFolder, manifest: Manifest): void {
  partial.prepare(adopted(manifest))
  removeResumeNote(partial)
  removeSetNote(partial)
  partial.reveal()
}

/** Where a run that died may have left persistent shadow copies. */
function notedPaths(partial: BackupFolder): string[] {
  const resumable = readResumeNote(partial)?.volumes.map(({ volume }) => volume.volumePath) ?? []
  return [...new Set([...resumable, ...(readSetNote(partial)?.volumePaths ?? [])])]
}

/** For the next run: what is left of a backup that is gone is where its shadow copies are. */
async function remember(repository: Repository, partial: BackupFolder, volumePaths: readonly string[]) {
  partial.create()
  await writeSetNote(partial, { snapshotName: snapshotName(repository, partial.id), volumePaths })
}

function adopted(manifest: Manifest): Manifest {
  const writers = manifest.writers.map((writer) => ({
    ...writer,
    components: writer.components.map((component) => ({ ...component, mayBeBase: false })),
  }))
  const note = 'Its run ended before writers were known to have heard of it: components are no base'
  return { ...manifest, writers, notes: [...manifest.notes, note] }
}
