// Unmounting from the outside: with the daemon's help where there is one, without it where it died.
//
// Always true: when unmountVolume() returns, the mount is gone from the table, the daemon's process has
// ended and the volume's lock is free; after a lazy one they follow when the last file is closed.

import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, UmbraError } from '../base/errors.ts'
import { probeMount } from '../fuse/device/mount-health.ts'
import type { MountEntry } from '../fuse/device/mount-table.ts'
import { clearDeadMount, unmountDevice } from '../fuse/device/unmount.ts'
import type { ControlClient } from './control-client.ts'
import { statusRequest, unmountRequest } from './control-protocol.ts'
import { isRunning } from './is-running.ts'
import { daemonOfMount, findMount, isOurs, locateVolume } from './locate.ts'

export interface Unmounted {
  readonly volume: string
  readonly mountPoint: string
  /** Its daemon had died before. */
  readonly wasDead: boolean
}

export interface UnmountOptions {
  readonly lazy: boolean
  readonly force: boolean
}

const END_TIMEOUT_MS = 5 * 60_000

/** @throws UmbraError NOT_FOUND when nothing of ours is mounted there, BUSY, TIMED_OUT, NOT_PERMITTED */
export async function unmountVolume(argument: string, options: UnmountOptions): Promise<Unmounted> {
  const mount = await findMount(argument)
  if (mount && !isOurs(mount)) {
    throw new UmbraError('INVALID_ARGUMENT', `${argument} is no mount of Umbra (${mount.type})`)
  }
  if (!mount) return unmountByFile(argument, options)
  const client = await daemonOfMount(mount).catch(() => undefined)
  if (client) return unmountByDaemon(client, options, mount)
  const result = { volume: mount.source, mountPoint: mount.mountPoint }
  const health = await probeMount(mount.mountPoint)
  if (health === 'dead' || options.force) {
    await clearDeadMount(mount.mountPoint)
    return { ...result, wasDead: true }
  }
  if (health === 'hanging') {
    throw new UmbraError('TIMED_OUT', `${argument} does not answer; "umbra unmount --force" cuts it off`)
  }
  // It lives, but its socket is not where we look: its daemon commits and ends when the mount goes.
  await unmountDevice(mount.mountPoint, { lazy: options.lazy })
  return { ...result, wasDead: false }
}

async function unmountByFile(argument: string, options: UnmountOptions): Promise<Unmounted> {
  const { client } = await locateVolume(argument)
  if (!client) throw new UmbraError('NOT_FOUND', `Nothing is mounted at ${argument}`)
  return unmountByDaemon(client, options, undefined)
}

async function unmountByDaemon(
  client: ControlClient,
  options: UnmountOptions,
  mount: MountEntry | undefined,
): Promise<Unmounted> {
  try {
    const status = await client.call(statusRequest, options.force ? 5000 : undefined)
    await client.callWith(unmountRequest, { lazy: options.lazy }).catch(async (error) => {
      // It may be gone before its answer is through: what counts is that the mount is.
      if (!hasCode(error, 'UNAVAILABLE') || (await isMounted(status.mountPoint))) throw error
    })
    if (options.lazy) return { volume: status.volume, mountPoint: status.mountPoint ?? '', wasDead: false }
    await withDeadline(client.whenClosed)
    if (status.daemon) await waitForEnd(status.daemon.pid)
    return { volume: status.volume, mountPoint: status.mountPoint ?? '', wasDead: false }
  } catch (error) {
    if (!options.force || !mount) throw error
    await clearDeadMount(mount.mountPoint)
    return { volume: mount.source, mountPoint: mount.mountPoint, wasDead: true }
  } finally {
    client.close()
  }
}

async function isMounted(mountPoint: string | null): Promise<boolean> {
  if (mountPoint === null) return false
  const entry = await findMount(mountPoint)
  return entry !== undefined && isOurs(entry)
}

async function waitForEnd(pid: number): Promise<void> {
  const deadlineMs = Date.now() + END_TIMEOUT_MS
  while (Date.now() < deadlineMs) {
    if (!isRunning(pid)) return
    await sleep(5)
  }
  throw new UmbraError('TIMED_OUT', `The daemon (process ${pid}) has unmounted but does not end`)
}

/**
 * A mount namespace that was made meanwhile (a container's, a service's) has a copy of the mount, which its
 * daemon serves until the namespace ends, as the kernel's file systems live on there.
 */
async function withDeadline(work: Promise<void>): Promise<void> {
  const end = new AbortController()
  const late = sleep(END_TIMEOUT_MS, undefined, { signal: end.signal }).then(
    () => {
      throw new UmbraError(
        'TIMED_OUT',
        'Unmounted here, but its daemon still serves it: another mount namespace (of a container or a service that was started meanwhile) has a copy of the mount',
      )
    },
    () => undefined,
  )
  await Promise.race([work, late])
  end.abort()
}
