// The names of inodes at one point, by one pass over its directories: ext4 knows no way back from a
// file to its names.
//
// Always true: every directory is read once at the most; the pass ends as soon as every wanted inode
// has as many names as its link count says.

import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import { type Inode, ROOT_INO } from '../../ext4/inode.ts'
import { type DirectoryPaths, ENTRY_TYPE_DIRECTORY } from './directory-paths.ts'
import type { Entry } from './entry-changes.ts'
import type { PointView } from './point-view.ts'

export interface NameSearch {
  readonly names: ReadonlyMap<number, readonly Entry[]>
  readonly directories: number
  readonly directoryBlocks: number
}

/**
 * @param wanted inodes that are no directories, with their link counts
 * @param paths learns of every directory that the pass meets
 */
export function searchNames(
  view: PointView,
  wanted: ReadonlyMap<number, number>,
  paths: DirectoryPaths,
): NameSearch {
  const names = new Map<number, Entry[]>()
  let missing = 0
  for (const linkCount of wanted.values()) missing += linkCount
  const seen = new Set<number>([ROOT_INO])
  const queue = missing > 0 ? [ROOT_INO] : []
  let directories = 0
  let directoryBlocks = 0
  while (queue.length > 0 && missing > 0) {
    const parent = queue.pop() as number
    const directory = view.inode(parent) as Inode
    directories++
    directoryBlocks += directory.sizeBytes / BLOCK_SIZE_BYTES
    const isWhole = view.visitDirectory(directory, (name, ino, fileType) => {
      if (wanted.has(ino)) {
        const list = names.get(ino)
        if (list) list.push({ parent, name })
        else names.set(ino, [{ parent, name }])
        missing--
      } else if (!seen.has(ino) && isDirectory(view, ino, fileType)) {
        seen.add(ino)
        queue.push(ino)
        paths.add(ino, { parent, name })
      }
      return missing > 0
    })
    if (isWhole) paths.markSearched(parent)
  }
  return { names, directories, directoryBlocks }
}

function isDirectory(view: PointView, ino: number, fileType: number): boolean {
  if (fileType !== 0 && fileType !== ENTRY_TYPE_DIRECTORY) return false
  return view.inode(ino)?.isDirectory === true
}
