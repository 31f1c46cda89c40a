// What is done to snapshots and bookmarks inside a commit's cut, and what they cost.
//
// Always true: an action runs when the block map is written and nothing is dirty; it checks and
// makes room before it changes anything, and what it changes is committed by the same superblock.
// Deleting a snapshot moves whole buckets: what only it held goes to the to-free list, the rest
// joins the next one's dead list.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { randomUuid } from '../base/uuid.ts'
import { CATALOG_SLOTS_MAX, checkName, type PointRecord } from './catalog.ts'
import { BUCKETS_MAX, type DeadList, EMPTY_DEAD_LIST } from './dead-list.ts'
import type { ShadowProperties, SnapshotSizes, TreeRoot, WindowRuns } from './points.ts'
import type { Room } from './room.ts'
import { emptyRoot } from './small-object.ts'
import { CLIENT_ACCESSIBLE_MAX, isClientAccessible } from './space-policy.ts'
import type { ListPointer } from './superblock.ts'
import type { VolumeState } from './volume-state.ts'
import type { WindowBlocks } from './window-blocks.ts'
import { blocksOfWindowList, windowListBlocks, writeWindowList } from './window-list.ts'

/** Snapshots a volume can have: a dead list may need a bucket for each. */
export const SNAPSHOTS_MAX = BUCKETS_MAX - 1
/** Catalog and directory blocks that changing one record takes. */
const RECORD_BLOCKS = 12

/** What an auto-recovery window has made of its snapshot. */
export interface WindowResult {
  readonly root: TreeRoot
  readonly blocks: WindowBlocks
  /** Pairs of first virtual block and count; empty: nothing is different. */
  readonly runs: readonly number[]
}

export class SnapshotActions {
  readonly #state: VolumeState
  readonly #room: Room

  constructor(state: VolumeState, room: Room) {
    this.#state = state
    this.#room = room
  }

  /** @throws UmbraError INVALID_NAME, ALREADY_EXISTS, BUSY while a snapshot is unsealed, LIMIT_EXCEEDED */
  checkNew(name: string): void {
    checkName(name)
    const { catalog } = this.#state
    if (catalog.find(name) !== undefined) {
      throw new UmbraError('ALREADY_EXISTS', `The volume has a snapshot or bookmark ${JSON.stringify(name)}`)
    }
    if (catalog.unsealed !== undefined) {
      const made = JSON.stringify(catalog.unsealed.name)
      throw new UmbraError(
        'BUSY',
        `The shadow copy ${made} is being made; nothing is kept beside it until then`,
      )
    }
    const pointCount = catalog.snapshots.length + catalog.bookmarks.length
    if (catalog.snapshots.length >= SNAPSHOTS_MAX || pointCount >= CATALOG_SLOTS_MAX) {
      throw new UmbraError('LIMIT_EXCEEDED', `The volume has ${pointCount} snapshots and bookmarks, the most`)
    }
  }

  /** @param as unsealed, it is not listed and its auto-recovery window is open; the id is no other point's */
  createSnapshot(
    name: string,
    shadow: ShadowProperties | null,
    as: { readonly id: string; readonly isSealed: boolean } = { id: randomUuid(), isSealed: true },
  ): PointRecord {
    this.checkNew(name)
    this.#checkCount()
    if (isClientAccessible(shadow)) this.#checkClientAccessible()
    this.#room.ensure(RECORD_BLOCKS, 0, false)
    const { state } = this.#begin()
    state.deadList.settle()
    const record = state.catalog.add({
      ...this.#newPoint(name),
      ...as,
      kind: 'snapshot',
      root: state.map.root,
      cutRoot: null,
      referencedBlocks: state.liveBlocks,
      deadList: state.deadList.pointer,
      deadBlocks: state.deadList.blockCount,
      shadow,
      window: null,
    })
    state.handDeadListTo(record)
    state.epoch++
    return record
  }

  /** Where the policy limits how many there are, an older one must be free to go. */
  #checkCount(): void {
    const { policy, catalog } = this.#state
    const { snapshotCountLimit, whenFull } = policy
    if (snapshotCountLimit === null || catalog.snapshots.length < snapshotCountLimit) return
    if (whenFull === 'evict-oldest' && catalog.snapshots.some((record) => !record.pinned)) return
    throw new UmbraError(
      'LIMIT_EXCEEDED',
      `The volume has ${catalog.snapshots.length} snapshots, the most that its policy allows, and all of them are protected`,
    )
  }

  #checkClientAccessible(): void {
    const { policy, catalog } = this.#state
    if (catalog.shadowCount < CLIENT_ACCESSIBLE_MAX) return
    const all = catalog.snapshots.filter(({ shadow }) => isClientAccessible(shadow))
    if (all.length < CLIENT_ACCESSIBLE_MAX) return
    if (policy.whenFull === 'evict-oldest' && all.some((record) => !record.pinned)) return
    throw new UmbraError(
      'LIMIT_EXCEEDED',
      `The volume has ${all.length} client-accessible shadow copies, the most, and all of them are protected`,
    )
  }

  createBookmark(name: string): PointRecord {
    this.checkNew(name)
    this.#room.ensure(RECORD_BLOCKS, 0, false)
    const { state } = this.#begin()
    const record = state.catalog.add({
      ...this.#newPoint(name),
      kind: 'bookmark',
      ...NOTHING_HELD,
      window: null,
    })
    state.epoch++
    return record
  }

  /**
   * Lists the unsealed snapshot, with what its window has made of it. The window's blocks are from now on
   * what only the snapshot holds: its successor, the present, has them in its dead list, so that sizes
   * count them and deleting the snapshot frees them.
   * @throws UmbraError OUT_OF_SPACE with nothing changed
   */
  sealSnapshot(record: PointRecord, { root, blocks, runs }: WindowResult): PointRecord {
    const runCount = runs.length / 2
    const listBlocks = runCount === 0 ? 0 : windowListBlocks(runCount)
    this.#room.ensure(RECORD_BLOCKS + listBlocks, blocks.blockCount, false)
    const { state } = this.#begin()
    let sealed: PointRecord = { ...record, isSealed: true }
    if (runCount > 0) {
      blocks.use()
      const key = state.catalog.boundaryBelow(record.epoch)
      for (const { start, count } of blocks.runs()) state.deadList.append(key, start, count)
      state.deadList.writeTails()
      sealed = {
        ...sealed,
        root,
        cutRoot: record.root,
        referencedBlocks: record.referencedBlocks + blocks.blockCount,
        window: writeWindowList(state.store, runs),
      }
    }
    state.window = undefined
    state.catalog.replace(sealed)
    return sealed
  }

  deleteBookmark(record: PointRecord): void {
    const windowBlocks = this.#windowListOf(record)
    this.#room.ensure(RECORD_BLOCKS, windowBlocks.length, true)
    this.#begin().state.catalog.remove(record)
    for (const block of windowBlocks) this.#state.store.free(block)
  }

  setShadow(record: PointRecord, shadow: ShadowProperties): void {
    this.#room.ensure(RECORD_BLOCKS, 0, true)
    this.#begin().state.catalog.replace({ ...record, shadow })
  }

  setPinned(record: PointRecord, pinned: boolean): void {
    this.#room.ensure(RECORD_BLOCKS, 0, true)
    this.#begin().state.catalog.replace({ ...record, pinned })
  }

  deleteSnapshot(record: PointRecord, keepBookmark: boolean): void {
    const { before, after, next } = this.#neighbours(record)
    const own = this.#state.deadListOf(record)
    const buckets = own.bucketCount + next.bucketCount
    const windowBlocks = keepBookmark ? [] : this.#windowListOf(record)
    this.#room.ensure(2 * buckets + RECORD_BLOCKS, 0, true)
    const { state } = this.#begin()
    const boundary = before?.epoch ?? 0
    if (keepBookmark) state.catalog.replace({ ...record, kind: 'bookmark', pinned: false, ...NOTHING_HELD })
    else state.catalog.remove(record)
    for (const block of windowBlocks) state.store.free(block)
    const kept = new Map<number, ListPointer[]>()
    for (const [key, list] of next.lists()) {
      if (key >= boundary) state.toFree.add(list)
      else this.#keep(kept, key, list)
    }
    for (const [key, list] of own.lists()) this.#keep(kept, key, list)
    next.replaceBuckets(kept)
    own.replaceBuckets(new Map())
    state.forgetDeadListOf(record)
    state.forgetKeys()
    if (after === undefined) return
    next.settle()
    state.catalog.replace({ ...after, deadList: next.pointer, deadBlocks: next.blockCount })
  }

  sizesOf(record: PointRecord): SnapshotSizes {
    const { before, next } = this.#neighbours(record)
    const unique = next.blocksFrom(before?.epoch ?? 0)
    return {
      uniqueBytes: unique * BLOCK_SIZE_BYTES,
      sharedBytes: (record.referencedBlocks - unique) * BLOCK_SIZE_BYTES,
    }
  }

  /** Bytes that deleting all of these would free. */
  freedIfDeleted(records: readonly PointRecord[]): number {
    const { catalog } = this.#state
    const chosen = new Set(records.map((record) => record.slot))
    let blocks = 0
    let boundary = 0
    let isInRun = false
    for (const snapshot of catalog.snapshots) {
      // Of a dead list, what was born after the last snapshot that stays is held by the run alone.
      if (isInRun) blocks += this.#state.deadListOf(snapshot).blocksFrom(boundary)
      isInRun = chosen.has(snapshot.slot)
      if (!isInRun) boundary = snapshot.epoch
    }
    if (isInRun) blocks += this.#state.deadList.blocksFrom(boundary)
    return blocks * BLOCK_SIZE_BYTES
  }

  /** From here on, things change. */
  #begin(): { state: VolumeState } {
    this.#state.isDirty = true
    return { state: this.#state }
  }

  /** The blocks of its window list, read before anything is changed. */
  #windowListOf({ window }: { window: WindowRuns | null }): number[] {
    if (window === null) return []
    this.#state.store.flush()
    return blocksOfWindowList(this.#state.cache, window)
  }

  #newPoint(name: string) {
    return {
      id: randomUuid(),
      name,
      epoch: this.#state.epoch,
      createdAtMs: Date.now(),
      pinned: false,
      blockCount: this.#state.blockCount,
    }
  }

  #neighbours(record: PointRecord): {
    before: PointRecord | undefined
    after: PointRecord | undefined
    next: DeadList
  } {
    const { snapshots } = this.#state.catalog
    const at = snapshots.findIndex((other) => other.slot === record.slot)
    const after = snapshots[at + 1]
    const next = after === undefined ? this.#state.deadList : this.#state.deadListOf(after)
    return { before: snapshots[at - 1], after, next }
  }

  /** Adds a list to the bucket its key belongs to among the snapshots that are left. */
  #keep(kept: Map<number, ListPointer[]>, key: number, list: ListPointer): void {
    const boundary = this.#state.catalog.boundaryBelow(key + 1)
    const lists = kept.get(boundary)
    if (lists) lists.push(list)
    else kept.set(boundary, [list])
  }
}

/** What a bookmark has none of. */
const NOTHING_HELD = {
  root: emptyRoot(1),
  cutRoot: null,
  isSealed: true,
  shadow: null,
  referencedBlocks: 0,
  deadList: EMPTY_DEAD_LIST,
  deadBlocks: 0,
}
