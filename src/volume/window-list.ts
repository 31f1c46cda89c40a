// The list of what an auto-recovery window changed: runs of virtual blocks, which a deleted snapshot
// leaves to its bookmark so that increments from there include them.
//
//   a small object of two levels; its blocks are arrays of 512 runs of 8 bytes:
//   run = first block u32, blocks u32 (at least 1), rising, never overlapping
//
// Always true: every block that the sealed snapshot maps differently from its tree as it was cut is in
// the list. The list is bounded: beyond RUNS_MAX runs the closest are joined over what lies between
// them, so that an increment may carry more than it needs, never less.

import { UmbraError } from '../base/errors.ts'
import { struct, u32le } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES, type BlockRange } from '../base/units.ts'
import {
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_NODE,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
  type NodeReader,
  type NodeWords,
} from './map-node.ts'
import type { MetadataStore } from './metadata-store.ts'
import type { WindowRuns } from './points.ts'
import { emptyRoot, SmallObject } from './small-object.ts'

export const WINDOW_RUN = struct('WindowRun', 8, {
  firstBlock: u32le(0),
  blockCount: u32le(4),
})
const LIST_LEVELS = 2
const RUNS_PER_BLOCK = BLOCK_SIZE_BYTES / WINDOW_RUN.sizeBytes
/** Runs a list has at most: 8 MiB. */
export const WINDOW_RUNS_MAX = 2 ** 20
const RUN_BLOCKS_MAX = 2 ** 32 - 1

/** Gathers ranges that come in block order, joining the closest when they become too many. */
export class WindowRunGatherer {
  /** Pairs of first block and count. */
  readonly runs: number[] = []
  readonly #most: number
  /** Runs with fewer blocks than this between them are joined; 1: those that touch. */
  #gap = 1

  /** @param most runs to keep, at least 2 */
  constructor(most = WINDOW_RUNS_MAX) {
    this.#most = most
  }

  add({ blockIndex, blockCount }: BlockRange): void {
    this.#put(blockIndex, blockCount)
    while (this.runs.length / 2 > this.#most) {
      this.#gap *= 2
      const all = this.runs.splice(0)
      for (let i = 0; i < all.length; i += 2) this.#put(all[i] as number, all[i + 1] as number)
    }
  }

  #put(first: number, count: number): void {
    const { runs } = this
    const at = runs.length - 2
    if (at >= 0) {
      const joined = first + count - (runs[at] as number)
      const end = (runs[at] as number) + (runs[at + 1] as number)
      if (first - end < this.#gap && joined <= RUN_BLOCKS_MAX) {
        runs[at + 1] = joined
        return
      }
    }
    runs.push(first, Math.min(count, RUN_BLOCKS_MAX))
    if (count > RUN_BLOCKS_MAX) runs.push(first + RUN_BLOCKS_MAX, count - RUN_BLOCKS_MAX)
  }
}

/** Blocks that writing a list of so many runs takes. */
export function windowListBlocks(runCount: number): number {
  const blocks = Math.ceil(runCount / RUNS_PER_BLOCK)
  return blocks + Math.ceil(blocks / ENTRIES_PER_NODE) + 1
}

/** Writes a list; room for it was made. */
export function writeWindowList(store: MetadataStore, runs: readonly number[]): WindowRuns {
  const object = new SmallObject(store, emptyRoot(LIST_LEVELS))
  const runCount = runs.length / 2
  for (let first = 0; first < runCount; first += RUNS_PER_BLOCK) {
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    const view = new DataView(block.buffer)
    const end = Math.min(runs.length, (first + RUNS_PER_BLOCK) * 2)
    for (let i = first * 2, at = 0; i < end; i++, at += 4) view.setUint32(at, runs[i] as number, true)
    object.write(first / RUNS_PER_BLOCK, block)
  }
  object.settle()
  return { root: object.root, runCount }
}

/** The list's runs, read block by block. @throws UmbraError CORRUPT, CHECKSUM_MISMATCH, IO_FAILED */
export function* readWindowList(reader: NodeReader, window: WindowRuns): Generator<BlockRange> {
  checkShape(window)
  const { root, runCount } = window
  const top = reader.node(root.physicalBlock, root.checksum)
  let leaf: NodeWords | undefined
  let words: NodeWords | undefined
  let end = -1
  for (let i = 0; i < runCount; i++) {
    const index = Math.floor(i / RUNS_PER_BLOCK)
    if (i % (RUNS_PER_BLOCK * ENTRIES_PER_NODE) === 0) {
      leaf = child(reader, top, index / ENTRIES_PER_NODE, ENTRY_NODE)
    }
    if (i % RUNS_PER_BLOCK === 0)
      words = child(reader, leaf as NodeWords, index % ENTRIES_PER_NODE, ENTRY_DATA)
    const at = (i % RUNS_PER_BLOCK) * 2
    const blockIndex = (words as NodeWords)[at] as number
    const blockCount = (words as NodeWords)[at + 1] as number
    if (blockIndex < end || blockCount === 0) throw new UmbraError('CORRUPT', 'A window list is not in order')
    end = blockIndex + blockCount
    yield { blockIndex, blockCount }
  }
}

/** Every block of the volume file that the list takes. @throws UmbraError CORRUPT, CHECKSUM_MISMATCH */
export function blocksOfWindowList(reader: NodeReader, window: WindowRuns): number[] {
  checkShape(window)
  const { root } = window
  const blocks = [root.physicalBlock]
  const top = reader.node(root.physicalBlock, root.checksum)
  for (let i = 0; i < ENTRIES_PER_NODE; i++) {
    if (entryKind(top, i) === ENTRY_EMPTY) continue
    const leaf = child(reader, top, i, ENTRY_NODE)
    blocks.push(entryPhysicalBlock(top, i))
    for (let j = 0; j < ENTRIES_PER_NODE; j++) {
      if (entryKind(leaf, j) === ENTRY_DATA) blocks.push(entryPhysicalBlock(leaf, j))
    }
  }
  return blocks
}

function checkShape({ root, runCount }: WindowRuns): void {
  const isSound =
    root.physicalBlock > 0 &&
    root.levels === LIST_LEVELS &&
    Number.isInteger(runCount) &&
    runCount > 0 &&
    runCount <= WINDOW_RUNS_MAX
  if (!isSound) throw new UmbraError('CORRUPT', `A window list of ${runCount} runs makes no sense`)
}

function child(reader: NodeReader, words: NodeWords, index: number, kind: number): NodeWords {
  if (entryKind(words, index) === kind) {
    return reader.node(entryPhysicalBlock(words, index), entryChecksum(words, index))
  }
  throw new UmbraError('CORRUPT', 'A window list ends before its runs do')
}
