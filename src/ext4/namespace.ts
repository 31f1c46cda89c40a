// Names: making, linking, removing and renaming them, with the errors and times that POSIX asks for.
//
// Always true: everything is checked and room is made before anything changes, so an operation that
// throws has changed nothing that can be seen. A new inode that fails half-way is given back. The
// permission checks of callers are the kernel's.
// Source: POSIX.1-2017 link, mkdir, rename, rmdir, symlink, unlink; rename(2); Linux fs/ext4/namei.c.

import { posixError } from '../base/errors.ts'
import { type Acl, inheritAcl } from './acl.ts'
import type { Ext4Core } from './core.ts'
import { storeDeviceNumber } from './device-number.ts'
import type { Directories, Place } from './directory.ts'
import { fileTypeOf } from './directory-block.ts'
import type { Caller } from './file-system.ts'
import { type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from './inode.ts'
import {
  addDirectoryLink,
  checkEntry,
  checkMayChange,
  checkMayRemove,
  checkName,
  checkParent,
  dropDirectoryLink,
  isDots,
  LINK_MAX,
} from './namespace-rules.ts'
import { checkSymlinkTarget, writeSymlink } from './symlink.ts'
import type { Xattrs } from './xattr.ts'

const S_ISGID = 0o2000
/** Two leaves, three nodes, the root, three of extents, both inodes, the first block, an xattr block; spare. */
const CREATE_DIRTY_BLOCKS = 16
const UNLINK_DIRTY_BLOCKS = 4

interface NewInode {
  readonly mode: number
  readonly access: Acl | undefined
  readonly defaults: Acl | undefined
}

export class Namespace {
  readonly #core: Ext4Core
  readonly #directories: Directories
  readonly #xattrs: Xattrs
  /** O_TMPFILE inodes that were not linked yet. */
  readonly #temporaries = new WeakSet<Inode>()

  constructor(core: Ext4Core, directories: Directories, xattrs: Xattrs) {
    this.#core = core
    this.#directories = directories
    this.#xattrs = xattrs
  }

  /** @returns undefined: no such name @throws ENOTDIR ENAMETOOLONG */
  lookup(parent: Inode, name: string): Inode | undefined {
    if (!parent.isDirectory) throw posixError('ENOTDIR')
    checkName(name)
    if (name === '.') return parent
    if (name === '..') return this.parentOf(parent)
    if (parent.linkCount === 0) return undefined
    const ino = this.#directories.lookup(parent, name)
    return ino === 0 ? undefined : this.#core.inode(ino)
  }

  parentOf(directory: Inode): Inode {
    if (!directory.isDirectory) throw posixError('ENOTDIR')
    return this.#core.inode(this.#directories.parentIno(directory))
  }

  /** @throws EEXIST ENOSPC EROFS ENAMETOOLONG ENOENT ENOTDIR EPERM EINVAL */
  makeNode(parent: Inode, name: string, mode: number, deviceNumber: number, caller: Caller): Inode {
    const type = mode & S_IFMT || S_IFREG
    if (type === S_IFDIR || type === S_IFLNK) throw posixError('EINVAL', 'Not a kind of node')
    return this.#create(parent, name, type | (mode & 0o7777), caller, (inode) => {
      inode.linkCount = 1
      if (type !== S_IFREG) storeDeviceNumber(inode, deviceNumber)
    })
  }

  makeDirectory(parent: Inode, name: string, mode: number, caller: Caller): Inode {
    const inherited = parent.mode & S_ISGID
    const made = this.#create(parent, name, S_IFDIR | (mode & 0o7777) | inherited, caller, (inode) => {
      this.#directories.create(inode, parent.ino)
      inode.linkCount = 2
    })
    addDirectoryLink(parent)
    return made
  }

  makeSymlink(parent: Inode, name: string, target: Uint8Array, caller: Caller): Inode {
    checkSymlinkTarget(target)
    return this.#create(parent, name, S_IFLNK | 0o777, caller, (inode) => {
      writeSymlink(this.#core, inode, target)
      inode.linkCount = 1
    })
  }

  /** An inode without a name, an orphan until link(). */
  makeTemporary(parent: Inode, mode: number, caller: Caller): Inode {
    checkParent(parent)
    this.#core.begin(CREATE_DIRTY_BLOCKS)
    const inode = this.#newInode(parent, S_IFREG | (mode & 0o7777), caller, () => undefined)
    this.#core.makeOrphan(inode)
    this.#temporaries.add(inode)
    return inode
  }

  /** @throws EEXIST EMLINK EPERM (directories) ENOENT (no link left) ENOSPC */
  link(inode: Inode, parent: Inode, name: string): void {
    this.#checkNew(parent, name)
    if (inode.isDirectory) throw posixError('EPERM', 'A directory has one name')
    checkMayChange(inode)
    const isTemporary = inode.linkCount === 0 && this.#temporaries.has(inode)
    if (inode.linkCount === 0 && !isTemporary) throw posixError('ENOENT')
    if (inode.linkCount >= LINK_MAX) throw posixError('EMLINK')
    this.#core.begin(CREATE_DIRTY_BLOCKS + (isTemporary ? this.#core.releaseCost(inode) : 0))
    const place = this.#directories.reserve(parent, name)
    if (isTemporary) {
      this.#core.adoptOrphan(inode)
      this.#temporaries.delete(inode)
    }
    inode.linkCount++
    inode.ctime = this.#core.now()
    this.#core.markInodeDirty(inode)
    this.#directories.insert(parent, place, name, inode.ino, fileTypeOf(inode.mode))
    this.#touch(parent)
  }

  /** @throws ENOENT EISDIR EPERM */
  unlink(parent: Inode, name: string): void {
    const inode = this.#existing(parent, name)
    if (inode.isDirectory) throw posixError('EISDIR')
    checkMayRemove(parent, inode)
    this.#core.begin(UNLINK_DIRTY_BLOCKS + this.#core.releaseCost(inode), true)
    this.#directories.remove(parent, name)
    this.#touch(parent)
    this.dropFileLink(inode)
  }

  /** @throws ENOENT ENOTDIR ENOTEMPTY EINVAL (".") EPERM */
  removeDirectory(parent: Inode, name: string): void {
    if (name === '.') throw posixError('EINVAL')
    if (name === '..') throw posixError('ENOTEMPTY')
    const directory = this.#existing(parent, name)
    if (!directory.isDirectory) throw posixError('ENOTDIR')
    checkMayRemove(parent, directory)
    if (!this.#directories.isEmpty(directory)) throw posixError('ENOTEMPTY')
    this.#core.begin(UNLINK_DIRTY_BLOCKS + this.#core.releaseCost(directory), true)
    this.#directories.remove(parent, name)
    dropDirectoryLink(parent)
    this.#touch(parent)
    this.dropDirectory(directory)
  }

  // -- what rename needs as well

  /** The inode of a name that is there. @throws ENOENT ENOTDIR ENAMETOOLONG */
  #existing(parent: Inode, name: string): Inode {
    checkParent(parent)
    checkEntry(name)
    const ino = this.#directories.lookup(parent, name)
    if (ino === 0) throw posixError('ENOENT')
    return this.#core.inode(ino)
  }

  /** One name of `inode`, which is no directory, is gone. */
  dropFileLink(inode: Inode): void {
    inode.ctime = this.#core.now()
    inode.linkCount--
    if (inode.linkCount > 0) this.#core.markInodeDirty(inode)
    else this.#core.dropInode(inode)
  }

  /** The name of an empty directory is gone. */
  dropDirectory(directory: Inode): void {
    directory.ctime = this.#core.now()
    directory.linkCount = 0
    this.#directories.forget(directory)
    this.#core.dropInode(directory)
  }

  #touch(directory: Inode): void {
    const now = this.#core.now()
    directory.mtime = now
    directory.ctime = now
    this.#core.markInodeDirty(directory)
  }

  #checkNew(parent: Inode, name: string): void {
    checkParent(parent)
    checkName(name)
    if (isDots(name) || this.#directories.lookup(parent, name) !== 0) throw posixError('EEXIST')
  }

  #create(parent: Inode, name: string, mode: number, caller: Caller, fill: (inode: Inode) => void): Inode {
    this.#checkNew(parent, name)
    this.#core.begin(CREATE_DIRTY_BLOCKS)
    const place: Place = this.#directories.reserve(parent, name)
    const inode = this.#newInode(parent, mode, caller, fill)
    this.#directories.insert(parent, place, name, inode.ino, fileTypeOf(mode))
    this.#touch(parent)
    return inode
  }

  #newInode(parent: Inode, mode: number, caller: Caller, fill: (inode: Inode) => void): Inode {
    const plan = this.#inherit(parent, mode, caller)
    const gid = parent.mode & S_ISGID ? parent.gid : caller.gid
    const inode = this.#core.allocateInode(parent, plan.mode, caller.uid, gid)
    try {
      fill(inode)
      if (plan.access) this.#xattrs.inherit(inode, plan.access, plan.defaults)
    } catch (error) {
      inode.linkCount = 0
      this.#directories.forget(inode)
      this.#core.dropInode(inode)
      throw error
    }
    this.#core.markInodeDirty(inode)
    return inode
  }

  /** Mode and ACLs of a new inode: the parent's default ACL where there is one, else the umask. */
  #inherit(parent: Inode, mode: number, caller: Caller): NewInode {
    const type = mode & S_IFMT
    if (type === S_IFLNK) return { mode, access: undefined, defaults: undefined }
    const defaults = this.#xattrs.defaultAcl(parent)
    if (!defaults) return { mode: mode & ~(caller.umask ?? 0), access: undefined, defaults: undefined }
    const inherited = inheritAcl(defaults, mode)
    return {
      mode: inherited.mode,
      access: inherited.acl,
      defaults: type === S_IFDIR ? defaults : undefined,
    }
  }
}
