// What is told of a file that differs between two points of a volume, and of what telling it cost.
//
// Always true: ranges rise, do not touch, and end at the newer size at the latest; applying them to a
// copy of the older file that was first cut or grown to `sizeBytes` gives the newer file. Nothing that
// differs is left out; what is rewritten with equal bytes may be listed. Paths are byte strings (one
// char a byte, as in src/ext4), relative to the root of the volume without a leading slash; the root
// itself is ".".

import type { BlockReader } from '../../image/image-source.ts'
import type { DeltaExtent } from '../../volume/points.ts'

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'character'

/**
 * `created`, `deleted`: the inode is new or gone; a number that was reused gives one of each.
 * `renamed`: it has other paths than before (moved, a link more or fewer); its data may differ, too. What
 * lies in a directory that was moved is listed only if something else of it differs.
 * `changed`: data or attributes. `touched`: since a bookmark, changed or created (see `certain`).
 */
export type ChangeKind = 'created' | 'deleted' | 'renamed' | 'changed' | 'touched'

export interface ChangedRange {
  /** `data`: to be read at the newer point; `zero`: it reads as zeros there. */
  readonly kind: 'data' | 'zero'
  readonly offsetBytes: number
  readonly lengthBytes: number
}

export interface FileChange {
  readonly kind: ChangeKind
  readonly type: FileType
  readonly ino: number
  readonly generation: number
  /** Every name at the newer point, sorted; of what was deleted, at the older one. Empty when not asked for. */
  readonly paths: readonly string[]
  /** Of what was renamed: its names at the older point, sorted. Else empty. */
  readonly oldPaths: readonly string[]
  /** Null: it is not there at that point, is no regular file, or (old) the point is a bookmark. */
  readonly sizeBytes: number | null
  readonly oldSizeBytes: number | null
  /**
   * Attributes differ: mode, owner, flags, extended attributes, device number; or times without any
   * difference in data. Access times, and the change time alone, do not count.
   */
  readonly metadata: boolean
  /** Of regular files. For a created file all that is not a hole. */
  readonly ranges: readonly ChangedRange[]
  /**
   * False: only its neighbourhood is known to have changed, which happens since a bookmark alone. It is
   * listed so that nothing is missed.
   */
  readonly certain: boolean
}

/** What is left of a bookmark: its instant, no blocks. */
export interface ForgottenPoint {
  readonly createdAtMs: number
}

export interface ComparedPoints {
  /** The older point: a snapshot's blocks, or a bookmark. */
  readonly before: BlockReader | ForgottenPoint
  readonly after: BlockReader
  /** From older to newer, as delta() gives it; walked once, when first needed. */
  readonly delta: Iterable<DeltaExtent>
}

export interface ComparisonCost {
  /** Runs of the delta. */
  readonly deltaExtents: number
  /** 4 KiB blocks read from both points so far, whatever they hold. */
  readonly blocksRead: number
  /** Of the pass for names: directories and their blocks; 0 when no pass was needed. */
  readonly directories: number
  readonly directoryBlocks: number
  /** Time of that pass. */
  readonly namesMs: number
}
