// What a mount shows: the live tree, with the snapshots below .snapshots at its root, the flush marker
// and the control xattr. It routes each operation by node id; see node-ids.ts.
//
// Always true: .snapshots and marker names are answered at the root before the file system is asked
// and are never listed; what would span two trees (link, rename, copy) is EXDEV; what would change a
// snapshot is EROFS; forget and release reach their tree whatever its state, so counts stay exact.

import { type ErrorCode, posixError } from '../base/errors.ts'
import type { AttributeChange, FileSystemStatistics } from '../ext4/file-system.ts'
import type { Attributes } from './attributes.ts'
import { FlushMarker, MARKER_PREFIX } from './flush-marker.ts'
import { isRecoveryNode, SLOT_SPAN, SNAPSHOTS_NODE_ID, slotOf, VIRTUAL_SLOT } from './node-ids.ts'
import type { InodeOperations, ListedEntry, Requester } from './operations.ts'
import { ROOT_NODE_ID } from './protocol.ts'
import type { RecoveryWindows } from './recovery-windows.ts'
import type { SnapshotProvider } from './snapshot-provider.ts'
import { SnapshotsDirectory } from './snapshots-directory.ts'

export const SNAPSHOTS_NAME = '.snapshots'
/** On the root, not listed: the path of the control socket of the process that serves the mount. */
export const CONTROL_XATTR = 'user.umbra.control'

const OPEN_LIMIT_DEFAULT = 8

export interface SnapshotsViewOptions {
  readonly live: InodeOperations
  readonly provider: SnapshotProvider
  readonly marker: FlushMarker
  /** Value of the control xattr. */
  readonly control: string
  /** Snapshots whose file system is open at once, beyond those in use. Default 8. */
  readonly openLimit?: number
}

export class SnapshotsView implements InodeOperations {
  readonly #live: InodeOperations
  readonly #directory: SnapshotsDirectory
  readonly #marker: FlushMarker
  readonly #control: Buffer

  constructor(options: SnapshotsViewOptions) {
    this.#live = options.live
    this.#marker = options.marker
    this.#control = Buffer.from(options.control, 'utf8')
    const openLimit = options.openLimit ?? OPEN_LIMIT_DEFAULT
    this.#directory = new SnapshotsDirectory(options.live, options.provider, openLimit)
  }

  /** Whether files below the snapshot are open. */
  isSnapshotInUse(epoch: number): boolean {
    return this.#directory.trees.isBusy(epoch)
  }

  /**
   * To be awaited before a snapshot is deleted by other means than rmdir: its nodes are ESTALE from
   * now on, and no read of it runs any more when this settles.
   * @returns undo, for when the deletion then failed
   */
  snapshotRemoved(epoch: number): Promise<() => void> {
    return this.#directory.trees.retire(epoch)
  }

  /** Unsealed snapshots, enterable below .snapshots though not listed. */
  get windows(): RecoveryWindows {
    return this.#directory.windows
  }

  /** @throws ESTALE, NotReady */
  #of(nodeId: number): InodeOperations {
    if (nodeId < SLOT_SPAN) return this.#live
    const slot = slotOf(nodeId)
    if (isRecoveryNode(nodeId)) return this.windows.inSlot(slot)
    return this.#virtual(nodeId) ?? this.#directory.trees.inSlot(slot)
  }

  /** For bookkeeping, which needs no open file system. */
  #known(nodeId: number): InodeOperations | undefined {
    if (nodeId < SLOT_SPAN) return this.#live
    const slot = slotOf(nodeId)
    if (isRecoveryNode(nodeId)) return this.windows.known(slot)
    return this.#virtual(nodeId) ?? this.#directory.trees.known(slot)
  }

  #virtual(nodeId: number): InodeOperations | undefined {
    if (slotOf(nodeId) !== VIRTUAL_SLOT) return undefined
    if (nodeId === SNAPSHOTS_NODE_ID) return this.#directory
    if (FlushMarker.isNode(nodeId)) return this.#marker
    throw posixError('ESTALE')
  }

  #isReserved(parent: number, name: string): boolean {
    return parent === ROOT_NODE_ID && (name === SNAPSHOTS_NAME || name.startsWith(MARKER_PREFIX))
  }

  #refuseReserved(parent: number, name: string, code: ErrorCode): void {
    if (this.#isReserved(parent, name)) throw posixError(code)
  }

  /** Where a new name goes. @throws EEXIST for a reserved one */
  #ofNew(parent: number, name: string): InodeOperations {
    this.#refuseReserved(parent, name, 'EEXIST')
    return this.#of(parent)
  }

  lookup(parent: number, name: string, out: Attributes): void {
    if (!this.#isReserved(parent, name)) this.#of(parent).lookup(parent, name, out)
    else if (name === SNAPSHOTS_NAME) this.#directory.getattr(SNAPSHOTS_NODE_ID, out)
    else this.#marker.lookup(parent, name, out)
  }

  forget(nodeId: number, count: number): void {
    if (nodeId < SLOT_SPAN) this.#live.forget(nodeId, count)
    else if (slotOf(nodeId) !== VIRTUAL_SLOT) this.#known(nodeId)?.forget(nodeId, count)
  }

  release(nodeId: number, flags: number): void {
    if (slotOf(nodeId) !== VIRTUAL_SLOT || FlushMarker.isNode(nodeId)) {
      this.#known(nodeId)?.release(nodeId, flags)
    }
  }

  getattr(nodeId: number, out: Attributes): void {
    this.#of(nodeId).getattr(nodeId, out)
  }
  setattr(nodeId: number, change: AttributeChange, caller: Requester, out: Attributes): void {
    this.#of(nodeId).setattr(nodeId, change, caller, out)
  }
  readlink(nodeId: number): Uint8Array {
    return this.#of(nodeId).readlink(nodeId)
  }
  accessed(nodeId: number): boolean {
    return nodeId < SLOT_SPAN && this.#live.accessed(nodeId)
  }

  mknod(
    parent: number,
    name: string,
    mode: number,
    device: number,
    caller: Requester,
    out: Attributes,
  ): void {
    this.#ofNew(parent, name).mknod(parent, name, mode, device, caller, out)
  }
  mkdir(
    parent: number,
    name: string,
    mode: number,
    caller: Requester,
    out: Attributes,
  ): undefined | Promise<Attributes> {
    return this.#ofNew(parent, name).mkdir(parent, name, mode, caller, out)
  }
  symlink(parent: number, name: string, target: Uint8Array, caller: Requester, out: Attributes): void {
    this.#ofNew(parent, name).symlink(parent, name, target, caller, out)
  }
  link(nodeId: number, newParent: number, newName: string, out: Attributes): void {
    if (slotOf(nodeId) !== slotOf(newParent)) throw posixError('EXDEV')
    this.#ofNew(newParent, newName).link(nodeId, newParent, newName, out)
  }
  unlink(parent: number, name: string): void {
    this.#refuseReserved(parent, name, 'EPERM')
    this.#of(parent).unlink(parent, name)
  }
  rmdir(parent: number, name: string): undefined | Promise<void> {
    this.#refuseReserved(parent, name, 'EPERM')
    return this.#of(parent).rmdir(parent, name)
  }
  rename(parent: number, name: string, newParent: number, newName: string, flags: number): void {
    this.#refuseReserved(parent, name, 'EPERM')
    this.#refuseReserved(newParent, newName, 'EPERM')
    if (slotOf(parent) !== slotOf(newParent)) throw posixError('EXDEV')
    this.#of(parent).rename(parent, name, newParent, newName, flags)
  }
  create(
    parent: number,
    name: string,
    mode: number,
    flags: number,
    caller: Requester,
    out: Attributes,
  ): void {
    this.#ofNew(parent, name).create(parent, name, mode, flags, caller, out)
  }
  tmpfile(parent: number, mode: number, flags: number, caller: Requester, out: Attributes): void {
    this.#of(parent).tmpfile(parent, mode, flags, caller, out)
  }

  open(nodeId: number, flags: number, killSuidSgid: boolean, caller: Requester): void {
    this.#of(nodeId).open(nodeId, flags, killSuidSgid, caller)
  }
  read(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number> {
    return this.#of(nodeId).read(nodeId, offsetBytes, lengthBytes, target, targetOffset)
  }
  write(
    nodeId: number,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    writeFlags: number,
    caller: Requester,
  ): number {
    const tree = this.#of(nodeId)
    return tree.write(nodeId, offsetBytes, lengthBytes, source, sourceOffset, writeFlags, caller)
  }
  flush(nodeId: number): void {
    this.#of(nodeId).flush(nodeId)
  }
  fsync(nodeId: number, dataOnly: boolean): undefined | Promise<void> {
    return this.#of(nodeId).fsync(nodeId, dataOnly)
  }
  fsyncdir(nodeId: number, dataOnly: boolean): undefined | Promise<void> {
    return this.#of(nodeId).fsyncdir(nodeId, dataOnly)
  }
  fallocate(nodeId: number, mode: number, offsetBytes: number, lengthBytes: number): void {
    this.#of(nodeId).fallocate(nodeId, mode, offsetBytes, lengthBytes)
  }
  lseek(nodeId: number, offsetBytes: number, whence: number): number {
    return this.#of(nodeId).lseek(nodeId, offsetBytes, whence)
  }
  isOpenForWriting(nodeId: number): boolean {
    if (nodeId < SLOT_SPAN) return this.#live.isOpenForWriting(nodeId)
    return isRecoveryNode(nodeId) && this.windows.known(slotOf(nodeId))?.isOpenForWriting(nodeId) === true
  }
  copyFileRange(
    nodeId: number,
    offsetBytes: number,
    targetNodeId: number,
    targetOffsetBytes: number,
    lengthBytes: number,
  ): number | Promise<number> {
    if (slotOf(nodeId) !== slotOf(targetNodeId)) throw posixError('EXDEV')
    const tree = this.#of(nodeId)
    return tree.copyFileRange(nodeId, offsetBytes, targetNodeId, targetOffsetBytes, lengthBytes)
  }

  readdir(nodeId: number, cookie: number, visit: (entry: ListedEntry) => boolean): void {
    this.#of(nodeId).readdir(nodeId, cookie, visit)
  }
  readdirplus(
    nodeId: number,
    cookie: number,
    visit: (entry: ListedEntry, attributes: Attributes) => boolean,
  ): void {
    this.#of(nodeId).readdirplus(nodeId, cookie, visit)
  }
  statfs(nodeId: number): FileSystemStatistics {
    return this.#of(nodeId).statfs(nodeId)
  }

  getxattr(nodeId: number, name: string): Uint8Array {
    if (nodeId === ROOT_NODE_ID && name === CONTROL_XATTR) return this.#control
    return this.#of(nodeId).getxattr(nodeId, name)
  }
  setxattr(nodeId: number, name: string, value: Uint8Array, flags: number, killSgid: boolean): void {
    if (nodeId === ROOT_NODE_ID && name === CONTROL_XATTR) throw posixError('EPERM')
    this.#of(nodeId).setxattr(nodeId, name, value, flags, killSgid)
  }
  listxattr(nodeId: number): string[] {
    return this.#of(nodeId).listxattr(nodeId)
  }
  removexattr(nodeId: number, name: string): void {
    if (nodeId === ROOT_NODE_ID && name === CONTROL_XATTR) throw posixError('EPERM')
    this.#of(nodeId).removexattr(nodeId, name)
  }
  inodeFlags(nodeId: number): number {
    return this.#of(nodeId).inodeFlags(nodeId)
  }
  setInodeFlags(nodeId: number, flags: number, caller: Requester): void {
    this.#of(nodeId).setInodeFlags(nodeId, flags, caller)
  }
  label(nodeId: number): string {
    return this.#of(nodeId).label(nodeId)
  }
  setLabel(nodeId: number, label: string): void {
    this.#of(nodeId).setLabel(nodeId, label)
  }
}
