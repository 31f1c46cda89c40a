// What a target holds where an auto-recovery window changed the base: the part of a delta since a bookmark
// that births cannot know.
//
// Always true: extents come in block order; what a target maps at a listed block is `data`, all else is
// `zero`, as the base may have had anything there.

import type { BlockRange } from '../base/units.ts'
import { checkedKind, checkedLevels } from './checked-node.ts'
import {
  blocksPerEntry,
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_NODE,
  entryChecksum,
  entryPhysicalBlock,
  type NodeReader,
  type NodeWords,
} from './map-node.ts'
import type { DeltaExtent, TreeRoot } from './points.ts'

/** What `target` has in the given ranges, which come in order and do not overlap. */
export function* walkRuns(
  reader: NodeReader,
  target: TreeRoot,
  ranges: Iterable<BlockRange>,
): Generator<DeltaExtent> {
  const levels = checkedLevels(target)
  const size = blocksPerEntry(levels)
  const top = target.physicalBlock === 0 ? undefined : reader.node(target.physicalBlock, target.checksum)
  for (const { blockIndex, blockCount } of ranges) {
    const end = Math.min(blockIndex + blockCount, size)
    if (blockIndex >= end) return
    if (top === undefined) yield { kind: 'zero', blockIndex, blockCount: end - blockIndex }
    else yield* withinNode(reader, top, levels - 1, 0, blockIndex, end)
  }
}

/** Blocks [first, end) of a node whose entry 0 begins at block `base`. */
function* withinNode(
  reader: NodeReader,
  words: NodeWords,
  level: number,
  base: number,
  first: number,
  end: number,
): Generator<DeltaExtent> {
  const span = blocksPerEntry(level)
  const last = Math.min(ENTRIES_PER_NODE - 1, Math.floor((end - 1 - base) / span))
  for (let i = Math.max(0, Math.floor((first - base) / span)); i <= last; i++) {
    const blockIndex = Math.max(first, base + i * span)
    const stop = Math.min(end, base + (i + 1) * span)
    const kind = checkedKind(words, i, level)
    if (kind === ENTRY_NODE) {
      const child = reader.node(entryPhysicalBlock(words, i), entryChecksum(words, i))
      yield* withinNode(reader, child, level - 1, base + i * span, blockIndex, stop)
    } else {
      yield { kind: kind === ENTRY_DATA ? 'data' : 'zero', blockIndex, blockCount: stop - blockIndex }
    }
  }
}

/** Both together, in order, each block once; where both name a block they say the same of it. */
export function* unionOf(a: Iterable<DeltaExtent>, b: Iterable<DeltaExtent>): Generator<DeltaExtent> {
  const left = a[Symbol.iterator]()
  const right = b[Symbol.iterator]()
  let one = left.next()
  let other = right.next()
  let doneUpTo = 0
  while (!one.done || !other.done) {
    const isLeft = !one.done && (other.done || one.value.blockIndex <= other.value.blockIndex)
    const { kind, blockIndex, blockCount } = (isLeft ? one.value : other.value) as DeltaExtent
    if (isLeft) one = left.next()
    else other = right.next()
    const first = Math.max(blockIndex, doneUpTo)
    const end = blockIndex + blockCount
    if (first >= end) continue
    yield { kind, blockIndex: first, blockCount: end - first }
    doneUpTo = end
  }
}
