// Lists of blocks that nothing refers to any more and that are still to be freed: deleting a
// snapshot hands whole lists over in O(buckets), and commits then free a bounded number of them.
//
// Always true: what is on the list is committed as allocated until the commit that frees it; a list
// node is freed together with the runs in it.

import { decodeListNode, LIST_CHILDREN_MAX, ListNodeBuilder } from './block-list.ts'
import type { FreeQueue } from './free-queue.ts'
import type { MetadataStore } from './metadata-store.ts'
import { EMPTY_LIST, type ListPointer } from './superblock.ts'

export class ToFreeList {
  readonly #store: MetadataStore
  readonly #frees: FreeQueue
  /** Lists not yet looked into; the last is next. */
  readonly #stack: ListPointer[] = []
  /** Nodes that only hold the stack on disk. */
  #spine: number[] = []
  #head: ListPointer
  #blockCount: number
  #isDirty = false

  constructor(store: MetadataStore, frees: FreeQueue, head: ListPointer) {
    this.#store = store
    this.#frees = frees
    this.#head = head
    this.#blockCount = head.blockCount
    if (head.physicalBlock !== 0) this.#stack.push(head)
  }

  /** Right after settle(). */
  get head(): ListPointer {
    return this.#head
  }

  /** Blocks waiting, list nodes not counted. */
  get blockCount(): number {
    return this.#blockCount
  }

  get isEmpty(): boolean {
    return this.#stack.length === 0
  }

  /** Blocks that the next settle() allocates. */
  get pendingWrites(): number {
    return Math.ceil(this.#stack.length / (LIST_CHILDREN_MAX - 1)) + 1
  }

  add(list: ListPointer): void {
    if (list.physicalBlock === 0) return
    this.#stack.push(list)
    this.#blockCount += list.blockCount
    this.#isDirty = true
  }

  /** Frees what up to `nodeCount` list nodes name. */
  drain(nodeCount: number): void {
    for (let i = 0; i < nodeCount; i++) {
      const pointer = this.#stack.pop()
      if (pointer === undefined) return
      this.#isDirty = true
      const node = decodeListNode(this.#store.read(pointer.physicalBlock, pointer.checksum))
      this.#stack.push(...node.children)
      for (let at = 0; at < node.runs.length; at += 2) {
        const count = node.runs[at + 1] as number
        this.#frees.free(node.runs[at] as number, count, false)
        this.#blockCount -= count
      }
      this.#store.free(pointer.physicalBlock)
    }
  }

  /** Writes what is left; head is then right. */
  settle(): void {
    if (!this.#isDirty) return
    this.#isDirty = false
    for (const block of this.#spine) this.#store.free(block)
    this.#spine = []
    let head = EMPTY_LIST
    if (this.#stack.length === 1) {
      head = this.#stack[0] as ListPointer
    } else {
      for (let end = 0; end < this.#stack.length; end += LIST_CHILDREN_MAX - 1) {
        const part = this.#stack.slice(end, end + LIST_CHILDREN_MAX - 1)
        if (head.physicalBlock !== 0) part.unshift(head)
        head = ListNodeBuilder.withChildren(part, this.#blockCount).write(this.#store)
        this.#spine.push(head.physicalBlock)
      }
    }
    this.#head = { ...head, blockCount: this.#blockCount }
  }
}
