// A check's walks over what no snapshot refers to: small objects, block lists, dead lists.
//
// Always true: every block reached is claimed in the allocation check; damage is reported and ends
// the walk below it only.

import { UmbraError } from '../base/errors.ts'
import type { BlockRange } from '../base/units.ts'
import { decodeListNode } from './block-list.ts'
import type { PointRecord } from './catalog.ts'
import type { AllocationCheck } from './check-allocation.ts'
import type { FindingLog } from './check-report.ts'
import { DeadList } from './dead-list.ts'
import { walkDelta } from './delta.ts'
import type { DroppedBlocks } from './dropped-blocks.ts'
import {
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_NODE,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
} from './map-node.ts'
import type { MetadataStore } from './metadata-store.ts'
import type { TreeRoot } from './points.ts'
import type { ListPointer, ObjectPointer } from './superblock.ts'
import { readWindowList } from './window-list.ts'

export class StructureCheck {
  readonly #store: MetadataStore
  readonly #allocation: AllocationCheck
  readonly #log: FindingLog

  constructor(store: MetadataStore, allocation: AllocationCheck, log: FindingLog) {
    this.#store = store
    this.#allocation = allocation
    this.#log = log
  }

  /** Every node and block of a small object. */
  object(root: TreeRoot, name: string): void {
    if (root.physicalBlock === 0) return
    this.#objectNode(root.physicalBlock, root.checksum, root.levels - 1, name)
  }

  #objectNode(physicalBlock: number, checksum: number, level: number, name: string): void {
    if (!this.#allocation.claim(physicalBlock, name)) return
    const words = this.#attempt(name, () => this.#store.cache.node(physicalBlock, checksum))
    if (words === undefined) return
    for (let i = 0; i < ENTRIES_PER_NODE; i++) {
      const kind = entryKind(words, i)
      if (kind === ENTRY_EMPTY) continue
      if (kind !== (level === 0 ? ENTRY_DATA : ENTRY_NODE)) {
        this.#log.addBlind('ENTRY_INVALID', name, `An entry of kind ${kind} at level ${level}`)
        continue
      }
      const block = entryPhysicalBlock(words, i)
      if (level > 0) this.#objectNode(block, entryChecksum(words, i), level - 1, name)
      else if (this.#allocation.claim(block, name)) {
        this.#attempt(name, () => this.#store.read(block, entryChecksum(words, i)))
      }
    }
  }

  /**
   * Every node of a list and every run in it.
   * @returns blocks in its runs
   */
  list(head: ListPointer, name: string, eachRun: (start: number, count: number) => void): number {
    let sum = 0
    const stack = head.physicalBlock === 0 ? [] : [head]
    for (let pointer = stack.pop(); pointer !== undefined; pointer = stack.pop()) {
      const { physicalBlock, checksum } = pointer
      if (!this.#allocation.claim(physicalBlock, name)) continue
      const node = this.#attempt(name, () => decodeListNode(this.#store.read(physicalBlock, checksum)))
      if (node === undefined) continue
      stack.push(...node.children)
      for (let i = 0; i < node.runs.length; i += 2) {
        eachRun(node.runs[i] as number, node.runs[i + 1] as number)
        sum += node.runs[i + 1] as number
      }
    }
    return sum
  }

  /**
   * A dead list against what really went: nothing missing, nothing more, each in a bucket that
   * deleting a snapshot will treat rightly.
   * @param boundaries epochs of the snapshots, rising
   * @returns blocks in the list
   */
  deadList(
    pointer: ObjectPointer,
    name: string,
    dropped: DroppedBlocks,
    boundaries: readonly number[],
  ): number {
    this.object(pointer.root, name)
    const buckets = this.#attempt(name, () => [...new DeadList(this.#store, pointer).lists()])
    if (buckets === undefined) return 0
    let sum = 0
    for (const [key, list] of buckets) {
      const found = this.list(list, name, (start, count) => {
        for (let block = start; block < start + count; block++) {
          this.#checkDead(block, key, name, dropped, boundaries)
        }
      })
      if (found !== list.blockCount && this.#log.isComplete) {
        const message = `Bucket ${key} names ${found} blocks, ${list.blockCount} are recorded`
        this.#log.add('COUNT_WRONG', name, message)
      }
      sum += found
    }
    if (dropped.missingCount > 0 && this.#log.isComplete) {
      const message = `${dropped.missingCount} blocks are missing, the first is ${dropped.firstMissing()}`
      this.#log.add('DEAD_LIST', name, message)
    }
    return sum
  }

  /** A window list: in form, and with everything in it that the window changed. */
  windowList(point: PointRecord, name: string): void {
    const { window, cutRoot, root, blockCount } = point
    if (window === null) return
    const where = `the window list of ${name}`
    this.object(window.root, where)
    if (!this.#log.isComplete) return
    this.#attempt(where, () => {
      const { cache } = this.#store
      const changed = cutRoot === null ? [] : walkDelta(cache, cutRoot, root, blockCount)
      const missing = firstUncovered(changed, readWindowList(cache, window))
      if (missing !== undefined)
        this.#log.add('WINDOW_LIST', where, `Block ${missing} was changed, but is not listed`)
    })
  }

  #checkDead(
    block: number,
    key: number,
    name: string,
    dropped: DroppedBlocks,
    boundaries: readonly number[],
  ): void {
    if (!this.#log.isComplete) return
    const birth = dropped.birthOf(block)
    if (birth === undefined) {
      this.#log.add('DEAD_LIST', name, `Block ${block} is listed, but is not what went there`)
      return
    }
    if (!dropped.list(block)) this.#log.add('DEAD_LIST', name, `Block ${block} is listed twice`)
    if (key >= birth || newestBelow(boundaries, birth) > key) {
      this.#log.add('DEAD_LIST', name, `Block ${block} of birth ${birth} is in bucket ${key}`)
    }
  }

  #attempt<T>(name: string, read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
      const isList = name.includes('list')
      this.#log.addBlind(isList ? 'LIST_DAMAGED' : 'OBJECT_DAMAGED', name, error.message)
      return undefined
    }
  }
}

/** The first block of the ranges that no run of the list has; the list is read to its end otherwise. */
function firstUncovered(ranges: Iterable<BlockRange>, list: Iterator<BlockRange>): number | undefined {
  let run = list.next()
  for (const { blockIndex, blockCount } of ranges) {
    for (let at = blockIndex; at < blockIndex + blockCount; ) {
      while (!run.done && run.value.blockIndex + run.value.blockCount <= at) run = list.next()
      if (run.done || run.value.blockIndex > at) return at
      at = run.value.blockIndex + run.value.blockCount
    }
  }
  while (!run.done) run = list.next()
  return undefined
}

/** The largest of the rising `epochs` that is less than `birth`; 0: none is. */
function newestBelow(epochs: readonly number[], birth: number): number {
  let low = 0
  let high = epochs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((epochs[middle] as number) < birth) low = middle + 1
    else high = middle
  }
  return low === 0 ? 0 : (epochs[low - 1] as number)
}
