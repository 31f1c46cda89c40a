// What a requester needs of the world around it, which the daemon room provides: the coordinator, and
// the volumes to read shadow copies from.
//
// Always true: a snapshot that is open here stays until it is disposed of; reading it never gives other
// bytes than those of its instant (EVICTED if it was dropped after all).

import type { FileSystem } from '../../ext4/file-system.ts'
import type { ImageSource } from '../../image/image-source.ts'
import type { ChangedRange } from '../changed-files/file-change.ts'
import type { CoordinatorControl } from '../coordinator/requester-session.ts'

export interface VolumePlace {
  readonly volumeUuid: string
  /** Path of the volume file. */
  readonly volumePath: string
  readonly mountPoint: string | null
}

/** A snapshot or a bookmark. */
export interface KnownPoint {
  readonly kind: 'snapshot' | 'bookmark'
  readonly id: string
  readonly name: string
  readonly epoch: number
}

export interface OpenSnapshot extends AsyncDisposable {
  readonly volumeUuid: string
  /** What it holds, read-only. @throws UmbraError NOT_A_VOLUME when the volume holds no ext4 */
  fileSystem(): FileSystem
  /** @param sinceId id of a point that was asked for at opening; null: all of it */
  imageSource(sinceId: string | null): ImageSource
  /**
   * The ranges of one file that differ from a point that was asked for at opening.
   * @param path in the volume, as bytes, without a leading slash
   */
  changedRanges(path: Uint8Array, sinceId: string): readonly ChangedRange[]
}

export interface VolumeAccess {
  /** @param volume volume file or mount point. @throws UmbraError NOT_FOUND, NOT_A_VOLUME */
  find(volume: string): Promise<VolumePlace>
  /** The volume that is mounted where this path lies; null: another file system. */
  volumeAt(path: string): Promise<VolumePlace | null>
  points(volumePath: string): Promise<readonly KnownPoint[]>
  /** @param bases ids of the points that deltas may start from. @throws UmbraError NOT_FOUND */
  openSnapshot(volumePath: string, snapshot: string, bases: readonly string[]): Promise<OpenSnapshot>
  deleteBookmark(volumePath: string, id: string): Promise<void>
  deleteSnapshot(volumePath: string, name: string, keepBookmark: boolean): Promise<void>
}

export interface Surroundings {
  readonly coordinator: CoordinatorControl
  readonly volumes: VolumeAccess
}
