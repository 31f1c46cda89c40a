// The seam of inode operations: what both drivers (device/ and fuse-native/) ask, and what the live
// tree, a snapshot's tree and the virtual nodes answer.
//
// Always true: an operation either completes, or throws without having changed anything that the
// caller must know of (a failed write may have written bytes before the failing block). It may throw
// NotReady: nothing was done, call it again when `ready` has settled. Node ids are numbers below 2^53;
// the live tree's are its inode numbers (the root is 1), and handles have no state beyond a count per
// node, so an operation never needs one. Names are byte strings, one char a byte (latin1).
//
// Records handed in are filled in place, so an ordinary answer allocates nothing; an answer that
// comes later brings a record of its own.

import type { AttributeChange, Caller, FileSystemStatistics } from '../ext4/file-system.ts'
import type { Attributes } from './attributes.ts'

/** Thrown by any operation that cannot answer yet: nothing was done; call again after `ready`. */
export class NotReady {
  readonly ready: Promise<unknown>

  constructor(ready: Promise<unknown>) {
    this.ready = ready
  }
}

/** Who asks, and the umask for what is created (applied unless the parent has a default ACL). */
export interface Requester extends Caller {
  readonly umask: number
}

/** An entry of a directory as it is listed. Reused: valid only while `visit` runs. */
export interface ListedEntry {
  name: string
  /** st_ino. */
  ino: number
  /** d_type: S_IFMT bits >> 12. */
  type: number
  /** Where to go on after this entry. */
  nextCookie: number
}

export interface InodeOperations {
  /**
   * Fills `out` and counts one lookup; a missing name has `out.nodeId` 0 and, as its entry timeout,
   * how long the kernel may remember that. "." and ".." are answered too.
   */
  lookup(parent: number, name: string, out: Attributes): void
  /** The kernel dropped `count` lookups. Never throws. */
  forget(nodeId: number, count: number): void
  getattr(nodeId: number, out: Attributes): void
  setattr(nodeId: number, change: AttributeChange, caller: Requester, out: Attributes): void
  readlink(nodeId: number): Uint8Array
  /**
   * Something of a file, directory or link was read by one who lets its access time move. Never throws.
   * @returns whether it moved
   */
  accessed(nodeId: number): boolean

  // -- names: those that make one count one lookup of what they return
  mknod(
    parent: number,
    name: string,
    mode: number,
    deviceNumber: number,
    caller: Requester,
    out: Attributes,
  ): void
  mkdir(
    parent: number,
    name: string,
    mode: number,
    caller: Requester,
    out: Attributes,
  ): undefined | Promise<Attributes>
  symlink(parent: number, name: string, target: Uint8Array, caller: Requester, out: Attributes): void
  link(nodeId: number, newParent: number, newName: string, out: Attributes): void
  unlink(parent: number, name: string): void
  rmdir(parent: number, name: string): undefined | Promise<void>
  /** flags: RENAME_ bits of ext4/file-system.ts. */
  rename(parent: number, name: string, newParent: number, newName: string, flags: number): void
  /** Makes and opens. */
  create(parent: number, name: string, mode: number, flags: number, caller: Requester, out: Attributes): void
  /** O_TMPFILE: makes and opens a file without a name. */
  tmpfile(parent: number, mode: number, flags: number, caller: Requester, out: Attributes): void

  // -- files: open counts one handle of the node, release drops it
  /** flags as in open(2), O_TRUNC included; `killSuidSgid`: clear them when truncating. */
  open(nodeId: number, flags: number, killSuidSgid: boolean, caller: Requester): void
  /** @returns bytes read, fewer than asked only at the end of the file */
  read(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number>
  /** writeFlags: WRITE bits of protocol.ts. @returns bytes written */
  write(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    writeFlags: number,
    caller: Requester,
  ): number
  /** close(2) of one descriptor. */
  flush(nodeId: number): void
  /** flags: those that the file was opened with. Never throws. */
  release(nodeId: number, flags: number): void
  fsync(nodeId: number, dataOnly: boolean): undefined | Promise<void>
  fsyncdir(nodeId: number, dataOnly: boolean): undefined | Promise<void>
  fallocate(nodeId: number, mode: number, offsetBytes: number, lengthBytes: number): void
  /** whence: SEEK_DATA (3) or SEEK_HOLE (4). */
  lseek(nodeId: number, offsetBytes: number, whence: number): number
  /** Whether somebody holds the file open for writing, so that the kernel may hold newer data. */
  isOpenForWriting(nodeId: number): boolean
  /** May copy fewer bytes than asked. @throws EXDEV between a snapshot and the live tree */
  copyFileRange(
    nodeId: number,
    offsetBytes: number,
    targetNodeId: number,
    targetOffsetBytes: number,
    lengthBytes: number,
  ): number | Promise<number>

  // -- directories: handles have no state, so there is nothing to open
  /** Calls `visit` for each entry after `cookie`, "." and ".." included, until it returns false. */
  readdir(nodeId: number, cookie: number, visit: (entry: ListedEntry) => boolean): void
  /**
   * As readdir, with attributes; each entry that `visit` took (it returned true), other than "." and
   * "..", counts one lookup unless its nodeId is 0 (no attributes are offered then).
   */
  readdirplus(
    nodeId: number,
    cookie: number,
    visit: (entry: ListedEntry, attributes: Attributes) => boolean,
  ): void

  statfs(nodeId: number): FileSystemStatistics

  // -- extended attributes: full names
  /** @throws ENODATA */
  getxattr(nodeId: number, name: string): Uint8Array
  /** flags: XATTR_CREATE, XATTR_REPLACE; `killSgid`: clear S_ISGID (set with an access ACL). */
  setxattr(nodeId: number, name: string, value: Uint8Array, flags: number, killSgid: boolean): void
  listxattr(nodeId: number): string[]
  removexattr(nodeId: number, name: string): void

  // -- what ioctls ask
  /** i_flags, as FS_IOC_GETFLAGS has them. */
  inodeFlags(nodeId: number): number
  setInodeFlags(nodeId: number, flags: number, caller: Requester): void
  /** The file system's label, one char a byte. */
  label(nodeId: number): string
  /** @throws EINVAL for more than 16 bytes */
  setLabel(nodeId: number, label: string): void
}
