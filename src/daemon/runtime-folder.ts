// Where daemons are found: a folder that belongs to the user alone, with one socket for each volume
// that is served, named by the volume file's device and inode number.
//
// Always true: the folder is owned by this user and closed to others, or it is refused; a socket that
// nobody answers is stale and may be removed, but only by one who holds the volume's lock (a daemon
// that is starting), so that no living daemon loses its name.

import {
  accessSync,
  chmodSync,
  constants,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { UmbraError } from '../base/errors.ts'

/** sun_path holds 108 bytes with its NUL. */
const SOCKET_PATH_MAX = 107

/** The folder's path; it need not exist. `UMBRA_RUNTIME_DIR` overrides it. */
export function runtimeFolderPath(): string {
  const chosen = process.env['UMBRA_RUNTIME_DIR']
  if (chosen) return chosen
  const uid = process.getuid?.() ?? 0
  const user = process.env['XDG_RUNTIME_DIR']
  if (uid === 0 && isWritableFolder('/run')) return '/run/umbra'
  return user && isWritableFolder(user) ? join(user, 'umbra') : `/tmp/umbra-${outerUid(uid)}`
}

/** Root of a user namespace may not own /run, and a container's may be read-only. */
function isWritableFolder(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    const stat = statSync(path)
    return stat.isDirectory() && stat.uid === process.getuid?.()
  } catch {
    return false
  }
}

/** What the user is outside of this user namespace: in one, everybody's root has the number 0. */
function outerUid(uid: number): number {
  try {
    for (const line of readFileSync('/proc/self/uid_map', 'latin1').split('\n')) {
      const [inner = 0, outer = 0, count = 0] = line.trim().split(/\s+/).map(Number)
      if (uid >= inner && uid < inner + count) return outer + uid - inner
    }
  } catch {
    // Without /proc there is one name less to tell apart.
  }
  return uid
}

/**
 * Makes the folder if it is missing and checks that nobody else can put anything there.
 * @throws UmbraError NOT_PERMITTED when it is not ours alone
 */
export function openRuntimeFolder(): string {
  const folder = runtimeFolderPath()
  try {
    mkdirSync(folder, { mode: 0o700, recursive: true })
  } catch (error) {
    throw new UmbraError(
      'NOT_PERMITTED',
      `Cannot make the runtime folder ${folder}: ${(error as Error).message}`,
    )
  }
  const stat = lstatSync(folder)
  if (!stat.isDirectory() || stat.uid !== process.getuid?.()) {
    throw new UmbraError('NOT_PERMITTED', `The runtime folder ${folder} does not belong to this user`)
  }
  if ((stat.mode & 0o077) !== 0) chmodSync(folder, 0o700)
  return folder
}

/**
 * For whoever is about to believe what a socket says: nobody else may have put it there.
 * @throws UmbraError NOT_PERMITTED when its folder belongs to, or can be written by, somebody else
 */
export function checkSocketFolder(socket: string): void {
  const folder = dirname(socket)
  const stat = lstatSync(folder, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0) return
  throw new UmbraError('NOT_PERMITTED', `The runtime folder ${folder} does not belong to this user alone`)
}

/** What names a volume file whatever its path: device and inode number. @throws UmbraError NOT_FOUND */
export function volumeFileKey(volumePath: string): string {
  try {
    const stat = statSync(volumePath, { bigint: true })
    return `${stat.dev}-${stat.ino}`
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `No such volume: ${volumePath}`, { volume: volumePath }, error)
  }
}

/** Path of the control socket for a key. @throws UmbraError LIMIT_EXCEEDED when the folder's path is too long */
export function socketPath(key: string): string {
  const path = join(runtimeFolderPath(), `${key}.sock`)
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX) {
    throw new UmbraError('LIMIT_EXCEEDED', `The path of the control socket is too long: ${path}`)
  }
  return path
}

/** Names the coordinator's socket and log, beside those of volumes. */
export const COORDINATOR_KEY = 'coordinator'

/** Every volume's socket in the folder, living or stale. */
export function listSockets(): string[] {
  const folder = runtimeFolderPath()
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith('.sock') && name !== `${COORDINATOR_KEY}.sock`)
      .map((name) => join(folder, name))
  } catch {
    return []
  }
}

/** Whether somebody listens on the socket. */
export function isSocketAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** For the holder of the volume's lock: takes away what a dead daemon left. */
export function removeStaleSocket(path: string): void {
  rmSync(path, { force: true })
}
