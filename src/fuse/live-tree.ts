// Inode operations over the live file system: everything a mount can do to it.
//
// Always true: the kernel's view needs no invalidation, because only requests of this one mount change
// the tree; so all timeouts are practically infinite, negative entries included. Lookups and opens are
// counted exactly once for each that the kernel counts, or the inode of an unlinked file would be
// freed under a reader, or never. A write that the kernel makes from its cache carries a guessed handle
// and no identity: nothing is demanded of it. security.capability goes with every write, truncation
// and change of owner (the price of HANDLE_KILLPRIV_V2, which spares a GETXATTR before each write).

import { posixError } from '../base/errors.ts'
import type { AttributeChange, FileSystem, FileSystemStatistics } from '../ext4/file-system.ts'
import { type Inode, S_IFMT, S_IFREG } from '../ext4/inode.ts'
import { allowFlags } from '../ext4/inode-flags.ts'
import type { Attributes } from './attributes.ts'
import { copyRange } from './copy-range.ts'
import type { HoldGate } from './hold-gate.ts'
import { NotReady, type Requester } from './operations.ts'
import {
  allowChange,
  allowLink,
  allowNewEntry,
  allowOpen,
  allowRemoval,
  allowSetattr,
} from './protected-inodes.ts'
import { O, WRITE } from './protocol.ts'
import { ReadOnlyTree, type TreePlace } from './read-only-tree.ts'
import type { SpaceLimit } from './space-limit.ts'

const CAPABILITY = 'security.capability'
const S_ISGID = 0o2000
/** Inodes remembered as free of capabilities; past this the memory starts anew. */
const CAPABILITY_FREE_MAX = 65536

export interface LiveTreeOptions {
  /** What statfs promises at most as available, beside the file system's own free blocks. */
  readonly spaceLimit?: SpaceLimit
  /**
   * Under write-back the kernel stamps regular files itself and sends the times when they differ from
   * the last it sent: ours, a tick later, would stay where none is sent. Default false.
   */
  readonly timesFromKernel?: boolean
  /** Where changes wait while a shadow set is cut. */
  readonly gate?: HoldGate
  /** Reading moves access times, as under relatime. Default false. */
  readonly accessTimes?: boolean
  /** The mount's root tree unless told. */
  readonly place?: TreePlace
}

export class LiveTree extends ReadOnlyTree {
  /** Inodes seen without security.capability since they were last looked up: spares the look at each write. */
  readonly #capabilityFree = new Set<number>()
  /** Handles open for writing, by inode number. */
  readonly #writers = new Map<number, number>()

  readonly #spaceLimit: SpaceLimit | undefined
  readonly #timesFromKernel: boolean
  readonly #accessTimes: boolean

  readonly #gate: HoldGate | undefined

  constructor(fileSystem: FileSystem, options: LiveTreeOptions = {}) {
    super(fileSystem, options.place)
    this.#spaceLimit = options.spaceLimit
    this.#timesFromKernel = options.timesFromKernel ?? false
    this.#accessTimes = options.accessTimes ?? false
    this.#gate = options.gate
  }

  /** Free blocks stay the file system's own: df counts as used what is not free. */
  override statfs(nodeId: number): FileSystemStatistics {
    const limitBytes = this.#spaceLimit?.availableBytes()
    if (limitBytes instanceof Promise) throw new NotReady(limitBytes)
    const statistics = super.statfs(nodeId)
    if (limitBytes === undefined) return statistics
    const limitBlocks = Math.floor(limitBytes / statistics.blockSizeBytes)
    const availableBlockCount = Math.min(statistics.availableBlockCount, limitBlocks)
    return { ...statistics, availableBlockCount }
  }

  /** For whatever is about to change something. @throws EROFS, NotReady while modifications are held */
  #writable(): FileSystem {
    this.#gate?.pass()
    return this.#unheld()
  }

  /** For what only counts: opening for writing changes nothing yet. @throws EROFS */
  #unheld(): FileSystem {
    const fileSystem = this.fileSystem
    if (fileSystem.readOnly) throw posixError('EROFS')
    return fileSystem
  }

  override forget(nodeId: number, count: number): void {
    this.#capabilityFree.delete(this.inodeNumber(nodeId))
    super.forget(nodeId, count)
  }

  override setattr(nodeId: number, change: AttributeChange, caller: Requester, out: Attributes): void {
    const fileSystem = this.#writable()
    const inode = this.inode(nodeId)
    allowSetattr(inode, change)
    if (change.sizeBytes !== undefined && !inode.isRegular) {
      throw posixError(inode.isDirectory ? 'EISDIR' : 'EINVAL')
    }
    if (change.sizeBytes !== undefined || change.uid !== undefined || change.gid !== undefined) {
      this.#dropCapability(inode)
    }
    fileSystem.setAttributes(inode, change, caller)
    this.fill(inode, out)
  }

  // -- names

  override mknod(
    parent: number,
    name: string,
    mode: number,
    deviceNumber: number,
    caller: Requester,
    out: Attributes,
  ): void {
    const directory = this.#parentForEntry(parent)
    this.#made(this.fileSystem.makeNode(directory, name, mode, deviceNumber, caller), out)
  }

  override mkdir(
    parent: number,
    name: string,
    mode: number,
    caller: Requester,
    out: Attributes,
  ): undefined | Promise<Attributes> {
    const directory = this.#parentForEntry(parent)
    this.#made(this.fileSystem.makeDirectory(directory, name, mode, caller), out)
    return undefined
  }

  override symlink(
    parent: number,
    name: string,
    target: Uint8Array,
    caller: Requester,
    out: Attributes,
  ): void {
    const directory = this.#parentForEntry(parent)
    this.#made(this.fileSystem.makeSymlink(directory, name, target, caller), out)
  }

  override link(nodeId: number, newParent: number, newName: string, out: Attributes): void {
    const directory = this.#parentForEntry(newParent)
    const inode = this.inode(nodeId)
    if (inode.isDirectory) throw posixError('EPERM')
    allowLink(inode)
    this.fileSystem.link(inode, directory, newName)
    this.#made(inode, out)
  }

  override unlink(parent: number, name: string): void {
    const directory = this.#parentForRemoval(parent, name)
    this.fileSystem.unlink(directory, name)
  }

  override rmdir(parent: number, name: string): undefined | Promise<void> {
    const directory = this.#parentForRemoval(parent, name)
    this.fileSystem.removeDirectory(directory, name)
    return undefined
  }

  override rename(parent: number, name: string, newParent: number, newName: string, flags: number): void {
    const fileSystem = this.#writable()
    const from = this.#parentForRemoval(parent, name)
    const to = newParent === parent ? from : this.directory(newParent)
    allowNewEntry(to)
    const replaced = fileSystem.lookup(to, newName)
    if (replaced !== undefined) allowRemoval(to, replaced)
    fileSystem.rename(from, name, to, newName, flags)
  }

  override create(
    parent: number,
    name: string,
    mode: number,
    flags: number,
    caller: Requester,
    out: Attributes,
  ): void {
    const directory = this.#parentForEntry(parent)
    const inode = this.fileSystem.makeNode(directory, name, (mode & ~S_IFMT) | S_IFREG, 0, caller)
    this.#made(inode, out)
    this.#opened(inode, flags)
  }

  override tmpfile(parent: number, mode: number, flags: number, caller: Requester, out: Attributes): void {
    const fileSystem = this.#writable()
    const directory = this.directory(parent)
    const inode = fileSystem.makeTemporary(directory, (mode & ~S_IFMT) | S_IFREG, caller)
    this.#made(inode, out)
    this.#opened(inode, flags)
  }

  #parentForEntry(parent: number): Inode {
    this.#writable()
    const directory = this.directory(parent)
    allowNewEntry(directory)
    return directory
  }

  #parentForRemoval(parent: number, name: string): Inode {
    const fileSystem = this.#writable()
    const directory = this.directory(parent)
    allowRemoval(directory, fileSystem.lookup(directory, name))
    return directory
  }

  #made(inode: Inode, out: Attributes): void {
    this.fill(inode, out)
    this.countLookup(inode, 1)
  }

  // -- files

  override open(nodeId: number, flags: number, killSuidSgid: boolean, caller: Requester): void {
    const inode = this.inode(nodeId)
    const truncates = (flags & O.TRUNC) !== 0
    if ((flags & O.ACCMODE) !== 0 || truncates) {
      if (inode.isDirectory) throw posixError('EISDIR')
      if (truncates) this.#writable()
      else this.#unheld()
      allowOpen(inode, flags)
      if (truncates) this.#truncate(inode, killSuidSgid, caller)
    }
    this.#opened(inode, flags)
  }

  #truncate(inode: Inode, killSuidSgid: boolean, caller: Requester): void {
    if (!inode.isRegular) return
    this.#dropCapability(inode)
    const change: AttributeChange = { sizeBytes: 0, mtime: 'now' }
    if (killSuidSgid) change.clearSuidSgid = true
    this.fileSystem.setAttributes(inode, change, caller)
  }

  #opened(inode: Inode, flags: number): void {
    this.fileSystem.open(inode)
    if ((flags & O.ACCMODE) !== 0) this.#writers.set(inode.ino, (this.#writers.get(inode.ino) ?? 0) + 1)
  }

  override release(nodeId: number, flags: number): void {
    const ino = this.inodeNumber(nodeId)
    const writers = this.#writers.get(ino)
    if (writers !== undefined && (flags & O.ACCMODE) !== 0) {
      if (writers === 1) this.#writers.delete(ino)
      else this.#writers.set(ino, writers - 1)
    }
    super.release(nodeId, flags)
  }

  override isOpenForWriting(nodeId: number): boolean {
    return this.#writers.has(this.inodeNumber(nodeId))
  }

  /**
   * The kernel computed the offset, also for O_APPEND: it alone writes, so the size it appends at is
   * the size. A page from its cache must go exactly where it says, whatever the handle's flags.
   */
  override write(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    writeFlags: number,
    caller: Requester,
  ): number {
    const fileSystem = this.#writable()
    const inode = this.file(nodeId)
    this.#dropCapability(inode)
    if ((writeFlags & WRITE.KILL_SUIDGID) !== 0) {
      fileSystem.setAttributes(inode, { clearSuidSgid: true }, caller)
    }
    const isFromCache = (writeFlags & WRITE.CACHE) !== 0
    // Without write-back a page that comes from the cache was mapped: nobody but us stamps it.
    const keepTimes = this.#timesFromKernel
    let done = fileSystem.write(inode, offsetBytes, lengthBytes, source, sourceOffset, keepTimes)
    // A short answer is for write(2) to pass on; of its cache the kernel would take it as complete, so
    // the rest is asked for until it is refused.
    while (isFromCache && done < lengthBytes) {
      done += fileSystem.write(
        inode,
        offsetBytes + done,
        lengthBytes - done,
        source,
        sourceOffset + done,
        true,
      )
    }
    return done
  }

  override fsync(nodeId: number, dataOnly: boolean): undefined | Promise<void> {
    return this.fileSystem.sync(this.inode(nodeId), dataOnly)
  }

  override fsyncdir(nodeId: number, dataOnly: boolean): undefined | Promise<void> {
    return this.fileSystem.sync(this.directory(nodeId), dataOnly)
  }

  override fallocate(nodeId: number, mode: number, offsetBytes: number, lengthBytes: number): void {
    const fileSystem = this.#writable()
    const inode = this.file(nodeId)
    if ((mode & ~1) !== 0) allowChange(inode)
    if (lengthBytes <= 0) throw posixError('EINVAL')
    this.#dropCapability(inode)
    fileSystem.allocate(inode, mode, offsetBytes, lengthBytes, this.#timesFromKernel)
  }

  override copyFileRange(
    nodeId: number,
    offsetBytes: number,
    targetNodeId: number,
    targetOffsetBytes: number,
    lengthBytes: number,
  ): number | Promise<number> {
    const fileSystem = this.#writable()
    const source = this.file(nodeId)
    const target = this.file(targetNodeId)
    this.#dropCapability(target)
    const copied = copyRange(
      fileSystem,
      source,
      offsetBytes,
      target,
      targetOffsetBytes,
      lengthBytes,
      this.#timesFromKernel,
    )
    return typeof copied === 'number' ? copied : (this.#gate?.track(copied) ?? copied)
  }

  // -- extended attributes and flags

  override setxattr(nodeId: number, name: string, value: Uint8Array, flags: number, killSgid: boolean): void {
    const fileSystem = this.#writable()
    const inode = this.inode(nodeId)
    allowChange(inode)
    if (name === CAPABILITY) this.#capabilityFree.delete(inode.ino)
    fileSystem.setXattr(inode, name, value, flags)
    if (killSgid && (inode.mode & S_ISGID) !== 0) {
      fileSystem.setAttributes(inode, { mode: inode.mode & ~S_ISGID }, { uid: 0, gid: 0, pid: 0 })
    }
  }

  override removexattr(nodeId: number, name: string): void {
    const fileSystem = this.#writable()
    const inode = this.inode(nodeId)
    allowChange(inode)
    fileSystem.removeXattr(inode, name)
  }

  override setInodeFlags(nodeId: number, flags: number, caller: Requester): void {
    const fileSystem = this.#writable()
    const inode = this.inode(nodeId)
    allowFlags(inode.mode, inode.flags, flags)
    fileSystem.setAttributes(inode, { inodeFlags: flags }, caller)
  }

  override setLabel(_nodeId: number, label: string): void {
    this.#writable().setLabel(label)
  }

  /** A read goes on while changes are held; its time, which must not be in the snapshot, is then not kept. */
  override accessed(nodeId: number): boolean {
    if (!this.#accessTimes || this.#gate?.isHeld) return false
    return this.fileSystem.accessed(this.inode(nodeId))
  }

  #dropCapability(inode: Inode): void {
    const known = this.#capabilityFree
    if (known.has(inode.ino)) return
    if (this.fileSystem.getXattr(inode, CAPABILITY) !== undefined) {
      this.fileSystem.removeXattr(inode, CAPABILITY)
    }
    if (known.size >= CAPABILITY_FREE_MAX) known.clear()
    known.add(inode.ino)
  }
}
