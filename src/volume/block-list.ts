// The list node: dead lists and the to-free list are ropes of them.
//
//   header 32 bytes | children 16 bytes each | entries 8 bytes each, up to the block's end
//   child = physicalBlock u64, crc32c u32, 0        entry = phys u48, run length u16
//
// Always true: a list node is never changed once committed; a list is the runs of its head and of
// everything below; joining lists takes one new node, whatever their length. `blockCount` is the
// sum over the node and everything below it.

import { UmbraError } from '../base/errors.ts'
import { struct, u16le, u32le, u64le } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { blockChecksum } from './map-node.ts'
import type { MetadataStore } from './metadata-store.ts'
import { EMPTY_LIST, type ListPointer } from './superblock.ts'

const LIST_MAGIC = 0x4e4c4255
export const LIST_NODE_HEADER = struct('ListNodeHeader', 32, {
  /** "UBLN" */
  magic: u32le(0),
  entryCount: u16le(4),
  childCount: u16le(6),
  blockCount: u64le(8),
  reserved: u64le(16),
  reserved2: u64le(24),
})
export const LIST_CHILD = struct('ListChild', 16, {
  physicalBlock: u64le(0),
  checksum: u32le(8),
  reserved: u32le(12),
})
const ENTRY_BYTES = 8
const RUN_BLOCKS_MAX = 0xffff
/** Children a joining node takes. */
export const LIST_CHILDREN_MAX = 250

function entriesMax(childCount: number): number {
  const room = BLOCK_SIZE_BYTES - LIST_NODE_HEADER.sizeBytes - childCount * LIST_CHILD.sizeBytes
  return Math.floor(room / ENTRY_BYTES)
}

export interface ListNode {
  readonly blockCount: number
  /** Their blockCount is not known here: 0. */
  readonly children: readonly ListPointer[]
  /** Pairs of first block and count. */
  readonly runs: readonly number[]
}

/** Decodes a verified node. @throws UmbraError CORRUPT */
export function decodeListNode(block: Uint8Array): ListNode {
  const header = LIST_NODE_HEADER.decode(block)
  const { childCount, entryCount, blockCount } = header
  if (header.magic !== LIST_MAGIC || childCount > LIST_CHILDREN_MAX || entryCount > entriesMax(childCount)) {
    throw new UmbraError('CORRUPT', 'A block list has a node that makes no sense')
  }
  const children: ListPointer[] = []
  for (let i = 0; i < childCount; i++) {
    const child = LIST_CHILD.decode(block, LIST_NODE_HEADER.sizeBytes + i * LIST_CHILD.sizeBytes)
    children.push({ physicalBlock: child.physicalBlock, checksum: child.checksum, blockCount: 0 })
  }
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength)
  const runs: number[] = []
  let at = LIST_NODE_HEADER.sizeBytes + childCount * LIST_CHILD.sizeBytes
  for (let i = 0; i < entryCount; i++, at += ENTRY_BYTES) {
    runs.push(view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32, view.getUint16(at + 6, true))
  }
  return { blockCount, children, runs }
}

/** A list node being filled in memory. */
export class ListNodeBuilder {
  /** Where it was last written; 0: nowhere yet. */
  physicalBlock = 0
  isDirty = false
  readonly #block: Uint8Array
  readonly #view: DataView
  readonly #childCount: number
  #entryCount: number
  #blockCount: number
  #lastStart = -1
  #lastCount = 0

  private constructor(block: Uint8Array, childCount: number, entryCount: number, blockCount: number) {
    this.#block = block
    this.#view = new DataView(block.buffer, block.byteOffset, block.byteLength)
    this.#childCount = childCount
    this.#entryCount = entryCount
    this.#blockCount = blockCount
  }

  static withChildren(children: readonly ListPointer[], blockCount: number): ListNodeBuilder {
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    for (const [i, child] of children.entries()) {
      LIST_CHILD.encode(
        { physicalBlock: child.physicalBlock, checksum: child.checksum, reserved: 0 },
        block,
        LIST_NODE_HEADER.sizeBytes + i * LIST_CHILD.sizeBytes,
      )
    }
    return new ListNodeBuilder(block, children.length, 0, blockCount)
  }

  /** Goes on with a verified node read from `physicalBlock`. @throws UmbraError CORRUPT */
  static from(block: Uint8Array, physicalBlock: number): ListNodeBuilder {
    decodeListNode(block)
    const { childCount, entryCount, blockCount } = LIST_NODE_HEADER.decode(block)
    const builder = new ListNodeBuilder(block, childCount, entryCount, blockCount)
    builder.physicalBlock = physicalBlock
    return builder
  }

  get isFull(): boolean {
    return this.#entryCount >= entriesMax(this.#childCount)
  }

  get blockCount(): number {
    return this.#blockCount
  }

  /** Adds a run of 1 to 65535 blocks; false when the node is full. */
  add(start: number, count: number): boolean {
    const merged = this.#lastCount + count
    if (start === this.#lastStart + this.#lastCount && merged <= RUN_BLOCKS_MAX && this.#lastStart >= 0) {
      this.#lastCount = merged
      this.#view.setUint16(this.#entryOffset(this.#entryCount - 1) + 6, merged, true)
    } else {
      if (this.isFull) return false
      const at = this.#entryOffset(this.#entryCount++)
      this.#view.setUint32(at, start % 2 ** 32, true)
      this.#view.setUint16(at + 4, Math.floor(start / 2 ** 32), true)
      this.#view.setUint16(at + 6, count, true)
      this.#lastStart = start
      this.#lastCount = count
    }
    this.#blockCount += count
    this.isDirty = true
    return true
  }

  /** Writes it to a place that may be written and frees the committed one it replaces. */
  write(store: MetadataStore): ListPointer {
    LIST_NODE_HEADER.encode(
      {
        magic: LIST_MAGIC,
        entryCount: this.#entryCount,
        childCount: this.#childCount,
        blockCount: this.#blockCount,
        reserved: 0,
        reserved2: 0,
      },
      this.#block,
    )
    if (this.physicalBlock === 0 || !store.isFresh(this.physicalBlock)) {
      if (this.physicalBlock !== 0) store.free(this.physicalBlock)
      this.physicalBlock = store.allocate()
    }
    store.write(this.physicalBlock, this.#block, 0)
    this.isDirty = false
    const checksum = blockChecksum(this.#block)
    return { physicalBlock: this.physicalBlock, checksum, blockCount: this.#blockCount }
  }

  #entryOffset(index: number): number {
    return LIST_NODE_HEADER.sizeBytes + this.#childCount * LIST_CHILD.sizeBytes + index * ENTRY_BYTES
  }
}

/** One list with everything the given lists hold. */
export function joinLists(store: MetadataStore, lists: readonly ListPointer[]): ListPointer {
  let joined = lists.filter((list) => list.physicalBlock !== 0)
  while (joined.length > 1) {
    const next: ListPointer[] = []
    for (let i = 0; i < joined.length; i += LIST_CHILDREN_MAX) {
      const part = joined.slice(i, i + LIST_CHILDREN_MAX)
      const blockCount = part.reduce((sum, list) => sum + list.blockCount, 0)
      next.push(ListNodeBuilder.withChildren(part, blockCount).write(store))
    }
    joined = next
  }
  return joined[0] ?? EMPTY_LIST
}
