// What a walk of trees that others wrote must see before it goes on: levels that exist, entries that fit
// their level.

import { UmbraError } from '../base/errors.ts'
import {
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryKind,
  type NodeWords,
  TREE_LEVELS_MAX,
} from './map-node.ts'
import type { TreeRoot } from './points.ts'

/** The levels of a tree, as its root says. @throws UmbraError CORRUPT */
export function checkedLevels(root: TreeRoot): number {
  if (Number.isInteger(root.levels) && root.levels >= 1 && root.levels <= TREE_LEVELS_MAX) return root.levels
  throw new UmbraError('CORRUPT', `A block map of ${root.levels} levels; 1 to ${TREE_LEVELS_MAX} exist`)
}

/** The kind of an entry, which fits its level. @throws UmbraError CORRUPT */
export function checkedKind(words: NodeWords, index: number, level: number): number {
  const kind = entryKind(words, index)
  if (kind === ENTRY_EMPTY || kind === ENTRY_HOLE || kind === (level === 0 ? ENTRY_DATA : ENTRY_NODE)) {
    return kind
  }
  throw new UmbraError('CORRUPT', `An entry of kind ${kind} in a map node of level ${level}`)
}
