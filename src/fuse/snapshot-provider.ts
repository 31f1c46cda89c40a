// What the `.snapshots` view needs of snapshots: implemented by the process that serves the volume.
//
// Always true: epochs are unique and only grow, so an epoch names one snapshot for ever, whatever
// name it had; a file system that was opened stays readable until close() is called for it or the
// view's snapshotRemoved() has settled, whichever is first.

import type { FileSystem } from '../ext4/file-system.ts'

export interface SnapshotEntry {
  /** Text, unlike the names of requests, which are bytes. */
  readonly name: string
  readonly epoch: number
  readonly createdAtMs: number
}

export interface SnapshotProvider {
  /** All listed snapshots, in any order. Called for every look at `.snapshots`: cheap. */
  list(): readonly SnapshotEntry[]
  /** The snapshot's file system, read-only. @throws UmbraError NOT_FOUND */
  open(name: string): Promise<FileSystem> | FileSystem
  /** A file system from open() is not used any more. */
  close?(fileSystem: FileSystem): void
  /**
   * Takes a snapshot. The kernel's caches are flushed first, so that what the caller wrote before is
   * in it: the serving process must do that through a helper, and requests go on meanwhile.
   * @throws UmbraError ALREADY_EXISTS, INVALID_NAME, OUT_OF_SPACE
   */
  create(name: string): Promise<void>
  /** Deletes a snapshot; the view has stopped reading it. @throws UmbraError NOT_FOUND, PINNED, LEASED */
  remove(name: string): Promise<void>
}
