// Which ways of mounting work on this machine, found out by trying them, and why the others do not.
//
// Always true: a trial mounts at a fresh temporary folder, is never served, and is gone when it ends;
// what needs another process (a user namespace) is tried in one, with a deadline.

import { spawnSync } from 'node:child_process'
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { requireAddon } from '../base/addon.ts'
import { mountDevice } from '../fuse/device/mount.ts'
import { tuneMount } from '../fuse/device/tuning.ts'
import { clearDeadMount } from '../fuse/device/unmount.ts'

export interface MountMode {
  readonly mode: 'root' | 'user namespace' | 'fusermount3'
  readonly possible: boolean
  /** Why not, or what is special about it. */
  readonly reason: string
}

const TRIAL_TIMEOUT_MS = 20_000
const SETUID_BIT = 0o4000
const OTHERS_READ_WRITE = 0o006
/** The device's number, 10:229, as statx gives it: minor's low byte, major from bit 8. */
const FUSE_DEVICE = (10 << 8) | 229

interface Trial {
  readonly by: 'mount' | 'fusermount3'
  /** The mount's read-ahead and write-back limits could be raised. */
  readonly tuned: boolean
}

/** Mounts and clears once, in the way this process would. @throws UmbraError that says why not */
export async function tryMount(): Promise<Trial> {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-trial-'))
  try {
    const mounted = await mountDevice({ mountPoint: folder, fsName: 'umbra-trial' })
    const tuned = (await tuneMount(mounted.mountPoint)).length > 0
    // Nobody serves it: the end of its descriptor ends the connection.
    closeSync(mounted.fd)
    await clearDeadMount(mounted.mountPoint)
    return { by: mounted.by, tuned }
  } finally {
    rmdirSync(folder)
  }
}

export interface MountModes {
  readonly modes: MountMode[]
  /** Of a mount that this process makes; null: it can make none. */
  readonly tuned: boolean | null
}

/** @param executable path of this program, to be run inside a user namespace with `doctor --trial` */
export async function findMountModes(executable: string): Promise<MountModes> {
  const here = await tryMount().catch((error: Error) => error)
  return {
    modes: [rootMode(here), namespaceMode(executable), fusermountMode(here)],
    tuned: here instanceof Error ? null : here.tuned,
  }
}

function rootMode(here: Trial | Error): MountMode {
  const mode = 'root'
  if (process.geteuid?.() !== 0) return { mode, possible: false, reason: 'this process is not root' }
  if (here instanceof Error) return { mode, possible: false, reason: here.message }
  if (here.by === 'fusermount3')
    return { mode, possible: false, reason: 'mount(2) is refused: this root lacks CAP_SYS_ADMIN' }
  const reason = isInUserNamespace()
    ? 'as root of this user namespace; the mount is seen only in it'
    : 'other users may enter, modes are checked'
  return { mode, possible: true, reason }
}

/** Whether the users here are not those of the machine. */
function isInUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'))
  } catch {
    return false
  }
}

function namespaceMode(executable: string): MountMode {
  const mode = 'user namespace'
  const trial = spawnSync('unshare', ['-Urmpf', process.execPath, executable, 'doctor', '--trial'], {
    encoding: 'utf8',
    timeout: TRIAL_TIMEOUT_MS,
  })
  if (trial.status === 0) return { mode, possible: true, reason: 'inside "unshare -Urmpf", seen only there' }
  const said =
    (trial.stderr || trial.error?.message || `ended by ${trial.signal}`).trim().split('\n').at(-1) ?? ''
  const limit = readNumber('/proc/sys/user/max_user_namespaces')
  return { mode, possible: false, reason: limit === 0 ? 'user.max_user_namespaces is 0' : said }
}

function fusermountMode(here: Trial | Error): MountMode {
  const mode = 'fusermount3'
  const no = (reason: string): MountMode => ({ mode, possible: false, reason })
  const path = ['/usr/bin/fusermount3', '/bin/fusermount3', '/usr/local/bin/fusermount3'].find(existsSync)
  if (!path) return no('it is not installed (on Debian: apt-get install fuse3)')
  const isRoot = process.geteuid?.() === 0
  const trouble = isRoot ? troubleForUsers(path) : here instanceof Error ? here.message : undefined
  if (trouble !== undefined) return no(trouble)
  const others = allowsOthers()
    ? 'with --allow-other'
    : 'for the mounting user alone (user_allow_other is off in /etc/fuse.conf)'
  return { mode, possible: true, reason: `without privilege, ${others}` }
}

/** What root sees that keeps other users from it, without being one of them. */
function troubleForUsers(fusermount: string): string | undefined {
  try {
    requireAddon()
  } catch (error) {
    return (error as Error).message
  }
  const trouble = fuseDeviceTrouble()
  if (trouble !== undefined) return `/dev/fuse: ${trouble}`
  const { mode, uid } = statSync(fusermount)
  if ((mode & SETUID_BIT) === 0 || uid !== 0) {
    return `${fusermount} is not set-uid root here, so users without privilege cannot use it`
  }
  if ((statSync('/dev/fuse').mode & OTHERS_READ_WRITE) !== OTHERS_READ_WRITE) {
    return 'users may not open /dev/fuse ("chmod 666 /dev/fuse" lets them, as udev does)'
  }
  return undefined
}

function allowsOthers(): boolean {
  try {
    return /^\s*user_allow_other\s*$/m.test(readFileSync('/etc/fuse.conf', 'utf8'))
  } catch {
    return false
  }
}

/** What is known of /dev/fuse: undefined when it is there and may be opened. */
export function fuseDeviceTrouble(): string | undefined {
  if (!existsSync('/dev/fuse')) {
    return 'missing: load it with "modprobe fuse", or give the container --device /dev/fuse'
  }
  const stat = statSync('/dev/fuse')
  if (!stat.isCharacterDevice() || stat.rdev !== FUSE_DEVICE) return 'there, but not the FUSE device (10:229)'
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return undefined
  } catch {
    return 'there, but this user may not open it'
  }
}

/** The number in a file of /proc or /sys, if there is one. */
export function readNumber(path: string): number | undefined {
  try {
    const value = Number(readFileSync(path, 'utf8').trim())
    return Number.isFinite(value) ? value : undefined
  } catch {
    return undefined
  }
}
