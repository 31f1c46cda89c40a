// Extended attributes of inodes: in the inode's own area while there is room, else in one block.
//
// Always true: a change is worked out whole before anything is written; a block shared by several
// inodes is never written in place; ACLs are kept in their disk form and the mode always agrees with
// the access ACL (one that says no more than the mode is not stored).

import { posixError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import {
  type Acl,
  aclWithMode,
  decodeDiskAcl,
  decodeInterfaceAcl,
  encodeDiskAcl,
  encodeInterfaceAcl,
  isEquivalentToMode,
  modeFromAcl,
} from './acl.ts'
import type { Ext4Core, MetadataBlock } from './core.ts'
import { XATTR_CREATE, XATTR_REPLACE } from './file-system.ts'
import { INODE_FLAG, type Inode } from './inode.ts'
import {
  checkXattrBlock,
  decodeXattrArea,
  decodeXattrBlock,
  encodeXattrArea,
  encodeXattrBlock,
  fitsXattrArea,
  fitsXattrBlock,
  sealXattrBlock,
  setXattrBlockReferences,
  type Xattr,
  xattrBlockReferences,
} from './xattr-block.ts'

const INDEX_USER = 1
const INDEX_ACCESS_ACL = 2
const INDEX_DEFAULT_ACL = 3
const INDEX_SECURITY = 6
const PREFIXES: readonly (readonly [string, number])[] = [
  ['user.', INDEX_USER],
  ['trusted.', 4],
  ['security.', INDEX_SECURITY],
]
const ACCESS_ACL_NAME = 'system.posix_acl_access'
const DEFAULT_ACL_NAME = 'system.posix_acl_default'
const NAME_LENGTH_MAX = 255
const VALUE_SIZE_MAX_BYTES = 65_536
const BLOCK_SECTORS = BLOCK_SIZE_BYTES / 512
/** The block, another in its place, the inode's table block. */
export const XATTR_DIRTY_BLOCKS = 3

interface ParsedName {
  readonly nameIndex: number
  readonly name: string
}

export class Xattrs {
  readonly #core: Ext4Core

  constructor(core: Ext4Core) {
    this.#core = core
  }

  /** As FileSystem.getXattr(). @throws EOPNOTSUPP for an unknown prefix */
  get(inode: Inode, fullName: string): Uint8Array | undefined {
    const { nameIndex, name } = parseName(fullName)
    const value = this.#find(inode, nameIndex, name)?.value
    if (!value || !isAcl(nameIndex)) return value
    return encodeInterfaceAcl(decodeDiskAcl(value, inode.ino))
  }

  list(inode: Inode): string[] {
    const names: string[] = []
    for (const xattr of this.#all(inode)) {
      const fullName = fullNameOf(xattr)
      if (fullName !== undefined) names.push(fullName)
    }
    return names
  }

  /** As FileSystem.setXattr(). @throws EEXIST ENODATA ENOSPC E2BIG ERANGE EOPNOTSUPP EPERM EINVAL EACCES */
  set(inode: Inode, fullName: string, value: Uint8Array, flags: number): void {
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw posixError('EINVAL', 'Unknown xattr flag')
    if (value.length > VALUE_SIZE_MAX_BYTES) throw posixError('E2BIG')
    const { nameIndex, name } = parseName(fullName)
    checkMayChange(inode, nameIndex)
    this.#core.begin(XATTR_DIRTY_BLOCKS)
    if (isAcl(nameIndex)) this.#setAcl(inode, nameIndex, decodeInterfaceAcl(value))
    else this.#put(inode, { nameIndex, name, value }, flags)
    this.#touch(inode)
  }

  /** @throws ENODATA EOPNOTSUPP EPERM */
  remove(inode: Inode, fullName: string): void {
    const { nameIndex, name } = parseName(fullName)
    checkMayChange(inode, nameIndex)
    this.#core.begin(XATTR_DIRTY_BLOCKS)
    if (isAcl(nameIndex)) this.#delete(inode, nameIndex, name)
    else if (!this.#delete(inode, nameIndex, name)) throw posixError('ENODATA')
    this.#touch(inode)
  }

  defaultAcl(directory: Inode): Acl | undefined {
    return this.#acl(directory, INDEX_DEFAULT_ACL)
  }

  /** Stores a new inode's ACLs; the operation has begun already. @throws ENOSPC */
  inherit(inode: Inode, access: Acl, defaults: Acl | undefined): void {
    if (!isEquivalentToMode(access)) this.#putAcl(inode, INDEX_ACCESS_ACL, access)
    if (defaults) this.#putAcl(inode, INDEX_DEFAULT_ACL, defaults)
  }

  /** After a chmod: the access ACL follows the mode. The operation has begun already. @throws ENOSPC */
  followMode(inode: Inode, mode: number): void {
    const acl = this.#acl(inode, INDEX_ACCESS_ACL)
    if (acl) this.#putAcl(inode, INDEX_ACCESS_ACL, aclWithMode(acl, mode))
  }

  /** Drops file capabilities, as a write or chown must. The operation has begun already. */
  dropCapability(inode: Inode): void {
    if (hasXattrs(inode)) this.#delete(inode, INDEX_SECURITY, 'capability')
  }

  #touch(inode: Inode): void {
    inode.ctime = this.#core.now()
    this.#core.markInodeDirty(inode)
  }

  #acl(inode: Inode, nameIndex: number): Acl | undefined {
    if (!hasXattrs(inode)) return undefined
    const xattr = this.#find(inode, nameIndex, '')
    return xattr && decodeDiskAcl(xattr.value, inode.ino)
  }

  #putAcl(inode: Inode, nameIndex: number, acl: Acl): void {
    this.#put(inode, { nameIndex, name: '', value: encodeDiskAcl(acl) }, 0)
  }

  #setAcl(inode: Inode, nameIndex: number, acl: Acl | undefined): void {
    if (nameIndex === INDEX_DEFAULT_ACL) {
      if (acl && !inode.isDirectory) throw posixError('EACCES', 'Only a directory has a default ACL')
      if (acl) this.#putAcl(inode, nameIndex, acl)
      else this.#delete(inode, nameIndex, '')
      return
    }
    if (!acl || isEquivalentToMode(acl)) this.#delete(inode, nameIndex, '')
    else this.#putAcl(inode, nameIndex, acl)
    if (acl) inode.mode = modeFromAcl(inode.mode, acl)
  }

  #find(inode: Inode, nameIndex: number, name: string): Xattr | undefined {
    if (!hasXattrs(inode)) return undefined
    return this.#all(inode).find((xattr) => xattr.nameIndex === nameIndex && xattr.name === name)
  }

  #all(inode: Inode): Xattr[] {
    return [...decodeXattrArea(inode.xattrArea, inode.ino), ...this.#blockXattrs(inode)]
  }

  #blockXattrs(inode: Inode): Xattr[] {
    return inode.xattrBlock === 0 ? [] : decodeXattrBlock(this.#block(inode).bytes, inode.ino)
  }

  #block(inode: Inode): MetadataBlock {
    const { xattrBlock } = inode
    const seed = this.#core.checksumSeed
    return this.#core.metadata(xattrBlock, (bytes) => checkXattrBlock(bytes, xattrBlock, seed))
  }

  #put(inode: Inode, xattr: Xattr, flags: number): void {
    const isOther = (x: Xattr): boolean => x.nameIndex !== xattr.nameIndex || x.name !== xattr.name
    const innerBefore = decodeXattrArea(inode.xattrArea, inode.ino)
    const outerBefore = this.#blockXattrs(inode)
    let inner = innerBefore.filter(isOther)
    let outer = outerBefore.filter(isOther)
    const existed = inner.length + outer.length < innerBefore.length + outerBefore.length
    if (existed && flags & XATTR_CREATE) throw posixError('EEXIST')
    if (!existed && flags & XATTR_REPLACE) throw posixError('ENODATA')
    const wasOutside = outer.length < outerBefore.length
    if (fitsXattrArea(inode.xattrArea, [...inner, xattr])) inner = [...inner, xattr]
    else if (fitsXattrBlock([...outer, xattr])) outer = [...outer, xattr]
    else throw posixError('ENOSPC', 'No room for the extended attribute')
    if (wasOutside || outer.length > 0) this.#writeOuter(inode, outer)
    setArea(inode, inner)
    this.#core.markInodeDirty(inode)
  }

  /** @returns whether it was there */
  #delete(inode: Inode, nameIndex: number, name: string): boolean {
    const isOther = (x: Xattr): boolean => x.nameIndex !== nameIndex || x.name !== name
    const inner = decodeXattrArea(inode.xattrArea, inode.ino)
    const outer = this.#blockXattrs(inode)
    if (!inner.every(isOther)) setArea(inode, inner.filter(isOther))
    else if (!outer.every(isOther)) this.#writeOuter(inode, outer.filter(isOther))
    else return false
    this.#core.markInodeDirty(inode)
    return true
  }

  #writeOuter(inode: Inode, xattrs: readonly Xattr[]): void {
    if (xattrs.length === 0) {
      if (inode.xattrBlock !== 0) this.#releaseBlock(inode)
      return
    }
    const isShared = inode.xattrBlock !== 0 && xattrBlockReferences(this.#block(inode).bytes) > 1
    if (inode.xattrBlock !== 0 && !isShared) {
      const block = this.#block(inode)
      encodeXattrBlock(block.bytes, xattrs)
      this.#core.markDirty(block, this.#seal(inode.xattrBlock))
      return
    }
    const blockIndex = this.#core.allocateBlock(inode)
    if (isShared) this.#releaseBlock(inode)
    const block = this.#core.newMetadata(blockIndex, this.#seal(blockIndex))
    encodeXattrBlock(block.bytes, xattrs)
    inode.xattrBlock = blockIndex
    inode.sectorCount += BLOCK_SECTORS
  }

  #releaseBlock(inode: Inode): void {
    const block = this.#block(inode)
    const references = xattrBlockReferences(block.bytes)
    if (references > 1) {
      setXattrBlockReferences(block.bytes, references - 1)
      this.#core.markDirty(block, this.#seal(inode.xattrBlock))
    } else {
      this.#core.freeBlock(inode.xattrBlock, inode)
    }
    inode.xattrBlock = 0
    inode.sectorCount -= BLOCK_SECTORS
  }

  #seal(blockIndex: number): (bytes: Uint8Array) => void {
    const seed = this.#core.checksumSeed
    return (bytes) => sealXattrBlock(bytes, blockIndex, seed)
  }
}

/** In a new area, for inodes may share the old one. */
function setArea(inode: Inode, xattrs: readonly Xattr[]): void {
  const area = new Uint8Array(inode.xattrArea.length)
  encodeXattrArea(area, xattrs)
  inode.xattrArea = area
}

function hasXattrs(inode: Inode): boolean {
  return inode.xattrBlock !== 0 || (inode.xattrArea.length > 0 && inode.xattrArea[3] !== 0)
}

function isAcl(nameIndex: number): boolean {
  return nameIndex === INDEX_ACCESS_ACL || nameIndex === INDEX_DEFAULT_ACL
}

function parseName(fullName: string): ParsedName {
  if (fullName === ACCESS_ACL_NAME) return { nameIndex: INDEX_ACCESS_ACL, name: '' }
  if (fullName === DEFAULT_ACL_NAME) return { nameIndex: INDEX_DEFAULT_ACL, name: '' }
  for (const [prefix, nameIndex] of PREFIXES) {
    if (!fullName.startsWith(prefix)) continue
    if (fullName.length === prefix.length) throw posixError('EINVAL', 'The attribute has no name')
    if (fullName.length > NAME_LENGTH_MAX) throw posixError('ERANGE', 'The attribute name is too long')
    return { nameIndex, name: fullName.slice(prefix.length) }
  }
  throw posixError('EOPNOTSUPP', 'Unknown kind of extended attribute')
}

/** @returns undefined for kinds that have no name outside */
function fullNameOf({ nameIndex, name }: Xattr): string | undefined {
  if (nameIndex === INDEX_ACCESS_ACL) return ACCESS_ACL_NAME
  if (nameIndex === INDEX_DEFAULT_ACL) return DEFAULT_ACL_NAME
  const prefix = PREFIXES.find(([, index]) => index === nameIndex)?.[0]
  return prefix === undefined ? undefined : prefix + name
}

function checkMayChange(inode: Inode, nameIndex: number): void {
  if (inode.flags & (INODE_FLAG.IMMUTABLE | INODE_FLAG.APPEND)) throw posixError('EPERM')
  if (isAcl(nameIndex) && inode.isSymlink) throw posixError('EOPNOTSUPP', 'A symbolic link has no ACL')
  if (nameIndex === INDEX_USER && !inode.isRegular && !inode.isDirectory) throw posixError('EPERM')
}
