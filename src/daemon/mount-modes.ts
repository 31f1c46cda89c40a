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
import { mountDevice } from '../fuse/device/mount.ts'
import { clearDeadMount } from '../fuse/device/unmount.ts'

export interface MountMode {
  readonly mode: 'root' | 'user namespace' | 'fusermount3'
  readonly possible: boolean
  /** Why not, or what is special about it. */
  readonly reason: string
}

const TRIAL_TIMEOUT_MS = 20_000
const SETUID_BIT = 0o4000

/** Mounts and clears once, in the way this process would. @throws UmbraError that says why not */
export async function tryMount(): Promise<'mount' | 'fusermount3'> {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-trial-'))
  try {
    const mounted = await mountDevice({ mountPoint: folder, fsName: 'umbra-trial' })
    // Nobody serves it: the end of its descriptor ends the connection.
    closeSync(mounted.fd)
    await clearDeadMount(mounted.mountPoint)
    return mounted.by
  } finally {
    rmdirSync(folder)
  }
}

/** @param executable path of this program, to be run inside a user namespace with `doctor --trial` */
export async function findMountModes(executable: string): Promise<MountMode[]> {
  const here = await tryMount().catch((error: Error) => error)
  return [rootMode(here), namespaceMode(executable), fusermountMode(here)]
}

function rootMode(here: 'mount' | 'fusermount3' | Error): MountMode {
  const mode = 'root'
  if (process.geteuid?.() !== 0) return { mode, possible: false, reason: 'this process is not root' }
  if (here === 'mount') return { mode, possible: true, reason: 'other users may enter, modes are checked' }
  if (here === 'fusermount3')
    return { mode, possible: false, reason: 'mount(2) is refused: this root lacks CAP_SYS_ADMIN' }
  return { mode, possible: false, reason: here.message }
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

function fusermountMode(here: 'mount' | 'fusermount3' | Error): MountMode {
  const mode = 'fusermount3'
  const path = ['/usr/bin/fusermount3', '/bin/fusermount3', '/usr/local/bin/fusermount3'].find(existsSync)
  if (!path)
    return { mode, possible: false, reason: 'it is not installed (on Debian: apt-get install fuse3)' }
  if (!existsSync('/dev/fuse')) return { mode, possible: false, reason: '/dev/fuse is not there' }
  const isRoot = process.geteuid?.() === 0
  if (!isRoot && here instanceof Error) return { mode, possible: false, reason: here.message }
  if (isRoot && (statSync(path).mode & SETUID_BIT) === 0) {
    return {
      mode,
      possible: false,
      reason: `${path} is not set-uid root, so users without privilege cannot use it`,
    }
  }
  const others = allowsOthers()
    ? 'with --allow-other'
    : 'for the mounting user alone (user_allow_other is off in /etc/fuse.conf)'
  return { mode, possible: true, reason: `without privilege, ${others}` }
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
