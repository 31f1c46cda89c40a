// Paths of directories at one point: upwards by "..", the name found among the parent's.
//
// Always true: a directory is searched at most once, and every directory in it is remembered then; a
// loop of directories is an error, not an endless walk. Paths are relative, without a leading slash;
// the root's is empty.

import { UmbraError } from '../../base/errors.ts'
import { ROOT_INO } from '../../ext4/inode.ts'
import type { Entry } from './entry-changes.ts'
import type { PointView } from './point-view.ts'

/** A directory's record in its parent (file type of a directory entry). */
export const ENTRY_TYPE_DIRECTORY = 2
const ENTRY_TYPE_UNKNOWN = 0
/** Deeper than any path that can be opened, for directories that lead in a circle. */
const DEPTH_MAX = 100_000

export class DirectoryPaths {
  readonly #view: PointView
  readonly #entries = new Map<number, Entry>()
  readonly #searched = new Set<number>()

  constructor(view: PointView) {
    this.#view = view
  }

  /** A directory is known by this name: saves searching for it. */
  add(ino: number, entry: Entry): void {
    this.#entries.set(ino, entry)
  }

  /** The directory was read whole and its directories were added. */
  markSearched(ino: number): void {
    this.#searched.add(ino)
  }

  /** Names from the root to the directory. @throws UmbraError CORRUPT */
  namesOf(ino: number): string[] {
    const names: string[] = []
    for (let at = ino; at !== ROOT_INO; ) {
      const entry = this.#entryOf(at)
      names.push(entry.name)
      at = entry.parent
      if (names.length > DEPTH_MAX) throw corrupt(ino, 'its parents lead in a circle')
    }
    return names.reverse()
  }

  /** The path of an entry. @throws UmbraError CORRUPT */
  pathOf(entry: Entry): string {
    return [...this.namesOf(entry.parent), entry.name].join('/')
  }

  #entryOf(ino: number): Entry {
    const known = this.#entries.get(ino)
    if (known) return known
    const directory = this.#view.inode(ino)
    if (!directory?.isDirectory) throw corrupt(ino, 'it is no directory')
    const parentIno = this.#view.parentIno(directory)
    const parent = this.#view.inode(parentIno)
    if (!parent?.isDirectory) throw corrupt(ino, 'it has no parent')
    if (!this.#searched.has(parentIno)) {
      this.#view.visitDirectory(parent, (name, child, fileType) => {
        if (fileType === ENTRY_TYPE_DIRECTORY || fileType === ENTRY_TYPE_UNKNOWN) {
          this.#entries.set(child, { parent: parentIno, name })
        }
        return true
      })
      this.#searched.add(parentIno)
    }
    const found = this.#entries.get(ino)
    if (!found) throw corrupt(ino, `its parent ${parentIno} has no name for it`)
    return found
  }
}

function corrupt(ino: number, what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot find the path of directory ${ino}: ${what}`, { ino })
}
