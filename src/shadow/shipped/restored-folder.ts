// Where the files of a folder are after a restore: a requester may have put them elsewhere.
//
// Always true: the most recent word counts (a new target before an alternate location), and without one the
// folder is the original.

import { resolve } from 'node:path'
import type { BackupComponent } from '../documents/backup-components.ts'
import { isAtOrBelow } from '../documents/file-spec.ts'

/** @param folder the folder of a file set, as in the writer's document, or one below it */
export function restoredFolder(component: BackupComponent, folder: string): string {
  const { newTargets, alternateLocationMappingsUsed } = component
  return (
    movedBy(
      newTargets.map(({ path, newPath }) => ({ path, to: newPath })),
      folder,
    ) ??
    movedBy(
      alternateLocationMappingsUsed.map(({ path, destination }) => ({ path, to: destination })),
      folder,
    ) ??
    folder
  )
}

/** By the innermost of them. */
function movedBy(moves: readonly { path: string; to: string }[], folder: string): string | undefined {
  const [move] = moves
    .filter(({ path }) => isAtOrBelow(folder, path))
    .sort((a, b) => b.path.length - a.path.length)
  return move && resolve(move.to, `.${folder.slice(move.path === '/' ? 0 : move.path.length)}`)
}
