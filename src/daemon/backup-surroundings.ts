// What a requester needs of volumes, through their daemons or their files: see shadow/requester/surroundings.ts.
//
// Always true: a snapshot that was opened holds a lease until it is disposed of; a daemon without a mount
// that is just ending is waited for.

import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { hasCode, UmbraError } from '../base/errors.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import { mountAt, readMountTable } from '../fuse/device/mount-table.ts'
import type { ChangedRange } from '../shadow/changed-files/file-change.ts'
import { FileComparison } from '../shadow/changed-files/file-comparison.ts'
import type { KnownPoint, OpenSnapshot, VolumeAccess, VolumePlace } from '../shadow/requester/surroundings.ts'
import { isOurs } from './locate.ts'
import { type OpenControl, openControl } from './open-control.ts'
import { imageSource, type PointAccess, withPoints } from './point-access.ts'
import { openSnapshotTree } from './served-tree.ts'

const BUSY_PATIENCE_MS = 10_000
const BUSY_POLL_MS = 50

export const volumeAccess: VolumeAccess = {
  async find(volume: string): Promise<VolumePlace> {
    return withControl(volume, false, async ({ volume: control, volumePath }) => {
      const { uuid, mountPoint } = await control.status()
      return { volumeUuid: uuid, volumePath, mountPoint }
    })
  },

  async volumeAt(path: string): Promise<VolumePlace | null> {
    const table = await readMountTable()
    for (let folder = path; ; folder = dirname(folder)) {
      const mount = mountAt(table, folder)
      if (mount) return isOurs(mount) ? this.find(folder) : null
      if (folder === dirname(folder)) return null
    }
  },

  async points(volumePath: string): Promise<KnownPoint[]> {
    return withControl(volumePath, false, async ({ volume }) => {
      const snapshots = (await volume.listSnapshots()).map(({ snapshot }) => snapshot)
      return [...snapshots, ...(await volume.listBookmarks())].map(({ kind, id, name, epoch }) => ({
        kind,
        id,
        name,
        epoch,
      }))
    })
  },

  async deleteBookmark(volumePath: string, id: string): Promise<void> {
    await withControl(volumePath, true, ({ volume }) => volume.deleteBookmark(id))
  },

  async deleteSnapshot(volumePath: string, name: string, keepBookmark: boolean): Promise<void> {
    await withControl(volumePath, true, ({ volume }) => volume.deleteSnapshot(name, keepBookmark))
  },

  openSnapshot(volumePath: string, snapshot: string, bases: readonly string[]): Promise<OpenSnapshot> {
    return new Promise((resolve, reject) => {
      withPoints(volumePath, [snapshot, ...bases], async (access) => {
        const opened = new LeasedSnapshot(access, snapshot)
        resolve(opened)
        await opened.whenDisposed
      }).catch(reject)
    })
  },
}

class LeasedSnapshot implements OpenSnapshot {
  readonly volumeUuid: string
  readonly whenDisposed: Promise<void>
  readonly #access: PointAccess
  readonly #name: string
  readonly #comparisons = new Map<string, FileComparison>()
  #dispose: () => void = () => {}

  constructor(access: PointAccess, name: string) {
    this.volumeUuid = access.volumeUuid
    this.#access = access
    this.#name = name
    this.whenDisposed = new Promise((resolve) => {
      this.#dispose = resolve
    })
  }

  fileSystem(): FileSystem {
    return openSnapshotTree(this.#access.device(this.#access.snapshot(this.#name)))
  }

  imageSource(sinceId: string | null) {
    return imageSource(this.#access, this.#name, sinceId)
  }

  changedRanges(path: Uint8Array, sinceId: string): readonly ChangedRange[] {
    let comparison = this.#comparisons.get(sinceId)
    if (!comparison) {
      const after = this.#access.snapshot(this.#name)
      const before = this.#access.point(sinceId)
      comparison = new FileComparison({
        before: before.kind === 'snapshot' ? this.#access.device(before) : before,
        after: this.#access.device(after),
        delta: this.#access.delta(before, after),
      })
      this.#comparisons.set(sinceId, comparison)
    }
    return comparison.changedFile(path)?.ranges ?? []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#dispose()
  }
}

/** @throws UmbraError as openControl(); BUSY only when the volume stays so */
async function withControl<T>(
  volume: string,
  write: boolean,
  use: (control: OpenControl) => Promise<T>,
): Promise<T> {
  const deadlineMs = Date.now() + BUSY_PATIENCE_MS
  for (;;) {
    try {
      await using control = await openControl(volume, { write })
      return await use(control)
    } catch (error) {
      const mayPass = hasCode(error, 'BUSY') || hasCode(error, 'UNAVAILABLE')
      if (!(error instanceof UmbraError) || !mayPass || Date.now() > deadlineMs) throw error
      await delay(BUSY_POLL_MS)
    }
  }
}
