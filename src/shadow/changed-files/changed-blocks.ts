// Which blocks of one file, and which bytes, differ between two points: both extent trees walked in
// step, and where they agree the delta asked.
//
// Always true: no block of data is read. A block that both points map to the same place differs only
// if the delta has it; one that they map to different places counts as different whatever it holds. The
// bytes behind the older end always count.

import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import type { MappedRun } from '../../ext4/extent-tree.ts'
import type { Inode } from '../../ext4/inode.ts'
import type { DeltaIndex } from './delta-index.ts'
import type { ChangedRange } from './file-change.ts'
import type { PointView } from './point-view.ts'

export interface FileAt {
  readonly view: PointView
  readonly inode: Inode
}

/** @returns false: had enough */
export type BlockRunVisitor = (kind: 'data' | 'zero', fileBlock: number, blockCount: number) => boolean

function emptyRun(): MappedRun {
  return { fileBlock: 0, blockCount: 0, deviceBlock: 0, unwritten: false }
}

/**
 * Visits the file's blocks that differ, in order, up to the newer end.
 * @param before null: since a bookmark, where every hole counts as zeroed because nobody knows since when
 */
export function visitChangedBlocks(
  before: FileAt | null,
  after: FileAt,
  delta: DeltaIndex,
  visit: BlockRunVisitor,
): void {
  const end = Math.ceil(after.inode.sizeBytes / BLOCK_SIZE_BYTES)
  const oldEnd = before ? Math.ceil(before.inode.sizeBytes / BLOCK_SIZE_BYTES) : end
  const runBefore = emptyRun()
  const runAfter = emptyRun()
  for (let at = 0; at < end; ) {
    after.view.lookup(after.inode, at, runAfter)
    const isGrown = at >= oldEnd
    let count = Math.min(runAfter.blockCount, (isGrown ? end : Math.min(oldEnd, end)) - at)
    let isSame = !isGrown
    if (before && !isGrown) {
      before.view.lookup(before.inode, at, runBefore)
      count = Math.min(count, runBefore.blockCount)
      isSame = runBefore.deviceBlock === runAfter.deviceBlock
    } else if (runAfter.deviceBlock === 0) isSame = false
    if (!visitRun(isSame, runAfter.deviceBlock, at, count, delta, visit)) return
    at += count
  }
}

function visitRun(
  isSame: boolean,
  deviceBlock: number,
  fileBlock: number,
  count: number,
  delta: DeltaIndex,
  visit: BlockRunVisitor,
): boolean {
  if (!isSame) return visit(deviceBlock === 0 ? 'zero' : 'data', fileBlock, count)
  if (deviceBlock === 0) return true
  return delta.forEachIn(deviceBlock, count, (blockIndex, blockCount, isZero) =>
    visit(isZero ? 'zero' : 'data', fileBlock + (blockIndex - deviceBlock), blockCount),
  )
}

/** The bytes of a regular file that differ. @param before null: since a bookmark */
export function changedRangesOf(before: FileAt | null, after: FileAt, delta: DeltaIndex): ChangedRange[] {
  const collector = new RangeCollector(after.inode.sizeBytes)
  const tail = before ? grownTail(before.inode.sizeBytes, after.inode.sizeBytes) : null
  visitChangedBlocks(before, after, delta, (kind, fileBlock, blockCount) => {
    const begin = fileBlock * BLOCK_SIZE_BYTES
    if (tail && begin >= tail.endBytes) collector.add('data', tail.beginBytes, tail.endBytes)
    collector.add(kind, begin, begin + blockCount * BLOCK_SIZE_BYTES)
    return true
  })
  if (tail) collector.add('data', tail.beginBytes, tail.endBytes)
  return collector.ranges
}

/** The ranges of a file that was not there before: all that is mapped. */
export function wholeRangesOf(after: FileAt): ChangedRange[] {
  const collector = new RangeCollector(after.inode.sizeBytes)
  const end = Math.ceil(after.inode.sizeBytes / BLOCK_SIZE_BYTES)
  const run = emptyRun()
  for (let at = 0; at < end; at += run.blockCount) {
    after.view.lookup(after.inode, at, run)
    if (run.deviceBlock === 0) continue
    collector.add('data', at * BLOCK_SIZE_BYTES, (at + run.blockCount) * BLOCK_SIZE_BYTES)
  }
  return collector.ranges
}

/** Whether any block of the file differs, without listing them all. */
export function hasChangedBlocks(before: FileAt, after: FileAt, delta: DeltaIndex): boolean {
  let found = false
  visitChangedBlocks(before, after, delta, () => {
    found = true
    return false
  })
  return found
}

/** What of the older end's block became part of the file without being written. */
function grownTail(oldBytes: number, newBytes: number): { beginBytes: number; endBytes: number } | null {
  if (oldBytes % BLOCK_SIZE_BYTES === 0 || newBytes <= oldBytes) return null
  const blockEnd = Math.ceil(oldBytes / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES
  return { beginBytes: oldBytes, endBytes: Math.min(blockEnd, newBytes) }
}

/** Joins what touches and clips to the file's size; what is covered already is not added again. */
class RangeCollector {
  readonly ranges: ChangedRange[] = []
  readonly #sizeBytes: number
  #endBytes = 0

  constructor(sizeBytes: number) {
    this.#sizeBytes = sizeBytes
  }

  add(kind: 'data' | 'zero', beginBytes: number, endBytes: number): void {
    const begin = Math.max(beginBytes, this.#endBytes)
    const end = Math.min(endBytes, this.#sizeBytes)
    if (begin >= end) return
    const last = this.ranges.at(-1)
    if (last?.kind === kind && last.offsetBytes + last.lengthBytes === begin) {
      this.ranges[this.ranges.length - 1] = {
        kind,
        offsetBytes: last.offsetBytes,
        lengthBytes: end - last.offsetBytes,
      }
    } else this.ranges.push({ kind, offsetBytes: begin, lengthBytes: end - begin })
    this.#endBytes = end
  }
}
