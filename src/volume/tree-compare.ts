// A check's walk over two neighbouring trees in step: validates every entry of the newer one that the
// older does not share, and says which blocks came and which went between them.
//
// Always true: what both share was validated with the older tree and is not read again, so checking a
// line of snapshots costs their distinct nodes once; a block that came was born after the older
// tree's epoch; a child's birth is at most its parent's, and that at most the tree's epoch.

import { hasCode, type UmbraError } from '../base/errors.ts'
import type { FindingLog } from './check-report.ts'
import { EMPTY_NODE, raiseTree, TOWER_BLOCK } from './delta.ts'
import {
  blocksPerEntry,
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_FLAGS_KNOWN,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryBirth,
  entryChecksum,
  entryFlags,
  entryKind,
  entryPhysicalBlock,
  type NodeReader,
  type NodeWords,
} from './map-node.ts'
import type { TreeRoot } from './points.ts'

export interface CheckedTree {
  /** For messages: `the present`, `snapshot monday`. */
  readonly name: string
  readonly root: TreeRoot
  readonly epoch: number
  readonly blockCount: number
}

export interface TreeChanges {
  /** The newer tree refers to a block that the older does not. @returns false if it may not */
  came(physicalBlock: number, where: string): boolean
  /** The older tree refers to a block that the newer does not. */
  went(physicalBlock: number, birth: number): void
}

export class TreeCompare {
  readonly #log: FindingLog
  readonly #changes: TreeChanges
  readonly #physicalBlockCount: number
  #reader: NodeReader
  #base: CheckedTree | null = null
  #target: CheckedTree

  /** @param physicalBlockCount size of the volume file, for pointers in range */
  constructor(
    reader: NodeReader,
    log: FindingLog,
    changes: TreeChanges,
    physicalBlockCount: number,
    target: CheckedTree,
    base: CheckedTree | null,
  ) {
    this.#reader = reader
    this.#log = log
    this.#changes = changes
    this.#physicalBlockCount = physicalBlockCount
    this.#target = target
    this.#base = base
  }

  run(): void {
    const { root, epoch, name } = this.#target
    const base = this.#base?.root ?? null
    if (root.physicalBlock !== 0 && root.birthEpoch > epoch) {
      this.#log.add('BIRTH_ORDER', name, `The root was born in epoch ${root.birthEpoch}, after ${epoch}`)
    }
    const levels = Math.max(root.levels, base?.levels ?? 1)
    const raisedBase = raiseTree(this.#reader, base, levels)
    const raised = raiseTree(raisedBase.reader, root, levels)
    this.#reader = raised.reader
    const isShared =
      base !== null && base.physicalBlock === root.physicalBlock && base.checksum === root.checksum
    if (isShared && base.levels === root.levels) return
    const targetWords = this.#root(raised.root, true)
    const baseWords = this.#root(raisedBase.root, false)
    if (targetWords && baseWords) this.#step(levels - 1, 0, baseWords, targetWords, root.birthEpoch)
  }

  #root(root: TreeRoot | null, isTarget: boolean): NodeWords | undefined {
    if (root === null || root.physicalBlock === 0) return EMPTY_NODE
    return this.#node(root.physicalBlock, root.checksum, root.birthEpoch, isTarget, root.levels - 1, 0)
  }

  /** The node at a pointer, reported as come or gone; undefined: it cannot be read. */
  #node(
    physicalBlock: number,
    checksum: number,
    birth: number,
    isTarget: boolean,
    level: number,
    position: number,
  ): NodeWords | undefined {
    if (physicalBlock !== TOWER_BLOCK) {
      if (!isTarget) this.#changes.went(physicalBlock, birth)
      else if (!this.#came(physicalBlock, birth, level + 1, position)) {
        // What hangs on a node that is used twice is not walked twice, or a crafted volume would never end.
        this.#log.isComplete = false
        return undefined
      }
    }
    try {
      if (physicalBlock !== TOWER_BLOCK && physicalBlock >= this.#physicalBlockCount) return undefined
      return this.#reader.node(physicalBlock, checksum)
    } catch (error) {
      if (!hasCode(error, 'CHECKSUM_MISMATCH') && !hasCode(error, 'IO_FAILED')) throw error
      const message = (error as UmbraError).message
      // The older tree's damage was reported with the older tree.
      if (isTarget) this.#log.addBlind('NODE_DAMAGED', this.#where(level, position), message)
      return undefined
    }
  }

  #step(level: number, position: number, base: NodeWords, target: NodeWords, birthMax: number): void {
    for (let i = 0; i < ENTRIES_PER_NODE; i++) {
      if (isSameEntry(base, target, i)) continue
      const child = position * ENTRIES_PER_NODE + i
      const targetKind = this.#validKind(level, child, target, i, birthMax)
      const baseKind = entryKind(base, i)
      if (level === 0) this.#stepBlock(child, base, baseKind, target, targetKind, i)
      else if (targetKind >= 0) this.#stepChild(level, child, base, baseKind, target, targetKind, i)
    }
  }

  #stepBlock(
    blockIndex: number,
    base: NodeWords,
    baseKind: number,
    target: NodeWords,
    targetKind: number,
    index: number,
  ): void {
    const block = entryPhysicalBlock(target, index)
    const birth = entryBirth(target, index)
    if (baseKind === ENTRY_DATA) {
      if (targetKind === ENTRY_DATA && block === entryPhysicalBlock(base, index)) {
        if (birth === entryBirth(base, index)) return
      }
      this.#changes.went(entryPhysicalBlock(base, index), entryBirth(base, index))
    }
    if (targetKind === ENTRY_DATA) this.#came(block, birth, 0, blockIndex)
  }

  #stepChild(
    level: number,
    child: number,
    base: NodeWords,
    baseKind: number,
    target: NodeWords,
    targetKind: number,
    i: number,
  ): void {
    let baseWords: NodeWords | undefined = EMPTY_NODE
    let targetWords: NodeWords | undefined = EMPTY_NODE
    const birth = entryBirth(target, i)
    if (baseKind === ENTRY_NODE) {
      const block = entryPhysicalBlock(base, i)
      baseWords = this.#node(block, entryChecksum(base, i), entryBirth(base, i), false, level - 1, child)
    }
    if (targetKind === ENTRY_NODE) {
      const block = entryPhysicalBlock(target, i)
      targetWords = this.#node(block, entryChecksum(target, i), birth, true, level - 1, child)
    }
    if (baseWords && targetWords) this.#step(level - 1, child, baseWords, targetWords, birth)
  }

  /** The kind of a target's entry, or -1 when it makes no sense there. */
  #validKind(level: number, child: number, words: NodeWords, index: number, birthMax: number): number {
    const kind = entryKind(words, index)
    if (kind === ENTRY_EMPTY) return kind
    const flags = entryFlags(words, index)
    const holder = level === 0 ? ENTRY_DATA : ENTRY_NODE
    if ((kind !== holder && kind !== ENTRY_HOLE) || (flags & ~ENTRY_FLAGS_KNOWN) !== 0) {
      this.#log.addBlind('ENTRY_INVALID', this.#where(level, child), `An entry has flags ${flags}`)
      return -1
    }
    const birth = entryBirth(words, index)
    const isTower = kind === ENTRY_NODE && entryPhysicalBlock(words, index) === TOWER_BLOCK
    if (!isTower && (birth > birthMax || birth > this.#target.epoch || birth < 1)) {
      const message = `An entry was born in epoch ${birth}, in a node of epoch ${birthMax} and a tree of epoch ${this.#target.epoch}`
      this.#log.add('BIRTH_ORDER', this.#where(level, child), message)
    }
    if (kind !== ENTRY_HOLE && child * blocksPerEntry(level) >= this.#target.blockCount) {
      const message = `Block ${child * blocksPerEntry(level)} is mapped, past the volume's ${this.#target.blockCount}`
      this.#log.add('OUT_OF_RANGE', this.#where(level, child), message)
    }
    return kind
  }

  #came(physicalBlock: number, birth: number, level: number, position: number): boolean {
    const where = this.#where(level, position)
    if (physicalBlock < 1 || physicalBlock >= this.#physicalBlockCount) {
      this.#log.addBlind('OUT_OF_RANGE', where, `It points at block ${physicalBlock} of the volume file`)
      return false
    }
    const baseEpoch = this.#base?.epoch ?? 0
    if (birth <= baseEpoch) {
      const message = `It was born in epoch ${birth} but is not in ${this.#base?.name}, which is of epoch ${baseEpoch}`
      this.#log.add('BIRTH_ORDER', where, message)
    }
    return this.#changes.came(physicalBlock, where)
  }

  /** The entry at `level` that is the position-th of its level. */
  #where(level: number, position: number): string {
    const first = position * blocksPerEntry(level)
    const what = level === 0 ? `block ${first}` : `the map of blocks ${first} on, level ${level}`
    return `${this.#target.name}, ${what}`
  }
}

function isSameEntry(base: NodeWords, target: NodeWords, index: number): boolean {
  const at = index * 4
  return (
    base[at] === target[at] &&
    base[at + 1] === target[at + 1] &&
    base[at + 2] === target[at + 2] &&
    base[at + 3] === target[at + 3]
  )
}
