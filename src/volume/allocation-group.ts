// One allocation group in memory: three bitmaps and their counts.
//
// Always true:
//   used   what the next commit's bitmap says: referred to by the state being built, or fixed
//   taken  what must not be handed out: used, or freed but not yet released, or in the metadata
//          pool, or being punched; so used is a subset of taken
//   fresh  handed out since the last cut: no committed state refers to it; a subset of taken

import { assert } from '../base/assert.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { areAllClear, areAllSet, type BitmapWords, clearBits, countSet, setBits } from './bitmap.ts'
import { BLOCKS_PER_GROUP, bitmapHome, fixedRuns } from './group-layout.ts'
import type { GroupTable } from './group-table.ts'
import { blockChecksum, nodeBytes } from './map-node.ts'

export const BITMAP_WORDS = BLOCKS_PER_GROUP / 32

/** The bitmap of a group in which only the fixed blocks are taken. */
export function freshBitmap(group: number): BitmapWords {
  const words = new Uint32Array(BITMAP_WORDS)
  for (const run of fixedRuns(group)) setBits(words, run.start, run.count)
  return words
}

/** Reads a group's committed bitmap. @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
export function readBitmap(storage: BlockStorage, table: GroupTable, group: number): BitmapWords {
  if (!table.isWritten(group)) return freshBitmap(group)
  const words = new Uint32Array(BITMAP_WORDS)
  const bytes = nodeBytes(words)
  const home = bitmapHome(group, table.home(group))
  storage.readSync(home * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, bytes, 0)
  if (blockChecksum(bytes) !== table.checksum(group)) {
    throw new UmbraError('CHECKSUM_MISMATCH', `The bitmap of allocation group ${group} is damaged`)
  }
  if (BLOCKS_PER_GROUP - countSet(words) !== table.freeCount(group)) {
    throw new UmbraError(
      'CORRUPT',
      `The bitmap of allocation group ${group} has another count than its record`,
    )
  }
  return words
}

export class AllocationGroup {
  readonly used: BitmapWords
  readonly taken: BitmapWords
  readonly fresh = new Uint32Array(BITMAP_WORDS)
  /** Clear bits in `used`. */
  usedFree: number
  /** Clear bits in `taken`: what can be handed out. */
  takenFree: number
  /** The bitmap differs from the committed one. */
  dirty = false
  hasFresh = false

  constructor(used: BitmapWords) {
    this.used = used
    this.taken = used.slice()
    this.usedFree = BLOCKS_PER_GROUP - countSet(used)
    this.takenFree = this.usedFree
  }

  /** Sets blocks aside that are free. */
  take(start: number, count: number): void {
    assert(areAllClear(this.taken, start, count), 'blocks that are taken were free')
    setBits(this.taken, start, count)
    this.takenFree -= count
  }

  /** Puts taken blocks to use in the state being built. */
  use(start: number, count: number): void {
    setBits(this.used, start, count)
    setBits(this.fresh, start, count)
    this.usedFree -= count
    this.dirty = true
    this.hasFresh = true
  }

  /** The state being built refers to them no longer. They stay taken. */
  unuse(start: number, count: number): void {
    assert(areAllSet(this.used, start, count), 'blocks that are freed were in use')
    clearBits(this.used, start, count)
    this.usedFree += count
    this.dirty = true
  }

  /** They may be handed out again. */
  release(start: number, count: number): void {
    assert(areAllClear(this.used, start, count), 'blocks that are released are not in use')
    assert(areAllSet(this.taken, start, count), 'blocks that are released were taken')
    clearBits(this.taken, start, count)
    clearBits(this.fresh, start, count)
    this.takenFree += count
  }

  /** A cut: what is in use is about to be committed. */
  settle(): void {
    if (!this.hasFresh) return
    this.fresh.fill(0)
    this.hasFresh = false
  }
}
