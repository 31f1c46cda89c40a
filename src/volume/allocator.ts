// Finds free blocks of the volume file and keeps each group's bitmap; grows the file.
//
// Always true: a run never crosses a group's end; nothing is handed out that the last durable
// transaction, the one being flushed, or a read in flight may refer to (callers release() only
// then); writing the bitmaps allocates nothing. Groups are loaded when needed, and those in which
// nothing is pending are dropped again when many are loaded, so memory does not follow the size.
//
// Not here: when freed blocks are released (free-queue.ts), and the host's space set aside for
// metadata (metadata-pool.ts).

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { AllocationGroup, readBitmap } from './allocation-group.ts'
import { areAllSet, isBitSet, nextClear, nextSet } from './bitmap.ts'
import { BLOCKS_PER_GROUP, bitmapHome, fixedRuns, GROUPS_MAX, groupOf, groupStart } from './group-layout.ts'
import type { GroupTable } from './group-table.ts'
import { blockChecksum, nodeBytes } from './map-node.ts'

export interface PhysicalRun {
  readonly start: number
  readonly count: number
}

/** Where the next search begins. */
export interface Cursor {
  group: number
  /** Block within the group. */
  offset: number
}

/** A search prefers runs of at least so many blocks, or what is wanted if that is less. */
const GOOD_RUN_BLOCKS = 16
/** While less than this part of the file is free, it grows rather than being filled with fragments. */
const FRAGMENT_SHARE = 1 / 8
const LOADED_GROUPS_MAX = 1024

export class Allocator {
  readonly #storage: BlockStorage
  readonly #table: GroupTable
  readonly #groups = new Map<number, AllocationGroup>()
  /** Blocks that can be handed out, by group. */
  readonly #available = new Uint16Array(GROUPS_MAX)
  /** No free run in the group is longer than this. */
  readonly #longestRun = new Uint16Array(GROUPS_MAX).fill(BLOCKS_PER_GROUP)
  #availableTotal = 0
  #usedTotal = 0

  constructor(storage: BlockStorage, table: GroupTable) {
    this.#storage = storage
    this.#table = table
    for (let group = 0; group < table.groupCount; group++) this.#count(group)
  }

  get physicalBlockCount(): number {
    return this.#table.groupCount * BLOCKS_PER_GROUP
  }

  /** Blocks in use in the state being built, fixed ones included. */
  get usedBlocks(): number {
    return this.#usedTotal
  }

  get table(): GroupTable {
    return this.#table
  }

  /**
   * Finds a free run of up to `want` blocks from the cursor on; it is not taken yet.
   * @throws UmbraError OUT_OF_SPACE
   */
  find(cursor: Cursor, want: number): PhysicalRun {
    const good = Math.min(want, GOOD_RUN_BLOCKS)
    const found = this.#search(cursor, want, good)
    if (found) return found
    const mayFill = this.#availableTotal >= this.physicalBlockCount * FRAGMENT_SHARE
    const fragment = mayFill && good > 1 ? this.#search(cursor, want, 1) : undefined
    if (fragment) return fragment
    const grown = this.#tryGrow()
    const run = grown ? this.#search(cursor, want, good) : this.#search(cursor, want, 1)
    if (run) return run
    throw new UmbraError('OUT_OF_SPACE', `No free block is left in ${this.#storage.name}`)
  }

  /** Sets a free run aside. */
  take(run: PhysicalRun): void {
    const group = groupOf(run.start)
    this.#group(group).take(run.start - groupStart(group), run.count)
    this.#available[group] = (this.#available[group] as number) - run.count
    this.#availableTotal -= run.count
  }

  /** Puts taken blocks to use. */
  use(start: number, count: number): void {
    const group = groupOf(start)
    this.#group(group).use(start - groupStart(group), count)
    this.#usedTotal += count
  }

  /** Takes blocks out of use; they stay taken until released. */
  unuse(start: number, count: number): void {
    const group = groupOf(start)
    this.#group(group).unuse(start - groupStart(group), count)
    this.#usedTotal -= count
  }

  /** Keeps freed blocks set aside: they are as if never handed out, but not available. */
  retake(start: number, count: number): void {
    this.release(start, count)
    this.take({ start, count })
  }

  /** Makes blocks available again. */
  release(start: number, count: number): void {
    const group = groupOf(start)
    this.#group(group).release(start - groupStart(group), count)
    this.#available[group] = (this.#available[group] as number) + count
    this.#availableTotal += count
    this.#longestRun[group] = BLOCKS_PER_GROUP
  }

  /** Whether a block was handed out since the last cut. */
  isFresh(physicalBlock: number): boolean {
    const group = groupOf(physicalBlock)
    const loaded = this.#groups.get(group)
    return loaded?.hasFresh === true && isBitSet(loaded.fresh, physicalBlock - groupStart(group))
  }

  /** Whether every block of a run was handed out since the last cut. */
  isFreshRun(start: number, count: number): boolean {
    const group = groupOf(start)
    const loaded = this.#groups.get(group)
    return loaded?.hasFresh === true && areAllSet(loaded.fresh, start - groupStart(group), count)
  }

  /** The runs of available blocks within [start, +count), cut to its group. */
  *freeRuns(start: number, count: number): Iterable<PhysicalRun> {
    const group = groupOf(start)
    const base = groupStart(group)
    const { taken } = this.#group(group)
    const end = Math.min(BLOCKS_PER_GROUP, start - base + count)
    let at = nextClear(taken, start - base, end)
    while (at < end) {
      const runEnd = nextSet(taken, at, end)
      yield { start: base + at, count: runEnd - at }
      at = nextClear(taken, runEnd, end)
    }
  }

  /** Writes the changed bitmaps and tables to their other homes. @throws UmbraError IO_FAILED */
  cut(): void {
    for (const [group, loaded] of this.#groups) {
      if (loaded.dirty) {
        const home = this.#table.isWritten(group) ? 1 - this.#table.home(group) : 0
        const bytes = nodeBytes(loaded.used)
        this.#storage.write(bitmapHome(group, home) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, bytes, 0)
        this.#table.setBitmap(group, home, blockChecksum(bytes), loaded.usedFree)
        loaded.dirty = false
      }
      loaded.settle()
    }
    this.#table.writeChanged()
    if (this.#groups.size > LOADED_GROUPS_MAX) this.#dropIdle()
  }

  #search(cursor: Cursor, want: number, least: number): PhysicalRun | undefined {
    const { groupCount } = this.#table
    const first = Math.min(cursor.group, groupCount - 1)
    for (let i = 0; i <= groupCount; i++) {
      const group = (first + i) % groupCount
      if ((this.#available[group] as number) < least || (this.#longestRun[group] as number) < least) continue
      const from = i === 0 && group === cursor.group ? cursor.offset : 0
      const run = this.#searchGroup(group, from, want, least)
      if (!run) continue
      cursor.group = group
      cursor.offset = run.start - groupStart(group) + run.count
      return run
    }
    return undefined
  }

  #searchGroup(group: number, from: number, want: number, least: number): PhysicalRun | undefined {
    const { taken } = this.#group(group)
    let longest = 0
    let at = nextClear(taken, from, BLOCKS_PER_GROUP)
    while (at < BLOCKS_PER_GROUP) {
      const end = nextSet(taken, at, Math.min(BLOCKS_PER_GROUP, at + want))
      if (end - at >= least) return { start: groupStart(group) + at, count: end - at }
      longest = Math.max(longest, end - at)
      at = nextClear(taken, end, BLOCKS_PER_GROUP)
    }
    if (from === 0) this.#longestRun[group] = longest
    return undefined
  }

  #tryGrow(): boolean {
    const group = this.#table.groupCount
    if (group >= GROUPS_MAX) return false
    const startBytes = groupStart(group) * BLOCK_SIZE_BYTES
    const homes = fixedRuns(group)[0]?.count ?? 0
    try {
      this.#storage.truncate(startBytes + BLOCKS_PER_GROUP * BLOCK_SIZE_BYTES)
      if (this.#storage.supports.reserve) this.#storage.reserve(startBytes, homes * BLOCK_SIZE_BYTES)
    } catch (error) {
      if (error instanceof UmbraError && error.code === 'OUT_OF_SPACE') return false
      throw error
    }
    this.#table.addGroup()
    this.#count(group)
    return true
  }

  #count(group: number): void {
    const free = this.#table.freeCount(group)
    this.#available[group] = free
    this.#availableTotal += free
    this.#usedTotal += BLOCKS_PER_GROUP - free
  }

  #group(group: number): AllocationGroup {
    const loaded = this.#groups.get(group)
    if (loaded) return loaded
    if (group >= this.#table.groupCount) {
      throw new UmbraError(
        'CORRUPT',
        `A block in allocation group ${group}, which is not there, is referred to`,
      )
    }
    const read = new AllocationGroup(readBitmap(this.#storage, this.#table, group))
    this.#groups.set(group, read)
    return read
  }

  #dropIdle(): void {
    for (const [group, loaded] of this.#groups) {
      if (this.#groups.size <= LOADED_GROUPS_MAX / 2) return
      if (!loaded.dirty && loaded.takenFree === loaded.usedFree) this.#groups.delete(group)
    }
  }
}
