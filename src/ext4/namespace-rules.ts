// What every change of a name checks first, and how links are counted.
//
// Always true: a check changes nothing. Files have at most 65,000 links; a directory that would reach
// that count shows 1 from then on (dir_nlink), which means "many".

import { posixError } from '../base/errors.ts'
import { NAME_LENGTH_MAX } from './directory-block.ts'
import { INODE_FLAG, type Inode } from './inode.ts'

export const LINK_MAX = 65_000

/** @throws ENOENT (empty) ENAMETOOLONG EINVAL ('/' or NUL) */
export function checkName(name: string): void {
  if (name.length === 0) throw posixError('ENOENT', 'A name has at least one byte')
  if (name.length > NAME_LENGTH_MAX) throw posixError('ENAMETOOLONG')
  if (name.includes('/') || name.includes('\0')) throw posixError('EINVAL', 'A name has no / and no NUL')
}

export function isDots(name: string): boolean {
  return name === '.' || name === '..'
}

/** A name to be removed or moved. */
export function checkEntry(name: string): void {
  checkName(name)
  if (isDots(name)) throw posixError('EINVAL', 'Not "." or ".."')
}

/** A directory in which a name is to be made or changed. @throws ENOTDIR ENOENT EPERM */
export function checkParent(parent: Inode): void {
  if (!parent.isDirectory) throw posixError('ENOTDIR')
  if (parent.linkCount === 0) throw posixError('ENOENT', 'The directory was removed')
  if (parent.flags & INODE_FLAG.IMMUTABLE) throw posixError('EPERM', 'The directory is immutable')
}

/** @throws EPERM for immutable and append-only inodes */
export function checkMayChange(inode: Inode): void {
  if (inode.flags & (INODE_FLAG.IMMUTABLE | INODE_FLAG.APPEND)) throw posixError('EPERM')
}

/** @throws EPERM when the name may not go: append-only parent, immutable or append-only inode */
export function checkMayRemove(parent: Inode, inode: Inode): void {
  if (parent.flags & INODE_FLAG.APPEND) throw posixError('EPERM', 'The directory is append-only')
  checkMayChange(inode)
}

/** A subdirectory came. */
export function addDirectoryLink(parent: Inode): void {
  if (parent.linkCount !== 1) parent.linkCount = parent.linkCount + 1 >= LINK_MAX ? 1 : parent.linkCount + 1
}

/** A subdirectory went. */
export function dropDirectoryLink(parent: Inode): void {
  if (parent.linkCount > 2) parent.linkCount--
}
