// Which blocks are free, and taking and giving them back.
//
// Always true: a block given back is discarded in the volume at once, so that its bytes can never
// show through in another file; blocks of orphans are free in the bitmap and held by the overlay,
// and are never handed out. Free counts are those of the committed view.

import { hasCode, posixError, UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, type BlockRange } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { clearBits, clearRun, findClear, setBits, setRun } from './bitmap.ts'
import type { BlockCache } from './block-cache.ts'
import type { Groups } from './groups.ts'
import { groupBlockCount } from './layout.ts'
import type { OrphanOverlay } from './orphan-overlay.ts'

/** A run that is worth leaving the goal for, in blocks. */
const GOOD_RUN_BLOCKS = 16

export class BlockAllocator {
  readonly #device: BlockDevice
  readonly #cache: BlockCache
  readonly #groups: Groups
  readonly #overlay: OrphanOverlay
  /** Below this bit nothing is free in the group, the overlay counted. */
  #firstFree = new Uint32Array(0)
  readonly #combined = new Uint8Array(BLOCK_SIZE_BYTES)
  readonly #lateDiscards: BlockRange[] = []
  #committedFree = 0
  /** Length of the run that allocate() returned last. */
  runLength = 0

  constructor(device: BlockDevice, cache: BlockCache, groups: Groups, overlay: OrphanOverlay) {
    this.#device = device
    this.#cache = cache
    this.#groups = groups
    this.#overlay = overlay
    this.load()
  }

  /** Takes what the groups say: at first, and when the file system has grown. */
  load(): void {
    const { geometry, freeBlocks } = this.#groups
    const known = this.#firstFree
    this.#firstFree = new Uint32Array(geometry.groupCount)
    this.#firstFree.set(known)
    this.#committedFree = 0
    for (const count of freeBlocks) this.#committedFree += count
  }

  /** Free blocks of the committed view: what the superblock says. */
  get committedFreeCount(): number {
    return this.#committedFree
  }
  /** Blocks that can be allocated now. */
  get freeCount(): number {
    return this.#committedFree - this.#overlay.blockCount
  }

  /**
   * Takes a run of 1 to `max` blocks at or near `goal`; its length is in runLength.
   * @param orphan the file has no links: the blocks are taken in the overlay only
   * @returns the first block
   * @throws UmbraError ENOSPC
   */
  allocate(goal: number, max: number, orphan: boolean): number {
    const { geometry } = this.#groups
    if (this.freeCount <= 0) throw posixError('ENOSPC', 'No free blocks in the file system')
    const near = goal > 0 && goal < geometry.blockCount ? goal : 0
    const home = Math.floor(near / geometry.blocksPerGroup)
    const wanted = Math.min(max, GOOD_RUN_BLOCKS)
    let at = this.#allocateIn(home, near - home * geometry.blocksPerGroup, max, orphan, true, wanted)
    if (at < 0) at = this.#allocateElsewhere(home, max, orphan, wanted)
    if (at < 0) at = this.#allocateElsewhere(home, max, orphan, 1)
    if (at < 0) throw new UmbraError('CORRUPT', 'Free block counts promise blocks that no bitmap has')
    return at
  }

  #allocateElsewhere(home: number, max: number, orphan: boolean, wanted: number): number {
    const { groupCount } = this.#groups.geometry
    for (let i = 0; i < groupCount; i++) {
      const at = this.#allocateIn((home + i) % groupCount, 0, max, orphan, false, wanted)
      if (at >= 0) return at
    }
    return -1
  }

  /** Takes a run in one group, of at least `wanted` blocks unless it begins at the goal; or -1. */
  #allocateIn(
    group: number,
    from: number,
    max: number,
    orphan: boolean,
    exact: boolean,
    wanted: number,
  ): number {
    const free = (this.#groups.freeBlocks[group] as number) - this.#overlay.countIn(group)
    if (free < wanted && !(exact && free > 0)) return -1
    const present = this.#groups.peekBlockBitmap(group) ?? this.#groups.blockBitmapForChange(group)
    const limit = groupBlockCount(this.#groups.geometry, group)
    const bits = this.#withOverlay(group, present.bytes)
    const lowest = this.#firstFree[group] as number
    const start = Math.max(from, lowest)
    let at = findClear(bits, start, limit)
    const first = at
    if (!(exact && at === from)) {
      while (at >= 0 && clearRun(bits, at, limit, wanted) < wanted)
        at = findClear(bits, at + clearRun(bits, at, limit, wanted), limit)
    }
    if (at < 0) return -1
    const count = clearRun(bits, at, limit, max)
    if (start === lowest) this.#firstFree[group] = at === first ? at + count : first
    if (orphan) {
      this.#overlay.add(group, at, count)
    } else {
      setBits(this.#groups.blockBitmapForChange(group).bytes, at, count)
      this.#changeFree(group, -count)
    }
    this.runLength = count
    return group * this.#groups.geometry.blocksPerGroup + at
  }

  #withOverlay(group: number, bits: Uint8Array): Uint8Array {
    const held = this.#overlay.bits(group)
    if (!held) return bits
    const combined = this.#combined
    for (let i = 0; i < combined.length; i++) combined[i] = (bits[i] as number) | (held[i] as number)
    return combined
  }

  #changeFree(group: number, by: number): void {
    this.#groups.freeBlocks[group] = (this.#groups.freeBlocks[group] as number) + by
    this.#committedFree += by
    this.#groups.touch(group)
  }

  /** Frees a run and discards it; `metadata` blocks are dropped from the cache too. */
  free(blockIndex: number, blockCount: number, orphan: boolean, metadata: boolean): void {
    this.#eachGroup(blockIndex, blockCount, (group, from, count) => {
      if (orphan) this.#releaseHeld(group, from, count)
      else this.#release(group, from, count)
    })
    if (metadata) for (let i = 0; i < blockCount; i++) this.#cache.forget(blockIndex + i)
    this.#discard(blockIndex, blockCount)
  }

  /**
   * A discard can need room in the volume. Without it the blocks are kept from use as an orphan's
   * are, and listed with them, until retryDiscards() succeeds: freeing itself never fails half way.
   */
  #discard(blockIndex: number, blockCount: number): void {
    try {
      this.#device.discard(blockIndex, blockCount)
    } catch (error) {
      if (!hasCode(error, 'OUT_OF_SPACE')) throw error
      this.#eachGroup(blockIndex, blockCount, (group, from, count) => this.#overlay.add(group, from, count))
      this.#lateDiscards.push({ blockIndex, blockCount })
    }
  }

  /** Discards what could not be discarded when it was freed; stops at the first that still cannot. */
  retryDiscards(): void {
    while (this.#lateDiscards.length > 0) {
      const run = this.#lateDiscards.at(-1) as BlockRange
      try {
        this.#device.discard(run.blockIndex, run.blockCount)
      } catch (error) {
        if (hasCode(error, 'OUT_OF_SPACE')) return
        throw error
      }
      this.#lateDiscards.pop()
      this.#eachGroup(run.blockIndex, run.blockCount, (group, from, count) =>
        this.#releaseHeld(group, from, count),
      )
    }
  }

  /** Free on disk, still held in memory. */
  moveToOverlay(blockIndex: number, blockCount: number): void {
    this.#eachGroup(blockIndex, blockCount, (group, from, count) => {
      this.#release(group, from, count)
      this.#overlay.add(group, from, count)
    })
  }

  moveFromOverlay(blockIndex: number, blockCount: number): void {
    this.#eachGroup(blockIndex, blockCount, (group, from, count) => {
      this.#releaseHeld(group, from, count)
      const bits = this.#groups.blockBitmapForChange(group).bytes
      setBits(bits, from, count)
      this.#changeFree(group, -count)
    })
  }

  #releaseHeld(group: number, from: number, count: number): void {
    this.#overlay.remove(group, from, count)
    this.#firstFree[group] = Math.min(this.#firstFree[group] as number, from)
  }

  #release(group: number, from: number, count: number): void {
    const bits = this.#groups.blockBitmapForChange(group).bytes
    if (setRun(bits, from, from + count) !== count)
      throw new UmbraError(
        'CORRUPT',
        `Blocks ${from} to ${from + count - 1} of group ${group} are freed twice`,
      )
    clearBits(bits, from, count)
    this.#firstFree[group] = Math.min(this.#firstFree[group] as number, from)
    this.#changeFree(group, count)
  }

  #eachGroup(
    blockIndex: number,
    blockCount: number,
    visit: (group: number, from: number, count: number) => void,
  ): void {
    const { blocksPerGroup, blockCount: total } = this.#groups.geometry
    if (blockIndex <= 0 || blockIndex + blockCount > total)
      throw new UmbraError('CORRUPT', `Blocks ${blockIndex} to ${blockIndex + blockCount - 1} lie outside`)
    let at = blockIndex
    const end = blockIndex + blockCount
    while (at < end) {
      const group = Math.floor(at / blocksPerGroup)
      const from = at - group * blocksPerGroup
      const count = Math.min(end - at, blocksPerGroup - from)
      visit(group, from, count)
      at += count
    }
  }
}
