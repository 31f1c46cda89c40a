// Folders that must be empty before a restore: what else lies in them would be taken for the application's.
//
// Always true: nothing is removed here; files that a restore has put there do not count, because it is asked
// before the first of them.

import { readdirSync } from 'node:fs'
import { UmbraError } from '../../../base/errors.ts'
import { hostCall } from '../../../image/host-file.ts'
import type { FileSet } from '../../documents/writer-metadata.ts'
import type { NewFolder } from './component-restore-types.ts'
import { newTargetsFor } from './new-targets.ts'

/** Of every file system, and nobody's. */
const MAY_BE_THERE = ['lost+found']

/** @returns null: each of them is empty or not there */
export function occupiedFolder(
  title: string,
  sets: readonly FileSet[],
  newFolders: readonly NewFolder[],
): UmbraError | null {
  for (const set of sets) {
    if (set.restoreToEmpty !== true) continue
    const folder = newTargetsFor([set], newFolders)[0]?.newPath ?? set.path
    const [name] = namesIn(folder).filter((found) => !MAY_BE_THERE.includes(found))
    if (name === undefined) continue
    return new UmbraError(
      'RESTORE_REFUSED',
      `${title} is not restored over other files: ${folder} must be empty, and holds ${JSON.stringify(name)}; move it away, or restore to another folder`,
      { folder },
    )
  }
  return null
}

function namesIn(folder: string): string[] {
  return hostCall(`Cannot read ${folder}`, () => {
    try {
      return readdirSync(folder)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // What is no folder is judged with the files that go there.
      if (code === 'ENOENT' || code === 'ENOTDIR') return []
      throw error
    }
  })
}
