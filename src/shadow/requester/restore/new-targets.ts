// Where the file sets of a component go whose folders the user has moved.
//
// Always true: a set goes to one place as a whole; of several moved folders above it the innermost counts.

import { isAtOrBelow } from '../../documents/file-spec.ts'
import type { FileSet } from '../../documents/writer-metadata.ts'
import { byteString, textOf } from '../file-tree.ts'
import type { NewFolder } from './component-restore-types.ts'
import { moved } from './restore-set.ts'

/** New targets of the file sets at or below the folders that the user has moved. */
export function newTargetsFor(sets: readonly FileSet[], folders: readonly NewFolder[]) {
  return sets.flatMap(({ path, filespec, recursive }) => {
    const folder = [...folders]
      .sort((a, b) => b.from.length - a.from.length)
      .find(({ from }) => isAtOrBelow(path, from))
    if (!folder) return []
    const newPath = textOf(moved(byteString(path), folder.from, folder.to)).text
    return [{ path, filespec, recursive, newPath }]
  })
}
