// rename(2) with its flags: moving a name, replacing another, exchanging two, leaving a whiteout.
//
// Always true: both names are checked, and the room for a new one is made, before either changes; a
// directory never becomes its own descendant; ".." and the link counts of both parents follow.

import { posixError } from '../base/errors.ts'
import type { Ext4Core } from './core.ts'
import type { Directories } from './directory.ts'
import { fileTypeOf } from './directory-block.ts'
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from './file-system.ts'
import { type Inode, S_IFCHR } from './inode.ts'
import type { Namespace } from './namespace.ts'
import {
  addDirectoryLink,
  checkEntry,
  checkMayRemove,
  checkName,
  checkParent,
  dropDirectoryLink,
  isDots,
} from './namespace-rules.ts'

const FLAGS = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT
/** As for a create, with the source's leaf, its inode and its first block. */
const RENAME_DIRTY_BLOCKS = 20
/** No tree is deeper: the walk up ends even in a damaged one. */
const DEPTH_MAX = 1_000_000

interface End {
  readonly parent: Inode
  readonly name: string
}

export class Renamer {
  readonly #core: Ext4Core
  readonly #directories: Directories
  readonly #namespace: Namespace

  constructor(core: Ext4Core, directories: Directories, namespace: Namespace) {
    this.#core = core
    this.#directories = directories
    this.#namespace = namespace
  }

  /** As FileSystem.rename(). @throws ENOENT EEXIST ENOTDIR EISDIR ENOTEMPTY EINVAL EBUSY EPERM ENOSPC */
  rename(from: End, to: End, flags: number): void {
    const source = this.#check(from, to, flags)
    const targetIno = this.#directories.lookup(to.parent, to.name)
    if (targetIno !== 0 && flags & RENAME_NOREPLACE) throw posixError('EEXIST')
    if (targetIno === 0 && flags & RENAME_EXCHANGE) throw posixError('ENOENT')
    if (targetIno === source.ino) return
    const target = targetIno === 0 ? undefined : this.#core.inode(targetIno)
    this.#checkDescent(source, to.parent)
    checkMayRemove(from.parent, source)
    if (target) checkMayRemove(to.parent, target)
    if (flags & RENAME_EXCHANGE) {
      this.#checkDescent(target as Inode, from.parent)
      this.#exchange(from, source, to, target as Inode)
      return
    }
    if (target) this.#checkReplace(source, target)
    this.#move(from, source, to, target, (flags & RENAME_WHITEOUT) !== 0)
  }

  #check(from: End, to: End, flags: number): Inode {
    if ((flags & ~FLAGS) !== 0 || (flags & RENAME_EXCHANGE && flags !== RENAME_EXCHANGE)) {
      throw posixError('EINVAL', 'Rename flags that do not go together')
    }
    checkParent(from.parent)
    checkParent(to.parent)
    if (isDots(from.name) || isDots(to.name)) throw posixError('EBUSY')
    checkEntry(from.name)
    checkName(to.name)
    const ino = this.#directories.lookup(from.parent, from.name)
    if (ino === 0) throw posixError('ENOENT')
    return this.#core.inode(ino)
  }

  #checkReplace(source: Inode, target: Inode): void {
    if (source.isDirectory && !target.isDirectory) throw posixError('ENOTDIR')
    if (!source.isDirectory && target.isDirectory) throw posixError('EISDIR')
    if (target.isDirectory && !this.#directories.isEmpty(target)) throw posixError('ENOTEMPTY')
  }

  /** @throws EINVAL when `directory` is `parent` or lies above it */
  #checkDescent(directory: Inode, parent: Inode): void {
    if (!directory.isDirectory) return
    let at = parent.ino
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (at === directory.ino) throw posixError('EINVAL', 'A directory cannot move below itself')
      const above = this.#directories.parentIno(this.#core.inode(at))
      if (above === at) return
      at = above
    }
    throw posixError('ELOOP')
  }

  #move(from: End, source: Inode, to: End, target: Inode | undefined, leaveWhiteout: boolean): void {
    const freeing = target ? this.#core.releaseCost(target) : 0
    this.#core.begin(RENAME_DIRTY_BLOCKS + freeing, target !== undefined)
    const place = target ? undefined : this.#directories.reserve(to.parent, to.name)
    const whiteout = leaveWhiteout ? this.#core.allocateInode(from.parent, S_IFCHR, 0, 0) : undefined
    const fileType = fileTypeOf(source.mode)
    if (place) this.#directories.insert(to.parent, place, to.name, source.ino, fileType)
    else this.#directories.replace(to.parent, to.name, source.ino, fileType)
    if (whiteout) {
      whiteout.linkCount = 1
      this.#core.markInodeDirty(whiteout)
      this.#directories.replace(from.parent, from.name, whiteout.ino, fileTypeOf(S_IFCHR))
    } else {
      this.#directories.remove(from.parent, from.name)
    }
    if (target?.isDirectory) dropDirectoryLink(to.parent)
    if (source.isDirectory) this.#adopt(source, from.parent, to.parent)
    this.#touch(from, source, to)
    if (target?.isDirectory) this.#namespace.dropDirectory(target)
    else if (target) this.#namespace.dropFileLink(target)
  }

  #exchange(from: End, source: Inode, to: End, target: Inode): void {
    this.#core.begin(RENAME_DIRTY_BLOCKS)
    this.#directories.replace(to.parent, to.name, source.ino, fileTypeOf(source.mode))
    this.#directories.replace(from.parent, from.name, target.ino, fileTypeOf(target.mode))
    if (source.isDirectory) this.#adopt(source, from.parent, to.parent)
    if (target.isDirectory) this.#adopt(target, to.parent, from.parent)
    this.#touch(from, source, to)
    target.ctime = this.#core.now()
    this.#core.markInodeDirty(target)
  }

  /** A directory has changed its parent. */
  #adopt(directory: Inode, before: Inode, after: Inode): void {
    if (before.ino === after.ino) return
    this.#directories.setParentIno(directory, after.ino)
    dropDirectoryLink(before)
    addDirectoryLink(after)
  }

  #touch(from: End, source: Inode, to: End): void {
    const now = this.#core.now()
    for (const parent of [from.parent, to.parent]) {
      parent.mtime = now
      parent.ctime = now
      this.#core.markInodeDirty(parent)
    }
    source.ctime = now
    this.#core.markInodeDirty(source)
  }
}
