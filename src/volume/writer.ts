// Changing the present: file data, file-system metadata, discards.
//
// Always true: room is made before anything changes; new data is in its place in the storage before
// the map refers to it. Data is overwritten where it is only if it was born in the current epoch, as
// data; everything else goes to a new place. A file system discards what it frees, so that a block
// born in this epoch still belongs to whom it was born for.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { PhysicalRun } from './allocator.ts'
import {
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_FLAG_META,
  ENTRY_HOLE,
  entryBirth,
  entryFlags,
  entryKind,
  entryPhysicalBlock,
  type NodeWords,
  setEntry,
} from './map-node.ts'
import type { Room } from './room.ts'
import { badEntry } from './tree-reader.ts'
import type { VolumeState } from './volume-state.ts'

/** A discard is done in pieces of so many blocks (what one entry at level 2 covers), each with room made for it. */
const DISCARD_BLOCKS = 65536

export class Writer {
  readonly #state: VolumeState
  readonly #room: Room
  readonly #noteWrite: () => void
  /** Per block of a write: where it goes; 0: to a new place that is not chosen yet. */
  #targets = new Float64Array(512)
  /** Of them, those that replace a block which a snapshot refers to. */
  #sharedCount = 0
  /** True while the state is between two whole ones. */
  isChanging = false

  constructor(state: VolumeState, room: Room, noteWrite: () => void) {
    this.#state = state
    this.#room = room
    this.#noteWrite = noteWrite
  }

  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): boolean {
    if (blockCount > this.#targets.length) this.#targets = new Float64Array(blockCount * 2)
    const newCount = this.#findTargets(blockIndex, blockCount)
    if (newCount === 0) {
      this.isChanging = true
      this.#storeRuns(blockCount, 1, source, sourceOffset)
      this.isChanging = false
      this.#noteWrite()
      return false
    }
    const nodes = this.#room.rangeNodes(blockIndex, blockIndex + blockCount - 1)
    this.#room.keepLimit(nodes, this.#sharedCount, false)
    this.#room.ensure(nodes, newCount, false)
    const runs = this.#allocate(newCount)
    this.#storeNew(runs, blockCount, source, sourceOffset)
    this.isChanging = true
    if (newCount < blockCount) this.#storeRuns(blockCount, 1, source, sourceOffset)
    this.#noteWrite()
    this.#map(blockIndex, blockCount)
    this.#endChange()
    return true
  }

  writeMetadata(blockIndex: number, source: Uint8Array, sourceOffset: number): void {
    const { store, map, pool, epoch } = this.#state
    // The file system has claimed room for this block; the pool is only asked for more where not.
    if (pool.freeBlocks < 16) this.#room.ensure(this.#room.rangeNodes(blockIndex, blockIndex) + 1, 1, true)
    this.isChanging = true
    const words = map.writableLeaf(Math.floor(blockIndex / 256))
    const index = blockIndex & 255
    const flags = entryFlags(words, index)
    let physicalBlock = entryPhysicalBlock(words, index)
    if (flags !== (ENTRY_DATA | ENTRY_FLAG_META) || !store.isFresh(physicalBlock)) {
      this.#dropEntry(words, index)
      physicalBlock = store.allocate()
      this.#state.liveBlocks++
      setEntry(words, index, ENTRY_DATA | ENTRY_FLAG_META, physicalBlock, epoch, 0)
    }
    store.write(physicalBlock, source, sourceOffset)
    this.#noteWrite()
    this.#endChange()
  }

  discard(blockIndex: number, blockCount: number): void {
    const { levels } = this.#state.map.root
    // Past the volume's end there is nothing, so the last subtree counts as covered whole.
    const isToEnd = blockIndex + blockCount >= this.#room.blockCount
    const end = isToEnd ? ENTRIES_PER_NODE ** levels : blockIndex + blockCount
    let next = blockIndex
    for (let first = blockIndex; first < this.#room.blockCount && first < end; first = next) {
      next = Math.min(end, first - (first % DISCARD_BLOCKS) + DISCARD_BLOCKS)
      const last = next - 1
      const most = Math.min(this.#state.liveBlocks, last - first + 1) + 2 * levels
      if (this.#room.mayBeRefused(most)) this.#room.keepLimit(2 * levels, this.#sharedIn(first, last), true)
      this.#room.ensure(2 * levels, Math.min(this.#state.liveBlocks, last - first + 1), true)
      this.isChanging = true
      this.#state.map.clear(first, last, this.#state.holeBirth)
      this.#endChange()
    }
  }

  #endChange(): void {
    const { map, cache } = this.#state
    this.#state.settleKills()
    if (map.dirtyCount > cache.nodesMax / 2) this.#state.writeMap()
    this.isChanging = false
  }

  /** Fills #targets with the blocks that are overwritten in place; @returns how many are not. */
  #findTargets(blockIndex: number, blockCount: number): number {
    const { map, epoch, catalog } = this.#state
    const { newestSnapshotEpoch } = catalog
    const targets = this.#targets
    let newCount = 0
    this.#sharedCount = 0
    let words: NodeWords | null | undefined = null
    let position = -1
    for (let i = 0; i < blockCount; i++) {
      const block = blockIndex + i
      const index = block & 255
      if (position < 0 || index === 0) {
        position = Math.floor(block / 256)
        words = map.leaf(position, true)
      }
      if (words && entryFlags(words, index) === ENTRY_DATA && entryBirth(words, index) === epoch) {
        targets[i] = entryPhysicalBlock(words, index)
      } else {
        targets[i] = 0
        newCount++
        if (words && isShared(words, index, newestSnapshotEpoch)) this.#sharedCount++
      }
    }
    return newCount
  }

  /** Blocks in a range, and nodes above it, that a snapshot refers to, at most. */
  #sharedIn(first: number, last: number): number {
    const { map, catalog } = this.#state
    const { newestSnapshotEpoch } = catalog
    let count = 0
    for (let position = Math.floor(first / 256); position <= Math.floor(last / 256); position++) {
      const words = map.leaf(position, true)
      if (!words) continue
      count++
      const from = Math.max(first, position * 256)
      const end = Math.min(last + 1, (position + 1) * 256)
      for (let block = from; block < end; block++) {
        if (isShared(words, block & 255, newestSnapshotEpoch)) count++
      }
    }
    return count
  }

  #allocate(blockCount: number): PhysicalRun[] {
    const { allocator, dataCursor, writeAhead } = this.#state
    const runs: PhysicalRun[] = []
    let left = blockCount
    try {
      while (left > 0) {
        const run = allocator.find(dataCursor, left)
        allocator.take(run)
        allocator.use(run.start, run.count)
        runs.push(run)
        writeAhead.took(run)
        left -= run.count
      }
    } catch (error) {
      this.#giveBack(runs)
      throw error
    }
    return runs
  }

  #giveBack(runs: readonly PhysicalRun[]): void {
    for (const run of runs) this.#state.frees.free(run.start, run.count, false)
  }

  /** Writes the blocks that go to new places; they are negated in #targets from then on. */
  #storeNew(
    runs: readonly PhysicalRun[],
    blockCount: number,
    source: Uint8Array,
    sourceOffset: number,
  ): void {
    const targets = this.#targets
    let run = 0
    let used = 0
    for (let i = 0; i < blockCount; i++) {
      if (targets[i] !== 0) continue
      const { start, count } = runs[run] as PhysicalRun
      targets[i] = -(start + used)
      if (++used === count) {
        run++
        used = 0
      }
    }
    try {
      this.#storeRuns(blockCount, -1, source, sourceOffset)
    } catch (error) {
      this.#giveBack(runs)
      // Space running out changes nothing; a broken storage ends the writing of this volume.
      this.isChanging = !(error instanceof UmbraError && error.code === 'OUT_OF_SPACE')
      throw error
    }
  }

  /** Writes blocks whose target has this sign, physical neighbours together. */
  #storeRuns(blockCount: number, sign: 1 | -1, source: Uint8Array, sourceOffset: number): void {
    const targets = this.#targets
    for (let i = 0; i < blockCount; ) {
      const first = (targets[i] as number) * sign
      let count = 1
      if (first > 0) {
        while (i + count < blockCount && (targets[i + count] as number) * sign === first + count) count++
        this.#state.storage.write(
          first * BLOCK_SIZE_BYTES,
          count * BLOCK_SIZE_BYTES,
          source,
          sourceOffset + i * BLOCK_SIZE_BYTES,
        )
      }
      i += count
    }
  }

  #map(blockIndex: number, blockCount: number): void {
    const { map, epoch } = this.#state
    const targets = this.#targets
    let words: NodeWords | undefined
    for (let i = 0; i < blockCount; i++) {
      const index = (blockIndex + i) & 255
      if (index === 0) words = undefined
      const target = targets[i] as number
      if (target > 0) continue
      words ??= map.writableLeaf(Math.floor((blockIndex + i) / 256))
      this.#dropEntry(words, index)
      setEntry(words, index, ENTRY_DATA, -target, epoch, 0)
      this.#state.liveBlocks++
    }
  }

  #dropEntry(words: NodeWords, index: number): void {
    const kind = entryKind(words, index)
    if (kind === ENTRY_DATA) {
      this.#state.dropped(
        entryPhysicalBlock(words, index),
        entryBirth(words, index),
        entryFlags(words, index),
      )
    } else if (kind !== ENTRY_EMPTY && kind !== ENTRY_HOLE) {
      throw badEntry(kind, 0)
    }
  }
}

function isShared(words: NodeWords, index: number, newestSnapshotEpoch: number): boolean {
  return entryKind(words, index) === ENTRY_DATA && entryBirth(words, index) <= newestSnapshotEpoch
}
