// The file system's public face: inode-level operations as POSIX names them. The class Ext4
// (ext4.ts) implements it; FUSE, export and check use it and know nothing of ext4's structures.
//
// Always true: every operation is synchronous and complete when it returns, except file data reads
// that have to wait and what makes things durable. Names are byte strings: one char a byte
// (latin1), 1 to 255 of them, no '/' and no NUL. Permission checks are the kernel's
// (default_permissions); what POSIX ties to an operation itself (setgid inheritance, suid clearing,
// sticky deletion is the kernel's) is done here. Failures are UmbraErrors whose code is the errno name.

import type { Inode, Time } from './inode.ts'

/** Who asks: for ownership of new inodes and for clearing of suid and sgid bits. */
export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly pid: number
  /** Bits to clear in a new inode's mode unless the parent has a default ACL; absent: none. */
  readonly umask?: number
}

export interface DirectoryEntry {
  readonly name: string
  readonly ino: number
  /** S_IFMT bits >> 12, as d_type (DT_REG 8, DT_DIR 4...). */
  readonly type: number
  /** Pass to readDirectory() to go on after this entry; stable while entries come and go. */
  readonly nextCookie: number
}

/** What setattr changes; absent fields stay. */
export interface AttributeChange {
  mode?: number
  uid?: number
  gid?: number
  sizeBytes?: number
  atime?: Time | 'now'
  mtime?: Time | 'now'
  ctime?: Time
  /** Clear suid and sgid as for a write by an unprivileged caller. */
  clearSuidSgid?: boolean
  /** i_flags as chattr sets them; flags that the file system itself keeps (EXTENTS, INDEX...) stay. */
  inodeFlags?: number
}

export interface FileSystemStatistics {
  blockSizeBytes: number
  blockCount: number
  freeBlockCount: number
  availableBlockCount: number
  inodeCount: number
  freeInodeCount: number
  nameLengthMax: number
}

export const RENAME_NOREPLACE = 1
export const RENAME_EXCHANGE = 2
export const RENAME_WHITEOUT = 4

/** Bits of fallocate's mode (linux/falloc.h). */
export const FALLOC = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 } as const

export const XATTR_CREATE = 1
export const XATTR_REPLACE = 2

export interface FileSystem {
  readonly readOnly: boolean
  /** One char a byte. */
  readonly label: string
  readonly uuid: string

  /** @throws UmbraError ESTALE when the inode is not in use (or has another generation) */
  inode(ino: number): Inode
  /** @returns undefined when there is no such name @throws ENOTDIR ENAMETOOLONG */
  lookup(parent: Inode, name: string): Inode | undefined
  /** The directory's parent, for "..". */
  parentOf(directory: Inode): Inode
  /**
   * Calls `visit` for each entry after `cookie` (0: from the start; "." and ".." included) until it
   * returns false.
   */
  readDirectory(directory: Inode, cookie: number, visit: (entry: DirectoryEntry) => boolean): void

  /** Creates a regular file, fifo, socket or device. @throws EEXIST ENOSPC EMLINK EROFS ENAMETOOLONG ENOENT (parent removed) */
  makeNode(parent: Inode, name: string, mode: number, deviceNumber: number, caller: Caller): Inode
  makeDirectory(parent: Inode, name: string, mode: number, caller: Caller): Inode
  makeSymlink(parent: Inode, name: string, target: Uint8Array, caller: Caller): Inode
  /** O_TMPFILE: an inode without a name; an orphan until link() gives it one. */
  makeTemporary(parent: Inode, mode: number, caller: Caller): Inode
  readSymlink(inode: Inode): Uint8Array
  link(inode: Inode, parent: Inode, name: string): void
  unlink(parent: Inode, name: string): void
  removeDirectory(parent: Inode, name: string): void
  rename(parent: Inode, name: string, newParent: Inode, newName: string, flags: number): void

  setAttributes(inode: Inode, change: AttributeChange, caller: Caller): void
  /** Something of it was read: its access time moves where relatime says so. Never throws. @returns whether it did */
  accessed(inode: Inode): boolean
  /** @param label one char a byte. @throws EINVAL for more than 16, EROFS, ENOSPC */
  setLabel(label: string): void
  /** Device number of a device inode as the kernel encodes it (new_encode_dev, 32 bits). */
  deviceNumber(inode: Inode): number

  /** Names are full names: "user.mime_type", "system.posix_acl_access" (value in the xattr API's form). */
  getXattr(inode: Inode, name: string): Uint8Array | undefined
  setXattr(inode: Inode, name: string, value: Uint8Array, flags: number): void
  listXattrs(inode: Inode): string[]
  removeXattr(inode: Inode, name: string): void

  /**
   * Reads up to `lengthBytes` into target; fewer only at end of file.
   * @returns the count, at once where nothing has to be waited for
   */
  read(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number>
  /**
   * Writes source[sourceOffset, +lengthBytes); grows the file. Times change unless `keepTimes`
   * (write-back by the kernel, which sends times itself).
   * @returns bytes written: fewer than asked when space runs out after them, as write(2)
   * @throws ENOSPC where nothing could be written, EFBIG
   */
  write(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    keepTimes: boolean,
  ): number
  /** mode: FALLOC bits; times change unless `keepTimes`, as for write(). @throws EOPNOTSUPP for others */
  allocate(inode: Inode, mode: number, offsetBytes: number, lengthBytes: number, keepTimes?: boolean): void
  /** SEEK_DATA (3) or SEEK_HOLE (4). @throws ENXIO past the end */
  seek(inode: Inode, offsetBytes: number, whence: number): number

  /** A handle opened: keeps an unlinked inode alive. */
  open(inode: Inode): void
  /** The handle is closed; an unlinked inode without handles and lookups is freed. */
  close(inode: Inode): void
  /** The kernel holds `count` more lookups. */
  addLookups(inode: Inode, count: number): void
  /** The kernel holds `count` fewer lookups, or none if it had fewer; the inode need not be in memory. */
  forgetLookups(ino: number, count: number): void

  statistics(): FileSystemStatistics
  /** fsync: everything of the inode is durable when it settles; `dataOnly` as fdatasync. */
  sync(inode: Inode, dataOnly: boolean): Promise<void>
  /** Writes dirty metadata to the device: what the device calls before a commit's cut. */
  flushMetadata(): void
}
