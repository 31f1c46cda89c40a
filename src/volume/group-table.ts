// What committed metadata knows of each allocation group: which of the bitmap's two homes is
// current, its checksum, how many blocks are free. Kept in table blocks of 512 records, which have
// two homes themselves; the superblock records the current one and its checksum.
//
// Always true: a table block that changes is written to its other home, so the committed one stays
// whole until the superblock that replaces it is durable; nothing here allocates.

import { UmbraError } from '../base/errors.ts'
import { struct, u16le, u32le } from '../base/struct.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { BLOCKS_PER_GROUP, fixedBlockCount, GROUPS_MAX, GROUPS_PER_TABLE, tableHome } from './group-layout.ts'
import { blockChecksum } from './map-node.ts'

export const GROUP_RECORD = struct('GroupRecord', 8, {
  /** Of the current bitmap; 0 while it was never written. */
  checksum: u32le(0),
  freeCount: u16le(4),
  /** Bit 0: current home. Bit 1: the bitmap was written; else only the fixed blocks are taken. */
  flags: u16le(6),
})

const FLAG_HOME = 1
const FLAG_WRITTEN = 2

export interface TablePointer {
  readonly checksum: number
  readonly home: number
}

export class GroupTable {
  readonly #storage: BlockStorage
  readonly #checksums = new Uint32Array(GROUPS_MAX)
  readonly #freeCounts = new Uint16Array(GROUPS_MAX)
  readonly #flags = new Uint8Array(GROUPS_MAX)
  readonly #dirty = new Set<number>()
  readonly #block = new Uint8Array(BLOCK_SIZE_BYTES)
  readonly #view = new DataView(this.#block.buffer)
  #tables: TablePointer[]
  #groupCount: number

  /** @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
  constructor(storage: BlockStorage, groupCount: number, tables: readonly TablePointer[]) {
    this.#storage = storage
    this.#groupCount = groupCount
    this.#tables = [...tables]
    for (let table = 0; table < tables.length; table++) this.#load(table)
  }

  /** The table of a volume that is being made, with one group. */
  static fresh(storage: BlockStorage): GroupTable {
    const table = new GroupTable(storage, 0, [])
    table.addGroup()
    return table
  }

  get groupCount(): number {
    return this.#groupCount
  }

  /** For the superblock: current as of the last writeChanged(). */
  get tables(): readonly TablePointer[] {
    return this.#tables
  }

  freeCount(group: number): number {
    return this.#freeCounts[group] as number
  }

  isWritten(group: number): boolean {
    return ((this.#flags[group] as number) & FLAG_WRITTEN) !== 0
  }

  home(group: number): number {
    return (this.#flags[group] as number) & FLAG_HOME
  }

  checksum(group: number): number {
    return this.#checksums[group] as number
  }

  addGroup(): void {
    const group = this.#groupCount++
    this.#freeCounts[group] = BLOCKS_PER_GROUP - fixedBlockCount(group)
    if (group % GROUPS_PER_TABLE === 0) this.#tables.push({ checksum: 0, home: 1 })
    this.#dirty.add(Math.floor(group / GROUPS_PER_TABLE))
  }

  /** Records that the group's bitmap was written to `home`. */
  setBitmap(group: number, home: number, checksum: number, freeCount: number): void {
    this.#flags[group] = home | FLAG_WRITTEN
    this.#checksums[group] = checksum
    this.#freeCounts[group] = freeCount
    this.#dirty.add(Math.floor(group / GROUPS_PER_TABLE))
  }

  /** Writes changed table blocks to their other homes. @throws UmbraError IO_FAILED */
  writeChanged(): void {
    const block = this.#block
    for (const table of this.#dirty) {
      this.#encode(table)
      const home = 1 - (this.#tables[table] as TablePointer).home
      this.#storage.write(tableHome(table, home) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
      this.#tables[table] = { checksum: blockChecksum(block), home }
    }
    this.#dirty.clear()
  }

  /** Fills #block with a table's records. */
  #encode(table: number): void {
    const { checksum, freeCount, flags } = GROUP_RECORD.fields
    const view = this.#view
    const first = table * GROUPS_PER_TABLE
    const end = Math.min(this.#groupCount, first + GROUPS_PER_TABLE)
    this.#block.fill(0)
    for (let group = first, at = 0; group < end; group++, at += GROUP_RECORD.sizeBytes) {
      view.setUint32(at + checksum.offsetBytes, this.#checksums[group] as number, true)
      view.setUint16(at + freeCount.offsetBytes, this.#freeCounts[group] as number, true)
      view.setUint16(at + flags.offsetBytes, this.#flags[group] as number, true)
    }
  }

  #load(table: number): void {
    const { checksum, home } = this.#tables[table] as TablePointer
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    this.#storage.readSync(tableHome(table, home) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
    if (blockChecksum(block) !== checksum) {
      throw new UmbraError('CHECKSUM_MISMATCH', `Table block ${table} of the allocation groups is damaged`)
    }
    const first = table * GROUPS_PER_TABLE
    const end = Math.min(this.#groupCount, first + GROUPS_PER_TABLE)
    for (let group = first; group < end; group++) {
      const record = GROUP_RECORD.decode(block, (group - first) * GROUP_RECORD.sizeBytes)
      if (record.freeCount > BLOCKS_PER_GROUP || record.flags > (FLAG_HOME | FLAG_WRITTEN)) {
        throw new UmbraError('CORRUPT', `The record of allocation group ${group} makes no sense`)
      }
      this.#checksums[group] = record.checksum
      this.#freeCounts[group] = record.freeCount
      this.#flags[group] = record.flags
    }
  }
}
