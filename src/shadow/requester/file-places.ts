// Which tree a file is read from: the shadow copy of its volume where there is one, else the live system.
//
// Always true: what needs a snapshot is never read live; the volume of a path is found by the mount
// point above it, so where one volume is mounted inside another, each gives what is its own.

import { realpathSync } from 'node:fs'
import { UmbraError } from '../../base/errors.ts'
import { isAtOrBelow } from '../documents/file-spec.ts'
import { byteString, type FileTree, textOf } from './file-tree.ts'

/** A member of the shadow set whose shadow copy is open. */
export interface SnapshotPlace {
  /** Where the volume is mounted, as bytes. */
  readonly mountPoint: string
  readonly tree: FileTree
  readonly volumeUuid: string
}

export interface FilePlace {
  readonly tree: FileTree
  /** In the tree. */
  readonly path: string
  /** Null: read live. */
  readonly snapshot: SnapshotPlace | null
}

export class FilePlaces {
  readonly #snapshots: readonly SnapshotPlace[]
  readonly #live: FileTree
  readonly #real = new Map<string, string>()

  constructor(snapshots: readonly SnapshotPlace[], live: FileTree) {
    // The innermost mount first.
    this.#snapshots = [...snapshots].sort((a, b) => b.mountPoint.length - a.mountPoint.length)
    this.#live = live
  }

  get live(): FileTree {
    return this.#live
  }

  /**
   * @param path as the application sees it, links in its folders resolved by realFolder()
   * @throws UmbraError VOLUME_NOT_SUPPORTED when it has to be read from a snapshot and there is none
   */
  at(path: string, needsSnapshot: boolean): FilePlace {
    for (const snapshot of this.#snapshots) {
      if (!isAtOrBelow(path, snapshot.mountPoint)) continue
      const prefix = snapshot.mountPoint === '/' ? 0 : snapshot.mountPoint.length
      return { tree: snapshot.tree, path: path.slice(prefix) || '/', snapshot }
    }
    if (needsSnapshot)
      throw new UmbraError(
        'VOLUME_NOT_SUPPORTED',
        `${textOf(path).text} has to be read from a shadow copy, but no volume of the set is mounted there`,
        { path: textOf(path).text },
      )
    return { tree: this.#live, path, snapshot: null }
  }

  /** A file set's folder with symbolic links resolved, as bytes; as it is where it is not there. */
  realFolder(folder: string): string {
    let real = this.#real.get(folder)
    if (real === undefined) {
      real = realFolder(folder)
      this.#real.set(folder, real)
    }
    return real
  }
}

/** @returns as bytes */
export function realFolder(folder: string): string {
  try {
    return realpathSync(folder, 'buffer').toString('latin1')
  } catch {
    return byteString(folder)
  }
}
