// Unmounting, and clearing a mount whose server is gone.
//
// Always true here: the loop never blocks (umount waits for the server to write back, and the server
// may be this very process: umount2 runs on a thread); a mount is found through the mount table, never
// by touching it; only our own mounts are aborted.

import { open } from 'node:fs/promises'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { requireAddon } from '../../base/addon.ts'
import { systemError, UmbraError } from '../../base/errors.ts'
import { runFusermount } from './mount.ts'
import { canonicalMountPoint, MOUNT_TYPE, type MountEntry, mountAt, readMountTable } from './mount-table.ts'

const MNT_FORCE = 1
const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
/** Who only looks at the mount in passing, as df(1) does, is gone a moment later. */
const BUSY_TRIES = 10
const BUSY_PAUSE_MS = 25

/**
 * Unmounts one of our mounts, dirty pages first; its server then sees the end of the device.
 * @param options.lazy detach now, end when the last file in use is closed
 * @throws UmbraError NOT_FOUND (no mount of ours there), BUSY (files in use), NOT_PERMITTED
 */
export async function unmountDevice(path: string, options: { lazy?: boolean } = {}): Promise<void> {
  const entry = await findOurMount(path)
  await detach(entry.mountPoint, options.lazy ?? false)
}

/**
 * Clears a mount whose server is dead or does not answer: aborts its connection, so that whoever
 * waits for an answer gets an error, then detaches it. Unwritten pages are lost, as they already were.
 * @throws UmbraError NOT_FOUND (no mount of ours there), NOT_PERMITTED
 */
export async function clearDeadMount(path: string): Promise<void> {
  const entry = await findOurMount(path)
  await abortConnection(entry)
  const still = mountAt(await readMountTable(), entry.mountPoint)
  if (still?.mountId === entry.mountId) await detach(entry.mountPoint, true)
}

/** The mount of ours that is visible at `path`. */
export async function findOurMount(path: string): Promise<MountEntry> {
  const mountPoint = await canonicalMountPoint(path).catch(() => path)
  const entry = mountAt(await readMountTable(), mountPoint)
  if (entry?.type === MOUNT_TYPE) return entry
  throw new UmbraError('NOT_FOUND', `No volume is mounted on ${path}`, { path })
}

/**
 * Whoever waits for the server gets an error from here on. For root a forced umount does it (and may
 * unmount at once); others need the control file system, which not every machine has mounted.
 * @returns whether either was possible
 */
export async function abortConnection(entry: MountEntry): Promise<boolean> {
  return (await abortByControlFile(entry)) || (await abortByForce(entry))
}

async function abortByForce(entry: MountEntry): Promise<boolean> {
  if (process.geteuid?.() !== 0) return false
  const result = await umountLater(entry.mountPoint, MNT_FORCE | UMOUNT_NOFOLLOW)
  // Busy says that it is still mounted; by then the connection has been aborted.
  return result === 0 || -result === constants.errno.EBUSY
}

async function abortByControlFile(entry: MountEntry): Promise<boolean> {
  try {
    const file = await open(`/sys/fs/fuse/connections/${entry.deviceMinor}/abort`, 'w')
    try {
      await file.write('1')
    } finally {
      await file.close()
    }
    return true
  } catch {
    return false
  }
}

function umountLater(mountPoint: string, flags: number): Promise<number> {
  return new Promise((done) => requireAddon().umountLater(mountPoint, flags, done))
}

async function detach(mountPoint: string, lazy: boolean): Promise<void> {
  if (process.geteuid?.() === 0) {
    const flags = UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)
    let result = await umountLater(mountPoint, flags)
    for (let tries = 1; -result === constants.errno.EBUSY && tries < BUSY_TRIES; tries++) {
      await sleep(BUSY_PAUSE_MS)
      result = await umountLater(mountPoint, flags)
    }
    if (result === 0) return
    if (-result !== constants.errno.EPERM) throw umountRefused(-result, mountPoint)
  }
  await runFusermount(['-u', ...(lazy ? ['-z'] : []), '--', mountPoint], mountPoint)
}

function umountRefused(errno: number, mountPoint: string): UmbraError {
  if (errno === constants.errno.EBUSY)
    return new UmbraError('BUSY', `Cannot unmount ${mountPoint}: files on it are in use`, { mountPoint })
  if (errno === constants.errno.EINVAL)
    return new UmbraError('NOT_FOUND', `No volume is mounted on ${mountPoint}`, { mountPoint })
  return systemError(errno, `Cannot unmount ${mountPoint}`, { mountPoint })
}
