// Looking blocks up in a tree that nobody changes any more, and turning a range of blocks into
// physical runs.
//
// Always true: a run in a plan is a pair (physical block, count); physical block 0 stands for zeros.
// Planning is synchronous, so a plan is of one instant.

import { UmbraError } from '../base/errors.ts'
import {
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
  type NodeWords,
} from './map-node.ts'
import type { NodeCache } from './node-cache.ts'
import type { TreeRoot } from './points.ts'

/** A leaf's words; null: the leaf's whole range reads as zeros; undefined: it would have to be waited for. */
export type LeafAnswer = NodeWords | null | undefined

export interface LeafSource {
  /** The leaf for blocks [position * 256, +256). @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
  leaf(position: number, wait: boolean): LeafAnswer
}

/** Goes down from a node at `level` to the leaf at `position`. */
export function descend(
  cache: NodeCache,
  words: NodeWords,
  level: number,
  position: number,
  wait: boolean,
): LeafAnswer {
  let node: NodeWords | undefined = words
  for (let at = level; at > 0; at--) {
    const index = (position >>> (8 * (at - 1))) & 255
    const kind = entryKind(node, index)
    if (kind !== ENTRY_NODE) {
      if (kind === ENTRY_EMPTY || kind === ENTRY_HOLE) return null
      throw badEntry(kind, at)
    }
    const block = entryPhysicalBlock(node, index)
    const checksum = entryChecksum(node, index)
    node = wait ? cache.node(block, checksum) : cache.tryNode(block, checksum)
    if (node === undefined) return undefined
  }
  return node
}

export function badEntry(kind: number, level: number): UmbraError {
  return new UmbraError('CORRUPT', `A node of the block map has an entry of kind ${kind} at level ${level}`)
}

export class TreeReader implements LeafSource {
  readonly #cache: NodeCache
  readonly #root: TreeRoot

  constructor(cache: NodeCache, root: TreeRoot) {
    this.#cache = cache
    this.#root = root
  }

  leaf(position: number, wait: boolean): LeafAnswer {
    const { physicalBlock, checksum, levels } = this.#root
    if (physicalBlock === 0) return null
    const cache = this.#cache
    const words = wait ? cache.node(physicalBlock, checksum) : cache.tryNode(physicalBlock, checksum)
    return words === undefined ? undefined : descend(cache, words, levels - 1, position, wait)
  }
}

/**
 * Appends the physical runs of [blockIndex, +blockCount) to `plan`, merged where they touch.
 * @returns false if something would have to be waited for (only when `wait` is false)
 */
export function planRuns(
  source: LeafSource,
  blockIndex: number,
  blockCount: number,
  plan: number[],
  wait: boolean,
): boolean {
  const end = blockIndex + blockCount
  let at = blockIndex
  let runBlock = -1
  let runCount = 0
  while (at < end) {
    const position = Math.floor(at / 256)
    const stop = Math.min(end, position * 256 + 256)
    const words = source.leaf(position, wait)
    if (words === undefined) return false
    for (; at < stop; at++) {
      const block = words === null ? 0 : dataBlock(words, at & 255)
      if (runCount > 0 && block === (runBlock === 0 ? 0 : runBlock + runCount)) {
        runCount++
        continue
      }
      if (runCount > 0) plan.push(runBlock, runCount)
      runBlock = block
      runCount = 1
    }
  }
  if (runCount > 0) plan.push(runBlock, runCount)
  return true
}

function dataBlock(words: NodeWords, index: number): number {
  const kind = entryKind(words, index)
  if (kind === ENTRY_DATA) return entryPhysicalBlock(words, index)
  if (kind === ENTRY_EMPTY || kind === ENTRY_HOLE) return 0
  throw badEntry(kind, 0)
}
