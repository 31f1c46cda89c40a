// Each operation that libfuse 2 asks by path or by handle number, in terms of inode operations.
//
// Always true: every lookup that an operation takes is given back before it ends, but those that an
// open handle, a hidden file or the resolver's cache keeps; an operation that throws NotReady or ESTALE
// has done nothing and may be called again. Nobody says who asks (fuse-native does not hand it on):
// what is made belongs to the user who mounted. The kernel has applied the umask.

import { posixError } from '../../base/errors.ts'
import type { AttributeChange, FileSystemStatistics } from '../../ext4/file-system.ts'
import { S_IFREG } from '../../ext4/inode.ts'
import { Attributes } from '../attributes.ts'
import { countsAsAccess } from '../handle-files.ts'
import type { InodeOperations, ListedEntry, Requester } from '../operations.ts'
import { O } from '../protocol.ts'
import { toByteString } from './byte-names.ts'
import { HiddenFiles } from './hidden-files.ts'
import { OpenHandles } from './open-handles.ts'
import { PathResolver } from './path-resolver.ts'

/** chown(2): leave as it is. */
const UNCHANGED_ID = 0xffffffff

export class PathOperations {
  readonly resolver: PathResolver
  readonly #operations: InodeOperations
  readonly #handles = new OpenHandles()
  readonly #caller: Requester
  /** Filled by getattr and fgetattr; valid until the next call. */
  readonly attributes = new Attributes()

  constructor(operations: InodeOperations, caller: Requester) {
    this.#operations = operations
    this.#caller = caller
    this.resolver = new PathResolver(operations)
  }

  #at<T>(path: string, work: (nodeId: number) => T): T {
    const nodeId = this.resolver.resolve(path)
    try {
      return work(nodeId)
    } finally {
      this.resolver.forget(nodeId)
    }
  }

  // -- attributes

  getattr(path: string): Attributes {
    this.#at(path, (nodeId) => this.#operations.getattr(nodeId, this.attributes))
    return this.attributes
  }
  fgetattr(handle: number): Attributes {
    this.#operations.getattr(this.#handles.get(handle).nodeId, this.attributes)
    return this.attributes
  }
  change(path: string, change: AttributeChange): void {
    this.#at(path, (nodeId) => this.#operations.setattr(nodeId, change, this.#caller, this.attributes))
  }
  chown(path: string, uid: number, gid: number): void {
    const change: AttributeChange = {}
    if (uid !== UNCHANGED_ID) change.uid = uid
    if (gid !== UNCHANGED_ID) change.gid = gid
    this.change(path, change)
  }
  truncate(path: string, sizeBytes: number): void {
    this.change(path, { sizeBytes, mtime: 'now' })
  }
  ftruncate(handle: number, sizeBytes: number): void {
    const { nodeId } = this.#handles.get(handle)
    this.#operations.setattr(nodeId, { sizeBytes, mtime: 'now' }, this.#caller, this.attributes)
  }
  statfs(path: string): FileSystemStatistics {
    return this.#at(path, (nodeId) => this.#operations.statfs(nodeId))
  }

  // -- names

  mknod(path: string, mode: number, deviceNumber: number): void {
    const { parent, name } = this.#newEntry(path)
    this.#operations.mknod(parent, name, mode, deviceNumber, this.#caller, this.attributes)
    this.resolver.forget(this.attributes.nodeId)
  }
  mkdir(path: string, mode: number): undefined | Promise<void> {
    const { parent, name } = this.#newEntry(path)
    const made = this.#operations.mkdir(parent, name, mode, this.#caller, this.attributes)
    if (made !== undefined) return made.then(({ nodeId }) => this.resolver.forget(nodeId))
    this.resolver.forget(this.attributes.nodeId)
    return undefined
  }
  symlink(target: string, path: string): void {
    const { parent, name } = this.#newEntry(path)
    const bytes = Buffer.from(toByteString(target), 'latin1')
    this.#operations.symlink(parent, name, bytes, this.#caller, this.attributes)
    this.resolver.forget(this.attributes.nodeId)
  }
  link(path: string, newPath: string): void {
    this.#at(path, (nodeId) => {
      const { parent, name } = this.#newEntry(newPath)
      this.#operations.link(nodeId, parent, name, this.attributes)
      this.resolver.forget(nodeId)
    })
  }
  readlink(path: string): Uint8Array {
    return this.#at(path, (nodeId) => {
      const target = this.#operations.readlink(nodeId)
      this.#operations.accessed(nodeId)
      return target
    })
  }
  unlink(path: string): void {
    const { parent, name } = this.resolver.entry(path)
    if (!HiddenFiles.isHiddenName(name)) this.#operations.unlink(parent, name)
    else this.#dropHidden(name)
  }
  rmdir(path: string): undefined | Promise<void> {
    this.resolver.drop(path)
    this.#refuseWithHidden(path)
    const { parent, name } = this.resolver.entry(path)
    return this.#operations.rmdir(parent, name)
  }
  rename(path: string, newPath: string): void {
    this.resolver.drop(path)
    this.resolver.drop(newPath)
    const from = this.resolver.entry(path)
    const to = this.resolver.entry(newPath)
    if (HiddenFiles.isHiddenName(to.name)) this.#hide(path, from.parent, from.name, to.name)
    else if (HiddenFiles.isHiddenName(from.name)) throw posixError('ENOENT')
    else {
      this.#refuseWithHidden(newPath)
      this.#operations.rename(from.parent, from.name, to.parent, to.name, 0)
    }
  }

  #newEntry(path: string): { parent: number; name: string } {
    const entry = this.resolver.entry(path)
    if (HiddenFiles.isHiddenName(entry.name)) throw posixError('EPERM', 'a name that libfuse uses')
    return entry
  }

  /** libfuse is about to lose the name of a file that is open. */
  #hide(path: string, parent: number, name: string, hiddenName: string): void {
    const nodeId = this.resolver.resolve(path)
    try {
      if (!this.#handles.isFileOpen(nodeId)) throw posixError('EPERM', 'a name that libfuse uses')
      this.#operations.unlink(parent, name)
    } catch (error) {
      this.resolver.forget(nodeId)
      throw error
    }
    this.resolver.hidden.add(hiddenName, nodeId, parent)
  }

  #dropHidden(name: string): void {
    const nodeId = this.resolver.hidden.drop(name)
    if (nodeId === undefined) throw posixError('ENOENT')
    this.resolver.forget(nodeId)
  }

  #refuseWithHidden(path: string): void {
    let nodeId: number
    try {
      nodeId = this.resolver.resolve(path)
    } catch {
      // The operation itself says what is wrong.
      return
    }
    this.resolver.forget(nodeId)
    if (this.resolver.hidden.isIn(nodeId)) throw posixError('ENOTEMPTY')
  }

  // -- files and folders, by handle

  open(path: string, flags: number): number {
    const nodeId = this.resolver.resolve(path)
    try {
      this.#operations.open(nodeId, flags, false, this.#caller)
    } catch (error) {
      this.resolver.forget(nodeId)
      throw error
    }
    return this.#handles.add({ nodeId, flags, isFolder: false })
  }
  create(path: string, mode: number): number {
    const { parent, name } = this.#newEntry(path)
    // The flags are not handed on.
    const flags = O.RDWR
    this.#operations.create(parent, name, mode | S_IFREG, flags, this.#caller, this.attributes)
    return this.#handles.add({ nodeId: this.attributes.nodeId, flags, isFolder: false })
  }
  opendir(path: string): number {
    return this.#handles.add({ nodeId: this.resolver.resolve(path), flags: 0, isFolder: true })
  }
  release(handle: number): void {
    const { nodeId, flags } = this.#handles.remove(handle)
    this.#operations.release(nodeId, flags)
    this.resolver.forget(nodeId)
  }
  releasedir(handle: number): void {
    this.resolver.forget(this.#handles.remove(handle).nodeId)
  }
  read(
    handle: number,
    target: Uint8Array,
    lengthBytes: number,
    offsetBytes: number,
  ): number | Promise<number> {
    const { nodeId, flags } = this.#handles.get(handle)
    const count = this.#operations.read(nodeId, offsetBytes, lengthBytes, target, 0)
    if (countsAsAccess(flags)) this.#operations.accessed(nodeId)
    return count
  }
  write(handle: number, source: Uint8Array, lengthBytes: number, offsetBytes: number): number {
    const { nodeId } = this.#handles.get(handle)
    return this.#operations.write(nodeId, offsetBytes, lengthBytes, source, 0, 0, this.#caller)
  }
  flush(handle: number): void {
    this.#operations.flush(this.#handles.get(handle).nodeId)
  }
  fsync(handle: number, dataOnly: boolean): undefined | Promise<void> {
    return this.#operations.fsync(this.#handles.get(handle).nodeId, dataOnly)
  }
  fsyncdir(handle: number, dataOnly: boolean): undefined | Promise<void> {
    return this.#operations.fsyncdir(this.#handles.get(handle).nodeId, dataOnly)
  }
  /** The whole of it, in one go: fuse-native has no offsets here. */
  readdir(path: string, visit: (entry: ListedEntry) => void): void {
    this.#at(path, (nodeId) => {
      this.#operations.readdir(nodeId, 0, (entry) => {
        visit(entry)
        return true
      })
      // With which flags the folder was opened is not handed on.
      this.#operations.accessed(nodeId)
    })
  }

  // -- extended attributes

  getxattr(path: string, name: string): Uint8Array {
    return this.#at(path, (nodeId) => this.#operations.getxattr(nodeId, toByteString(name)))
  }
  setxattr(path: string, name: string, value: Uint8Array, flags: number): void {
    this.#at(path, (nodeId) => this.#operations.setxattr(nodeId, toByteString(name), value, flags, false))
  }
  /** Names with a NUL after each, as bytes. */
  listxattr(path: string): Uint8Array {
    const names = this.#at(path, (nodeId) => this.#operations.listxattr(nodeId))
    return Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1')
  }
  removexattr(path: string, name: string): void {
    this.#at(path, (nodeId) => this.#operations.removexattr(nodeId, toByteString(name)))
  }
}
