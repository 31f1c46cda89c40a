// What is checked before a daemon is started for a mount, so that mistakes are told at once.
//
// Always true: a dead mount of ours at the folder is cleared first; a living mount is never touched;
// the folder may not hold the volume's own file, or serving it would wait for itself.

import { statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { UmbraError } from '../base/errors.ts'
import { probeMount } from '../fuse/device/mount-health.ts'
import { canonicalMountPoint } from '../fuse/device/mount-table.ts'
import { clearDeadMount } from '../fuse/device/unmount.ts'
import type { VolumeStatus } from './control-protocol.ts'
import { isRunning } from './is-running.ts'
import type { DaemonOptions, MountedOptions } from './launch.ts'
import { findMount, isOurs, locateVolume } from './locate.ts'
import { RemoteVolume } from './volume-control.ts'

/** How long a mount waits for a backup of the unmounted volume. */
const RELEASE_TIMEOUT_MS = 20_000
const RELEASE_POLL_MS = 50

type Wanted = Omit<DaemonOptions, 'volumePath' | 'mountPoint'>

/** @throws UmbraError NOT_FOUND, BUSY, INVALID_ARGUMENT */
export async function prepareMount(volume: string, folder: string, wanted: Wanted): Promise<MountedOptions> {
  await clearDeadMountAt(folder)
  const mountPoint = await existingFolder(folder)
  const { volumePath, client } = await locateVolume(volume)
  if (client) {
    const served = new RemoteVolume(client)
    const status = await served.status().finally(() => served.close())
    if (wanted.snapshot === null) await waitForVolume(volumePath, status)
  }
  if (volumePath === mountPoint || volumePath.startsWith(mountPoint === '/' ? '/' : `${mountPoint}/`)) {
    throw new UmbraError('INVALID_ARGUMENT', `${folder} holds the volume file itself; mount it elsewhere`)
  }
  return { ...wanted, volumePath, mountPoint }
}

/** A volume that is served without a mount is let go when the last command that uses it has ended. */
async function waitForVolume(volumePath: string, { mountPoint, daemon }: VolumeStatus): Promise<void> {
  if (mountPoint !== null || daemon === null) {
    throw new UmbraError('BUSY', `${volumePath} is already mounted at ${mountPoint} (process ${daemon?.pid})`)
  }
  const deadlineMs = Date.now() + RELEASE_TIMEOUT_MS
  while (isRunning(daemon.pid)) {
    if (Date.now() > deadlineMs) {
      throw new UmbraError(
        'BUSY',
        `${volumePath} is in use by a backup of the unmounted volume (process ${daemon.pid}); mount it when that has ended`,
      )
    }
    await sleep(RELEASE_POLL_MS)
  }
}

async function clearDeadMountAt(folder: string): Promise<void> {
  for (let entry = await findMount(folder); entry; entry = await findMount(folder)) {
    if (!isOurs(entry)) {
      throw new UmbraError('BUSY', `${folder} is a mount point already (${entry.type} ${entry.source})`)
    }
    const health = await probeMount(entry.mountPoint)
    if (health !== 'dead') {
      const hint = health === 'hanging' ? '; it does not answer ("umbra unmount --force" cuts it off)' : ''
      throw new UmbraError('BUSY', `${entry.source} is mounted at ${folder} already${hint}`)
    }
    await clearDeadMount(entry.mountPoint)
  }
}

async function existingFolder(folder: string): Promise<string> {
  let isFolder: boolean
  try {
    isFolder = statSync(folder).isDirectory()
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `No such folder to mount at: ${folder}`, { folder }, error)
  }
  if (!isFolder) throw new UmbraError('INVALID_ARGUMENT', `Not a folder: ${folder}`)
  return canonicalMountPoint(folder)
}
