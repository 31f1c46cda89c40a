// A volume that no daemon serves, opened by a command in its own process.
//
// Always true: the file's lock is held from open to close; read-only opening changes nothing in the
// file; what a temporary lease made is gone after close().

import type { BlockStorage } from '../storage/block-storage.ts'
import { FileStorage } from '../storage/file-storage.ts'
import type { Bookmark, Snapshot } from '../volume/points.ts'
import type { SpacePolicy } from '../volume/space-policy.ts'
import { Volume } from '../volume/volume.ts'
import type {
  Leased,
  LeaseParams,
  PolicyReport,
  SnapshotDetails,
  SnapshotTaken,
  VolumeStatus,
} from './control-protocol.ts'
import { HostedVolume } from './hosted-volume.ts'
import type { VolumeControl } from './volume-control.ts'

export class LocalVolume implements VolumeControl {
  readonly volume: Volume
  readonly storage: BlockStorage
  readonly #hosted: HostedVolume
  readonly #endings: (() => Promise<void>)[] = []
  readonly #told: ((name: string) => void)[] = []
  readonly #evicted: string[] = []

  private constructor(volume: Volume, storage: BlockStorage, volumePath: string) {
    this.volume = volume
    this.storage = storage
    this.#hosted = new HostedVolume(volume, {
      volumePath,
      mountPoint: null,
      socket: null,
      mountedSnapshot: null,
    })
  }

  /** @throws UmbraError as FileStorage.open() and Volume.open() */
  static async open(volumePath: string, options: { readOnly: boolean }): Promise<LocalVolume> {
    const storage = await FileStorage.open(volumePath, { readOnly: options.readOnly })
    try {
      return new LocalVolume(await Volume.open(storage), storage, volumePath)
    } catch (error) {
      await storage.close()
      throw error
    }
  }

  async status(): Promise<VolumeStatus> {
    return this.#hosted.status()
  }

  sync(): Promise<{ flushMs: number; commitMs: number }> {
    return this.#hosted.sync()
  }

  createSnapshot(name: string): Promise<SnapshotTaken> {
    return this.#hosted.createSnapshot(name)
  }

  async listSnapshots(): Promise<SnapshotDetails[]> {
    return this.#hosted.listSnapshots()
  }

  async showSnapshot(name: string): Promise<SnapshotDetails> {
    return this.#hosted.showSnapshot(name)
  }

  deleteSnapshot(name: string, keepBookmark: boolean): Promise<{ freedBytes: number }> {
    return this.#hosted.deleteSnapshot(name, keepBookmark)
  }

  async freedIfDeleted(names: readonly string[]): Promise<number> {
    return this.#hosted.freedIfDeleted(names)
  }

  policy(change: Partial<SpacePolicy>): Promise<PolicyReport> {
    return this.#hosted.policy(change)
  }

  pinSnapshot(name: string, pinned: boolean): Promise<Snapshot> {
    return this.#hosted.pinSnapshot(name, pinned)
  }

  createBookmark(name: string): Promise<Bookmark> {
    return this.#hosted.createBookmark(name)
  }

  async listBookmarks(): Promise<Bookmark[]> {
    return this.#hosted.listBookmarks()
  }

  deleteBookmark(name: string): Promise<void> {
    return this.#hosted.deleteBookmark(name)
  }

  async lease(params: LeaseParams): Promise<Leased> {
    const { leased, end } = await this.#hosted.lease(params, (name) => {
      this.#evicted.push(name)
      for (const told of this.#told) told(name)
    })
    this.#endings.push(end)
    return leased
  }

  onEvicted(told: (name: string) => void): void {
    this.#told.push(told)
  }

  async evictedLeases(): Promise<string[]> {
    return this.#evicted
  }

  async close(): Promise<void> {
    try {
      for (const end of this.#endings.splice(0)) await end()
      await this.#hosted.settled()
      await this.volume.close()
    } finally {
      await this.storage.close()
    }
  }
}
