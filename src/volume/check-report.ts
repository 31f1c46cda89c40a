// What a check of a volume has found: findings with a code, a place and what to do, and figures.
//
// Always true: codes are stable, messages are for people; the number of findings kept is bounded, the
// number counted is not.

export type FindingCode =
  | 'SUPERBLOCK_COPY'
  | 'TABLE_DAMAGED'
  | 'BITMAP_DAMAGED'
  | 'BITMAP_COUNT'
  | 'NODE_DAMAGED'
  | 'ENTRY_INVALID'
  | 'BIRTH_ORDER'
  | 'OUT_OF_RANGE'
  | 'DOUBLE_USE'
  | 'NOT_ALLOCATED'
  | 'OBJECT_DAMAGED'
  | 'LIST_DAMAGED'
  | 'DEAD_LIST'
  | 'COUNT_WRONG'
  | 'POINT_ORDER'
  | 'WINDOW_LIST'

const ACTIONS: Readonly<Record<FindingCode, string>> = {
  SUPERBLOCK_COPY: 'The other copy is good; opening the volume for writing, or --repair, rewrites this one',
  TABLE_DAMAGED: '--repair rebuilds the allocation tables when every tree is whole',
  BITMAP_DAMAGED: '--repair rebuilds the bitmap when every tree is whole',
  BITMAP_COUNT: '--repair rebuilds the bitmap when every tree is whole',
  NOT_ALLOCATED: 'Do not write to the volume before --repair has rebuilt the bitmap',
  NODE_DAMAGED:
    'What this node maps is lost here: restore it from an image, or delete the snapshot it belongs to',
  ENTRY_INVALID: 'Export what can be read and restore the volume from an image',
  BIRTH_ORDER: 'Increments over this place may lack blocks: take a full image',
  OUT_OF_RANGE: 'Export what can be read and restore the volume from an image',
  DOUBLE_USE: 'Do not write to the volume: export its snapshots, compare, and restore into a new one',
  OBJECT_DAMAGED: 'Export what can be read and restore the volume from an image',
  LIST_DAMAGED: 'Do not delete snapshots: export them and restore into a new volume',
  DEAD_LIST: 'Do not delete snapshots: export them and restore into a new volume',
  COUNT_WRONG: 'Sizes shown for snapshots are wrong; the contents are not affected',
  POINT_ORDER: 'Increments from this point may be wrong: take a full image',
  WINDOW_LIST: 'Increments from this point may lack blocks once it is a bookmark: take a full image',
}

export interface Finding {
  readonly code: FindingCode
  /** Which structure: `snapshot monday, level 1, position 3`. */
  readonly where: string
  readonly message: string
  readonly action: string
}

export interface LeakedRun {
  readonly physicalBlock: number
  readonly blockCount: number
}

export interface CheckCounts {
  snapshots: number
  bookmarks: number
  /** Allocation groups of the volume file. */
  groups: number
  /** Blocks reached, fixed ones included. */
  reachedBlocks: number
  /** Blocks that the committed bitmaps say are in use. */
  allocatedBlocks: number
  liveBlocks: number
  toFreeBlocks: number
}

export interface CheckReport {
  readonly transaction: number
  /** Broken promises; empty for a sound volume. At most {@link FINDINGS_KEPT} are kept. */
  readonly errors: readonly Finding[]
  readonly errorCount: number
  /** Allocated blocks that nothing reaches: lost space, no danger. */
  readonly leaks: { readonly blockCount: number; readonly runs: readonly LeakedRun[] }
  /** False: something could not be read, so leaks and dead lists were not judged. */
  readonly isComplete: boolean
  /** Harmless things worth knowing, such as a commit that the last crash cut off. */
  readonly notes: readonly string[]
  readonly counts: Readonly<CheckCounts>
}

/** Findings and leaked runs beyond this many are counted but not kept. */
export const FINDINGS_KEPT = 1000

/** Collects findings while a check runs. */
export class FindingLog {
  readonly errors: Finding[] = []
  readonly notes: string[] = []
  errorCount = 0
  /** Set when something could not be read: what hangs on it was not seen. */
  isComplete = true

  add(code: FindingCode, where: string, message: string): void {
    this.errorCount++
    if (this.errors.length < FINDINGS_KEPT) this.errors.push({ code, where, message, action: ACTIONS[code] })
  }

  /** Like add(), for what hides things that a whole volume would show. */
  addBlind(code: FindingCode, where: string, message: string): void {
    this.isComplete = false
    this.add(code, where, message)
  }
}
