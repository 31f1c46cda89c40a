// A file system in memory behind the FileSystem seam: what tests of the fuse room serve.
//
// Always true: it counts what the real one counts (links, lookups, opens) and frees an inode exactly
// when all three are gone, so tests can ask `inodeCount`; reads may be made to wait (`readsWait`).

import { UmbraError } from '../../src/base/errors.ts'
import type {
  AttributeChange,
  Caller,
  DirectoryEntry,
  FileSystem,
  FileSystemStatistics,
} from '../../src/ext4/file-system.ts'
import { Inode, ROOT_INO, S_IFDIR, S_IFLNK, S_IFREG, type Time } from '../../src/ext4/inode.ts'

interface Node {
  inode: Inode
  data: Uint8Array
  entries: Map<string, { ino: number; cookie: number }>
  parent: number
  xattrs: Map<string, Uint8Array>
  device: number
}

const fail = (code: ConstructorParameters<typeof UmbraError>[0]) => new UmbraError(code, code)

export class MemoryFileSystem implements FileSystem {
  readOnly = false
  label = 'memory'
  readonly uuid = '00000000-0000-4000-8000-000000000000'
  /** While set, reads answer when it settles. */
  readsWait: Promise<void> | undefined
  syncCount = 0
  readonly #nodes = new Map<number, Node>()
  #nextIno = 12
  #nextCookie = 1
  #tick = 1000

  constructor() {
    const root = this.#add(ROOT_INO, S_IFDIR | 0o755, 0, 0, ROOT_INO)
    root.inode.linkCount = 2
  }

  get inodeCount(): number {
    return this.#nodes.size
  }

  has(ino: number): boolean {
    return this.#nodes.has(ino)
  }

  #now(): Time {
    return { sec: this.#tick++, nsec: 5 }
  }

  #add(ino: number, mode: number, uid: number, gid: number, parent: number): Node {
    const inode = new Inode(ino)
    inode.mode = mode
    inode.uid = uid
    inode.gid = gid
    inode.generation = ino * 7
    inode.linkCount = 1
    inode.atime = this.#now()
    inode.mtime = inode.atime
    inode.ctime = inode.atime
    inode.crtime = inode.atime
    const node: Node = {
      inode,
      data: new Uint8Array(0),
      entries: new Map(),
      parent,
      xattrs: new Map(),
      device: 0,
    }
    this.#nodes.set(ino, node)
    return node
  }

  #node(inode: Inode): Node {
    const node = this.#nodes.get(inode.ino)
    if (node === undefined) throw fail('ESTALE')
    return node
  }

  #reap(inode: Inode): void {
    if (inode.linkCount === 0 && inode.lookupCount === 0 && inode.openCount === 0) {
      this.#nodes.delete(inode.ino)
    }
  }

  inode(ino: number): Inode {
    const node = this.#nodes.get(ino)
    if (node === undefined) throw fail('ESTALE')
    return node.inode
  }

  lookup(parent: Inode, name: string): Inode | undefined {
    if (!parent.isDirectory) throw fail('ENOTDIR')
    const found = this.#node(parent).entries.get(name)
    return found && this.inode(found.ino)
  }

  parentOf(directory: Inode): Inode {
    return this.inode(this.#node(directory).parent)
  }

  readDirectory(directory: Inode, cookie: number, visit: (entry: DirectoryEntry) => boolean): void {
    const node = this.#node(directory)
    const special = [
      { name: '.', ino: directory.ino, type: 4, nextCookie: 1 },
      { name: '..', ino: node.parent, type: 4, nextCookie: 2 },
    ]
    for (const entry of special) if (entry.nextCookie > cookie && !visit(entry)) return
    for (const [name, { ino, cookie: own }] of node.entries) {
      const nextCookie = own + 2
      if (nextCookie <= cookie) continue
      if (!visit({ name, ino, type: this.inode(ino).type >> 12, nextCookie })) return
    }
  }

  #enter(parent: Inode, name: string, node: Node): Inode {
    const directory = this.#node(parent)
    if (name.length > 255) throw fail('ENAMETOOLONG')
    if (directory.entries.has(name)) throw fail('EEXIST')
    directory.entries.set(name, { ino: node.inode.ino, cookie: this.#nextCookie++ })
    return node.inode
  }

  #fresh(parent: Inode, name: string, mode: number, caller: Caller): Node {
    if (this.#node(parent).entries.has(name)) throw fail('EEXIST')
    return this.#add(this.#nextIno++, this.#masked(parent, mode, caller), caller.uid, caller.gid, parent.ino)
  }

  /** The umask, unless a default ACL takes its place. */
  #masked(parent: Inode, mode: number, caller: Caller): number {
    const hasDefaults = this.getXattr(parent, 'system.posix_acl_default') !== undefined
    return hasDefaults ? mode : mode & ~(caller.umask ?? 0)
  }

  makeNode(parent: Inode, name: string, mode: number, deviceNumber: number, caller: Caller): Inode {
    const node = this.#fresh(parent, name, mode, caller)
    node.device = deviceNumber
    return this.#enter(parent, name, node)
  }

  makeDirectory(parent: Inode, name: string, mode: number, caller: Caller): Inode {
    const node = this.#fresh(parent, name, (mode & 0o7777) | S_IFDIR, caller)
    node.inode.linkCount = 2
    parent.linkCount++
    return this.#enter(parent, name, node)
  }

  makeSymlink(parent: Inode, name: string, target: Uint8Array, caller: Caller): Inode {
    const node = this.#fresh(parent, name, S_IFLNK | 0o777, caller)
    node.data = target.slice()
    node.inode.sizeBytes = target.length
    return this.#enter(parent, name, node)
  }

  makeTemporary(parent: Inode, mode: number, caller: Caller): Inode {
    const masked = this.#masked(parent, mode & 0o7777, caller) | S_IFREG
    const node = this.#add(this.#nextIno++, masked, caller.uid, caller.gid, parent.ino)
    node.inode.linkCount = 0
    return node.inode
  }

  readSymlink(inode: Inode): Uint8Array {
    return this.#node(inode).data
  }

  link(inode: Inode, parent: Inode, name: string): void {
    this.#enter(parent, name, this.#node(inode))
    inode.linkCount++
  }

  unlink(parent: Inode, name: string): void {
    const inode = this.lookup(parent, name)
    if (inode === undefined) throw fail('ENOENT')
    if (inode.isDirectory) throw fail('EISDIR')
    this.#node(parent).entries.delete(name)
    inode.linkCount--
    this.#reap(inode)
  }

  removeDirectory(parent: Inode, name: string): void {
    const inode = this.lookup(parent, name)
    if (inode === undefined) throw fail('ENOENT')
    if (!inode.isDirectory) throw fail('ENOTDIR')
    if (this.#node(inode).entries.size > 0) throw fail('ENOTEMPTY')
    this.#node(parent).entries.delete(name)
    parent.linkCount--
    inode.linkCount = 0
    this.#reap(inode)
  }

  rename(parent: Inode, name: string, newParent: Inode, newName: string, flags: number): void {
    const inode = this.lookup(parent, name)
    if (inode === undefined) throw fail('ENOENT')
    const replaced = this.lookup(newParent, newName)
    if (replaced !== undefined) {
      if ((flags & 1) !== 0) throw fail('EEXIST')
      if (replaced.isDirectory) this.removeDirectory(newParent, newName)
      else this.unlink(newParent, newName)
    }
    this.#node(parent).entries.delete(name)
    this.#enter(newParent, newName, this.#node(inode))
  }

  /** Always, where ext4 looks at the clock. */
  accessed(inode: Inode): boolean {
    inode.atime = this.#now()
    return true
  }

  setLabel(label: string): void {
    if (label.length > 16) throw fail('EINVAL')
    this.label = label
  }

  setAttributes(inode: Inode, change: AttributeChange, _caller: Caller): void {
    const now = this.#now()
    if (change.mode !== undefined) inode.mode = (inode.mode & ~0o7777) | (change.mode & 0o7777)
    if (change.uid !== undefined) inode.uid = change.uid
    if (change.gid !== undefined) inode.gid = change.gid
    if (change.sizeBytes !== undefined) this.#resize(inode, change.sizeBytes)
    if (change.clearSuidSgid) inode.mode &= ~0o6000
    if (change.inodeFlags !== undefined) inode.flags = change.inodeFlags
    if (change.atime) inode.atime = change.atime === 'now' ? now : change.atime
    if (change.mtime) inode.mtime = change.mtime === 'now' ? now : change.mtime
    inode.ctime = change.ctime ?? now
  }

  #resize(inode: Inode, sizeBytes: number): void {
    if (sizeBytes > 2 ** 44) throw fail('EFBIG')
    const node = this.#node(inode)
    const data = new Uint8Array(sizeBytes)
    data.set(node.data.subarray(0, sizeBytes))
    node.data = data
    inode.sizeBytes = sizeBytes
    inode.sectorCount = Math.ceil(sizeBytes / 4096) * 8
  }

  deviceNumber(inode: Inode): number {
    return this.#node(inode).device
  }

  getXattr(inode: Inode, name: string): Uint8Array | undefined {
    return this.#node(inode).xattrs.get(name)
  }

  setXattr(inode: Inode, name: string, value: Uint8Array, flags: number): void {
    const { xattrs } = this.#node(inode)
    if (flags === 1 && xattrs.has(name)) throw fail('EEXIST')
    if (flags === 2 && !xattrs.has(name)) throw fail('ENODATA')
    xattrs.set(name, value.slice())
  }

  listXattrs(inode: Inode): string[] {
    return [...this.#node(inode).xattrs.keys()]
  }

  removeXattr(inode: Inode, name: string): void {
    if (!this.#node(inode).xattrs.delete(name)) throw fail('ENODATA')
  }

  read(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number> {
    const answer = () => {
      const part = this.#node(inode).data.subarray(
        Math.min(offsetBytes, inode.sizeBytes),
        Math.min(offsetBytes + lengthBytes, inode.sizeBytes),
      )
      target.set(part, targetOffset)
      return part.length
    }
    return this.readsWait === undefined ? answer() : this.readsWait.then(answer)
  }

  write(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    keepTimes: boolean,
  ): number {
    if (offsetBytes + lengthBytes > 2 ** 44) throw fail('EFBIG')
    if (offsetBytes + lengthBytes > inode.sizeBytes) this.#resize(inode, offsetBytes + lengthBytes)
    this.#node(inode).data.set(source.subarray(sourceOffset, sourceOffset + lengthBytes), offsetBytes)
    if (!keepTimes) inode.mtime = inode.ctime = this.#now()
    return lengthBytes
  }

  allocate(inode: Inode, mode: number, offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes + lengthBytes > 2 ** 44) throw fail('EFBIG')
    if (mode === 3) {
      this.#node(inode).data.fill(0, offsetBytes, offsetBytes + lengthBytes)
    } else if (mode === 0) {
      this.#resize(inode, Math.max(inode.sizeBytes, offsetBytes + lengthBytes))
    } else if (mode !== 1) throw fail('EOPNOTSUPP')
  }

  seek(inode: Inode, offsetBytes: number, whence: number): number {
    if (offsetBytes >= inode.sizeBytes) throw fail('ENXIO')
    return whence === 3 ? offsetBytes : inode.sizeBytes
  }

  open(inode: Inode): void {
    inode.openCount++
  }

  close(inode: Inode): void {
    inode.openCount--
    if (inode.openCount < 0) throw new Error('closed more often than opened')
    this.#reap(inode)
  }

  addLookups(inode: Inode, count: number): void {
    inode.lookupCount += count
  }

  forgetLookups(ino: number, count: number): void {
    const inode = this.inode(ino)
    inode.lookupCount -= count
    if (inode.lookupCount < 0) throw new Error('forgotten more often than looked up')
    this.#reap(inode)
  }

  statistics(): FileSystemStatistics {
    return {
      blockSizeBytes: 4096,
      blockCount: 1000,
      freeBlockCount: 900,
      availableBlockCount: 890,
      inodeCount: 500,
      freeInodeCount: 400,
      nameLengthMax: 255,
    }
  }

  async sync(): Promise<void> {
    this.syncCount++
  }

  flushMetadata(): void {}
}
