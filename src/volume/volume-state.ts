// Everything an open volume holds in memory, made from one superblock: the state being built on top
// of the newest committed one.
//
// Always true: dropping a state and making a new one from the last durable superblock undoes
// everything uncommitted. What the present refers to no longer is freed if it was born after the
// newest snapshot, and is put on the present's dead list otherwise; nodes count like data.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { Allocator, type Cursor } from './allocator.ts'
import { Catalog, type PointRecord } from './catalog.ts'
import { DeadList, EMPTY_DEAD_LIST } from './dead-list.ts'
import { FreeQueue } from './free-queue.ts'
import { BLOCKS_PER_GROUP, INTENT_LOG_BLOCKS, INTENT_LOG_START } from './group-layout.ts'
import { GroupTable } from './group-table.ts'
import { ENTRY_FLAG_META, ENTRY_NODE } from './map-node.ts'
import { MetadataPool } from './metadata-pool.ts'
import { MetadataStore } from './metadata-store.ts'
import { NodeCache } from './node-cache.ts'
import type { SpaceReport } from './points.ts'
import { Puncher } from './puncher.ts'
import { RadixTree, type TreeOwner } from './radix-tree.ts'
import type { ReadTickets } from './read-tickets.ts'
import { SideTable } from './side-table.ts'
import type { SpacePolicy } from './space-policy.ts'
import { FEATURE_SHADOWS, FEATURE_WINDOWS, type Superblock } from './superblock.ts'
import { ToFreeList } from './to-free-list.ts'
import type { WindowBlocks } from './window-blocks.ts'
import { WriteAhead } from './write-ahead.ts'

const FREE_NOW = -1
const RUN_BLOCKS_MAX = 0xffff
/** The intent log ends here in group 0; data is laid out from the start of a group on. */
const FIRST_DATA_BLOCK = INTENT_LOG_START + INTENT_LOG_BLOCKS
/** List nodes of deleted snapshots that an ordinary commit frees. */
const DRAIN_NODES_PER_COMMIT = 2

export class VolumeState implements TreeOwner {
  readonly storage: BlockStorage
  readonly allocator: Allocator
  readonly pool: MetadataPool
  readonly puncher: Puncher
  readonly frees: FreeQueue
  readonly writeAhead: WriteAhead
  readonly cache: NodeCache
  readonly store: MetadataStore
  readonly map: RadixTree
  readonly catalog: Catalog
  readonly toFree: ToFreeList
  readonly sideTable: SideTable
  readonly dataCursor: Cursor = { group: 0, offset: FIRST_DATA_BLOCK }
  /** The present's dead list. */
  deadList: DeadList
  /** Transaction being built. */
  transaction: number
  epoch: number
  /** Virtual size of the present. */
  blockCount: number
  /** Blocks the present refers to: data and nodes. */
  liveBlocks: number
  policy: SpacePolicy
  /** Set by whatever changes the state without making a node dirty. */
  isDirty = false
  /** What the unsealed snapshot's auto-recovery window has written, which nothing committed knows of. */
  window: WindowBlocks | undefined
  /** The superblock of the last cut, or the one opened. */
  lastCut: Superblock
  readonly #snapshotLists = new Map<number, DeadList>()
  #killStart = 0
  #killCount = 0
  #killKey = FREE_NOW
  #killIsMetadata = false
  #lastBirth = -1
  #lastKey = FREE_NOW

  /** @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
  constructor(storage: BlockStorage, superblock: Superblock, reads: ReadTickets, cacheBytes: number) {
    const groupCount = superblock.physicalBlockCount / BLOCKS_PER_GROUP
    this.storage = storage
    this.allocator = new Allocator(storage, new GroupTable(storage, groupCount, superblock.tables))
    this.pool = new MetadataPool(storage, this.allocator)
    this.puncher = new Puncher(storage, this.allocator)
    this.frees = new FreeQueue(this.allocator, this.pool, this.puncher, reads, superblock.transaction)
    this.writeAhead = new WriteAhead(storage, this.allocator)
    this.cache = new NodeCache(storage, cacheBytes)
    this.store = new MetadataStore(storage, this.allocator, this.pool, this.frees, this.cache)
    this.map = new RadixTree(this.store, this, superblock.liveRoot)
    this.catalog = new Catalog(this.store, superblock.catalog)
    this.deadList = new DeadList(this.store, superblock.deadList)
    this.toFree = new ToFreeList(this.store, this.frees, superblock.toFree)
    this.sideTable = new SideTable(this.store, superblock.sideTable)
    this.transaction = superblock.transaction + 1
    this.epoch = superblock.epoch
    this.blockCount = superblock.blockCount
    this.liveBlocks = superblock.liveBlocks
    this.policy = superblock.policy
    this.lastCut = superblock
  }

  get hasChanges(): boolean {
    return this.isDirty || this.map.dirtyCount > 0 || !this.toFree.isEmpty
  }

  /** Nothing has changed since the last cut, and no space is being given back. */
  get isAtRest(): boolean {
    return !this.isDirty && this.map.dirtyCount === 0 && this.puncher.isIdle
  }

  /** Births that new holes get; 0 where no point could ask about them. */
  get holeBirth(): number {
    return this.catalog.oldestPointEpoch === undefined ? 0 : this.epoch
  }

  get forgettableBirth(): number {
    return this.catalog.oldestPointEpoch ?? Number.POSITIVE_INFINITY
  }

  addedNode(): void {
    this.liveBlocks++
  }

  /** The present refers to this block no longer. Takes effect with settleKills() at the latest. */
  dropped(physicalBlock: number, birth: number, flags: number): void {
    this.liveBlocks--
    this.isDirty = true
    const key = this.#keyOf(birth)
    const isMetadata = flags === ENTRY_NODE || (flags & ENTRY_FLAG_META) !== 0
    const continues =
      this.#killCount > 0 &&
      physicalBlock === this.#killStart + this.#killCount &&
      key === this.#killKey &&
      isMetadata === this.#killIsMetadata &&
      this.#killCount < RUN_BLOCKS_MAX &&
      physicalBlock % BLOCKS_PER_GROUP !== 0
    if (continues) {
      this.#killCount++
      return
    }
    this.settleKills()
    this.#killStart = physicalBlock
    this.#killCount = 1
    this.#killKey = key
    this.#killIsMetadata = isMetadata
  }

  /** Ends an operation: what it dropped is accounted for. */
  settleKills(): void {
    const count = this.#killCount
    if (count === 0) return
    this.#killCount = 0
    if (this.#killKey !== FREE_NOW) this.deadList.append(this.#killKey, this.#killStart, count)
    else if (this.#killIsMetadata) this.store.freeRun(this.#killStart, count)
    else this.frees.free(this.#killStart, count, false)
  }

  /** A snapshot's dead list, read when first asked for. @throws UmbraError CHECKSUM_MISMATCH, CORRUPT */
  deadListOf(snapshot: PointRecord): DeadList {
    let list = this.#snapshotLists.get(snapshot.slot)
    if (list === undefined) {
      list = new DeadList(this.store, snapshot.deadList)
      this.#snapshotLists.set(snapshot.slot, list)
    }
    return list
  }

  /** The present's dead list becomes the snapshot's, and the present begins a new one. */
  handDeadListTo(snapshot: PointRecord): void {
    this.deadList.dropTails()
    this.#snapshotLists.set(snapshot.slot, this.deadList)
    this.deadList = new DeadList(this.store, EMPTY_DEAD_LIST)
    this.forgetKeys()
  }

  forgetDeadListOf(snapshot: PointRecord): void {
    this.#snapshotLists.delete(snapshot.slot)
  }

  /** The snapshots changed: births have other keys now. */
  forgetKeys(): void {
    this.#lastBirth = -1
  }

  /** Blocks that only snapshots hold. */
  get deadBlocks(): number {
    return this.deadList.blockCount + this.catalog.deadBlocks + this.#windowBlocks
  }

  /** What snapshots alone may hold; Infinity: anything. */
  get limitBlocks(): number {
    const { snapshotLimitBytes } = this.policy
    return snapshotLimitBytes === null
      ? Number.POSITIVE_INFINITY
      : Math.floor(snapshotLimitBytes / BLOCK_SIZE_BYTES)
  }

  space(): SpaceReport {
    const pending = this.frees.pendingBlocks + this.toFree.blockCount + this.puncher.queuedBlocks
    return {
      liveBytes: this.liveBlocks * BLOCK_SIZE_BYTES,
      snapshotBytes: this.deadBlocks * BLOCK_SIZE_BYTES,
      allocatedBytes: (this.allocator.usedBlocks + this.#windowBlocks) * BLOCK_SIZE_BYTES,
      pendingFreeBytes: pending * BLOCK_SIZE_BYTES,
      virtualBytes: this.blockCount * BLOCK_SIZE_BYTES,
    }
  }

  /** Writes the block map, so that map.root is right and may become a snapshot's. */
  writeMap(): void {
    if (this.map.dirtyCount > 0) this.isDirty = true
    this.map.writeDirty()
    this.settleKills()
    this.deadList.writeTails()
  }

  /**
   * The end of a cut: writes everything else but the superblock.
   * @returns the superblock that makes it count
   */
  finishCut(drainNodes = DRAIN_NODES_PER_COMMIT): Superblock {
    this.toFree.drain(drainNodes)
    this.toFree.settle()
    this.deadList.settle()
    this.deadList.dropTails()
    this.sideTable.settle()
    this.catalog.settle()
    this.store.flush()
    const transaction = this.transaction++
    this.frees.cut(transaction)
    this.allocator.cut()
    this.writeAhead.cut()
    this.isDirty = false
    this.lastCut = {
      ...this.lastCut,
      transaction,
      incompatibleFeatures: withBit(
        this.lastCut.incompatibleFeatures,
        FEATURE_WINDOWS,
        this.catalog.windowCount > 0,
      ),
      readOnlyFeatures: withBit(this.lastCut.readOnlyFeatures, FEATURE_SHADOWS, this.catalog.shadowCount > 0),
      epoch: this.epoch,
      blockCount: this.blockCount,
      physicalBlockCount: this.allocator.physicalBlockCount,
      liveRoot: this.map.root,
      liveBlocks: this.liveBlocks,
      policy: this.policy,
      catalog: this.catalog.pointer,
      deadList: this.deadList.pointer,
      sideTable: this.sideTable.pointer,
      toFree: this.toFree.head,
      tables: [...this.allocator.table.tables],
    }
    return this.lastCut
  }

  /** Gives back what the host holds for nothing, when the volume is closed. */
  async releaseSpace(): Promise<void> {
    await this.puncher.drain()
    for (const run of this.pool.takeAll()) {
      // Released only then: somebody may still be writing, who must not get what is being punched.
      if (this.storage.supports.punch) {
        await this.storage.punch(run.start * BLOCK_SIZE_BYTES, run.count * BLOCK_SIZE_BYTES)
      }
      this.allocator.release(run.start, run.count)
    }
  }

  get #windowBlocks(): number {
    return this.window?.blockCount ?? 0
  }

  #keyOf(birth: number): number {
    if (birth === this.#lastBirth) return this.#lastKey
    this.#lastBirth = birth
    this.#lastKey = birth > this.catalog.newestSnapshotEpoch ? FREE_NOW : this.catalog.boundaryBelow(birth)
    return this.#lastKey
  }
}

function withBit(features: number, bit: number, isSet: boolean): number {
  return isSet ? features | bit : features & ~bit
}
