// A node's attributes as the kernel wants them, with how long it may keep them: one record, reused
// from request to request.
//
// Always true: after fillFromInode() every field that describes the inode is set; node id, st_ino and
// timeouts are set by who knows the node (live tree, snapshot, virtual directory).

import type { FileSystem } from '../ext4/file-system.ts'
import { type Inode, S_IFBLK, S_IFCHR } from '../ext4/inode.ts'
import { FOREVER_SEC } from './protocol.ts'

export class Attributes {
  /** 0: there is no such name (a negative entry). */
  nodeId = 0
  generation = 0
  entryTimeoutSec = 0
  attributesTimeoutSec = 0
  /** st_ino. */
  ino = 0
  sizeBytes = 0
  /** st_blocks, in units of 512 bytes. */
  sectorCount = 0
  atimeSec = 0
  atimeNsec = 0
  mtimeSec = 0
  mtimeNsec = 0
  ctimeSec = 0
  ctimeNsec = 0
  btimeSec = 0
  btimeNsec = 0
  mode = 0
  linkCount = 0
  uid = 0
  gid = 0
  /** As new_encode_dev makes it; 0 for what is no device. */
  deviceNumber = 0
  blockSizeBytes = 4096
  projectId = 0

  fillFromInode(inode: Inode, fileSystem: FileSystem): void {
    this.generation = inode.generation
    this.sizeBytes = inode.sizeBytes
    this.sectorCount = inode.sectorCount
    this.atimeSec = inode.atime.sec
    this.atimeNsec = inode.atime.nsec
    this.mtimeSec = inode.mtime.sec
    this.mtimeNsec = inode.mtime.nsec
    this.ctimeSec = inode.ctime.sec
    this.ctimeNsec = inode.ctime.nsec
    this.btimeSec = inode.crtime.sec
    this.btimeNsec = inode.crtime.nsec
    this.mode = inode.mode
    this.linkCount = inode.linkCount
    this.projectId = inode.projectId
    this.uid = inode.uid
    this.gid = inode.gid
    const type = inode.type
    this.deviceNumber = type === S_IFCHR || type === S_IFBLK ? fileSystem.deviceNumber(inode) : 0
  }

  /** Makes this the answer "no such name", to be remembered for `timeoutSec`. */
  setMissing(timeoutSec: number = FOREVER_SEC): void {
    this.nodeId = 0
    this.entryTimeoutSec = timeoutSec
    this.attributesTimeoutSec = 0
  }
}
