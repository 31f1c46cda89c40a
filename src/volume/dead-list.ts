// The blocks that one snapshot's successor does not refer to any more, in buckets by birth.
//
// Each snapshot has one (what died between the snapshot before it and itself) and so has the
// present. A bucket's key is the epoch of the newest snapshot older than the births in it, as of
// insertion (0: none was older); buckets are therefore at least as fine as the boundaries between
// the snapshots that are left later on, and deleting a snapshot moves whole buckets.
//
// Always true: every block of a snapshot that the present does not refer to is in exactly one dead
// list; sums are kept, so sizes never need a scan.

import { UmbraError } from '../base/errors.ts'
import { struct, u32le, u64le } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { joinLists, ListNodeBuilder } from './block-list.ts'
import type { MetadataStore } from './metadata-store.ts'
import { emptyRoot, SmallObject } from './small-object.ts'
import { EMPTY_LIST, type ListPointer, type ObjectPointer } from './superblock.ts'

/** One slot of a dead list's directory; physicalBlock 0: a free slot. */
export const BUCKET_RECORD = struct('BucketRecord', 32, {
  key: u64le(0),
  physicalBlock: u64le(8),
  blockCount: u64le(16),
  checksum: u32le(24),
  reserved: u32le(28),
})
const RECORDS_PER_BLOCK = BLOCK_SIZE_BYTES / BUCKET_RECORD.sizeBytes
export const DIRECTORY_LEVELS = 1
/** Most buckets a dead list can have, hence most snapshots a volume can have. */
export const BUCKETS_MAX = 256 * RECORDS_PER_BLOCK

export const EMPTY_DEAD_LIST: ObjectPointer = { root: emptyRoot(DIRECTORY_LEVELS), size: 0 }

interface Bucket {
  readonly slot: number
  list: ListPointer
  /** The list's head, while it is being filled. */
  tail: ListNodeBuilder | undefined
}

export class DeadList {
  readonly #store: MetadataStore
  #directory: SmallObject
  readonly #buckets = new Map<number, Bucket>()
  readonly #unwritten = new Set<number>()
  readonly #changedSlots = new Set<number>()
  #slots: number
  #blockCount = 0

  /** @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
  constructor(store: MetadataStore, pointer: ObjectPointer) {
    this.#store = store
    this.#directory = new SmallObject(store, pointer.root)
    this.#slots = pointer.size
    if (pointer.size > BUCKETS_MAX) throw new UmbraError('CORRUPT', 'A dead list has too many buckets')
    this.#load()
  }

  /** Right after settle(). */
  get pointer(): ObjectPointer {
    return { root: this.#directory.root, size: this.#slots }
  }

  /** Blocks in all buckets. */
  get blockCount(): number {
    return this.#blockCount
  }

  get bucketCount(): number {
    return this.#buckets.size
  }

  /** Blocks that the next settle() may have to allocate, at most. */
  get pendingWrites(): number {
    return this.#unwritten.size * 2 + this.#changedSlots.size + (this.#unwritten.size > 0 ? 2 : 0)
  }

  /** Blocks in buckets with a key of at least `key`. */
  blocksFrom(key: number): number {
    let sum = 0
    for (const [bucketKey, bucket] of this.#buckets) if (bucketKey >= key) sum += countOf(bucket)
    return sum
  }

  /** Every bucket: key and list. Right after settle(). */
  *lists(): Iterable<[key: number, list: ListPointer]> {
    for (const [key, bucket] of this.#buckets) yield [key, bucket.list]
  }

  append(key: number, start: number, count: number): void {
    const bucket = this.#bucket(key)
    this.#unwritten.add(key)
    this.#blockCount += count
    bucket.tail ??= this.#tailOf(bucket.list)
    if (bucket.tail.add(start, count)) return
    const full = bucket.tail.isDirty ? bucket.tail.write(this.#store) : bucket.list
    bucket.list = full
    bucket.tail = ListNodeBuilder.withChildren([full], full.blockCount)
    bucket.tail.add(start, count)
  }

  /** Writes list nodes that are being filled, so that lists() is right. */
  writeTails(): void {
    for (const key of this.#unwritten) {
      const bucket = this.#buckets.get(key) as Bucket
      if (bucket.tail?.isDirty) bucket.list = bucket.tail.write(this.#store)
      this.#changedSlots.add(bucket.slot)
    }
    this.#unwritten.clear()
  }

  /** Forgets list nodes kept in memory for appending. */
  dropTails(): void {
    for (const bucket of this.#buckets.values()) if (!bucket.tail?.isDirty) bucket.tail = undefined
  }

  /** Writes everything that changed; pointer is then right. */
  settle(): void {
    this.writeTails()
    if (this.#changedSlots.size > 0) this.#writeDirectory()
    this.#directory.settle()
  }

  /** Replaces all buckets. The lists given up belong to the caller. */
  replaceBuckets(lists: ReadonlyMap<number, readonly ListPointer[]>): void {
    this.#directory.destroy()
    this.#directory = new SmallObject(this.#store, emptyRoot(DIRECTORY_LEVELS))
    this.#buckets.clear()
    this.#unwritten.clear()
    this.#changedSlots.clear()
    this.#slots = 0
    this.#blockCount = 0
    for (const [key, parts] of lists) {
      const list = joinLists(this.#store, parts)
      if (list.physicalBlock === 0) continue
      this.#buckets.set(key, { slot: this.#slots, list, tail: undefined })
      this.#changedSlots.add(this.#slots++)
      this.#blockCount += list.blockCount
    }
  }

  #bucket(key: number): Bucket {
    const found = this.#buckets.get(key)
    if (found) return found
    const bucket: Bucket = { slot: this.#slots++, list: EMPTY_LIST, tail: undefined }
    this.#buckets.set(key, bucket)
    return bucket
  }

  #tailOf(list: ListPointer): ListNodeBuilder {
    if (list.physicalBlock === 0) return ListNodeBuilder.withChildren([], 0)
    const block = this.#store.read(list.physicalBlock, list.checksum)
    const node = ListNodeBuilder.from(block, list.physicalBlock)
    return node.isFull ? ListNodeBuilder.withChildren([list], list.blockCount) : node
  }

  #load(): void {
    for (let first = 0; first < this.#slots; first += RECORDS_PER_BLOCK) {
      const block = this.#directory.read(first / RECORDS_PER_BLOCK)
      if (block === undefined) continue
      const end = Math.min(this.#slots, first + RECORDS_PER_BLOCK)
      for (let slot = first; slot < end; slot++) {
        const record = BUCKET_RECORD.decode(block, (slot - first) * BUCKET_RECORD.sizeBytes)
        if (record.physicalBlock === 0) continue
        const { physicalBlock, checksum, blockCount } = record
        this.#buckets.set(record.key, {
          slot,
          list: { physicalBlock, checksum, blockCount },
          tail: undefined,
        })
        this.#blockCount += blockCount
      }
    }
  }

  #writeDirectory(): void {
    const bySlot = new Map<number, [number, ListPointer]>()
    for (const [key, bucket] of this.#buckets) bySlot.set(bucket.slot, [key, bucket.list])
    const changed = new Set<number>()
    for (const slot of this.#changedSlots) changed.add(Math.floor(slot / RECORDS_PER_BLOCK))
    for (const index of changed) {
      const block = new Uint8Array(BLOCK_SIZE_BYTES)
      for (let i = 0; i < RECORDS_PER_BLOCK; i++) {
        const found = bySlot.get(index * RECORDS_PER_BLOCK + i)
        if (!found) continue
        const [key, list] = found
        const { physicalBlock, checksum, blockCount } = list
        BUCKET_RECORD.encode(
          { key, physicalBlock, blockCount, checksum, reserved: 0 },
          block,
          i * BUCKET_RECORD.sizeBytes,
        )
      }
      this.#directory.write(index, block)
    }
    this.#changedSlots.clear()
  }
}

function countOf(bucket: Bucket): number {
  return bucket.tail?.blockCount ?? bucket.list.blockCount
}
