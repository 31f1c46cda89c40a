// Immutable and append-only inodes.
//
// The kernel's FUSE client knows nothing of these attributes (it drops them from every reply), so
// what ext4 enforces in the kernel is enforced here: see chattr(1), attributes a and i. The right to
// set them (CAP_LINUX_IMMUTABLE) is checked by the kernel before the ioctl is sent.

import { posixError } from '../base/errors.ts'
import type { AttributeChange } from '../ext4/file-system.ts'
import { INODE_FLAG, type Inode } from '../ext4/inode.ts'
import { O } from './protocol.ts'

const FROZEN = INODE_FLAG.IMMUTABLE | INODE_FLAG.APPEND

/** A new name in a directory. @throws EPERM */
export function allowNewEntry(directory: Inode): void {
  if ((directory.flags & INODE_FLAG.IMMUTABLE) !== 0) throw posixError('EPERM')
}

/** A name taken from a directory. @throws EPERM */
export function allowRemoval(directory: Inode, child: Inode | undefined): void {
  if ((directory.flags & FROZEN) !== 0) throw posixError('EPERM')
  if (child !== undefined && (child.flags & FROZEN) !== 0) throw posixError('EPERM')
}

/** One more link. @throws EPERM */
export function allowLink(inode: Inode): void {
  if ((inode.flags & FROZEN) !== 0) throw posixError('EPERM')
}

/** @throws EPERM */
export function allowOpen(inode: Inode, flags: number): void {
  if ((inode.flags & FROZEN) === 0) return
  const writes = (flags & O.ACCMODE) !== 0
  if ((inode.flags & INODE_FLAG.IMMUTABLE) !== 0 && writes) throw posixError('EPERM')
  if ((flags & O.TRUNC) !== 0 || (writes && (flags & O.APPEND) === 0)) throw posixError('EPERM')
}

/**
 * Attributes: the kernel's own push of times after write-back (no atime in it) is let through, for the
 * writes came before the flag. Of what is append-only the times may become now.
 * @throws EPERM
 */
export function allowSetattr(inode: Inode, change: AttributeChange): void {
  if ((inode.flags & FROZEN) === 0) return
  const onlyTimes =
    change.mode === undefined &&
    change.uid === undefined &&
    change.gid === undefined &&
    change.sizeBytes === undefined
  // Under write-back the kernel sends a modification time of its own with an access time of now.
  const isTouch = change.atime === 'now' && (inode.flags & INODE_FLAG.IMMUTABLE) === 0
  if (!onlyTimes || !(change.atime === undefined || isTouch)) throw posixError('EPERM')
}

/** Extended attributes and allocation. @throws EPERM */
export function allowChange(inode: Inode): void {
  if ((inode.flags & FROZEN) !== 0) throw posixError('EPERM')
}
