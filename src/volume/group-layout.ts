// Where things have a fixed place in the volume file. Everything else is allocated.
//
//   group g = physical blocks [g * 32768, +32768), 128 MiB
//   every group:             block 0       reserved (group 0: superblock slot 0, copy A)
//                            blocks 1, 2   the two homes of its bitmap
//   group % 512 == 0:        blocks 3, 4   the two homes of the table block of 512 groups
//   group 0:                 block 5       superblock slot 1, copy A
//                            blocks 6, 7   reserved
//                            8 .. 1031     intent log region (reserved, unused in version 1)
//                            16384         superblock slot 0, copy B
//                            24576         superblock slot 1, copy B
//
// Always true: the bits of fixed blocks are set in every bitmap, so that the allocator never hands
// them out; a bitmap that was never written is one in which only they are set.

export const BLOCKS_PER_GROUP = 32768
export const GROUPS_PER_TABLE = 512
/** Table blocks that a superblock has entries for: 24 TiB of volume file. */
export const TABLES_MAX = 384
export const GROUPS_MAX = TABLES_MAX * GROUPS_PER_TABLE

export const INTENT_LOG_START = 8
export const INTENT_LOG_BLOCKS = 1024

/** Physical blocks of the superblock copies, [slot][copy]. */
export const SUPERBLOCK_HOMES: readonly (readonly [number, number])[] = [
  [0, 16384],
  [5, 24576],
]

export interface FixedRun {
  /** First block within the group. */
  readonly start: number
  readonly count: number
}

const EVERY_GROUP: readonly FixedRun[] = [{ start: 0, count: 3 }]
const TABLE_GROUP: readonly FixedRun[] = [{ start: 0, count: 5 }]
const FIRST_GROUP: readonly FixedRun[] = [
  { start: 0, count: INTENT_LOG_START + INTENT_LOG_BLOCKS },
  { start: 16384, count: 1 },
  { start: 24576, count: 1 },
]

/** The fixed blocks of a group. */
export function fixedRuns(group: number): readonly FixedRun[] {
  if (group === 0) return FIRST_GROUP
  return group % GROUPS_PER_TABLE === 0 ? TABLE_GROUP : EVERY_GROUP
}

export function fixedBlockCount(group: number): number {
  let count = 0
  for (const run of fixedRuns(group)) count += run.count
  return count
}

export function groupStart(group: number): number {
  return group * BLOCKS_PER_GROUP
}

export function groupOf(physicalBlock: number): number {
  return Math.floor(physicalBlock / BLOCKS_PER_GROUP)
}

/** Physical block of a group's bitmap; home is 0 or 1. */
export function bitmapHome(group: number, home: number): number {
  return groupStart(group) + 1 + home
}

/** Physical block of a table block; home is 0 or 1. */
export function tableHome(table: number, home: number): number {
  return groupStart(table * GROUPS_PER_TABLE) + 3 + home
}
