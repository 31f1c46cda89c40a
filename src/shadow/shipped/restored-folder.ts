// Where the files of a folder are after a restore: a requester may have put them elsewhere.
//
// Always true: the most recent word counts (a new target before an alternate location), and without one the
// folder is the original.

import type { BackupComponent } from '../documents/backup-components.ts'

/** @param folder the folder of a file set, as in the writer's document */
export function restoredFolder(component: BackupComponent, folder: string): string {
  const moved =
    component.newTargets.find(({ path }) => path === folder)?.newPath ??
    component.alternateLocationMappingsUsed.find(({ path }) => path === folder)?.destination
  return moved ?? folder
}
