// The unsealed snapshot as a block device that reads and writes: what a second file system works on
// during the auto-recovery window.
//
// Always true: nothing that the snapshot shares with others is ever written: what is changed goes to
// blocks of the window's own and is overwritten there from then on. Births are those of the snapshot's
// epoch, so that whatever asks for what came after an older point gets them. Nothing is durable before
// the snapshot is sealed; commit() only has the file system write what it holds. An error in the middle
// of a change breaks the window, not the volume: it can then only be dropped.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { checkBlocks } from './check-blocks.ts'
import {
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_FLAG_META,
  entryFlags,
  entryPhysicalBlock,
  type NodeWords,
  setEntry,
} from './map-node.ts'
import type { TreeRoot } from './points.ts'
import { RadixTree } from './radix-tree.ts'
import type { ReadTickets } from './read-tickets.ts'
import type { Room } from './room.ts'
import { RunReader } from './run-reader.ts'
import { SIDE_TABLE_BYTES_MAX } from './superblock.ts'
import { TreeReader } from './tree-reader.ts'
import type { VolumeState } from './volume-state.ts'
import { WindowBlocks } from './window-blocks.ts'

/** A discard is done in pieces of so many blocks, each with room made for it. */
const DISCARD_BLOCKS = 65536
/** Blocks kept for unlink, truncate and discard when there is room for nothing else: 256 KiB. */
const FREEING_RESERVE_BLOCKS = 64

export interface WindowHost {
  readonly state: VolumeState
  readonly room: Room
  readonly reads: ReadTickets
  /** @throws UmbraError EVICTED when the snapshot is gone, CLOSED */
  checkReadable(): void
  /** @throws UmbraError READ_ONLY once the window is shut or nothing may be written, EVICTED, CLOSED */
  checkWritable(): void
  /** The storage was written to. */
  noteWrite(): void
}

export class WindowDevice implements BlockDevice {
  readonly blockCount: number
  readonly epoch: number
  readonly blocks: WindowBlocks
  readonly #host: WindowHost
  readonly #tree: RadixTree
  #reader: RunReader
  readonly #callbacks: (() => void)[] = []
  #sideTable = new Uint8Array(0)
  #transaction = 1
  #broken: unknown

  constructor(host: WindowHost, root: TreeRoot, epoch: number, blockCount: number) {
    const { catalog, storage } = host.state
    this.#host = host
    this.epoch = epoch
    this.blockCount = blockCount
    this.blocks = new WindowBlocks(host.state)
    const owner = {
      epoch,
      get forgettableBirth() {
        return catalog.oldestPointEpoch ?? epoch
      },
      dropped: (physicalBlock: number) => void this.blocks.drop(physicalBlock),
      addedNode: () => {},
    }
    this.#tree = new RadixTree(this.blocks, owner, root)
    const source = { leaf: (position: number, wait: boolean) => this.#tree.leaf(position, wait) }
    this.#reader = new RunReader(storage, source, blockCount)
  }

  /** Right after settle(). */
  get root(): TreeRoot {
    return this.#tree.root
  }

  get readOnly(): boolean {
    try {
      this.#host.checkWritable()
      return false
    } catch {
      return true
    }
  }

  get transaction(): number {
    return this.#transaction
  }

  get durableTransaction(): number {
    return this.#transaction - 1
  }

  // -- reading

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#host.checkReadable()
    this.#reader.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.#host.checkReadable()
    return this.#reader.tryRead(offsetBytes, lengthBytes, target, targetOffset)
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.#host.checkReadable()
    const { reads } = this.#host
    const ticket = reads.begin()
    this.blocks.beginRead()
    try {
      await this.#reader.read(offsetBytes, lengthBytes, target, targetOffset)
    } finally {
      this.blocks.endRead()
      reads.end(ticket)
    }
  }

  // -- changing

  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): boolean {
    this.#checkChange(blockIndex, blockCount)
    if (blockCount === 0) return false
    const targets = this.#targetsOf(blockIndex, blockCount)
    const missing = targets.filter((target) => target === 0).length
    const nodes = this.#host.room.rangeNodes(blockIndex, blockIndex + blockCount - 1)
    this.#keepLimit(nodes, missing, false)
    this.blocks.ensure(nodes + FREEING_RESERVE_BLOCKS)
    const added = this.blocks.allocateData(missing)
    let next = 0
    for (const [i, target] of targets.entries()) if (target === 0) targets[i] = added[next++] as number
    try {
      this.#storeRuns(targets, source, sourceOffset)
    } catch (error) {
      this.blocks.giveBack(added)
      // Space running out changes nothing; after any other failure what is written is not known.
      if (!(error instanceof UmbraError && error.code === 'OUT_OF_SPACE')) this.#broken = error
      throw error
    }
    this.#host.noteWrite()
    this.#change(() => {
      for (const [i, target] of targets.entries()) this.#map(blockIndex + i, ENTRY_DATA, target)
    })
    return missing > 0
  }

  writeMetadata(blockIndex: number, source: Uint8Array, sourceOffset: number): void {
    this.#checkChange(blockIndex, 1)
    this.blocks.ensure(this.#host.room.rangeNodes(blockIndex, blockIndex) + 1)
    this.#change(() => {
      const [found] = this.#targetsOf(blockIndex, 1)
      const target = found || this.blocks.allocate()
      this.blocks.write(target, source, sourceOffset)
      this.#map(blockIndex, ENTRY_DATA | ENTRY_FLAG_META, target)
    })
    this.#host.noteWrite()
  }

  discard(blockIndex: number, blockCount: number): void {
    this.#checkChange(blockIndex, blockCount)
    const { levels } = this.#tree.root
    // Past the volume's end there is nothing, so the last subtree counts as covered whole.
    const isToEnd = blockIndex + blockCount >= this.blockCount
    const end = isToEnd ? ENTRIES_PER_NODE ** levels : blockIndex + blockCount
    let next = blockIndex
    for (let first = blockIndex; first < this.blockCount && first < end; first = next) {
      next = Math.min(end, first - (first % DISCARD_BLOCKS) + DISCARD_BLOCKS)
      const last = next - 1
      this.blocks.ensure(2 * levels)
      this.#change(() => this.#tree.clear(first, last, this.#holeBirth))
    }
  }

  requireRoom(dirtyBlockCount: number, freeing: boolean): void {
    this.#checkChange(0, 0)
    const nodes = dirtyBlockCount === 0 ? 0 : this.#host.room.scatteredNodes(dirtyBlockCount)
    this.#keepLimit(nodes, dirtyBlockCount, freeing)
    this.blocks.ensure(dirtyBlockCount + nodes + (freeing ? 0 : FREEING_RESERVE_BLOCKS))
  }

  /** Empty at first: what was unlinked but open when the snapshot was cut is not part of it. */
  readSideTable(): Uint8Array {
    return this.#sideTable.slice()
  }

  /** Kept in memory only: whoever has files open in the window closes them before it is sealed. */
  writeSideTable(bytes: Uint8Array): void {
    this.#checkChange(0, 0)
    if (bytes.length > SIDE_TABLE_BYTES_MAX) {
      throw new UmbraError('LIMIT_EXCEEDED', `The side table holds 1 MiB at most, not ${bytes.length} bytes`)
    }
    this.#sideTable = bytes.slice()
  }

  /** What is written becomes durable when the snapshot is sealed, not before. */
  async flush(): Promise<void> {}

  async commit(): Promise<void> {
    this.#host.checkWritable()
    this.settle()
  }

  onBeforeCommit(write: () => void): void {
    this.#callbacks.push(write)
  }

  // -- for sealing

  /** Has everything written, so that `root` is right. @throws UmbraError */
  settle(): void {
    if (this.#broken !== undefined) throw broken(this.#broken)
    this.#change(() => {
      for (const write of this.#callbacks) write()
      this.#tree.writeDirty()
    })
    this.blocks.settleReserve()
    this.#transaction++
  }

  /** From now on the device is that of the sealed snapshot. */
  readFrom(root: TreeRoot): void {
    const { storage, cache } = this.#host.state
    this.#reader = new RunReader(storage, new TreeReader(cache, root), this.blockCount)
  }

  // -- inside

  /** Births that holes get; 0 where no older point could ask about them. */
  get #holeBirth(): number {
    const oldest = this.#host.state.catalog.oldestPointEpoch ?? this.epoch
    return oldest < this.epoch ? this.epoch : 0
  }

  /**
   * What the window writes counts as what snapshots hold. Older ones may go for it, but not where it would
   * be too much by itself: they would go in vain.
   * @throws UmbraError OUT_OF_SPACE with nothing changed
   */
  #keepLimit(nodeCount: number, newCount: number, freeing: boolean): void {
    const { room, state } = this.#host
    if (!freeing && this.blocks.blockCount + nodeCount + newCount > state.limitBlocks) {
      throw new UmbraError('OUT_OF_SPACE', 'The unsealed snapshot would hold more than all snapshots may')
    }
    if (newCount > 0) room.keepLimit(nodeCount, newCount, freeing)
  }

  /** The window's own blocks that these are mapped to; 0: none. */
  #targetsOf(blockIndex: number, blockCount: number): number[] {
    const targets = new Array<number>(blockCount)
    let words: NodeWords | null | undefined = null
    for (let i = 0; i < blockCount; i++) {
      const index = (blockIndex + i) & 255
      if (i === 0 || index === 0) words = this.#tree.leaf(Math.floor((blockIndex + i) / 256), true)
      const block = words ? entryPhysicalBlock(words, index) : 0
      targets[i] = block !== 0 && this.blocks.has(block) ? block : 0
    }
    return targets
  }

  #storeRuns(targets: readonly number[], source: Uint8Array, sourceOffset: number): void {
    for (let i = 0; i < targets.length; ) {
      const first = targets[i] as number
      let count = 1
      while (i + count < targets.length && targets[i + count] === first + count) count++
      const sourceAt = sourceOffset + i * BLOCK_SIZE_BYTES
      this.#host.state.storage.write(first * BLOCK_SIZE_BYTES, count * BLOCK_SIZE_BYTES, source, sourceAt)
      i += count
    }
  }

  #map(blockIndex: number, flags: number, physicalBlock: number): void {
    const index = blockIndex & 255
    const position = Math.floor(blockIndex / 256)
    const words = this.#tree.leaf(position, true)
    if (words && entryPhysicalBlock(words, index) === physicalBlock && entryFlags(words, index) === flags)
      return
    setEntry(this.#tree.writableLeaf(position), index, flags, physicalBlock, this.epoch, 0)
  }

  #change(change: () => void): void {
    try {
      change()
      if (this.#tree.dirtyCount > this.blocks.cache.nodesMax / 2) this.#tree.writeDirty()
    } catch (error) {
      this.#broken ??= error
      throw error
    }
  }

  #checkChange(blockIndex: number, blockCount: number): void {
    this.#host.checkWritable()
    if (this.#broken !== undefined) throw broken(this.#broken)
    checkBlocks(this, blockIndex, blockCount)
  }
}

function broken(reason: unknown): UmbraError {
  return new UmbraError(
    'IO_FAILED',
    `Writing the unsealed snapshot failed, it can only be dropped: ${(reason as Error).message}`,
    {},
    reason,
  )
}
