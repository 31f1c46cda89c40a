// Lists of paths that bring a copy of the older point to the newer one with tools that know nothing of
// us (rsync, tar, restic): first what has to go, then what has to be copied.
//
// Always true: the lists need no recursion: whatever a moved directory holds is listed by itself. A
// path to be copied exists at the newer point; one to go does not, or is a directory there where it was
// none, or the other way round. What has to go comes deepest first, what is to be copied parents first.
// Of a file that is to be copied every name is listed, so that its names are links again in the copy.

import { UmbraError } from '../../base/errors.ts'
import type { Inode } from '../../ext4/inode.ts'
import { DirectoryPaths } from './directory-paths.ts'
import type { FileChange } from './file-change.ts'
import type { FileComparison } from './file-comparison.ts'
import { searchNames } from './name-search.ts'
import type { PointView } from './point-view.ts'

export interface CopyListOptions {
  /**
   * Directories stay out that may hold what did not change: for tools that take one with all that is in it. Those
   * that were created or moved stay in, since every path below them is new. Default false.
   */
  readonly skipDirectories?: boolean | undefined
}

/** Paths of the newer point that were created, changed or renamed, as byte strings, sorted. */
export function pathsToCopy(comparison: FileComparison, options: CopyListOptions = {}): string[] {
  const paths = new Set<string>()
  const hasDirectories = options.skipDirectories !== true
  const linkCounts = new Map<number, number>()
  for (const change of comparison.changes()) {
    if (change.kind === 'deleted') continue
    if (hasDirectories || holdsNothingOld(change)) for (const path of change.paths) paths.add(path)
    if (!isMovedDirectory(change)) continue
    const directory = comparison.after.inode(change.ino) as Inode
    visitTree(comparison.after, directory, change.paths[0] as string, (path, inode) => {
      paths.add(path)
      if (!inode.isDirectory && inode.linkCount > 1) linkCounts.set(inode.ino, inode.linkCount)
    })
  }
  for (const path of pathsOf(comparison.after, linkCounts)) paths.add(path)
  return [...paths].sort()
}

/** Every name of these inodes, some of which have names outside of what moved. */
function pathsOf(view: PointView, linkCounts: ReadonlyMap<number, number>): string[] {
  const directories = new DirectoryPaths(view)
  const { names } = searchNames(view, linkCounts, directories)
  return [...names.values()].flat().map((entry) => directories.pathOf(entry))
}

/** Paths of the older point that a copy of the newer one must not have, as byte strings. */
export function pathsToDelete(comparison: FileComparison): string[] {
  const { before, after, entries } = comparison
  if (!before) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      'A bookmark does not know what was there: only a snapshot tells what was deleted',
    )
  }
  const directories = new DirectoryPaths(before)
  const paths = new Set<string>()
  const add = (path: string, inode: Inode): void => {
    const now = after.find(path.split('/'))
    if (!now || now.isDirectory !== inode.isDirectory) paths.add(path)
  }
  for (const [ino, names] of entries.removed) {
    const inode = before.inode(ino)
    if (!inode) throw new UmbraError('CORRUPT', `A name leads to inode ${ino}, which is not in use`, { ino })
    for (const entry of names) {
      const path = directories.pathOf(entry)
      add(path, inode)
      if (inode.isDirectory) visitTree(before, inode, path, add)
    }
  }
  return [...paths].sort().reverse()
}

/** Whether all that is at its paths, and below them, is to be copied. */
function holdsNothingOld({ type, kind }: FileChange): boolean {
  return type !== 'directory' || kind === 'created' || kind === 'renamed'
}

function isMovedDirectory(change: FileChange): boolean {
  return change.type === 'directory' && change.kind === 'renamed'
}

/** Visits everything below a directory. */
function visitTree(
  view: PointView,
  top: Inode,
  topPath: string,
  visit: (path: string, inode: Inode) => void,
): void {
  const pending: { directory: Inode; path: string }[] = [{ directory: top, path: topPath }]
  const seen = new Set<number>([top.ino])
  for (let at = pending.pop(); at; at = pending.pop()) {
    const { directory, path } = at
    view.visitDirectory(directory, (name, ino) => {
      const inode = view.inode(ino)
      if (!inode)
        throw new UmbraError('CORRUPT', `A name leads to inode ${ino}, which is not in use`, { ino })
      visit(`${path}/${name}`, inode)
      if (inode.isDirectory && !seen.has(ino)) {
        seen.add(ino)
        pending.push({ directory: inode, path: `${path}/${name}` })
      }
      return true
    })
  }
}
