// How many metadata blocks a change can take in the worst case, and setting them aside first.
//
// Always true: before anything changes, the pool holds enough blocks, reserved from the host, for
// the change, for what the file system has claimed, and for the commit; operations that do not give
// space back also leave a reserve for those that do. So commits never fail for lack of space. Nor does
// anything change that would have snapshots hold more than they may, unless older ones go for it.

import { UmbraError } from '../base/errors.ts'
import type { VolumeState } from './volume-state.ts'

/** Blocks kept for unlink, truncate, discard and deleting snapshots: 1 MiB. */
export const FREEING_RESERVE_BLOCKS = 256
/** Catalog, directories and side table in one commit, beside what is counted exactly. */
const COMMIT_BLOCKS = 40
const ENTRIES_PER_LIST_NODE = 500

/** Who decides what happens when snapshots hold as much as they may. */
export interface LimitKeeper {
  /** Whether older snapshots may go, so that live writes go on. */
  readonly canEvict: boolean
  /** Snapshots hold more than they may: it is time for the next cut. */
  overLimit(): void
}

export class Room {
  readonly #state: VolumeState
  readonly #keeper: LimitKeeper
  /** File-system blocks that are or may become dirty before the next cut. */
  #claimedBlocks = 0

  constructor(state: VolumeState, keeper: LimitKeeper) {
    this.#state = state
    this.#keeper = keeper
  }

  /** Virtual size of the volume. */
  get blockCount(): number {
    return this.#state.blockCount
  }

  /** @throws UmbraError OUT_OF_SPACE */
  claim(dirtyBlockCount: number, freeing: boolean): void {
    const before = this.#claimedBlocks
    this.#claimedBlocks = dirtyBlockCount
    try {
      this.keepLimit(0, 0, freeing)
      this.ensure(0, 0, freeing)
    } catch (error) {
      this.#claimedBlocks = before
      throw error
    }
  }

  /** The cut has taken what was claimed. */
  settle(): void {
    this.#claimedBlocks = 0
  }

  /**
   * Makes room for `nodeCount` nodes or blocks of metadata and for dropping `dropCount` blocks.
   * @throws UmbraError OUT_OF_SPACE with nothing changed
   */
  ensure(nodeCount: number, dropCount: number, freeing: boolean): void {
    const claimed = this.#claimedBlocks
    const nodes = nodeCount + (claimed === 0 ? 0 : claimed + this.scatteredNodes(claimed))
    const need =
      nodes +
      this.#listNodes(nodes + dropCount) +
      COMMIT_BLOCKS +
      this.#state.deadList.pendingWrites +
      this.#state.toFree.pendingWrites +
      (freeing ? 0 : FREEING_RESERVE_BLOCKS)
    if (this.#state.pool.freeBlocks < need) this.#state.pool.ensure(need)
  }

  /**
   * Checks what snapshots alone will hold after a change that makes `nodeCount` nodes and drops
   * `sharedCount` blocks that a snapshot refers to. Where older ones may go for it they do, in the next
   * cut; else operations that do not give space back leave a reserve for those that do, and new data
   * leaves another for the metadata of what is overwritten where it is.
   * @throws UmbraError OUT_OF_SPACE with nothing changed
   */
  keepLimit(nodeCount: number, sharedCount: number, freeing: boolean): void {
    const { limitBlocks, catalog, deadBlocks } = this.#state
    if (limitBlocks === Number.POSITIVE_INFINITY || catalog.snapshots.length === 0) return
    const claimed = this.#claimedBlocks
    const nodes = nodeCount + (claimed === 0 ? 0 : claimed + this.scatteredNodes(claimed))
    const reserves = freeing ? 0 : sharedCount > 0 ? 2 : 1
    const held = deadBlocks + nodes + sharedCount + reserves * FREEING_RESERVE_BLOCKS
    if (held <= limitBlocks) return
    if (this.#keeper.canEvict) {
      if (deadBlocks > limitBlocks) this.#keeper.overLimit()
      return
    }
    throw new UmbraError('OUT_OF_SPACE', 'Snapshots hold as much as they may, and all of them are protected')
  }

  /** Whether dropping so many blocks could be refused by keepLimit(), so that it pays to count the shared ones. */
  mayBeRefused(dropCount: number): boolean {
    const { limitBlocks, deadBlocks } = this.#state
    return deadBlocks + dropCount > limitBlocks / 2 && !this.#keeper.canEvict
  }

  /** Nodes above so many blocks anywhere. */
  scatteredNodes(blockCount: number): number {
    let nodes = 0
    let atLevel = this.blockCount
    for (let level = 0; level < this.#state.map.root.levels; level++) {
      atLevel = Math.ceil(atLevel / 256)
      nodes += Math.min(blockCount, atLevel)
    }
    return nodes
  }

  /** Nodes above a range of blocks. */
  rangeNodes(first: number, last: number): number {
    let nodes = 0
    let from = first
    let to = last
    for (let level = 0; level < this.#state.map.root.levels; level++) {
      from = Math.floor(from / 256)
      to = Math.floor(to / 256)
      nodes += to - from + 1
    }
    return nodes
  }

  /** List nodes and directory blocks for dropping so many blocks. */
  #listNodes(dropCount: number): number {
    const snapshots = this.#state.catalog.snapshots.length
    if (snapshots === 0 || dropCount === 0) return 0
    return 2 * Math.min(dropCount, snapshots) + Math.ceil(dropCount / ENTRIES_PER_LIST_NODE) + 1
  }
}
