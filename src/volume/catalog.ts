// The snapshots and bookmarks of a volume: records of 512 bytes in a small object.
//
// Always true: names and ids are unique over both kinds; epochs grow with creation; a record keeps
// its slot for life, so that creating or changing one of thousands writes a few blocks. A name is
// 1 to 255 bytes of UTF-8 without "/" and NUL, and not "." or "..".

import { UmbraError } from '../base/errors.ts'
import { bytes, struct, u8, u16le, u32le, u64le, zeros } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { uuidBytes, uuidText } from '../base/uuid.ts'
import type { MetadataStore } from './metadata-store.ts'
import type { Bookmark, ShadowProperties, Snapshot, TreeRoot, WindowRuns } from './points.ts'
import { emptyRoot, SmallObject } from './small-object.ts'
import { decodeRoot, encodeRoot, type ObjectPointer } from './superblock.ts'

export const NAME_BYTES_MAX = 255
export const CATALOG_LEVELS = 2
const RECORD_BYTES = 512
const RECORDS_PER_BLOCK = BLOCK_SIZE_BYTES / RECORD_BYTES
export const CATALOG_SLOTS_MAX = 65536 * RECORDS_PER_BLOCK

export const CATALOG_RECORD = struct('CatalogRecord', RECORD_BYTES, {
  /** 0 free, 1 snapshot, 2 bookmark. */
  kind: u8(0),
  /** Bit 0: pinned; 1: unsealed; 2: a shadow copy; 3: it has a cut root and a window list. */
  flags: u8(1),
  nameBytes: u16le(2),
  deadListSlots: u32le(4),
  id: bytes(8, 16),
  epoch: u64le(24),
  createdAtMs: u64le(32),
  /** Virtual size of the volume then. */
  blockCount: u64le(40),
  root: bytes(48, 24),
  /** Blocks the snapshot refers to: data and map nodes. */
  referencedBlocks: u64le(72),
  deadListRoot: bytes(80, 24),
  /** Blocks in its dead list. */
  deadBlocks: u64le(104),
  name: bytes(112, NAME_BYTES_MAX),
  reserved: zeros(367, 1),
  setId: bytes(368, 16),
  attributes: u32le(384),
  setCount: u16le(388),
  reserved2: zeros(390, 2),
  /** Its tree before the auto-recovery window. */
  cutRoot: bytes(392, 24),
  windowRoot: bytes(416, 24),
  windowRuns: u32le(440),
  reserved3: zeros(444, RECORD_BYTES - 444),
})

const KIND_SNAPSHOT = 1
const KIND_BOOKMARK = 2
const FLAG_PINNED = 1
const FLAG_UNSEALED = 2
const FLAG_SHADOW = 4
const FLAG_WINDOW = 8
const NO_SET_ID = new Uint8Array(16)

/** A snapshot or bookmark as the volume keeps it; `slot` is its place in the catalog. */
export interface PointRecord {
  readonly slot: number
  readonly kind: 'snapshot' | 'bookmark'
  readonly id: string
  readonly name: string
  readonly epoch: number
  readonly createdAtMs: number
  readonly pinned: boolean
  readonly blockCount: number
  /** What readers see. */
  readonly root: TreeRoot
  /**
   * A snapshot that an auto-recovery window changed: its tree as it was cut, which has its place in the
   * line of trees that dead lists are about. Null: `root` has.
   */
  readonly cutRoot: TreeRoot | null
  readonly referencedBlocks: number
  readonly deadList: ObjectPointer
  readonly deadBlocks: number
  /** False: its auto-recovery window is open, or was when the process ended. */
  readonly isSealed: boolean
  readonly shadow: ShadowProperties | null
  /** What a window changed; a bookmark keeps it. */
  readonly window: WindowRuns | null
}

/** @throws UmbraError INVALID_NAME */
export function checkName(name: string): void {
  const lengthBytes = Buffer.byteLength(name)
  const isPlain = !/[/\0]/.test(name) && name !== '.' && name !== '..'
  if (lengthBytes < 1 || lengthBytes > NAME_BYTES_MAX || !isPlain || Buffer.from(name).toString() !== name) {
    throw new UmbraError(
      'INVALID_NAME',
      `Not a name for a snapshot or bookmark: ${JSON.stringify(name)} (1 to 255 bytes, no "/", not "." or "..")`,
    )
  }
}

export function asSnapshot(record: PointRecord): Snapshot {
  const { id, name, epoch, createdAtMs, pinned, blockCount, root, shadow } = record
  const referencedBytes = record.referencedBlocks * BLOCK_SIZE_BYTES
  return { kind: 'snapshot', id, name, epoch, createdAtMs, pinned, blockCount, root, referencedBytes, shadow }
}

export function asBookmark(record: PointRecord): Bookmark {
  const { id, name, epoch, createdAtMs, blockCount, window } = record
  return { kind: 'bookmark', id, name, epoch, createdAtMs, blockCount, window }
}

export class Catalog {
  readonly #object: SmallObject
  /** By slot; undefined: a free slot. */
  readonly #records: (PointRecord | undefined)[] = []
  readonly #byName = new Map<string, PointRecord>()
  readonly #byId = new Map<string, PointRecord>()
  readonly #freeSlots: number[] = []
  readonly #changed = new Set<number>()
  /** Blocks in the dead lists of all snapshots. */
  #deadBlocks = 0
  /** Snapshots, oldest first. */
  #snapshots: PointRecord[] = []
  #bookmarks: PointRecord[] = []
  #windowCount = 0
  #shadowCount = 0

  /** @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
  constructor(store: MetadataStore, pointer: ObjectPointer) {
    this.#object = new SmallObject(store, pointer.root)
    if (pointer.size > CATALOG_SLOTS_MAX) throw new UmbraError('CORRUPT', 'The catalog is too large')
    for (let first = 0; first < pointer.size; first += RECORDS_PER_BLOCK) this.#loadBlock(first, pointer.size)
    this.#snapshots.sort(byEpoch)
    this.#bookmarks.sort(byEpoch)
  }

  /** Right after settle(). */
  get pointer(): ObjectPointer {
    return { root: this.#object.root, size: this.#records.length }
  }

  get snapshots(): readonly PointRecord[] {
    return this.#snapshots
  }

  get bookmarks(): readonly PointRecord[] {
    return this.#bookmarks
  }

  get deadBlocks(): number {
    return this.#deadBlocks
  }

  get isDirty(): boolean {
    return this.#changed.size > 0
  }

  /** Points that need {@link FEATURE_WINDOWS}. */
  get windowCount(): number {
    return this.#windowCount
  }

  /** Snapshots that need {@link FEATURE_SHADOWS}. */
  get shadowCount(): number {
    return this.#shadowCount
  }

  /** The snapshot whose auto-recovery window is open; only the newest can be. */
  get unsealed(): PointRecord | undefined {
    const newest = this.#snapshots[this.#snapshots.length - 1]
    return newest?.isSealed === false ? newest : undefined
  }

  find(nameOrId: string): PointRecord | undefined {
    return this.#byName.get(nameOrId) ?? this.#byId.get(nameOrId)
  }

  /** Epoch of the newest snapshot older than a birth; 0: none. */
  boundaryBelow(birth: number): number {
    const at = this.#countBelow(birth)
    return at === 0 ? 0 : (this.#snapshots[at - 1] as PointRecord).epoch
  }

  get newestSnapshotEpoch(): number {
    return this.#snapshots[this.#snapshots.length - 1]?.epoch ?? 0
  }

  /** Epoch of the oldest point of either kind; undefined: there is none. */
  get oldestPointEpoch(): number | undefined {
    const snapshot = this.#snapshots[0]?.epoch
    const bookmark = this.#bookmarks[0]?.epoch
    if (snapshot === undefined || bookmark === undefined) return snapshot ?? bookmark
    return Math.min(snapshot, bookmark)
  }

  add(record: Omit<PointRecord, 'slot'>): PointRecord {
    const slot = this.#freeSlots.pop() ?? this.#records.length
    const added = { ...record, slot }
    this.#put(added)
    this.#list(added).push(added)
    this.#changed.add(slot)
    return added
  }

  /** Puts a changed record in place of the one in its slot. */
  replace(record: PointRecord): void {
    const before = this.#records[record.slot]
    if (before === undefined) return
    this.#take(before)
    this.#put(record)
    const list = this.#list(record)
    list.push(record)
    list.sort(byEpoch)
    this.#changed.add(record.slot)
  }

  remove(record: PointRecord): void {
    this.#take(this.#records[record.slot] ?? record)
    this.#records[record.slot] = undefined
    this.#freeSlots.push(record.slot)
    this.#changed.add(record.slot)
  }

  /** Writes what changed; pointer is then right. */
  settle(): void {
    const blocks = new Set<number>()
    for (const slot of this.#changed) blocks.add(Math.floor(slot / RECORDS_PER_BLOCK))
    for (const index of blocks) this.#writeBlock(index)
    this.#changed.clear()
    this.#object.settle()
  }

  #countBelow(birth: number): number {
    let low = 0
    let high = this.#snapshots.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#snapshots[middle] as PointRecord).epoch < birth) low = middle + 1
      else high = middle
    }
    return low
  }

  #list(record: PointRecord): PointRecord[] {
    return record.kind === 'snapshot' ? this.#snapshots : this.#bookmarks
  }

  #put(record: PointRecord): void {
    this.#records[record.slot] = record
    this.#deadBlocks += record.deadBlocks
    this.#byName.set(record.name, record)
    this.#byId.set(record.id, record)
    this.#tally(record, 1)
  }

  #tally({ window, isSealed, shadow }: PointRecord, by: 1 | -1): void {
    if (window !== null || !isSealed) this.#windowCount += by
    if (shadow !== null) this.#shadowCount += by
  }

  #take(record: PointRecord): void {
    this.#tally(record, -1)
    this.#deadBlocks -= record.deadBlocks
    this.#byName.delete(record.name)
    this.#byId.delete(record.id)
    const list = this.#list(record)
    const at = list.findIndex((other) => other.slot === record.slot)
    if (at >= 0) list.splice(at, 1)
  }

  #loadBlock(first: number, size: number): void {
    const block = this.#object.read(first / RECORDS_PER_BLOCK)
    for (let slot = first; slot < Math.min(size, first + RECORDS_PER_BLOCK); slot++) {
      const record = block && decodeRecord(block, (slot - first) * RECORD_BYTES, slot)
      if (!record) {
        this.#records[slot] = undefined
        this.#freeSlots.push(slot)
        continue
      }
      this.#put(record)
      this.#list(record).push(record)
    }
  }

  #writeBlock(index: number): void {
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    for (let i = 0; i < RECORDS_PER_BLOCK; i++) {
      const record = this.#records[index * RECORDS_PER_BLOCK + i]
      if (record) encodeRecord(record, block, i * RECORD_BYTES)
    }
    this.#object.write(index, block)
  }
}

function byEpoch(a: PointRecord, b: PointRecord): number {
  return a.epoch - b.epoch
}

function decodeRecord(block: Uint8Array, at: number, slot: number): PointRecord | undefined {
  const raw = CATALOG_RECORD.decode(block, at)
  if (raw.kind === 0) return undefined
  if (raw.kind > KIND_BOOKMARK || raw.nameBytes < 1 || raw.nameBytes > NAME_BYTES_MAX) {
    throw new UmbraError('CORRUPT', `Record ${slot} of the catalog makes no sense`)
  }
  const { attributes, setCount } = raw
  const hasWindow = (raw.flags & FLAG_WINDOW) !== 0
  const hasCutRoot = hasWindow && raw.kind === KIND_SNAPSHOT
  return {
    slot,
    kind: raw.kind === KIND_SNAPSHOT ? 'snapshot' : 'bookmark',
    id: uuidText(raw.id),
    name: new TextDecoder().decode(raw.name.subarray(0, raw.nameBytes)),
    epoch: raw.epoch,
    createdAtMs: raw.createdAtMs,
    pinned: (raw.flags & FLAG_PINNED) !== 0,
    blockCount: raw.blockCount,
    root: decodeRoot(raw.root, 0, 'snapshot'),
    referencedBlocks: raw.referencedBlocks,
    deadList: { root: decodeRoot(raw.deadListRoot, 0, 'dead list'), size: raw.deadListSlots },
    deadBlocks: raw.deadBlocks,
    cutRoot: hasCutRoot ? decodeRoot(raw.cutRoot, 0, 'snapshot as it was cut') : null,
    isSealed: (raw.flags & FLAG_UNSEALED) === 0,
    shadow: (raw.flags & FLAG_SHADOW) === 0 ? null : { setId: uuidText(raw.setId), setCount, attributes },
    window: hasWindow
      ? { root: decodeRoot(raw.windowRoot, 0, 'window list'), runCount: raw.windowRuns }
      : null,
  }
}

function flagsOf({ pinned, isSealed, shadow, window }: PointRecord): number {
  return (
    (pinned ? FLAG_PINNED : 0) |
    (isSealed ? 0 : FLAG_UNSEALED) |
    (shadow === null ? 0 : FLAG_SHADOW) |
    (window === null ? 0 : FLAG_WINDOW)
  )
}

function encodeRecord(record: PointRecord, block: Uint8Array, at: number): void {
  const name = new TextEncoder().encode(record.name)
  const { shadow, window } = record
  CATALOG_RECORD.encode(
    {
      kind: record.kind === 'snapshot' ? KIND_SNAPSHOT : KIND_BOOKMARK,
      flags: flagsOf(record),
      nameBytes: name.length,
      deadListSlots: record.deadList.size,
      id: uuidBytes(record.id),
      epoch: record.epoch,
      createdAtMs: record.createdAtMs,
      blockCount: record.blockCount,
      root: encodeRoot(record.root),
      referencedBlocks: record.referencedBlocks,
      deadListRoot: encodeRoot(record.deadList.root),
      deadBlocks: record.deadBlocks,
      name,
      setId: shadow === null ? NO_SET_ID : uuidBytes(shadow.setId),
      attributes: shadow?.attributes ?? 0,
      setCount: shadow?.setCount ?? 0,
      cutRoot: encodeRoot(record.cutRoot ?? emptyRoot(0)),
      windowRoot: encodeRoot(window?.root ?? emptyRoot(0)),
      windowRuns: window?.runCount ?? 0,
    },
    block,
    at,
  )
}
