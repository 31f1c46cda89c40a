// A check's view of space: what the committed bitmaps say, and what was reached.
//
// Always true: each block is claimed once, by the one place that refers to it (a place shared by
// snapshots counts as one); fixed blocks are claimed from the start.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { BITMAP_WORDS, freshBitmap } from './allocation-group.ts'
import { type BitmapWords, countSet, nextSet } from './bitmap.ts'
import { BlockSet } from './block-set.ts'
import type { FindingLog, LeakedRun } from './check-report.ts'
import { FINDINGS_KEPT } from './check-report.ts'
import {
  BLOCKS_PER_GROUP,
  bitmapHome,
  fixedBlockCount,
  fixedRuns,
  GROUPS_PER_TABLE,
  groupStart,
  tableHome,
} from './group-layout.ts'
import { GROUP_RECORD } from './group-table.ts'
import { blockChecksum, nodeBytes } from './map-node.ts'
import type { Superblock } from './superblock.ts'

/** What a group's record says. */
export interface GroupState {
  readonly checksum: number
  readonly freeCount: number
  readonly home: number
  readonly isWritten: boolean
}

export class AllocationCheck {
  readonly groupCount: number
  /** By the groups' records. */
  readonly allocatedBlocks: number
  readonly reached = new BlockSet()
  /** Groups whose committed bitmap is damaged or differs from what was reached. */
  readonly wrongGroups = new Set<number>()
  /** Table blocks that cannot be read. */
  readonly damagedTables = new Set<number>()
  readonly #storage: BlockStorage
  readonly #log: FindingLog
  readonly #groups: GroupState[] = []
  #reachedBlocks = 0

  constructor(storage: BlockStorage, superblock: Superblock, log: FindingLog) {
    this.#storage = storage
    this.#log = log
    this.groupCount = superblock.physicalBlockCount / BLOCKS_PER_GROUP
    let allocated = 0
    for (const [table, pointer] of superblock.tables.entries()) {
      this.#loadTable(table, pointer.home, pointer.checksum)
    }
    for (let group = 0; group < this.groupCount; group++) {
      this.#reachedBlocks += fixedBlockCount(group)
      allocated += BLOCKS_PER_GROUP - (this.#groups[group]?.freeCount ?? BLOCKS_PER_GROUP)
    }
    this.allocatedBlocks = allocated
  }

  /** Fixed blocks included. */
  get reachedBlocks(): number {
    return this.#reachedBlocks
  }

  /** Notes that `where` refers to the block. @returns false, after reporting, if it may not */
  claim(physicalBlock: number, where: string): boolean {
    const group = Math.floor(physicalBlock / BLOCKS_PER_GROUP)
    if (physicalBlock < 1 || group >= this.groupCount) {
      this.#log.addBlind('OUT_OF_RANGE', where, `It points at block ${physicalBlock} of the volume file`)
      return false
    }
    const within = physicalBlock - groupStart(group)
    if (fixedRuns(group).some((run) => within >= run.start && within < run.start + run.count)) {
      this.#log.add(
        'DOUBLE_USE',
        where,
        `Block ${physicalBlock} has a fixed purpose and is used here as well`,
      )
      return false
    }
    if (!this.reached.add(physicalBlock)) {
      this.#log.add('DOUBLE_USE', where, `Block ${physicalBlock} is used here and somewhere else`)
      return false
    }
    this.#reachedBlocks++
    return true
  }

  /** Compares what was reached with the committed bitmaps. @returns what nobody reached */
  compare(): { blockCount: number; runs: LeakedRun[] } {
    const runs: LeakedRun[] = []
    let blockCount = 0
    for (let group = 0; group < this.groupCount; group++) {
      const committed = this.#committed(group)
      if (committed === undefined) continue
      blockCount += this.#compareGroup(group, committed, runs)
    }
    return { blockCount, runs }
  }

  /** The group's record; undefined: its table block is damaged. */
  state(group: number): GroupState | undefined {
    return this.#groups[group]
  }

  /** What the group's bitmap should be. */
  rightBitmap(group: number): BitmapWords {
    const words = freshBitmap(group)
    for (const [i, word] of this.reached.group(group).entries()) words[i] = (words[i] as number) | word
    return words
  }

  #compareGroup(group: number, committed: BitmapWords, runs: LeakedRun[]): number {
    const right = this.rightBitmap(group)
    const lost = new Uint32Array(BITMAP_WORDS)
    const missing = new Uint32Array(BITMAP_WORDS)
    for (let i = 0; i < BITMAP_WORDS; i++) {
      lost[i] = (committed[i] as number) & ~(right[i] as number)
      missing[i] = (right[i] as number) & ~(committed[i] as number)
    }
    const missingCount = countSet(missing)
    const lostCount = countSet(lost)
    if (missingCount > 0) {
      const first = groupStart(group) + nextSet(missing, 0, BLOCKS_PER_GROUP)
      const message = `${missingCount} blocks are in use but marked free, the first is ${first}`
      this.#log.add('NOT_ALLOCATED', `allocation group ${group}`, message)
    }
    if (missingCount + lostCount > 0) this.wrongGroups.add(group)
    let at = nextSet(lost, 0, BLOCKS_PER_GROUP)
    while (at < BLOCKS_PER_GROUP && runs.length < FINDINGS_KEPT) {
      let end = at + 1
      while (end < BLOCKS_PER_GROUP && nextSet(lost, end, end + 1) === end) end++
      runs.push({ physicalBlock: groupStart(group) + at, blockCount: end - at })
      at = nextSet(lost, end, BLOCKS_PER_GROUP)
    }
    return lostCount
  }

  #committed(group: number): BitmapWords | undefined {
    const state = this.#groups[group]
    if (state === undefined) return undefined
    const where = `allocation group ${group}`
    const words = state.isWritten ? new Uint32Array(BITMAP_WORDS) : freshBitmap(group)
    if (state.isWritten) {
      const bytes = nodeBytes(words)
      if (!this.#readBlock(bitmapHome(group, state.home), bytes, 'BITMAP_DAMAGED', where)) return undefined
      if (blockChecksum(bytes) !== state.checksum) {
        this.#log.add('BITMAP_DAMAGED', where, 'The checksum of its bitmap is wrong')
        this.wrongGroups.add(group)
        return undefined
      }
    }
    const free = BLOCKS_PER_GROUP - countSet(words)
    if (free !== state.freeCount) {
      this.#log.add('BITMAP_COUNT', where, `${free} blocks are free, ${state.freeCount} are recorded`)
      this.wrongGroups.add(group)
    }
    return words
  }

  #loadTable(table: number, home: number, checksum: number): void {
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    const where = `allocation table ${table}`
    const isRead = this.#readBlock(tableHome(table, home), block, 'TABLE_DAMAGED', where)
    if (isRead && blockChecksum(block) !== checksum) {
      this.#log.add('TABLE_DAMAGED', where, 'Its checksum is wrong')
    }
    if (!isRead || blockChecksum(block) !== checksum) {
      this.damagedTables.add(table)
      return
    }
    const first = table * GROUPS_PER_TABLE
    for (let group = first; group < Math.min(this.groupCount, first + GROUPS_PER_TABLE); group++) {
      const record = GROUP_RECORD.decode(block, (group - first) * GROUP_RECORD.sizeBytes)
      this.#groups[group] = {
        checksum: record.checksum,
        freeCount: record.freeCount,
        home: record.flags & 1,
        isWritten: (record.flags & 2) !== 0,
      }
    }
  }

  #readBlock(
    physicalBlock: number,
    target: Uint8Array,
    code: 'TABLE_DAMAGED' | 'BITMAP_DAMAGED',
    where: string,
  ): boolean {
    try {
      this.#storage.readSync(physicalBlock * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, target, 0)
      return true
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
      this.#log.add(code, where, error.message)
      return false
    }
  }
}
