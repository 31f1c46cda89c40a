// Finds what a command's VOLUME argument means: a volume file or a mount point, and who serves it.
//
// Always true: a mount point is resolved through the kernel's table of mounts, never by touching it,
// so that a dead mount stops nobody; a socket that nobody answers counts as no daemon.

import { createHash } from 'node:crypto'
import { realpathSync, statSync } from 'node:fs'
import { UmbraError } from '../base/errors.ts'
import {
  canonicalMountPoint,
  MOUNT_TYPE,
  type MountEntry,
  mountAt,
  readMountTable,
} from '../fuse/device/mount-table.ts'
import { ControlClient } from './control-client.ts'
import { statusRequest } from './control-protocol.ts'
import { listSockets, socketPath, volumeFileKey } from './runtime-folder.ts'

/** A living daemon answers at once; one that does not is stopped or hangs. */
const STATUS_TIMEOUT_MS = 5000

export interface LocatedVolume {
  /** Absolute path of the volume file. */
  readonly volumePath: string
  /** Where it was asked for by a mount point. */
  readonly mount: MountEntry | undefined
  /** A connection to the daemon that serves the volume, to be closed by the caller. */
  readonly client: ControlClient | undefined
}

/**
 * @param argument a volume file or a mount point of ours
 * @throws UmbraError NOT_FOUND when there is neither, INVALID_ARGUMENT for a folder that is no mount of ours
 */
export async function locateVolume(argument: string): Promise<LocatedVolume> {
  const mount = await findMount(argument)
  if (mount && isOurs(mount)) {
    return { volumePath: mount.source, mount, client: await findDaemon(mount.source, mount.mountPoint) }
  }
  const volumePath = existingFile(argument)
  return { volumePath, mount: undefined, client: await findDaemon(volumePath, null) }
}

/** What is mounted at exactly this path, if anything. */
export async function findMount(path: string): Promise<MountEntry | undefined> {
  const mountPoint = await canonicalMountPoint(path).catch(() => undefined)
  return mountPoint === undefined ? undefined : mountAt(await readMountTable(), mountPoint)
}

export function isOurs(entry: MountEntry): boolean {
  return entry.type === MOUNT_TYPE
}

function existingFile(argument: string): string {
  let path: string
  try {
    path = realpathSync(argument)
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `No such volume or mount point: ${argument}`, { argument }, error)
  }
  const stat = statSync(path)
  if (stat.isFile()) return path
  throw new UmbraError(
    stat.isDirectory() ? 'NOT_FOUND' : 'NOT_A_VOLUME',
    stat.isDirectory() ? `No volume is mounted at ${argument}` : `Not a volume file: ${argument}`,
    { argument },
  )
}

/** The daemon of a volume's present; a mount of a single snapshot has its own, see daemonOfMount(). */
async function findDaemon(volumePath: string, mountPoint: string | null): Promise<ControlClient | undefined> {
  const key = fileKey(volumePath)
  const client = key === undefined ? undefined : await ControlClient.open(socketPath(key))
  if (client || mountPoint === null || key !== undefined) return client
  // The volume file was renamed or removed while it is served: ask who serves this mount point.
  return daemonServing(mountPoint)
}

/** The daemon that serves exactly this mount. */
export async function daemonOfMount(mount: MountEntry): Promise<ControlClient | undefined> {
  const key = fileKey(mount.source)
  if (key !== undefined) {
    const single = await ControlClient.open(socketPath(snapshotMountKey(key, mount.mountPoint)))
    if (single) return single
    const present = await openServing(socketPath(key), mount.mountPoint)
    if (present) return present
  }
  return daemonServing(mount.mountPoint)
}

/** Names the daemon of a single mounted snapshot: a volume can have many. */
export function snapshotMountKey(fileKeyText: string, mountPoint: string): string {
  return `${fileKeyText}.${createHash('sha256').update(mountPoint).digest('hex').slice(0, 16)}`
}

/** Asks all at once: one that hangs must not hold up the others. */
async function daemonServing(mountPoint: string): Promise<ControlClient | undefined> {
  const asked = listSockets().map(async (path) => {
    const client = await openServing(path, mountPoint)
    if (client) return client
    throw new UmbraError('NOT_FOUND', `${path} serves another mount`)
  })
  return Promise.any(asked).catch(() => undefined)
}

/** A connection to the daemon behind a socket, if it says that it serves this mount. */
async function openServing(path: string, mountPoint: string): Promise<ControlClient | undefined> {
  const client = await ControlClient.open(path).catch(() => undefined)
  const status = await client?.call(statusRequest, STATUS_TIMEOUT_MS).catch(() => undefined)
  if (status?.mountPoint === mountPoint) return client
  client?.close()
  return undefined
}

function fileKey(volumePath: string): string | undefined {
  try {
    return volumeFileKey(volumePath)
  } catch {
    return undefined
  }
}
