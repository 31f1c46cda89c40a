// The file system as one object: structure, file data, directories, attributes and names put together
// behind the interface that FUSE and the tools use.
//
// Always true: what is done here is complete in memory when the call returns, and reaches the device
// with its next commit; a read-only file system refuses changes with EROFS before anything else.

import { posixError } from '../base/errors.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { Attributes } from './attributes.ts'
import { loadDeviceNumber } from './device-number.ts'
import { Directories } from './directory.ts'
import { DirectoryListing } from './directory-listing.ts'
import { FileData } from './file-data.ts'
import type {
  AttributeChange,
  Caller,
  DirectoryEntry,
  FileSystem,
  FileSystemStatistics,
} from './file-system.ts'
import { checkGrowth } from './grow.ts'
import { INODE_FLAG, type Inode } from './inode.ts'
import { Namespace } from './namespace.ts'
import { Renamer } from './rename.ts'
import { Ext4Structure, type StructureOptions } from './structure.ts'
import { readSymlink } from './symlink.ts'
import { Xattrs } from './xattr.ts'

export { type FormatOptions, formatExt4 } from './mkfs.ts'

export interface Ext4Options extends StructureOptions {
  /** Names of directories kept in memory; 1,000,000 unless said. */
  readonly nameLimit?: number
}

export class Ext4 implements FileSystem {
  readonly #core: Ext4Structure
  readonly #data: FileData
  readonly #xattrs: Xattrs
  readonly #namespace: Namespace
  readonly #renamer: Renamer
  readonly #attributes: Attributes
  readonly #listing: DirectoryListing

  /**
   * Opens the file system on `device`.
   * @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH, CORRUPT, READ_ONLY
   */
  static open(device: BlockDevice, options: Ext4Options = {}): Ext4 {
    return new Ext4(Ext4Structure.open(device, options), options.nameLimit)
  }

  private constructor(core: Ext4Structure, nameLimit: number | undefined) {
    this.#core = core
    this.#data = new FileData(core)
    this.#xattrs = new Xattrs(core)
    const directories = new Directories(core, nameLimit)
    this.#namespace = new Namespace(core, directories, this.#xattrs)
    this.#renamer = new Renamer(core, directories, this.#namespace)
    this.#attributes = new Attributes(core, this.#data, this.#xattrs)
    this.#listing = new DirectoryListing(core, directories)
  }

  get readOnly(): boolean {
    return this.#core.readOnly
  }
  get label(): string {
    return this.#core.label
  }
  setLabel(label: string): void {
    this.#needWritable()
    this.#core.setLabel(label)
  }
  get uuid(): string {
    return this.#core.uuid
  }

  inode(ino: number): Inode {
    return this.#core.inode(ino)
  }

  // -- names

  lookup(parent: Inode, name: string): Inode | undefined {
    return this.#namespace.lookup(parent, name)
  }
  parentOf(directory: Inode): Inode {
    return this.#namespace.parentOf(directory)
  }
  readDirectory(directory: Inode, cookie: number, visit: (entry: DirectoryEntry) => boolean): void {
    if (!directory.isDirectory) throw posixError('ENOTDIR')
    // A directory that was removed while open has no entries left, not even its own.
    if (directory.linkCount > 0) this.#listing.list(directory, cookie, visit)
  }
  makeNode(parent: Inode, name: string, mode: number, deviceNumber: number, caller: Caller): Inode {
    this.#needWritable()
    return this.#namespace.makeNode(parent, name, mode, deviceNumber, caller)
  }
  makeDirectory(parent: Inode, name: string, mode: number, caller: Caller): Inode {
    this.#needWritable()
    return this.#namespace.makeDirectory(parent, name, mode, caller)
  }
  makeSymlink(parent: Inode, name: string, target: Uint8Array, caller: Caller): Inode {
    this.#needWritable()
    return this.#namespace.makeSymlink(parent, name, target, caller)
  }
  makeTemporary(parent: Inode, mode: number, caller: Caller): Inode {
    this.#needWritable()
    return this.#namespace.makeTemporary(parent, mode, caller)
  }
  readSymlink(inode: Inode): Uint8Array {
    return readSymlink(this.#core, inode)
  }
  link(inode: Inode, parent: Inode, name: string): void {
    this.#needWritable()
    this.#namespace.link(inode, parent, name)
  }
  unlink(parent: Inode, name: string): void {
    this.#needWritable()
    this.#namespace.unlink(parent, name)
  }
  removeDirectory(parent: Inode, name: string): void {
    this.#needWritable()
    this.#namespace.removeDirectory(parent, name)
  }
  rename(parent: Inode, name: string, newParent: Inode, newName: string, flags: number): void {
    this.#needWritable()
    this.#renamer.rename({ parent, name }, { parent: newParent, name: newName }, flags)
  }

  // -- attributes

  setAttributes(inode: Inode, change: AttributeChange, _caller: Caller): void {
    this.#needWritable()
    this.#attributes.set(inode, change)
  }
  accessed(inode: Inode): boolean {
    return this.#attributes.accessed(inode)
  }
  deviceNumber(inode: Inode): number {
    return loadDeviceNumber(inode)
  }
  getXattr(inode: Inode, name: string): Uint8Array | undefined {
    return this.#xattrs.get(inode, name)
  }
  setXattr(inode: Inode, name: string, value: Uint8Array, flags: number): void {
    this.#needWritable()
    this.#xattrs.set(inode, name, value, flags)
  }
  listXattrs(inode: Inode): string[] {
    return this.#xattrs.list(inode)
  }
  removeXattr(inode: Inode, name: string): void {
    this.#needWritable()
    this.#xattrs.remove(inode, name)
  }

  // -- data

  read(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number> {
    return this.#data.read(inode, offsetBytes, lengthBytes, target, targetOffset)
  }
  write(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    keepTimes: boolean,
  ): number {
    this.#needWritable()
    // Immutability is checked when a file is opened: one opened before stays writable, as in Linux.
    return this.#data.write(inode, offsetBytes, lengthBytes, source, sourceOffset, keepTimes)
  }
  allocate(inode: Inode, mode: number, offsetBytes: number, lengthBytes: number, keepTimes = false): void {
    this.#needWritable()
    if (inode.flags & INODE_FLAG.IMMUTABLE) throw posixError('EPERM', 'The file is immutable')
    if (inode.flags & INODE_FLAG.APPEND && (mode & ~1) !== 0) throw posixError('EPERM', 'Append-only')
    this.#data.allocate(inode, mode, offsetBytes, lengthBytes, keepTimes)
  }
  seek(inode: Inode, offsetBytes: number, whence: number): number {
    return this.#data.seek(inode, offsetBytes, whence)
  }

  // -- use

  open(inode: Inode): void {
    inode.openCount++
  }
  close(inode: Inode): void {
    inode.openCount--
    if (inode.orphaned) this.#core.releaseOrphan(inode)
  }
  addLookups(inode: Inode, count: number): void {
    inode.lookupCount += count
  }
  forgetLookups(ino: number, count: number): void {
    this.#core.forgetLookups(ino, count)
  }

  // -- the whole

  statistics(): FileSystemStatistics {
    return this.#data.statistics()
  }
  sync(inode: Inode, dataOnly: boolean): Promise<void> {
    return this.#data.sync(inode, dataOnly)
  }
  /**
   * Whether grow() will do it once the device has so many blocks.
   * @throws UmbraError UNSUPPORTED_FEATURE, READ_ONLY, OUT_OF_SPACE
   */
  checkGrowth(blockCount: number): void {
    this.#needWritable()
    this.#core.flush()
    checkGrowth(this.#core.device, blockCount)
  }
  /** Fills the device, which has become larger. @returns blocks of the file system */
  grow(): number {
    this.#needWritable()
    this.#core.grow()
    return this.#core.blockCount
  }
  flushMetadata(): void {
    this.#core.flush()
  }

  #needWritable(): void {
    if (this.#core.readOnly) throw posixError('EROFS', 'The file system is read-only')
  }
}
