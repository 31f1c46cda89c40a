// Repairs what can be repaired without guessing: a bad superblock copy beside a good one, and the
// allocation bitmaps, which are a view of what the trees reach.
//
// Always true: bitmaps are rebuilt only when every tree, list and object was read whole and nothing
// else is wrong; they go to their other homes and count with a superblock of the next transaction, so
// a crash in the middle leaves the volume as it was.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { countSet } from './bitmap.ts'
import { VolumeCheck } from './check.ts'
import type { AllocationCheck } from './check-allocation.ts'
import type { CheckReport, FindingCode } from './check-report.ts'
import { BLOCKS_PER_GROUP, bitmapHome, GROUPS_PER_TABLE, tableHome } from './group-layout.ts'
import { GROUP_RECORD, type TablePointer } from './group-table.ts'
import { blockChecksum, nodeBytes } from './map-node.ts'
import type { Superblock } from './superblock.ts'
import { chooseSuperblock, mendCopies, writeSuperblock } from './superblock-slots.ts'

const REPAIRABLE: readonly FindingCode[] = [
  'SUPERBLOCK_COPY',
  'TABLE_DAMAGED',
  'BITMAP_DAMAGED',
  'BITMAP_COUNT',
  'NOT_ALLOCATED',
]

export interface RepairReport {
  readonly before: CheckReport
  /** The state after the repair, checked again. */
  readonly after: CheckReport
  /** What was done, one sentence each; empty: nothing was to be done, or nothing could be. */
  readonly repaired: readonly string[]
}

/**
 * Checks a volume that nobody has open, repairs what can be, and checks it again.
 * @throws UmbraError as checkVolume(), READ_ONLY, OUT_OF_SPACE
 */
export async function repairVolume(storage: BlockStorage): Promise<RepairReport> {
  const check = new VolumeCheck(storage, {})
  const before = check.run()
  const repaired: string[] = []
  const mended = mendCopies(storage, chooseSuperblock(storage, false))
  if (mended.length > 0) {
    await storage.flush()
    repaired.push(`${mended.length} superblock copies were rewritten from their twins`)
  }
  const { wrongGroups, damagedTables } = check.allocation
  const mayRebuild =
    before.isComplete &&
    before.errorCount === before.errors.length &&
    before.errors.every((finding) => REPAIRABLE.includes(finding.code))
  if (mayRebuild && wrongGroups.size + damagedTables.size > 0) {
    await rebuild(storage, check.superblock, check.allocation)
    repaired.push(`The bitmaps of ${wrongGroups.size} allocation groups were rebuilt`)
    if (damagedTables.size > 0) repaired.push(`${damagedTables.size} allocation tables were rebuilt`)
    if (before.leaks.blockCount > 0) repaired.push(`${before.leaks.blockCount} lost blocks were freed`)
  }
  return { before, after: new VolumeCheck(storage, {}).run(), repaired }
}

async function rebuild(
  storage: BlockStorage,
  superblock: Superblock,
  allocation: AllocationCheck,
): Promise<void> {
  const wrongTables = new Set(allocation.damagedTables)
  for (const group of allocation.wrongGroups) wrongTables.add(Math.floor(group / GROUPS_PER_TABLE))
  const tables: TablePointer[] = [...superblock.tables]
  for (const table of wrongTables) {
    const block = rebuildTable(storage, table, allocation)
    const home = 1 - (tables[table] as TablePointer).home
    storage.write(tableHome(table, home) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
    tables[table] = { checksum: blockChecksum(block), home }
  }
  await storage.flush()
  writeSuperblock(storage, { ...superblock, transaction: superblock.transaction + 1, tables })
  await storage.flush()
}

/** Writes the wrong bitmaps of a table's groups. @returns the table block that knows of them */
function rebuildTable(storage: BlockStorage, table: number, allocation: AllocationCheck): Uint8Array {
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  const first = table * GROUPS_PER_TABLE
  const end = Math.min(allocation.groupCount, first + GROUPS_PER_TABLE)
  for (let group = first; group < end; group++) {
    const state = allocation.state(group)
    const at = (group - first) * GROUP_RECORD.sizeBytes
    if (state && !allocation.wrongGroups.has(group)) {
      const { checksum, freeCount, home, isWritten } = state
      GROUP_RECORD.encode({ checksum, freeCount, flags: home | (isWritten ? 2 : 0) }, block, at)
      continue
    }
    const words = allocation.rightBitmap(group)
    const bytes = nodeBytes(words)
    // Where the table is damaged nobody knows the current home, and nothing is lost by taking either.
    const home = state?.isWritten ? 1 - state.home : 0
    storage.write(bitmapHome(group, home) * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, bytes, 0)
    const freeCount = BLOCKS_PER_GROUP - countSet(words)
    GROUP_RECORD.encode({ checksum: blockChecksum(bytes), freeCount, flags: home | 2 }, block, at)
  }
  return block
}
