// Which bits of i_flags a user may change (chattr(1)), and on what kind of inode.
//
// Always true: as in the kernel's ext4, a request may leave out or name bits that are the file system's
// own (extents, index, ...): they stay as they are. Only a bit that this kind of inode cannot have is refused.

import { posixError } from '../base/errors.ts'
import { INODE_FLAG, S_IFDIR, S_IFMT, S_IFREG } from './inode.ts'

/** Kept for whoever set them; nothing acts on them: s, u, c, t and x of chattr(1). */
const KEPT = 0x1 | 0x2 | 0x4 | 0x8000 | 0x2000000
const TOPDIR = 0x20000
const PROJINHERIT = 0x20000000
const ON_EVERYTHING = INODE_FLAG.NODUMP | INODE_FLAG.NOATIME
const ON_FILES = ON_EVERYTHING | INODE_FLAG.SYNC | INODE_FLAG.IMMUTABLE | INODE_FLAG.APPEND | KEPT
const ON_DIRECTORIES = ON_FILES | INODE_FLAG.DIRSYNC | TOPDIR | PROJINHERIT

/** Compression's marks, encrypted, verity, inline data and blocks past the end, besides ours. */
const NOT_THE_USERS =
  0x100 | 0x200 | 0x400 | 0x800 | 0x100000 | 0x400000 | 0x10000000 | INODE_FLAG.INDEX | INODE_FLAG.EXTENTS

function changeable(mode: number): number {
  const type = mode & S_IFMT
  return type === S_IFDIR ? ON_DIRECTORIES : type === S_IFREG ? ON_FILES : ON_EVERYTHING
}

/** Throws what FS_IOC_SETFLAGS throws. @throws EOPNOTSUPP when a flag is asked for that cannot be had */
export function allowFlags(mode: number, present: number, requested: number): void {
  const unknown = requested & ~present & ~(changeable(mode) | NOT_THE_USERS)
  if (unknown !== 0) throw posixError('EOPNOTSUPP', `inode flags 0x${(unknown >>> 0).toString(16)}`)
}

/** What is stored when `requested` is asked for. */
export function changedFlags(mode: number, present: number, requested: number): number {
  const mask = changeable(mode)
  return ((present & ~mask) | (requested & mask)) >>> 0
}

/** Of a directory's flags, those that what is made in it gets (ext4_mask_flags()). */
export function inheritedFlags(mode: number): number {
  const inherited = ON_DIRECTORIES & ~(INODE_FLAG.IMMUTABLE | INODE_FLAG.APPEND | TOPDIR)
  return changeable(mode) & inherited
}
