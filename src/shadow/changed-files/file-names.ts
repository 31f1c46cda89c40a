// The names of a changed inode at both points, from what came and went in directories and, for names
// that did neither, from one pass over the newer point's directories.
//
// Always true: the pass is made once, when the first name needs it; a name that is in no changed
// directory block is the same at both points, though the path to it may not be.

import { type Inode, ROOT_INO } from '../../ext4/inode.ts'
import { DirectoryPaths } from './directory-paths.ts'
import type { Entry, EntryChanges } from './entry-changes.ts'
import { type NameSearch, searchNames } from './name-search.ts'
import type { PointView } from './point-view.ts'

const NO_ENTRIES: readonly Entry[] = []

export interface NamesCost {
  readonly directories: number
  readonly directoryBlocks: number
  readonly namesMs: number
}

export class FileNames {
  readonly #after: PointView
  readonly #entries: EntryChanges
  readonly #hasMovedDirectory: boolean
  readonly #pathsBefore: DirectoryPaths | null
  readonly #pathsAfter: DirectoryPaths
  #search: NameSearch = { names: new Map(), directories: 0, directoryBlocks: 0 }
  #namesMs = 0

  /**
   * @param before null: since a bookmark
   * @param hasMovedDirectory whether the path to an unchanged name may differ
   */
  constructor(before: PointView | null, after: PointView, entries: EntryChanges, hasMovedDirectory: boolean) {
    this.#hasMovedDirectory = hasMovedDirectory
    this.#after = after
    this.#entries = entries
    this.#pathsBefore = before && new DirectoryPaths(before)
    this.#pathsAfter = new DirectoryPaths(after)
  }

  get cost(): NamesCost {
    const { directories, directoryBlocks } = this.#search
    return { directories, directoryBlocks, namesMs: this.#namesMs }
  }

  /** Whether the inode has other names than before. */
  isRenamed(ino: number): boolean {
    return this.#entries.added.has(ino) || this.#entries.removed.has(ino)
  }

  /** Makes the pass for those of `inodes` (of the newer point) whose names are not all known. */
  prepare(inodes: Iterable<Inode>): void {
    const startMs = performance.now()
    const wanted = new Map<number, number>()
    for (const inode of inodes) {
      const known = this.#entries.added.get(inode.ino)?.length ?? 0
      if (!inode.isDirectory && known < inode.linkCount) wanted.set(inode.ino, inode.linkCount)
    }
    this.#search = searchNames(this.#after, wanted, this.#pathsAfter)
    this.#namesMs = performance.now() - startMs
  }

  /** Names at the newer point, of an inode that prepare() was told of. */
  pathsAfter(inode: Inode): string[] {
    if (inode.ino === ROOT_INO) return ['.']
    if (inode.isDirectory) return [this.#pathsAfter.namesOf(inode.ino).join('/')]
    const entries = this.#search.names.get(inode.ino) ?? this.#entries.added.get(inode.ino) ?? NO_ENTRIES
    return this.#sorted(entries, this.#pathsAfter)
  }

  /** Names at the older point of an inode that is deleted. */
  pathsOfDeleted(inode: Inode): string[] {
    return this.#sorted(this.#entries.removed.get(inode.ino) ?? NO_ENTRIES, this.#pathsBefore)
  }

  /** Names at the older point of an inode that is in both and has these `paths` at the newer one. */
  pathsBefore(inode: Inode, paths: readonly string[]): readonly string[] {
    if (inode.ino === ROOT_INO || !(this.#hasMovedDirectory || this.isRenamed(inode.ino))) return paths
    const removed = this.#entries.removed.get(inode.ino) ?? NO_ENTRIES
    if (inode.isDirectory) {
      const isMoved = removed.length > 0
      return isMoved ? this.#sorted(removed, this.#pathsBefore) : this.#directoryBefore(inode.ino)
    }
    const added = this.#entries.added.get(inode.ino) ?? NO_ENTRIES
    const isAdded = (entry: Entry): boolean =>
      added.some((other) => other.parent === entry.parent && other.name === entry.name)
    const kept = (this.#search.names.get(inode.ino) ?? NO_ENTRIES).filter((entry) => !isAdded(entry))
    return this.#sorted([...removed, ...kept], this.#pathsBefore)
  }

  #directoryBefore(ino: number): string[] {
    return this.#pathsBefore ? [this.#pathsBefore.namesOf(ino).join('/')] : []
  }

  #sorted(entries: readonly Entry[], paths: DirectoryPaths | null): string[] {
    if (!paths) return []
    return entries.map((entry) => paths.pathOf(entry)).sort()
  }
}
