// Mounting through the kernel's own interface: mount(2) as root, of the machine or of a user
// namespace, and fusermount3 without privilege. Ends with a /dev/fuse descriptor to serve.
//
// Always true here: what is refused is refused before anything is mounted, with one clear sentence;
// whatever fails later leaves no mount and no descriptor behind. An existing mount at the place is
// only ever looked at through the mount table, or by a child process with a deadline.
//
// Source: mount(2), mount.fuse3(8); fusermount3's descriptor protocol as libfuse uses it.

import { spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { constants } from 'node:os'
import { type Addon, requireAddon } from '../../base/addon.ts'
import { systemError, UmbraError } from '../../base/errors.ts'
import { probeMount } from './mount-health.ts'
import { canonicalMountPoint, MOUNT_TYPE, mountAt, readMountTable } from './mount-table.ts'

export interface DeviceMountOptions {
  /** An existing folder; relative paths count from the working folder. */
  readonly mountPoint: string
  /** What df and the mount table show as the source: the volume's path. */
  readonly fsName: string
  readonly readOnly?: boolean
  /** Other users may enter, the kernel checking modes. Default: true for root, false otherwise. */
  readonly allowOther?: boolean
  /** Largest READ, a multiple of 4096. Default 1 MiB. */
  readonly maxReadBytes?: number
}

export interface DeviceMount {
  /** The /dev/fuse descriptor, close-on-exec; FuseChannel takes it over. */
  readonly fd: number
  /** Absolute and without symbolic links, as the mount table has it. */
  readonly mountPoint: string
  readonly by: 'mount' | 'fusermount3'
}

const MS_RDONLY = 1
const DEFAULT_MAX_READ_BYTES = 1 << 20
const FUSERMOUNT_TIMEOUT_MS = 10_000

/**
 * Mounts and returns the descriptor on which the kernel now waits for INIT.
 * @throws UmbraError NOT_FOUND (no such folder), ENOTDIR, BUSY (already a FUSE mount; context.state
 *   says alive, dead or hanging), UNAVAILABLE (no /dev/fuse, no fusermount3, no addon),
 *   NOT_PERMITTED, or the errno's code
 */
export async function mountDevice(options: DeviceMountOptions): Promise<DeviceMount> {
  const addon = requireAddon()
  const mountPoint = await checkMountPoint(options.mountPoint)
  if (process.geteuid?.() !== 0) return mountWithFusermount(addon, mountPoint, options)
  const mounted = mountAsRoot(addon, mountPoint, options)
  if (typeof mounted !== 'number') return mounted
  if (-mounted !== constants.errno.EPERM) throw mountRefused(-mounted, mountPoint)
  // Root without the capability, as in a container without privilege: the helper may have it.
  try {
    return await mountWithFusermount(addon, mountPoint, options)
  } catch (cause) {
    throw new UmbraError(
      'NOT_PERMITTED',
      `Cannot mount on ${mountPoint}: this root may not mount (in a container, add --cap-add SYS_ADMIN, or work inside "unshare -Urm")`,
      { mountPoint },
      cause,
    )
  }
}

async function checkMountPoint(path: string): Promise<string> {
  let mountPoint: string
  try {
    mountPoint = await canonicalMountPoint(path)
  } catch (cause) {
    throw missingMountPoint(path, cause)
  }
  const existing = mountAt(await readMountTable(), mountPoint)
  if (existing?.type.startsWith('fuse')) await refuseBusy(mountPoint, existing.type, existing.source)
  const info = await stat(mountPoint).catch((cause) => {
    throw missingMountPoint(path, cause)
  })
  if (info.isDirectory()) return mountPoint
  throw new UmbraError('ENOTDIR', `Cannot mount on ${path}: it is not a directory`, { mountPoint })
}

function missingMountPoint(path: string, cause: unknown): UmbraError {
  const code = (cause as { code?: unknown }).code
  return code === 'ENOENT'
    ? new UmbraError('NOT_FOUND', `Cannot mount on ${path}: there is no such directory`, { path }, cause)
    : new UmbraError('EACCES', `Cannot mount on ${path}: ${code}`, { path }, cause)
}

async function refuseBusy(mountPoint: string, type: string, source: string): Promise<never> {
  const state = await probeMount(mountPoint)
  const ours = type === MOUNT_TYPE
  const advice =
    state === 'alive'
      ? 'unmount it first'
      : ours
        ? `its server is gone; "umbra unmount ${mountPoint}" clears it`
        : 'it does not answer; clear it with "umount --lazy"'
  throw new UmbraError(
    'BUSY',
    `Cannot mount on ${mountPoint}: ${source} (${type}) is mounted there and ${state}; ${advice}`,
    { mountPoint, type, source, state, ours },
  )
}

/** A mount, or the negated errno of mount(2). */
function mountAsRoot(addon: Addon, mountPoint: string, options: DeviceMountOptions): DeviceMount | number {
  const fd = addon.openFuseDevice()
  if (fd < 0) throw deviceRefused(-fd)
  const data = [
    `fd=${fd}`,
    'rootmode=40000',
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
    ...sharedOptions(options, true),
  ].join(',')
  // Neither nosuid nor nodev: device nodes and set-id programs work as on any file system of root's.
  const flags = options.readOnly ? MS_RDONLY : 0
  const result = addon.mount(options.fsName, mountPoint, MOUNT_TYPE, flags, data)
  if (result === 0) return { fd, mountPoint, by: 'mount' }
  closeSync(fd)
  return result
}

function sharedOptions(options: DeviceMountOptions, isRoot: boolean): string[] {
  return [
    'default_permissions',
    ...((options.allowOther ?? isRoot) ? ['allow_other'] : []),
    `max_read=${options.maxReadBytes ?? DEFAULT_MAX_READ_BYTES}`,
  ]
}

function deviceRefused(errno: number): UmbraError {
  const { ENOENT, ENODEV, ENXIO, EACCES, EPERM } = constants.errno
  if (errno === ENOENT || errno === ENODEV || errno === ENXIO)
    return new UmbraError(
      'UNAVAILABLE',
      'Cannot mount: /dev/fuse is missing (load it with "modprobe fuse"; in a container, add --device /dev/fuse)',
      { errno },
    )
  if (errno === EACCES || errno === EPERM)
    return new UmbraError(
      'NOT_PERMITTED',
      'Cannot mount: /dev/fuse may not be opened (in a container, add --device /dev/fuse)',
      { errno },
    )
  return systemError(errno, 'Cannot mount: opening /dev/fuse failed')
}

function mountRefused(errno: number, mountPoint: string): UmbraError {
  const { ENODEV, ENOENT, ENOTDIR } = constants.errno
  if (errno === ENODEV) return deviceRefused(errno)
  if (errno === ENOENT) return missingMountPoint(mountPoint, { code: 'ENOENT' })
  if (errno === ENOTDIR)
    return new UmbraError('ENOTDIR', `Cannot mount on ${mountPoint}: it is not a directory`, { mountPoint })
  return systemError(errno, `Cannot mount on ${mountPoint}`, { mountPoint })
}

async function mountWithFusermount(
  addon: Addon,
  mountPoint: string,
  options: DeviceMountOptions,
): Promise<DeviceMount> {
  const list = [
    `fsname=${escapeOption(options.fsName)}`,
    'subtype=umbra',
    ...(options.readOnly ? ['ro'] : []),
    ...sharedOptions(options, false),
  ].join(',')
  const pair = addon.socketPair()
  if (typeof pair === 'number') throw systemError(-pair, 'Cannot mount: no socket pair')
  const [ours, theirs] = pair
  try {
    await runFusermount(['-o', list, '--', mountPoint], mountPoint, theirs)
    // Sent before the helper ended, so it is there or will never be.
    const fd = addon.receiveDescriptor(ours, 0)
    if (fd < 0) throw systemError(-fd, `Cannot mount on ${mountPoint}: fusermount3 sent no descriptor`)
    return { fd, mountPoint, by: 'fusermount3' }
  } finally {
    closeSync(ours)
    closeSync(theirs)
  }
}

/** Commas separate options and backslashes escape, so both are escaped. */
export function escapeOption(value: string): string {
  return value.replace(/[\\,]/g, '\\$&')
}

/**
 * Runs fusermount3 to its end, without blocking the loop.
 * @param socket inherited as its descriptor 3, named in _FUSE_COMMFD
 * @throws UmbraError UNAVAILABLE (not installed), TIMED_OUT, NOT_PERMITTED with what it said
 */
export function runFusermount(args: readonly string[], mountPoint: string, socket?: number): Promise<void> {
  return new Promise((done, refuse) => {
    const child = spawn('fusermount3', args, {
      cwd: '/',
      env: { ...process.env, LC_ALL: 'C', ...(socket === undefined ? {} : { _FUSE_COMMFD: '3' }) },
      stdio: ['ignore', 'ignore', 'pipe', ...(socket === undefined ? [] : [socket])],
    })
    let said = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(0, 4096)
    })
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      refuse(
        new UmbraError('TIMED_OUT', `fusermount3 did not finish with ${mountPoint} in time`, { mountPoint }),
      )
    }, FUSERMOUNT_TIMEOUT_MS)
    child.once('error', (cause) => {
      clearTimeout(timer)
      const message =
        'fusermount3 is missing, which users other than root need (on Debian: apt-get install fuse3)'
      refuse(new UmbraError('UNAVAILABLE', message, { mountPoint }, cause))
    })
    child.once('close', (code) => {
      clearTimeout(timer)
      if (code === 0) done()
      else refuse(fusermountRefused(said, mountPoint))
    })
  })
}

function fusermountRefused(said: string, mountPoint: string): UmbraError {
  const reason = said.trim().replace(/^fusermount3?: /, '') || 'it gave no reason'
  const context = { mountPoint }
  if (/device not found|No such (device|file).*\/dev\/fuse|\/dev\/fuse: No such/i.test(reason))
    return new UmbraError(
      'UNAVAILABLE',
      `Cannot mount on ${mountPoint}: /dev/fuse is missing (${reason})`,
      context,
    )
  if (/\/dev\/fuse/.test(reason))
    return new UmbraError(
      'NOT_PERMITTED',
      `Cannot mount on ${mountPoint}: ${reason} (users need read and write permission on /dev/fuse)`,
      context,
    )
  const code = /busy/i.test(reason) ? 'BUSY' : 'NOT_PERMITTED'
  return new UmbraError(code, `fusermount3 refused ${mountPoint}: ${reason}`, context)
}
