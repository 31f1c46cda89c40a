// Mounts whose daemon has died: seen for what they are, and cleared.
//
// Always true: no call here waits for a mount longer than its deadline; only a mount that the kernel
// itself calls disconnected (or that the caller insists on) is cleared, because aborting a living
// connection throws away what the kernel has not written yet.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { constants } from 'node:os'
import { loadAddon } from '../base/addon.ts'
import { systemError, UmbraError } from '../base/errors.ts'
import type { MountEntry } from './mount-table.ts'

const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8
const PROBE_TIMEOUT_MS = 5000

/** `hanging`: a request was sent and nobody has answered it yet. */
export type MountHealth = 'alive' | 'dead' | 'hanging'

/** Asks by statfs, which is never answered from a cache. */
export async function probeMount(folder: string, timeoutMs = PROBE_TIMEOUT_MS): Promise<MountHealth> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<MountHealth>((resolve) => {
    timer = setTimeout(() => resolve('hanging'), timeoutMs)
  })
  const answer = statfs(folder).then(
    (): MountHealth => 'alive',
    (error: NodeJS.ErrnoException): MountHealth =>
      ['ENOTCONN', 'ECONNABORTED', 'ENODEV', 'EIO'].includes(error.code ?? '') ? 'dead' : 'alive',
  )
  const health = await Promise.race([answer, late])
  clearTimeout(timer)
  return health
}

/** Ends the connection, so that whoever waits for it gets an error, and takes the mount away. */
export function clearMount(entry: MountEntry): void {
  try {
    writeFileSync(`/sys/fs/fuse/connections/${entry.deviceMinor}/abort`, '1')
  } catch {
    // The control file system is not mounted, or the connection is gone already: detaching is enough.
  }
  detachMount(entry.mountPoint, true)
}

/**
 * Unmounts from the outside, without the daemon's help.
 * @throws UmbraError BUSY, NOT_PERMITTED
 */
export function detachMount(folder: string, lazy: boolean): void {
  const result =
    loadAddon()?.umount(folder, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) ?? -constants.errno.EPERM
  if (result === 0) return
  if (result === -constants.errno.EBUSY) throw new UmbraError('BUSY', `${folder} is in use`)
  if (result !== -constants.errno.EPERM) throw systemError(-result, `Cannot unmount ${folder}`)
  const done = spawnSync('fusermount3', ['-u', ...(lazy ? ['-z'] : []), '--', folder], { encoding: 'utf8' })
  if (done.status === 0) return
  if (/busy/i.test(done.stderr ?? '')) throw new UmbraError('BUSY', `${folder} is in use`)
  throw new UmbraError(
    'NOT_PERMITTED',
    `Cannot unmount ${folder}: ${(done.stderr || 'fusermount3 is not there').trim()}`,
  )
}
