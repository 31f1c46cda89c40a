// Inode operations over a file system that only read: the whole of a snapshot, a read-only mount, and
// the reading half of the live tree, which extends it.
//
// Always true: a node id is nodeBase + inode number (a mount's own root is 1 instead), and st_ino is
// the same sum, so nodes of different trees never share either; nothing in here changes the file
// system; lookup counts are kept by the two hooks below, one call for every count that the kernel keeps.

import { posixError } from '../base/errors.ts'
import type { DirectoryEntry, FileSystem, FileSystemStatistics } from '../ext4/file-system.ts'
import { type Inode, ROOT_INO } from '../ext4/inode.ts'
import { Attributes } from './attributes.ts'
import type { ListedEntry, Requester } from './operations.ts'
import { FOREVER_SEC, O, ROOT_NODE_ID } from './protocol.ts'
import { RefusingOperations } from './refusing-operations.ts'

export interface TreePlace {
  /** Added to inode numbers; a multiple of 2^32. 0: this is the mount's root tree, its root is node 1. */
  readonly nodeBase: number
  /** What ".." of the tree's root is, where that is not the root itself. */
  readonly parentOfRoot?: { readonly ino: number; fill(out: Attributes): void }
}

const MOUNT_ROOT: TreePlace = { nodeBase: 0 }

export class ReadOnlyTree extends RefusingOperations {
  protected readonly place: TreePlace
  readonly #entry: ListedEntry = { name: '', ino: 0, type: 0, nextCookie: 0 }
  readonly #listed = new Attributes()
  #fileSystem: FileSystem | undefined

  constructor(fileSystem: FileSystem | undefined, place: TreePlace = MOUNT_ROOT) {
    super('EROFS')
    this.#fileSystem = fileSystem
    this.place = place
  }

  /** @throws ESTALE while the tree is detached from its file system */
  protected get fileSystem(): FileSystem {
    const fileSystem = this.#fileSystem
    if (fileSystem === undefined) throw posixError('ESTALE')
    return fileSystem
  }

  protected set fileSystem(fileSystem: FileSystem | undefined) {
    this.#fileSystem = fileSystem
  }

  protected get isAttached(): boolean {
    return this.#fileSystem !== undefined
  }

  /** `count` more lookups of the inode are held by the kernel. */
  protected countLookup(inode: Inode, count: number): void {
    this.fileSystem.addLookups(inode, count)
  }

  protected inodeNumber(nodeId: number): number {
    if (this.place.nodeBase === 0) return nodeId === ROOT_NODE_ID ? ROOT_INO : nodeId
    return nodeId - this.place.nodeBase
  }

  protected nodeId(ino: number): number {
    if (this.place.nodeBase === 0) return ino === ROOT_INO ? ROOT_NODE_ID : ino
    return this.place.nodeBase + ino
  }

  /** @throws ESTALE when there is no such inode (any more) */
  protected inode(nodeId: number): Inode {
    return this.fileSystem.inode(this.inodeNumber(nodeId))
  }

  protected directory(nodeId: number): Inode {
    const inode = this.inode(nodeId)
    if (!inode.isDirectory) throw posixError('ENOTDIR')
    return inode
  }

  /** A regular file. @throws EISDIR, EINVAL for what has no data here */
  protected file(nodeId: number): Inode {
    const inode = this.inode(nodeId)
    if (!inode.isRegular) throw posixError(inode.isDirectory ? 'EISDIR' : 'EINVAL')
    return inode
  }

  protected fill(inode: Inode, out: Attributes): void {
    out.fillFromInode(inode, this.fileSystem)
    out.nodeId = this.nodeId(inode.ino)
    out.ino = this.place.nodeBase + inode.ino
    out.entryTimeoutSec = FOREVER_SEC
    out.attributesTimeoutSec = FOREVER_SEC
  }

  override lookup(parent: number, name: string, out: Attributes): void {
    if (name === '.') {
      // Of any inode, not only of directories: so the kernel opens file handles (NFS).
      const inode = this.inode(parent)
      this.fill(inode, out)
      this.countLookup(inode, 1)
      return
    }
    const directory = this.directory(parent)
    let child: Inode | undefined
    if (name === '..') {
      if (directory.ino === ROOT_INO && this.place.parentOfRoot) {
        this.place.parentOfRoot.fill(out)
        return
      }
      child = this.fileSystem.parentOf(directory)
    } else child = this.fileSystem.lookup(directory, name)
    if (child === undefined) {
      out.setMissing()
      return
    }
    this.fill(child, out)
    this.countLookup(child, 1)
  }

  override forget(nodeId: number, count: number): void {
    if (this.isAttached) this.fileSystem.forgetLookups(this.inodeNumber(nodeId), count)
  }

  override getattr(nodeId: number, out: Attributes): void {
    this.fill(this.inode(nodeId), out)
  }

  override readlink(nodeId: number): Uint8Array {
    const inode = this.inode(nodeId)
    if (!inode.isSymlink) throw posixError('EINVAL')
    return this.fileSystem.readSymlink(inode)
  }

  override open(nodeId: number, flags: number, _killSuidSgid: boolean, _caller: Requester): void {
    if ((flags & O.ACCMODE) !== 0 || (flags & O.TRUNC) !== 0) throw posixError('EROFS')
    this.fileSystem.open(this.inode(nodeId))
  }

  override release(nodeId: number, _flags: number): void {
    let inode: Inode
    try {
      inode = this.inode(nodeId)
    } catch {
      return
    }
    if (inode.openCount > 0) this.fileSystem.close(inode)
  }

  override read(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number> {
    return this.fileSystem.read(this.file(nodeId), offsetBytes, lengthBytes, target, targetOffset)
  }

  override lseek(nodeId: number, offsetBytes: number, whence: number): number {
    if (whence !== 3 && whence !== 4) throw posixError('EINVAL')
    return this.fileSystem.seek(this.file(nodeId), offsetBytes, whence)
  }

  override readdir(nodeId: number, cookie: number, visit: (entry: ListedEntry) => boolean): void {
    const directory = this.directory(nodeId)
    this.fileSystem.readDirectory(directory, cookie, (entry) => visit(this.#listedEntry(directory, entry)))
  }

  override readdirplus(
    nodeId: number,
    cookie: number,
    visit: (entry: ListedEntry, attributes: Attributes) => boolean,
  ): void {
    const directory = this.directory(nodeId)
    const attributes = this.#listed
    this.fileSystem.readDirectory(directory, cookie, (entry) => {
      const listed = this.#listedEntry(directory, entry)
      if (entry.name === '.' || entry.name === '..') {
        attributes.nodeId = 0
        return visit(listed, attributes)
      }
      const child = this.#childForListing(entry.ino)
      if (child === undefined) attributes.nodeId = 0
      else this.fill(child, attributes)
      if (!visit(listed, attributes)) return false
      if (child !== undefined) this.countLookup(child, 1)
      return true
    })
  }

  /** A damaged inode must not hide its siblings: it is listed by name, without attributes. */
  #childForListing(ino: number): Inode | undefined {
    try {
      return this.fileSystem.inode(ino)
    } catch {
      return undefined
    }
  }

  #listedEntry(directory: Inode, entry: DirectoryEntry): ListedEntry {
    const listed = this.#entry
    listed.name = entry.name
    listed.type = entry.type
    listed.nextCookie = entry.nextCookie
    listed.ino =
      entry.name === '..' && directory.ino === ROOT_INO && this.place.parentOfRoot
        ? this.place.parentOfRoot.ino
        : this.place.nodeBase + entry.ino
    return listed
  }

  override statfs(_nodeId: number): FileSystemStatistics {
    return this.fileSystem.statistics()
  }

  override getxattr(nodeId: number, name: string): Uint8Array {
    const value = this.fileSystem.getXattr(this.inode(nodeId), name)
    if (value === undefined) throw posixError('ENODATA')
    return value
  }

  override listxattr(nodeId: number): string[] {
    return this.fileSystem.listXattrs(this.inode(nodeId))
  }

  override label(_nodeId: number): string {
    return this.fileSystem.label
  }

  override inodeFlags(nodeId: number): number {
    return this.inode(nodeId).flags >>> 0
  }
}
