// Walks everything in a volume and names what is wrong: the judge of every other file in this room.
//
// It reads the storage, not the state of an open volume: superblocks, allocation tables and bitmaps,
// every tree, the catalog, dead lists, the to-free list and the side table, as the last commit left
// them. Snapshots are checked in line, oldest first and the present last, each against the one before
// (tree-compare.ts), so shared parts are read once and every dead list is proved from both sides.
// Always true: nothing is written; damage is reported, never thrown, once a superblock was found;
// memory is a bitmap of the groups in use and the runs that one step of the line dropped.

import { UmbraError } from '../base/errors.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { Allocator } from './allocator.ts'
import { Catalog, type PointRecord } from './catalog.ts'
import { AllocationCheck } from './check-allocation.ts'
import { type CheckCounts, type CheckReport, FindingLog } from './check-report.ts'
import { StructureCheck } from './check-structures.ts'
import { DroppedBlocks } from './dropped-blocks.ts'
import { FreeQueue } from './free-queue.ts'
import { GroupTable } from './group-table.ts'
import { MetadataPool } from './metadata-pool.ts'
import { MetadataStore } from './metadata-store.ts'
import { NodeCache } from './node-cache.ts'
import { Puncher } from './puncher.ts'
import { ReadTickets } from './read-tickets.ts'
import type { ObjectPointer, Superblock } from './superblock.ts'
import { chooseSuperblock } from './superblock-slots.ts'
import { type CheckedTree, TreeCompare } from './tree-compare.ts'

const CACHE_BYTES = 16 * 1024 * 1024

export interface CheckOptions {
  /** Called now and then with the blocks reached so far and what the bitmaps promise. */
  readonly onProgress?: (reachedBlocks: number, allocatedBlocks: number) => void
}

/**
 * Checks the volume in a storage that nobody writes to meanwhile.
 * @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH,
 *   CORRUPT, TRUNCATED where no superblock can be used; IO_FAILED
 */
export function checkVolume(storage: BlockStorage, options: CheckOptions = {}): CheckReport {
  return new VolumeCheck(storage, options).run()
}

/** A metadata store for reading only: nothing in it is ever allocated. */
function readingStore(storage: BlockStorage): MetadataStore {
  const allocator = new Allocator(storage, GroupTable.fresh(storage))
  const pool = new MetadataPool(storage, allocator)
  const frees = new FreeQueue(allocator, pool, new Puncher(storage, allocator), new ReadTickets(), 0)
  return new MetadataStore(storage, allocator, pool, frees, new NodeCache(storage, CACHE_BYTES))
}

export class VolumeCheck {
  readonly log = new FindingLog()
  readonly superblock: Superblock
  readonly allocation: AllocationCheck
  readonly #options: CheckOptions
  readonly #store: MetadataStore
  readonly #structures: StructureCheck
  readonly #counts: CheckCounts

  constructor(storage: BlockStorage, options: CheckOptions) {
    const chosen = chooseSuperblock(storage, true)
    this.superblock = chosen.superblock
    this.#options = options
    this.#store = readingStore(storage)
    this.allocation = new AllocationCheck(storage, this.superblock, this.log)
    this.#structures = new StructureCheck(this.#store, this.allocation, this.log)
    this.#counts = {
      snapshots: 0,
      bookmarks: 0,
      groups: this.allocation.groupCount,
      reachedBlocks: 0,
      allocatedBlocks: this.allocation.allocatedBlocks,
      liveBlocks: 0,
      toFreeBlocks: 0,
    }
    for (const copy of chosen.badCopies) {
      const where = `superblock slot ${copy.slot}, copy ${copy.copy}, block ${copy.physicalBlock}`
      // The other slot is written next: a copy that is bad there is an unfinished commit's, or none yet.
      if (copy.slot === this.superblock.transaction % 2) this.log.add('SUPERBLOCK_COPY', where, copy.reason)
      else this.log.notes.push(`${where}: ${copy.reason}`)
    }
  }

  run(): CheckReport {
    const { superblock, log } = this
    this.#structures.object(superblock.catalog.root, 'the catalog')
    this.#structures.object(superblock.sideTable.root, 'the side table')
    const records = this.#readCatalog()
    if (records) this.#checkLine(records.snapshots)
    for (const bookmark of records?.bookmarks ?? []) this.#structures.windowList(bookmark, nameOf(bookmark))
    const toFree = this.#structures.list(superblock.toFree, 'the to-free list', (start, count) => {
      for (let block = start; block < start + count; block++) {
        this.allocation.claim(block, 'the to-free list')
      }
    })
    this.#counts.toFreeBlocks = toFree
    if (toFree !== superblock.toFree.blockCount && log.isComplete) {
      log.add(
        'COUNT_WRONG',
        'the to-free list',
        `It names ${toFree} blocks, not ${superblock.toFree.blockCount}`,
      )
    }
    const leaks = this.allocation.compare()
    this.#counts.reachedBlocks = this.allocation.reachedBlocks
    this.#progress()
    return {
      transaction: superblock.transaction,
      errors: log.errors,
      errorCount: log.errorCount,
      leaks: log.isComplete ? leaks : { blockCount: 0, runs: [] },
      isComplete: log.isComplete,
      notes: log.notes,
      counts: this.#counts,
    }
  }

  #readCatalog(): Catalog | undefined {
    try {
      const catalog = new Catalog(this.#store, this.superblock.catalog)
      this.#counts.snapshots = catalog.snapshots.length
      this.#counts.bookmarks = catalog.bookmarks.length
      this.#checkPoints([...catalog.snapshots, ...catalog.bookmarks], catalog.snapshots.at(-1))
      return catalog
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
      this.log.addBlind('OBJECT_DAMAGED', 'the catalog', error.message)
      return undefined
    }
  }

  #checkPoints(points: readonly PointRecord[], newest: PointRecord | undefined): void {
    const names = new Set<string>()
    const epochs = new Set<number>()
    for (const point of points) {
      const where = nameOf(point)
      if (names.has(point.name) || names.has(point.id)) {
        this.log.add('POINT_ORDER', where, 'Its name or id is there twice')
      }
      if (epochs.has(point.epoch)) this.log.add('POINT_ORDER', where, `Epoch ${point.epoch} is there twice`)
      if (point.epoch < 1 || point.epoch >= this.superblock.epoch) {
        const message = `Its epoch is ${point.epoch}, the present's ${this.superblock.epoch}`
        this.log.add('POINT_ORDER', where, message)
      }
      if (!point.isSealed && point !== newest)
        this.log.add('POINT_ORDER', where, 'It is unsealed, but not the newest')
      names.add(point.name).add(point.id)
      epochs.add(point.epoch)
    }
  }

  /** The snapshots from the oldest on, then the present, each against the one before. */
  #checkLine(snapshots: readonly PointRecord[]): void {
    const { superblock } = this
    const boundaries = snapshots.map((snapshot) => snapshot.epoch)
    let before: CheckedTree | null = null
    let referenced = 0
    let ofWindow = new DroppedBlocks()
    for (const snapshot of snapshots) {
      const { root, cutRoot, epoch, blockCount, deadList, deadBlocks, referencedBlocks } = snapshot
      const tree: CheckedTree = { name: nameOf(snapshot), root: cutRoot ?? root, epoch, blockCount }
      referenced = this.#checkStep(tree, before, referenced, deadList, boundaries, ofWindow, deadBlocks)
      ofWindow = this.#checkWindow(snapshot)
      const kept = referenced + ofWindow.blockCount
      this.#checkCount(tree.name, 'blocks are referred to', kept, referencedBlocks)
      before = tree
    }
    const { liveRoot: root, epoch, blockCount, deadList } = superblock
    const present: CheckedTree = { name: 'the present', root, epoch, blockCount }
    referenced = this.#checkStep(present, before, referenced, deadList, boundaries, ofWindow)
    this.#counts.liveBlocks = referenced
    this.#checkCount(present.name, 'blocks are referred to', referenced, superblock.liveBlocks)
  }

  /** @returns what the window of a snapshot wrote: blocks that its successor's dead list must name too */
  #checkWindow(snapshot: PointRecord): DroppedBlocks {
    const written = new DroppedBlocks()
    const { root, cutRoot, epoch, blockCount, isSealed } = snapshot
    const name = nameOf(snapshot)
    if (!isSealed) this.log.notes.push(`${name} was not sealed: opening the volume for writing deletes it`)
    if (cutRoot === null) return written
    const changes = {
      came: (block: number, where: string) => {
        written.add(block, epoch)
        return this.allocation.claim(block, where)
      },
      // The tree as it was cut goes on referring to it.
      went: () => {},
    }
    const cut: CheckedTree = { name: `${name} as it was cut`, root: cutRoot, epoch: epoch - 1, blockCount }
    const sealed: CheckedTree = { name, root, epoch, blockCount }
    const { physicalBlockCount } = this.superblock
    new TreeCompare(this.#store.cache, this.log, changes, physicalBlockCount, sealed, cut).run()
    this.#structures.windowList(snapshot, name)
    return written
  }

  /**
   * @param dropped what its dead list must name beside what went between the trees
   * @returns blocks that the tree refers to
   */
  #checkStep(
    tree: CheckedTree,
    before: CheckedTree | null,
    referencedBefore: number,
    deadList: ObjectPointer,
    boundaries: readonly number[],
    dropped: DroppedBlocks,
    deadBlocks?: number,
  ): number {
    const windowCount = dropped.blockCount
    let cameCount = 0
    const changes = {
      came: (block: number, where: string) => {
        cameCount++
        return this.allocation.claim(block, where)
      },
      went: (block: number, birth: number) => dropped.add(block, birth),
    }
    const { physicalBlockCount } = this.superblock
    new TreeCompare(this.#store.cache, this.log, changes, physicalBlockCount, tree, before).run()
    const listed = this.#structures.deadList(deadList, `the dead list of ${tree.name}`, dropped, boundaries)
    if (deadBlocks !== undefined)
      this.#checkCount(tree.name, 'blocks are in its dead list', listed, deadBlocks)
    this.#progress()
    return referencedBefore + cameCount - (dropped.blockCount - windowCount)
  }

  #checkCount(where: string, what: string, found: number, recorded: number): void {
    if (found === recorded || !this.log.isComplete) return
    this.log.add('COUNT_WRONG', where, `${found} ${what}, ${recorded} are recorded`)
  }

  #progress(): void {
    this.#options.onProgress?.(this.allocation.reachedBlocks, this.allocation.allocatedBlocks)
  }
}

function nameOf(point: PointRecord): string {
  return `${point.kind} ${point.name}`
}
