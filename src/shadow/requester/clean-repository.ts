// Clears what runs left that died: half-made backups, their persistent shadow copies, and backups that only
// lacked their name.
//
// Always true: it runs under the repository's lock, so whatever is partial is nobody's; a backup that was
// whole when its maker died gets its name, but its components are nobody's base, since it is not known
// whether their writers heard of it.

import { existsSync } from 'node:fs'
import type { Manifest } from '../repository/manifest.ts'
import type { Repository } from '../repository/repository.ts'
import { tidyBookmarks } from './bookmark-care.ts'
import { endPersistent } from './end-persistent.ts'
import { readResumeNote, removeResumeNote } from './resume-note.ts'
import type { VolumeAccess } from './surroundings.ts'

/** @returns what was done, one sentence each */
export async function cleanRepository(access: VolumeAccess, repository: Repository): Promise<string[]> {
  const notes: string[] = []
  for (const id of repository.partialIds()) {
    const partial = repository.partial(id)
    const manifest = repository.preparedManifest(id)
    if (manifest) {
      partial.prepare(adopted(manifest))
      removeResumeNote(partial)
      partial.reveal()
      notes.push(`Backup ${id} was whole when its run ended early, and is complete now`)
      notes.push(...(await endOf(access, manifest)))
      notes.push(...(await tidyBookmarks(access, repository, manifest.volumes)))
    } else {
      const note = readResumeNote(partial)
      if (note)
        notes.push(
          ...(await endPersistent(
            access,
            note.volumes.map(({ volume }) => volume),
            false,
          )),
        )
      partial.discard()
      notes.push(`The half-made backup ${id} was removed`)
    }
  }
  const newest = repository.list().at(-1)?.manifest
  if (newest) notes.push(...(await endOf(access, newest)))
  return notes
}

/** Persistent shadow copies of a backup that is complete, left by a run that ended right then. */
async function endOf(access: VolumeAccess, { volumes }: Manifest): Promise<string[]> {
  const there = volumes.filter(({ volumePath }) => existsSync(volumePath))
  const keeps = volumes.some(({ bookmark }) => bookmark !== null)
  return endPersistent(access, there, keeps)
}

function adopted(manifest: Manifest): Manifest {
  const writers = manifest.writers.map((writer) => ({
    ...writer,
    components: writer.components.map((component) => ({ ...component, mayBeBase: false })),
  }))
  const note = 'Its run ended before writers were known to have heard of it: components are no base'
  return { ...manifest, writers, notes: [...manifest.notes, note] }
}
