// What a mount shows of a volume: the file system of the present with `.snapshots`, or of one snapshot.
//
// Always true: a snapshot taken through the mount is flushed and cut like one taken by the command; a
// snapshot's file system is opened when somebody enters it, with caches kept small.

import { Ext4 } from '../ext4/ext4.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import { FlushMarker } from '../fuse/flush-marker.ts'
import { HoldGate } from '../fuse/hold-gate.ts'
import { LiveTree, type LiveTreeOptions } from '../fuse/live-tree.ts'
import type { InodeOperations } from '../fuse/operations.ts'
import type { SnapshotEntry, SnapshotProvider } from '../fuse/snapshot-provider.ts'
import { SnapshotsView } from '../fuse/snapshots-view.ts'
import type { SpaceLimit } from '../fuse/space-limit.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { HostedVolume } from './hosted-volume.ts'

const SNAPSHOT_CACHE_BYTES = 8 * 1024 * 1024
const SNAPSHOT_INODES = 4096
const SNAPSHOT_NAMES = 50_000

/** `.snapshots` of a hosted volume. */
class HostedSnapshots implements SnapshotProvider {
  readonly #hosted: HostedVolume
  #entries: readonly SnapshotEntry[] = []
  /** Transaction that the entries are of: snapshots come and go with commits only. */
  #listedAt = -1

  constructor(hosted: HostedVolume) {
    this.#hosted = hosted
  }

  list(): readonly SnapshotEntry[] {
    const { volume } = this.#hosted
    if (this.#listedAt !== volume.transaction) {
      this.#entries = volume.snapshots()
      this.#listedAt = volume.transaction
    }
    return this.#entries
  }

  open(name: string): FileSystem {
    return openSnapshotTree(this.#hosted.volume.openSnapshot(name))
  }

  async create(name: string): Promise<void> {
    await this.#hosted.createSnapshot(name)
  }

  remove(name: string): Promise<void> {
    return this.#hosted.deleteUnread(name)
  }
}

/** A snapshot's file system, read-only. */
export function openSnapshotTree(device: BlockDevice): FileSystem {
  return Ext4.open(device, {
    readOnly: true,
    cacheBytes: SNAPSHOT_CACHE_BYTES,
    inodeCacheCount: SNAPSHOT_INODES,
    nameLimit: SNAPSHOT_NAMES,
  })
}

export interface ServedTree {
  readonly operations: InodeOperations
  readonly marker: FlushMarker
  /** The present's; null: a single snapshot is shown. */
  readonly fileSystem: Ext4 | null
  readonly view: SnapshotsView | null
  /** Where modifications of the present wait while a shadow set is cut. */
  readonly gate: HoldGate
}

/** The present with its snapshots; `times` as LiveTree takes them. @throws UmbraError as Ext4.open() */
export function serveVolume(
  hosted: HostedVolume,
  socket: string,
  spaceLimit: SpaceLimit,
  times: Pick<LiveTreeOptions, 'timesFromKernel' | 'accessTimes'>,
): ServedTree {
  const { volume } = hosted
  const gate = new HoldGate()
  const fileSystem = Ext4.open(volume, { readOnly: volume.readOnly })
  const live = new LiveTree(fileSystem, { spaceLimit, ...times, gate })
  const marker = new FlushMarker()
  const view = new SnapshotsView({ live, provider: new HostedSnapshots(hosted), marker, control: socket })
  return { operations: view, marker, fileSystem, view, gate }
}

/** One snapshot by itself, with the file system's own inode numbers. */
export function serveSnapshot(device: BlockDevice): ServedTree {
  const operations = new LiveTree(openSnapshotTree(device))
  return { operations, marker: new FlushMarker(), fileSystem: null, view: null, gate: new HoldGate() }
}
