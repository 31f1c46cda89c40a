// Whether what stat(2), getfattr and readlink show of an inode differs between two points.
//
// Always true: access times and the change time do not count; flags count as far as chattr can set
// them; equal attributes stored in another place or order are equal.

import { INODE_FLAG, type Inode } from '../../ext4/inode.ts'
import type { FileAt } from './changed-blocks.ts'
import type { DeltaIndex } from './delta-index.ts'

/** Flags that the file system keeps for itself. */
const FLAGS_INTERNAL = INODE_FLAG.INDEX | INODE_FLAG.HUGE_FILE | INODE_FLAG.EXTENTS

/** Mode, owner, flags, project, device number, link target, extended attributes. */
export function hasOtherAttributes(before: FileAt, after: FileAt, delta: DeltaIndex): boolean {
  const a = before.inode
  const b = after.inode
  return (
    a.mode !== b.mode ||
    a.uid !== b.uid ||
    a.gid !== b.gid ||
    a.projectId !== b.projectId ||
    ((a.flags ^ b.flags) & ~FLAGS_INTERNAL) !== 0 ||
    hasOtherTarget(before, after) ||
    hasOtherXattrs(before, after, delta)
  )
}

export function hasOtherTimes(before: Inode, after: Inode): boolean {
  return before.mtime.sec !== after.mtime.sec || before.mtime.nsec !== after.mtime.nsec
}

/** A symbolic link's target, a device's number. */
function hasOtherTarget(before: FileAt, after: FileAt): boolean {
  if (after.inode.isSymlink) {
    return !equal(before.view.symlinkTarget(before.inode), after.view.symlinkTarget(after.inode))
  }
  if (after.inode.isRegular || after.inode.isDirectory) return false
  return !equal(before.inode.blockArea, after.inode.blockArea)
}

function hasOtherXattrs(before: FileAt, after: FileAt, delta: DeltaIndex): boolean {
  const block = after.inode.xattrBlock
  const isBlockKept = block === before.inode.xattrBlock && (block === 0 || !delta.has(block))
  if (isBlockKept && equal(before.inode.xattrArea, after.inode.xattrArea)) return false
  const old = xattrsOf(before)
  const now = xattrsOf(after)
  if (old.size !== now.size) return true
  for (const [name, value] of now) {
    const oldValue = old.get(name)
    if (!oldValue || !equal(oldValue, value)) return true
  }
  return false
}

function xattrsOf({ view, inode }: FileAt): Map<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>()
  for (const name of view.xattrNames(inode)) xattrs.set(name, view.xattr(inode, name) ?? new Uint8Array(0))
  return xattrs
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || Buffer.compare(a, b) === 0
}
