// Which volumes join the shadow set: those whose images are taken, and those with files that must be
// read from a shadow copy in a backup of this type (vss.md sections 1.2, step 8, and 5.1, rule 6).
//
// Always true: a volume that nothing needs is not shadowed; where nothing needs one there is no set at
// all (row 69).

import { fileSetsFor, isSnapshotRequired } from '../documents/file-set-mask.ts'
import type { BackupChoice } from './backup-options.ts'
import type { PlannedWriter } from './component-plan.ts'
import { realFolder } from './file-places.ts'
import { bytesOf } from './file-tree.ts'
import type { VolumeAccess, VolumePlace } from './surroundings.ts'

export async function neededVolumes(
  access: VolumeAccess,
  choice: BackupChoice,
  named: readonly VolumePlace[],
  writers: readonly PlannedWriter[],
): Promise<VolumePlace[]> {
  const needed = new Map<string, VolumePlace>()
  if (choice.images) for (const place of named) needed.set(place.volumeUuid, place)
  for (const folder of snapshotFolders(writers)) {
    const place = await access.volumeAt(bytesOf(realFolder(folder)).toString('utf8'))
    if (place) needed.set(place.volumeUuid, place)
  }
  return [...needed.values()]
}

/** Folders whose files must be read from a shadow copy. */
function snapshotFolders(writers: readonly PlannedWriter[]): Set<string> {
  const folders = new Set<string>()
  for (const { components } of writers) {
    for (const { members, type } of components) {
      for (const set of members.flatMap((member) => fileSetsFor(member, type)))
        if (isSnapshotRequired(set, type)) folders.add(set.alternatePath ?? set.path)
    }
  }
  return folders
}
