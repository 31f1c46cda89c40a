// Which files differ between two points of a volume, and in which bytes: what a requester asks.
//
// Always true: both points are only read; the work is that of the change (the inode-table blocks in the
// delta, the extent trees of what changed, the directory blocks that changed), except for names of
// files that changed without being renamed, which take one pass over the directories.

import { UmbraError } from '../../base/errors.ts'
import type { ChangedRange, ComparedPoints, ComparisonCost, FileChange } from './file-change.ts'

export class FileComparison {
  /** @throws UmbraError UNSUPPORTED_FEATURE, CORRUPT, CHECKSUM_MISMATCH, IO_FAILED, as everything here */
  constructor(points: ComparedPoints) {
    void points
  }

  /**
   * Every file that differs, by rising inode number, a deletion before the creation that took its number.
   * @param options.names false: without paths, and so without the pass over the directories
   */
  changes(options: { readonly names?: boolean } = {}): Generator<FileChange> {
    void options
    throw new UmbraError('UNAVAILABLE', 'Comparing files is still being built')
  }

  /**
   * The change of one file, without any pass over directories; null: it does not differ.
   * @param file path at the newer point (text in UTF-8, or bytes), or inode number
   * @throws UmbraError NOT_FOUND when there is no such file at the newer point
   */
  changedFile(file: string | Uint8Array | number): FileChange | null {
    void file
    throw new UmbraError('UNAVAILABLE', 'Comparing files is still being built')
  }

  get cost(): ComparisonCost {
    throw new UmbraError('UNAVAILABLE', 'Comparing files is still being built')
  }
}

/** As FileComparison.changes(), for one question. */
export function changedFiles(
  before: ComparedPoints['before'],
  after: ComparedPoints['after'],
  delta: ComparedPoints['delta'],
): Generator<FileChange> {
  return new FileComparison({ before, after, delta }).changes()
}

/** The ranges in which one file differs, as FileComparison.changedFile(). */
export function changedRanges(
  points: ComparedPoints,
  file: string | Uint8Array | number,
): readonly ChangedRange[] {
  return new FileComparison(points).changedFile(file)?.ranges ?? []
}
