// What a daemon serves, opened: the present of a volume under its lock, or one snapshot of it, under a
// lease of the volume's own daemon where there is one.
//
// Always true: close() commits, lets go of the lock or the lease, and may be called once.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { FileMarks } from '../storage/file-marks.ts'
import { FileStorage } from '../storage/file-storage.ts'
import type { Snapshot } from '../volume/points.ts'
import { SnapshotDevice, type SnapshotGuard } from '../volume/snapshot-device.ts'
import { Volume } from '../volume/volume.ts'
import type { ControlClient } from './control-client.ts'
import {
  leaseEvictedNotification,
  leaseRequest,
  statusRequest,
  type VolumeStatus,
} from './control-protocol.ts'
import { HostSpace } from './host-space.ts'
import { dropLeftovers, HostedVolume } from './hosted-volume.ts'
import { isWriteBack, type MountedOptions } from './launch.ts'
import { LeaseWatch } from './lease-watch.ts'
import { locateVolume, snapshotMountKey } from './locate.ts'
import { socketPath, volumeFileKey } from './runtime-folder.ts'
import { type ServedTree, serveSnapshot, serveVolume } from './served-tree.ts'

export interface Served {
  readonly tree: ServedTree
  /** Undefined where a single snapshot is served. */
  readonly hosted: HostedVolume | undefined
  readonly key: string
  readonly socket: string
  status(): VolumeStatus
  close(): Promise<void>
}

/** @throws UmbraError NOT_FOUND, BUSY, and what opening the volume and its file system throws */
export function openServed(options: MountedOptions): Promise<Served> {
  return options.snapshot === null ? openPresent(options) : openSnapshot(options, options.snapshot)
}

async function openPresent(options: MountedOptions): Promise<Served> {
  const { volumePath, mountPoint, readOnly, hooks } = options
  const key = volumeFileKey(volumePath)
  const socket = socketPath(key)
  const storage = await FileStorage.open(volumePath, { readOnly })
  try {
    const volume = await Volume.open(storage, { readOnly })
    if (!readOnly) await dropLeftovers(volume)
    const place = { volumePath, mountPoint, socket, mountedSnapshot: null, hooks }
    const hosted = new HostedVolume(volume, place, new FileMarks(storage))
    const times = { timesFromKernel: isWriteBack(options), accessTimes: options.accessTimes }
    const tree = serveVolume(hosted, socket, HostSpace.ofDescriptor(storage.descriptor), times)
    const close = async (): Promise<void> => {
      try {
        await hosted.settled()
        await volume.close()
      } finally {
        await storage.close()
      }
    }
    return { tree, hosted, key, socket, status: () => hosted.status(), close }
  } catch (error) {
    await storage.close()
    throw error
  }
}

async function openSnapshot(options: MountedOptions, name: string): Promise<Served> {
  const { volumePath, mountPoint } = options
  const key = snapshotMountKey(volumeFileKey(volumePath), mountPoint)
  const socket = socketPath(key)
  const { client } = await locateVolume(volumePath)
  const storage = await FileStorage.open(volumePath, { readOnly: true, lock: client ? 'none' : 'shared' })
  try {
    const { snapshot, status, guard } = client
      ? await leased(client, storage, name)
      : await looked(storage, volumePath, name)
    const { root, epoch, blockCount } = snapshot
    const device = new SnapshotDevice(storage, { root, epoch, blockCount, ...(guard && { guard }) })
    const tree = serveSnapshot(device)
    const close = async (): Promise<void> => {
      client?.close()
      await storage.close()
    }
    const shown: VolumeStatus = {
      ...status,
      mountPoint,
      daemon: { pid: process.pid, socket },
      state: 'serving',
      readOnly: true,
      mountedSnapshot: name,
      sizeBytes: blockCount * BLOCK_SIZE_BYTES,
    }
    return { tree, hosted: undefined, key, socket, status: () => shown, close }
  } catch (error) {
    client?.close()
    await storage.close()
    throw error
  }
}

interface Shown {
  readonly snapshot: Snapshot
  readonly status: VolumeStatus
  /** Where the snapshot may go while it is read. */
  readonly guard?: SnapshotGuard
}

async function leased(client: ControlClient, storage: FileStorage, name: string): Promise<Shown> {
  const leased = await client.callWith(leaseRequest, { names: [name], present: false })
  const guard = new LeaseWatch(storage, leased)
  void client.whenClosed.then(() => guard.lost('The daemon that keeps this snapshot has ended'))
  client.onNotification(leaseEvictedNotification, () => {
    guard.evicted(name)
    client.close()
  })
  const { points } = leased
  const status = await client.call(statusRequest)
  const point = points[0]
  if (point?.kind !== 'snapshot')
    throw new UmbraError('INVALID_ARGUMENT', `${name} is a bookmark, which has no blocks`)
  return { snapshot: point, status, guard }
}

async function looked(storage: FileStorage, volumePath: string, name: string): Promise<Shown> {
  const volume = await Volume.open(storage, { readOnly: true })
  const place = { volumePath, mountPoint: null, socket: null, mountedSnapshot: null }
  try {
    return { snapshot: volume.snapshot(name), status: new HostedVolume(volume, place).status() }
  } finally {
    await volume.close()
  }
}
