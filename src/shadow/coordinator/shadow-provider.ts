// What the coordinator asks of a volume: the provider's steps of vss.md section 1.2, phase C.
//
// Always true: the steps come in the order of this interface; abort() may come after any of them and
// ends the sequence; a hold ends by itself after HOLD_TIMEOUT_MS or when the connection to the volume
// closes, and commit() then throws HOLD_TIMED_OUT and leaves no snapshot. Until seal() has settled the
// snapshot is not listed anywhere; one that is found unsealed when the volume is opened is deleted.

import type { Snapshot } from '../../volume/points.ts'
import type { FileSpec } from '../documents/writer-metadata.ts'

/** Flush-and-hold to release; not configurable, as in VSS. */
export const HOLD_TIMEOUT_MS = 10_000

export interface ShadowRequest {
  readonly snapshotSetId: string
  /** Bits of SNAPSHOT_ATTRIBUTES. */
  readonly attributes: number
  /** Volumes in the set so far; how many they are in the end is told to endPrepare(). */
  readonly setCount: number
  /** The id that was promised to the requester; where a provider cannot give it, commit() says another. */
  readonly snapshotId?: string
  readonly snapshotName: string
}

export interface ShadowVolumeInfo {
  readonly volumeUuid: string
  readonly volumePath: string
  readonly mountPoint: string | null
  /** The hook folder given to the mount. */
  readonly hooksFolder: string | null
}

/** One volume of a shadow set that is being made. */
export interface ShadowSequence {
  readonly info: ShadowVolumeInfo
  /** EndPrepareSnapshots: all slow work is done; the name is free, space is there, a first flush has run. */
  endPrepare(set: { readonly setCount: number }): Promise<void>
  /** PreCommitSnapshots: applications are frozen, input and output are not. */
  preCommit(): Promise<void>
  /** Brings every write that has returned to the file system, then lets modifications wait; reads are answered. */
  flushAndHold(): Promise<{ readonly flushMs: number }>
  /** CommitSnapshots: the cut, durable. @throws UmbraError HOLD_TIMED_OUT */
  commit(): Promise<{ readonly snapshotId: string; readonly epoch: number; readonly createdAtMs: number }>
  /** Modifications go on. @returns how long they were held */
  release(): Promise<{ readonly heldMs: number }>
  /** PostCommitSnapshots. */
  postCommit(): Promise<void>
  /** PreFinalCommitSnapshots: writable at this path until seal(); null where the volume is not mounted or without auto-recovery. */
  preFinalCommit(): Promise<{ readonly recoveryPath: string | null }>
  /** Deletes matching files from the unsealed shadow copy, mounted or not; no match is no error. @returns files deleted */
  deleteFromSnapshot(files: readonly FileSpec[]): Promise<number>
  /** PostFinalCommitSnapshots: read-only from now on, and listed. */
  seal(): Promise<Snapshot>
  /**
   * Undoes whatever was done: releases the hold, drops the snapshot, also a sealed one. It may come while
   * a step is under way: the hold is released at once, the rest is undone when that step is through.
   */
  abort(): Promise<void>
  /** The set is done with; an auto-release snapshot is deleted (leaving a bookmark if asked to). */
  end(options: { readonly keepBookmark: boolean }): Promise<void>
}

export interface ShadowProvider {
  readonly id: string
  readonly name: string
  /** @param volume volume file or mount point. @throws UmbraError NOT_FOUND, VOLUME_NOT_SUPPORTED */
  supports(volume: string): Promise<ShadowVolumeInfo>
  /** BeginPrepareSnapshot: starts what takes time and returns. */
  begin(volume: string, request: ShadowRequest): Promise<ShadowSequence>
}
