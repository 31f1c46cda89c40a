// Which inodes may differ between two points: those whose part of an inode table is in the delta.
//
// Always true: every inode that was made, removed, written to, renamed or given other attributes is
// among them, for each of these changes its record, and the first write in an epoch marks it; so are
// its neighbours in the same 4 KiB, which the caller has to tell apart.

import { type Inode, ROOT_INO } from '../../ext4/inode.ts'
import type { DeltaIndex } from './delta-index.ts'
import type { PointView } from './point-view.ts'

export interface Candidates {
  /** In use at the newer point only, or with a number that another inode had before. */
  readonly created: readonly number[]
  /** In use at the older point only, or with a number that another inode has now. */
  readonly deleted: readonly number[]
  /** In both, the same inode. */
  readonly kept: readonly number[]
}

/** Whether two inodes of one number are the same file. */
export function isSameInode(before: Inode, after: Inode): boolean {
  return (
    before.generation === after.generation &&
    before.crtime.sec === after.crtime.sec &&
    before.crtime.nsec === after.crtime.nsec &&
    before.type === after.type
  )
}

/** Inode numbers rise in each list. */
export function findCandidates(before: PointView, after: PointView, delta: DeltaIndex): Candidates {
  const created: number[] = []
  const deleted: number[] = []
  const kept: number[] = []
  const sort = (ino: number): void => {
    const old = before.inode(ino)
    const now = after.inode(ino)
    if (old && now && isSameInode(old, now)) kept.push(ino)
    else {
      if (old) deleted.push(ino)
      if (now) created.push(ino)
    }
  }
  for (const ino of inodesInDelta(after, delta)) sort(ino)
  // Of a volume that was larger at the older point the delta ends at the newer size.
  for (let ino = after.inodeCount + 1; ino <= before.inodeCount; ino++)
    if (before.inode(ino)) deleted.push(ino)
  return { created, deleted, kept }
}

/** Every inode in use whose neighbourhood changed, since a bookmark. */
export function findTouched(after: PointView, delta: DeltaIndex): number[] {
  const touched: number[] = []
  for (const ino of inodesInDelta(after, delta)) if (after.inode(ino)) touched.push(ino)
  return touched
}

/** Numbers, in use or not, of the inodes whose table block is in the delta; they rise. */
function* inodesInDelta(view: PointView, delta: DeltaIndex): Generator<number> {
  const { inodesPerBlock } = view
  for (const table of view.inodeTables()) {
    const runs: { first: number; count: number }[] = []
    delta.forEachIn(table.blockIndex, table.blockCount, (blockIndex, blockCount) => {
      runs.push({ first: blockIndex - table.blockIndex, count: blockCount })
      return true
    })
    for (const run of runs) {
      const firstIno = table.firstIno + run.first * inodesPerBlock
      for (let i = 0; i < run.count * inodesPerBlock; i++) {
        if (firstIno + i >= ROOT_INO) yield firstIno + i
      }
    }
  }
}
