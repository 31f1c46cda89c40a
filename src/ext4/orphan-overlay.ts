// Blocks and inode numbers that unlinked files still in use hold: free on disk, taken in memory.
//
// Always true: a block here is free in the committed bitmap and may not be allocated; the side table
// written with each commit lists exactly these blocks (or says that every free block is to be
// trimmed), so that opening after a crash can discard what they hold.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import { clearBits, findSet, setBits, setRun } from './bitmap.ts'

const TABLE_MAGIC = 0x4e50524f // 'ORPN'
const TABLE_HEADER_BYTES = 8
const RUN_BYTES = 12
const TABLE_BYTES_MAX = MIB
const FLAG_TRIM_ALL = 1

export interface OrphanTable {
  /** The list did not fit: every free block has to be discarded. */
  readonly trimAll: boolean
  readonly runs: readonly { blockIndex: number; blockCount: number }[]
}

export class OrphanOverlay {
  readonly inodes = new Set<number>()
  readonly #blocksPerGroup: number
  readonly #groups = new Map<number, { bits: Uint8Array; count: number }>()
  #blockCount = 0
  #changed = false

  constructor(blocksPerGroup: number) {
    this.#blocksPerGroup = blocksPerGroup
  }

  get blockCount(): number {
    return this.#blockCount
  }

  /** The group's blocks held here; undefined: none. */
  bits(group: number): Uint8Array | undefined {
    return this.#groups.get(group)?.bits
  }
  countIn(group: number): number {
    return this.#groups.get(group)?.count ?? 0
  }

  /** Takes bits [from, +count) of a group, none of which was held. */
  add(group: number, from: number, count: number): void {
    let entry = this.#groups.get(group)
    if (!entry) {
      entry = { bits: new Uint8Array(BLOCK_SIZE_BYTES), count: 0 }
      this.#groups.set(group, entry)
    }
    setBits(entry.bits, from, count)
    entry.count += count
    this.#blockCount += count
    this.#changed = true
  }

  /** Lets go of bits that add() took. */
  remove(group: number, from: number, count: number): void {
    const entry = this.#groups.get(group)
    if (!entry || setRun(entry.bits, from, from + count) !== count)
      throw new UmbraError('CORRUPT', `Blocks of an unlinked file in group ${group} are freed twice`)
    clearBits(entry.bits, from, count)
    entry.count -= count
    this.#blockCount -= count
    if (entry.count === 0) this.#groups.delete(group)
    this.#changed = true
  }

  /** The side table if it has changed since the last call, else undefined; empty when nothing is held. */
  takeTable(): Uint8Array | undefined {
    if (!this.#changed) return undefined
    this.#changed = false
    if (this.#blockCount === 0) return new Uint8Array(0)
    const runs: number[] = []
    for (const group of [...this.#groups.keys()].sort((a, b) => a - b)) this.#collectRuns(group, runs)
    const sizeBytes = TABLE_HEADER_BYTES + (runs.length / 2) * RUN_BYTES
    if (sizeBytes > TABLE_BYTES_MAX) return tableWith(FLAG_TRIM_ALL, TABLE_HEADER_BYTES)
    const bytes = tableWith(0, sizeBytes)
    const view = new DataView(bytes.buffer)
    for (let i = 0, at = TABLE_HEADER_BYTES; i < runs.length; i += 2, at += RUN_BYTES) {
      const start = runs[i] as number
      view.setUint32(at, start % 2 ** 32, true)
      view.setUint32(at + 4, Math.floor(start / 2 ** 32), true)
      view.setUint32(at + 8, runs[i + 1] as number, true)
    }
    return bytes
  }

  /** There was no room for the table: says with least that every free block is to be trimmed. */
  shortTable(): Uint8Array {
    return tableWith(FLAG_TRIM_ALL, TABLE_HEADER_BYTES)
  }

  /** What takeTable() returned was not written: the next call returns it again. */
  keepTable(): void {
    this.#changed = true
  }

  #collectRuns(group: number, runs: number[]): void {
    const bits = this.bits(group)
    if (!bits) return
    const limit = this.#blocksPerGroup
    for (let at = findSet(bits, 0, limit); at >= 0; at = findSet(bits, at, limit)) {
      const count = setRun(bits, at, limit)
      runs.push(group * this.#blocksPerGroup + at, count)
      at += count
    }
  }
}

function tableWith(flags: number, sizeBytes: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, TABLE_MAGIC, true)
  view.setUint32(4, flags, true)
  return bytes
}

/** @throws UmbraError CORRUPT */
export function decodeOrphanTable(bytes: Uint8Array): OrphanTable {
  if (bytes.length === 0) return { trimAll: false, runs: [] }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const rest = bytes.length - TABLE_HEADER_BYTES
  if (rest < 0 || rest % RUN_BYTES !== 0 || view.getUint32(0, true) !== TABLE_MAGIC)
    throw new UmbraError('CORRUPT', 'The table of unlinked files beside the file system is damaged')
  const runs: { blockIndex: number; blockCount: number }[] = []
  for (let at = TABLE_HEADER_BYTES; at < bytes.length; at += RUN_BYTES) {
    runs.push({
      blockIndex: view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true),
      blockCount: view.getUint32(at + 8, true),
    })
  }
  return { trimAll: (view.getUint32(4, true) & FLAG_TRIM_ALL) !== 0, runs }
}
