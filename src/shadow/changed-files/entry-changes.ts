// Which names came and which went between two points, from the directory blocks that changed.
//
// Always true: a name stands for one inode, so a name that leads to another inode now went and came,
// even when the new inode has the old one's number. Only directories among the candidates are looked
// at, and of those only blocks that differ: what an unchanged block holds is in both.

import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import type { Candidates } from './candidates.ts'
import { visitChangedBlocks } from './changed-blocks.ts'
import type { DeltaIndex } from './delta-index.ts'
import type { PointView } from './point-view.ts'

export interface Entry {
  /** Inode number of the directory, at the point that the entry belongs to. */
  readonly parent: number
  readonly name: string
}

export interface EntryChanges {
  /** By inode number at the newer point. */
  readonly added: ReadonlyMap<number, readonly Entry[]>
  /** By inode number at the older point. */
  readonly removed: ReadonlyMap<number, readonly Entry[]>
}

export function findEntryChanges(
  before: PointView,
  after: PointView,
  candidates: Candidates,
  delta: DeltaIndex,
): EntryChanges {
  const added = new Map<number, Entry[]>()
  const removed = new Map<number, Entry[]>()
  const created = new Set(candidates.created)
  const isReused = new Set(candidates.deleted.filter((ino) => created.has(ino)))
  for (const parent of candidates.created) collectAll(after, parent, added)
  for (const parent of candidates.deleted) collectAll(before, parent, removed)
  for (const parent of candidates.kept) {
    const old = before.inode(parent)
    const now = after.inode(parent)
    if (!old?.isDirectory || !now?.isDirectory) continue
    const oldNames = new Map<string, number>()
    const newNames = new Map<string, number>()
    visitPairs(before, after, parent, delta, (view, fileBlock) => {
      const names = view === before ? oldNames : newNames
      const directory = view === before ? old : now
      view.visitDirectoryBlock(directory, fileBlock, (name, ino) => {
        names.set(name, ino)
        return true
      })
    })
    for (const [name, ino] of newNames) {
      if (oldNames.get(name) === ino && !isReused.has(ino)) oldNames.delete(name)
      else push(added, ino, { parent, name })
    }
    for (const [name, ino] of oldNames) push(removed, ino, { parent, name })
  }
  return { added, removed }
}

/** Visits the blocks of a directory in which it differs, at each point that has them. */
function visitPairs(
  before: PointView,
  after: PointView,
  ino: number,
  delta: DeltaIndex,
  visit: (view: PointView, fileBlock: number) => void,
): void {
  const old = before.inode(ino)
  const now = after.inode(ino)
  if (!old || !now) return
  const oldBlocks = old.sizeBytes / BLOCK_SIZE_BYTES
  const newBlocks = now.sizeBytes / BLOCK_SIZE_BYTES
  visitChangedBlocks(
    { view: before, inode: old },
    { view: after, inode: now },
    delta,
    (_kind, first, count) => {
      for (let fileBlock = first; fileBlock < first + count; fileBlock++) {
        if (fileBlock < oldBlocks) visit(before, fileBlock)
        visit(after, fileBlock)
      }
      return true
    },
  )
  for (let fileBlock = newBlocks; fileBlock < oldBlocks; fileBlock++) visit(before, fileBlock)
}

function collectAll(view: PointView, parent: number, entries: Map<number, Entry[]>): void {
  const directory = view.inode(parent)
  if (!directory?.isDirectory) return
  view.visitDirectory(directory, (name, ino) => {
    push(entries, ino, { parent, name })
    return true
  })
}

function push(entries: Map<number, Entry[]>, ino: number, entry: Entry): void {
  const list = entries.get(ino)
  if (list) list.push(entry)
  else entries.set(ino, [entry])
}
