// What can be asked of a volume, whether a daemon serves it or it lies unmounted in its file.
//
// Always true: the same call gives the same result and the same errors both ways. Two implementations:
// RemoteVolume (over the control socket) and LocalVolume (in this process, under the file's lock).

import type { Bookmark, Snapshot } from '../volume/points.ts'
import type { SpacePolicy } from '../volume/space-policy.ts'
import type { ControlClient } from './control-client.ts'
import {
  bookmarkCreateRequest,
  bookmarkDeleteRequest,
  bookmarkListRequest,
  type Leased,
  type LeaseParams,
  leaseCheckRequest,
  leaseEvictedNotification,
  leaseRequest,
  type PolicyReport,
  policyRequest,
  type SnapshotDetails,
  type SnapshotTaken,
  snapshotCreateRequest,
  snapshotDeleteRequest,
  snapshotFreedRequest,
  snapshotListRequest,
  snapshotPinRequest,
  snapshotShowRequest,
  statusRequest,
  syncRequest,
  type VolumeStatus,
} from './control-protocol.ts'

/** It is answered from memory: a daemon that takes longer is stopped or stuck, and nobody waits for it. */
const STATUS_TIMEOUT_MS = 15_000

export interface VolumeControl {
  status(): Promise<VolumeStatus>
  /** Everything written before the call is durable when it settles. */
  sync(): Promise<{ flushMs: number; commitMs: number }>
  /** @throws UmbraError ALREADY_EXISTS, INVALID_NAME, OUT_OF_SPACE, READ_ONLY */
  createSnapshot(name: string): Promise<SnapshotTaken>
  listSnapshots(): Promise<SnapshotDetails[]>
  /** @throws UmbraError NOT_FOUND */
  showSnapshot(name: string): Promise<SnapshotDetails>
  /** @throws UmbraError NOT_FOUND, PINNED, LEASED, BUSY (files of it are open on the mount) */
  deleteSnapshot(name: string, keepBookmark: boolean): Promise<{ freedBytes: number }>
  /** Bytes that deleting all of these would free. @throws UmbraError NOT_FOUND */
  freedIfDeleted(names: readonly string[]): Promise<number>
  /** Changes what is given of the policy, and shows it. @throws UmbraError INVALID_ARGUMENT, OUT_OF_SPACE, READ_ONLY */
  policy(change: Partial<SpacePolicy>): Promise<PolicyReport>
  pinSnapshot(name: string, pinned: boolean): Promise<Snapshot>
  createBookmark(name: string): Promise<Bookmark>
  listBookmarks(): Promise<Bookmark[]>
  deleteBookmark(name: string): Promise<void>
  /** Keeps points until close(). @throws UmbraError NOT_FOUND */
  lease(params: LeaseParams): Promise<Leased>
  /** `told` is called when a leased snapshot is evicted all the same. */
  onEvicted(told: (name: string) => void): void
  /** Names of leased snapshots that were evicted up to now: what was read of them may be wrong. */
  evictedLeases(): Promise<string[]>
  close(): Promise<void>
}

/** A volume that a daemon serves. */
export class RemoteVolume implements VolumeControl {
  readonly client: ControlClient

  constructor(client: ControlClient) {
    this.client = client
  }

  status(): Promise<VolumeStatus> {
    return this.client.call(statusRequest, STATUS_TIMEOUT_MS)
  }

  sync(): Promise<{ flushMs: number; commitMs: number }> {
    return this.client.call(syncRequest)
  }

  createSnapshot(name: string): Promise<SnapshotTaken> {
    return this.client.callWith(snapshotCreateRequest, { name })
  }

  listSnapshots(): Promise<SnapshotDetails[]> {
    return this.client.call(snapshotListRequest)
  }

  showSnapshot(name: string): Promise<SnapshotDetails> {
    return this.client.callWith(snapshotShowRequest, { name })
  }

  deleteSnapshot(name: string, keepBookmark: boolean): Promise<{ freedBytes: number }> {
    return this.client.callWith(snapshotDeleteRequest, { name, keepBookmark })
  }

  async freedIfDeleted(names: readonly string[]): Promise<number> {
    return (await this.client.callWith(snapshotFreedRequest, { names })).freedBytes
  }

  policy(change: Partial<SpacePolicy>): Promise<PolicyReport> {
    return this.client.callWith(policyRequest, change)
  }

  pinSnapshot(name: string, pinned: boolean): Promise<Snapshot> {
    return this.client.callWith(snapshotPinRequest, { name, pinned })
  }

  createBookmark(name: string): Promise<Bookmark> {
    return this.client.callWith(bookmarkCreateRequest, { name })
  }

  listBookmarks(): Promise<Bookmark[]> {
    return this.client.call(bookmarkListRequest)
  }

  async deleteBookmark(name: string): Promise<void> {
    await this.client.callWith(bookmarkDeleteRequest, { name })
  }

  lease(params: LeaseParams): Promise<Leased> {
    return this.client.callWith(leaseRequest, params)
  }

  onEvicted(told: (name: string) => void): void {
    this.client.onNotification(leaseEvictedNotification, ({ name }) => told(name))
  }

  evictedLeases(): Promise<string[]> {
    return this.client.call(leaseCheckRequest)
  }

  async close(): Promise<void> {
    this.client.close()
  }
}
