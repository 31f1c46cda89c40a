// Changing what stat(2) shows: mode, owner, size, times and the flags of chattr(1).
//
// Always true: refusals come before the first change; the access ACL follows the mode; a change of
// owner takes suid, sgid and capabilities from what can be executed, as does truncating by one who
// may not keep them; ctime moves with every change.
// Source: POSIX.1-2017 chmod, chown, truncate, utimensat; Linux fs/attr.c, setattr_prepare().

import { posixError } from '../base/errors.ts'
import type { FileData } from './file-data.ts'
import type { AttributeChange } from './file-system.ts'
import { INODE_FLAG, type Inode, S_IFMT, type Time } from './inode.ts'
import { changedFlags } from './inode-flags.ts'
import type { Ext4Structure } from './structure.ts'
import { XATTR_DIRTY_BLOCKS, type Xattrs } from './xattr.ts'

const S_ISUID = 0o4000
const S_ISGID = 0o2000
const S_IXGRP = 0o010
const PERMISSION_BITS = 0o7777
/** Years 1901 to 2446: what an inode's record holds. */
const SEC_MIN = -(2 ** 31)
const SEC_MAX = 2 ** 34 - 2 ** 31 - 1
const ID_MAX = 0xfffffffe
/** How old an access time has to be to move though nothing changed (relatime). */
const ACCESS_STALE_SEC = 24 * 3600

export class Attributes {
  readonly #core: Ext4Structure
  readonly #data: FileData
  readonly #xattrs: Xattrs

  constructor(core: Ext4Structure, data: FileData, xattrs: Xattrs) {
    this.#core = core
    this.#data = data
    this.#xattrs = xattrs
  }

  /** As FileSystem.setAttributes(). @throws EPERM EINVAL EISDIR EFBIG ENOSPC EROFS EOPNOTSUPP */
  set(inode: Inode, change: AttributeChange): void {
    check(inode, change)
    // Times and sizes must go through on a full volume too: they take no space of their own.
    const isBounded = change.mode === undefined && change.uid === undefined && change.gid === undefined
    this.#core.begin(1 + 2 * XATTR_DIRTY_BLOCKS, isBounded)
    const now = this.#core.now()
    // The two that may fail for lack of space come first.
    if (change.sizeBytes !== undefined) {
      this.#data.truncate(inode, change.sizeBytes)
      inode.mtime = now
    }
    if (change.mode !== undefined) this.#changeMode(inode, change.mode)
    if (change.uid !== undefined || change.gid !== undefined) this.#changeOwner(inode, change)
    if (change.clearSuidSgid === true) inode.mode = withoutPrivileges(inode)
    if (change.clearSuidSgid === true || change.sizeBytes !== undefined) this.#xattrs.dropCapability(inode)
    if (change.inodeFlags !== undefined) {
      inode.flags = changedFlags(inode.mode, inode.flags, change.inodeFlags)
    }
    if (change.atime !== undefined) inode.atime = change.atime === 'now' ? now : clamped(change.atime)
    if (change.mtime !== undefined) inode.mtime = change.mtime === 'now' ? now : clamped(change.mtime)
    inode.ctime = change.ctime ? clamped(change.ctime) : now
    this.#core.markInodeDirty(inode)
  }

  /**
   * What the kernel does for ext4 when something is read, under relatime: the access time moves where it
   * would say otherwise that nobody has read what is there, and once a day. It never fails and never
   * makes room: without any, the time stays. Source: Linux fs/inode.c, relatime_need_update().
   * @returns whether it has moved
   */
  accessed(inode: Inode): boolean {
    const isKept = this.#core.readOnly || (inode.flags & INODE_FLAG.NOATIME) !== 0
    if (isKept || !isAccessTimeStale(inode)) return false
    try {
      this.#core.begin(1)
    } catch {
      return false
    }
    inode.atime = this.#core.now()
    this.#core.markInodeDirty(inode)
    return true
  }

  #changeMode(inode: Inode, mode: number): void {
    const changed = (inode.mode & S_IFMT) | (mode & PERMISSION_BITS)
    this.#xattrs.followMode(inode, changed)
    inode.mode = changed
  }

  #changeOwner(inode: Inode, change: AttributeChange): void {
    inode.uid = change.uid ?? inode.uid
    inode.gid = change.gid ?? inode.gid
    if (inode.isDirectory) return
    // A mode sent along is the caller's word on these bits.
    if (change.mode === undefined) inode.mode = withoutPrivileges(inode)
    this.#xattrs.dropCapability(inode)
  }
}

function isAccessTimeStale({ atime, mtime, ctime }: Inode): boolean {
  if (!isBefore(mtime, atime) || !isBefore(ctime, atime)) return true
  return Date.now() / 1000 - atime.sec >= ACCESS_STALE_SEC
}

function isBefore(one: Time, other: Time): boolean {
  return one.sec < other.sec || (one.sec === other.sec && one.nsec < other.nsec)
}

function check(inode: Inode, change: AttributeChange): void {
  const isKernelFlush = change.ctime !== undefined
  const setsTimes =
    (change.atime !== undefined && change.atime !== 'now') ||
    (change.mtime !== undefined && change.mtime !== 'now')
  const setsOwnership = change.mode !== undefined || change.uid !== undefined || change.gid !== undefined
  const isFixed = (inode.flags & (INODE_FLAG.IMMUTABLE | INODE_FLAG.APPEND)) !== 0
  if (isFixed && (setsOwnership || change.sizeBytes !== undefined)) throw posixError('EPERM')
  if (isFixed && setsTimes && !isKernelFlush) throw posixError('EPERM')
  if (change.mode !== undefined && inode.isSymlink) throw posixError('EOPNOTSUPP')
  for (const id of [change.uid, change.gid]) {
    if (id !== undefined && !(id >= 0 && id <= ID_MAX)) throw posixError('EINVAL', 'Not a user or group')
  }
  if (change.sizeBytes === undefined) return
  if (inode.isDirectory) throw posixError('EISDIR')
  if (!inode.isRegular || !(change.sizeBytes >= 0)) throw posixError('EINVAL')
}

/** suid goes; sgid goes where the group may execute (elsewhere it once meant mandatory locks). */
function withoutPrivileges(inode: Inode): number {
  if (inode.isDirectory) return inode.mode
  const groupMayExecute = (inode.mode & S_IXGRP) !== 0
  return inode.mode & ~(S_ISUID | (groupMayExecute ? S_ISGID : 0))
}

/** At either end there are no parts of a second. Source: Linux fs/inode.c, timestamp_truncate(). */
function clamped(time: Time): Time {
  const sec = Math.min(Math.max(Math.floor(time.sec), SEC_MIN), SEC_MAX)
  return { sec, nsec: sec === SEC_MIN || sec === SEC_MAX ? 0 : time.nsec }
}
