// Symbolic links: a target shorter than 60 bytes lies in the inode itself (without an extent tree), a
// longer one in a block of its own.
//
// Always true: the target ends with a NUL on disk, which sizeBytes does not count.
// Source: Documentation/filesystems/ext4/ifork.rst, "Symbolic Links".

import { posixError, UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { Ext4Core } from './core.ts'
import { INODE_FLAG, type Inode } from './inode.ts'

const FAST_TARGET_MAX_BYTES = 59
const TARGET_MAX_BYTES = BLOCK_SIZE_BYTES - 1

/** @throws ENOENT for an empty target, ENAMETOOLONG */
export function checkSymlinkTarget(target: Uint8Array): void {
  if (target.length === 0) throw posixError('ENOENT', 'A symbolic link needs a target')
  if (target.length > TARGET_MAX_BYTES) throw posixError('ENAMETOOLONG')
}

/** Gives a new symlink inode its target. @throws ENOSPC */
export function writeSymlink(core: Ext4Core, inode: Inode, target: Uint8Array): void {
  if (target.length <= FAST_TARGET_MAX_BYTES) {
    inode.flags &= ~INODE_FLAG.EXTENTS
    inode.blockArea.fill(0)
    inode.blockArea.set(target)
  } else {
    // The block has no checksum of its own.
    const block = core.newMetadata(core.appendBlock(inode, 0), () => undefined)
    block.bytes.set(target)
  }
  inode.sizeBytes = target.length
  core.markInodeDirty(inode)
}

/** @throws EINVAL unless it is a symlink; UmbraError CORRUPT */
export function readSymlink(core: Ext4Core, inode: Inode): Uint8Array {
  if (!inode.isSymlink) throw posixError('EINVAL', 'Not a symbolic link')
  const length = inode.sizeBytes
  const isFast = (inode.flags & INODE_FLAG.EXTENTS) === 0
  const blockIndex = isFast || length > TARGET_MAX_BYTES ? 0 : core.mapBlock(inode, 0)
  if (length > (isFast ? FAST_TARGET_MAX_BYTES : TARGET_MAX_BYTES) || (!isFast && blockIndex === 0)) {
    throw new UmbraError('CORRUPT', `Symbolic link ${inode.ino} has no readable target`, { ino: inode.ino })
  }
  const bytes = isFast ? inode.blockArea : core.metadata(blockIndex, () => undefined).bytes
  return bytes.slice(0, length)
}
