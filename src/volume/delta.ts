// What changed between two points of a volume's history: the change tracking that the mapping itself is.
//
// Between two trees: both are walked in step and whatever they share (the same node, the same block) is
// skipped unread, so the cost is that of the change. Since a bookmark, which has no tree any more,
// births decide: what was born after its epoch changed after it. Births suffice because a block is
// overwritten in place only in the epoch that bore it. What the auto-recovery window of the snapshot
// that the bookmark was has changed has no part in the volume's history, so births know nothing of it:
// the bookmark's window list says where.
// Always true: extents come lazily, in block order, clipped to the target's size, neighbours of one
// kind merged. Between trees the delta is exact: `data` only where the target maps a block differently,
// `zero` only where the base had data and the target has none. Since a bookmark, `zero` is also given
// for a discard of what was empty before: the bookmark no longer knows.

import { UmbraError } from '../base/errors.ts'
import { checkedKind, checkedLevels } from './checked-node.ts'
import {
  blocksPerEntry,
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryBirth,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
  type NodeReader,
  type NodeWords,
  PHYSICAL_BLOCK_MAX,
  setEntry,
  WORDS_PER_NODE,
} from './map-node.ts'
import type { DeltaExtent, Point, Snapshot, TreeRoot } from './points.ts'
import { unionOf, walkRuns } from './window-delta.ts'
import { readWindowList } from './window-list.ts'

/** A node that maps nothing. */
export const EMPTY_NODE: NodeWords = new Uint32Array(WORDS_PER_NODE)
/** The place of nodes that raiseTree() made up: no real node has it. */
export const TOWER_BLOCK = PHYSICAL_BLOCK_MAX

/**
 * What a reader who has `from` needs in order to have `to`; with `from` null, all data of `to`. A
 * snapshot as base may be older or newer than the target.
 * @throws UmbraError WRONG_BASE for a bookmark newer than the target; while iterating also
 *   CHECKSUM_MISMATCH, CORRUPT, IO_FAILED
 */
export function delta(reader: NodeReader, from: Point | null, to: Snapshot): Iterable<DeltaExtent> {
  if (from === null) return walkDelta(reader, null, to.root, to.blockCount)
  if (from.kind === 'snapshot') return walkDelta(reader, from.root, to.root, to.blockCount)
  if (from.epoch > to.epoch) {
    throw new UmbraError(
      'WRONG_BASE',
      `Bookmark ${from.name} (epoch ${from.epoch}) is newer than snapshot ${to.name} (epoch ${to.epoch}): only a snapshot can be the base of an older one`,
    )
  }
  if (from.window === null) return walkDeltaSince(reader, from.epoch, to.root, to.blockCount)
  const { root, blockCount } = to
  const ofWindow = walkRuns(reader, root, readWindowList(reader, from.window))
  return merged(unionOf(walkSince(reader, from.epoch, root), ofWindow), blockCount)
}

/** @param blockCount size of the target; what the base has past it is not part of the delta */
export function walkDelta(
  reader: NodeReader,
  base: TreeRoot | null,
  target: TreeRoot,
  blockCount: number,
): Iterable<DeltaExtent> {
  return merged(walkPieces(reader, base, target), blockCount)
}

/** Like walkDelta(), with neighbours not yet merged: for who walks a little at a time. */
export function walkPieces(
  reader: NodeReader,
  base: TreeRoot | null,
  target: TreeRoot,
): Iterable<DeltaExtent> {
  const levels = Math.max(checkedLevels(target), base ? checkedLevels(base) : 1)
  return walkBoth(reader, base, target, levels)
}

function* walkBoth(
  reader: NodeReader,
  base: TreeRoot | null,
  target: TreeRoot,
  levels: number,
): Generator<DeltaExtent> {
  if (base !== null && isSameRoot(base, target)) return
  // At most one of the two is lower than the other.
  const raisedBase = raiseTree(reader, base, levels)
  const raisedTarget = raiseTree(raisedBase.reader, target, levels)
  const through = raisedTarget.reader
  const baseNode = rootNode(through, raisedBase.root)
  yield* compareNodes(through, baseNode, rootNode(through, raisedTarget.root), levels - 1, 0)
}

/** Everything in `target` that was born after `epoch`. */
export function walkDeltaSince(
  reader: NodeReader,
  epoch: number,
  target: TreeRoot,
  blockCount: number,
): Iterable<DeltaExtent> {
  return merged(walkSince(reader, epoch, target), blockCount)
}

function* walkSince(reader: NodeReader, epoch: number, target: TreeRoot): Generator<DeltaExtent> {
  if (target.physicalBlock === 0 || target.birthEpoch <= epoch) return
  const words = reader.node(target.physicalBlock, target.checksum)
  yield* bornSince(reader, words, checkedLevels(target) - 1, 0, epoch)
}

/**
 * Deepest first descent into what differs: never into a child that both sides share.
 * @param firstBlock block that entry 0 of both nodes begins at
 */
function* compareNodes(
  reader: NodeReader,
  base: NodeWords,
  target: NodeWords,
  level: number,
  firstBlock: number,
): Generator<DeltaExtent> {
  const span = blocksPerEntry(level)
  for (let i = 0; i < ENTRIES_PER_NODE; i++) {
    if (isSameEntry(base, target, i)) continue
    const baseKind = checkedKind(base, i, level)
    const targetKind = checkedKind(target, i, level)
    if (level === 0) {
      if (targetKind === ENTRY_DATA) yield { kind: 'data', blockIndex: firstBlock + i, blockCount: 1 }
      else if (baseKind === ENTRY_DATA) yield { kind: 'zero', blockIndex: firstBlock + i, blockCount: 1 }
    } else if (baseKind === ENTRY_NODE || targetKind === ENTRY_NODE) {
      const baseChild = childOrEmpty(reader, base, i, baseKind)
      const targetChild = childOrEmpty(reader, target, i, targetKind)
      yield* compareNodes(reader, baseChild, targetChild, level - 1, firstBlock + i * span)
    }
  }
}

function* bornSince(
  reader: NodeReader,
  words: NodeWords,
  level: number,
  firstBlock: number,
  epoch: number,
): Generator<DeltaExtent> {
  const span = blocksPerEntry(level)
  for (let i = 0; i < ENTRIES_PER_NODE; i++) {
    const kind = checkedKind(words, i, level)
    if (kind === ENTRY_EMPTY || entryBirth(words, i) <= epoch) continue
    const blockIndex = firstBlock + i * span
    if (kind === ENTRY_DATA) yield { kind: 'data', blockIndex, blockCount: 1 }
    else if (kind === ENTRY_HOLE) yield { kind: 'zero', blockIndex, blockCount: span }
    else {
      const child = reader.node(entryPhysicalBlock(words, i), entryChecksum(words, i))
      yield* bornSince(reader, child, level - 1, blockIndex, epoch)
    }
  }
}

/** Equal pointers lead to equal contents; kinds that hold nothing are equal among themselves. */
function isSameEntry(base: NodeWords, target: NodeWords, index: number): boolean {
  const at = index * 4
  if (
    base[at] === target[at] &&
    base[at + 1] === target[at + 1] &&
    base[at + 2] === target[at + 2] &&
    base[at + 3] === target[at + 3]
  ) {
    return true
  }
  const kind = entryKind(base, index)
  return (
    kind === ENTRY_DATA &&
    entryKind(target, index) === ENTRY_DATA &&
    entryPhysicalBlock(base, index) === entryPhysicalBlock(target, index) &&
    entryBirth(base, index) === entryBirth(target, index)
  )
}

function isSameRoot(a: TreeRoot, b: TreeRoot): boolean {
  return (
    a.physicalBlock === b.physicalBlock &&
    a.birthEpoch === b.birthEpoch &&
    a.checksum === b.checksum &&
    a.levels === b.levels
  )
}

function childOrEmpty(reader: NodeReader, words: NodeWords, index: number, kind: number): NodeWords {
  if (kind !== ENTRY_NODE) return EMPTY_NODE
  return reader.node(entryPhysicalBlock(words, index), entryChecksum(words, index))
}

function rootNode(reader: NodeReader, root: TreeRoot | null): NodeWords {
  if (root === null || root.physicalBlock === 0) return EMPTY_NODE
  return reader.node(root.physicalBlock, root.checksum)
}

/**
 * A tree with further levels put on top, as a volume that has grown has them: the old root hangs from
 * the first entry of nodes that only the walk sees.
 */
export function raiseTree(
  reader: NodeReader,
  root: TreeRoot | null,
  levels: number,
): { reader: NodeReader; root: TreeRoot | null } {
  if (root === null || root.physicalBlock === 0 || root.levels === levels) return { reader, root }
  const tower: NodeWords[] = []
  let top = root
  for (let level = checkedLevels(root); level < levels; level++) {
    const words: NodeWords = new Uint32Array(WORDS_PER_NODE)
    setEntry(words, 0, ENTRY_NODE, top.physicalBlock, top.birthEpoch, top.checksum)
    top = {
      physicalBlock: TOWER_BLOCK,
      birthEpoch: root.birthEpoch,
      checksum: tower.length,
      levels: level + 1,
    }
    tower.push(words)
  }
  const inTower = (physicalBlock: number, checksum: number) =>
    physicalBlock === TOWER_BLOCK ? tower[checksum] : undefined
  return {
    reader: { node: (block, checksum) => inTower(block, checksum) ?? reader.node(block, checksum) },
    root: top,
  }
}

/** Joins neighbours of one kind and cuts off what lies past `blockCount`. */
function* merged(extents: Iterable<DeltaExtent>, blockCount: number): Generator<DeltaExtent> {
  let kind: DeltaExtent['kind'] = 'data'
  let beginBlock = 0
  let endBlock = 0
  for (const extent of extents) {
    if (extent.blockIndex >= blockCount) break
    if (extent.kind === kind && extent.blockIndex === endBlock) {
      endBlock = extent.blockIndex + extent.blockCount
      continue
    }
    if (endBlock > beginBlock) yield { kind, blockIndex: beginBlock, blockCount: endBlock - beginBlock }
    kind = extent.kind
    beginBlock = extent.blockIndex
    endBlock = extent.blockIndex + extent.blockCount
  }
  endBlock = Math.min(endBlock, blockCount)
  if (endBlock > beginBlock) yield { kind, blockIndex: beginBlock, blockCount: endBlock - beginBlock }
}
