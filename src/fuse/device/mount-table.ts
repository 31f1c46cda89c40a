// What is mounted where, from /proc/self/mountinfo: the one way to learn about a mount without
// touching it, since touching a dead or unanswering one fails or hangs.
//
// Source: proc_pid_mountinfo(5).

import { readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'

/** The file system type of our mounts. */
export const MOUNT_TYPE = 'fuse.umbra'

export interface MountEntry {
  readonly mountId: number
  /** st_dev of everything on the mount; the minor number is also the FUSE connection's. */
  readonly deviceMajor: number
  readonly deviceMinor: number
  readonly mountPoint: string
  /** Of this mount: ro or rw, nosuid, nodev... */
  readonly options: readonly string[]
  readonly type: string
  readonly source: string
  /** Of the file system: user_id=0, allow_other, max_read=... */
  readonly superOptions: readonly string[]
}

/** Everything mounted in this process's mount namespace, in the kernel's order: later covers earlier. */
export async function readMountTable(): Promise<MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'latin1'))
}

/** @param text mountinfo's content, one char a byte (latin1); lines that make no sense are left out */
export function parseMountTable(text: string): MountEntry[] {
  const entries: MountEntry[] = []
  for (const line of text.split('\n')) {
    const entry = parseLine(line)
    if (entry) entries.push(entry)
  }
  return entries
}

function parseLine(line: string): MountEntry | undefined {
  const words = line.split(' ')
  // id parent major:minor root mountpoint options [optional fields] - type source superoptions
  const separatorIndex = words.indexOf('-', 6)
  const [mountId, , device, , mountPoint, options] = words
  const [type, source, superOptions] = words.slice(separatorIndex + 1)
  if (separatorIndex < 0 || !mountPoint || !options || !type || source === undefined) return undefined
  const [major, minor] = (device as string).split(':').map(Number)
  if (!Number.isInteger(major) || !Number.isInteger(minor)) return undefined
  return {
    mountId: Number(mountId),
    deviceMajor: major as number,
    deviceMinor: minor as number,
    mountPoint: unescapeField(mountPoint),
    options: options.split(','),
    type: unescapeField(type),
    source: unescapeField(source),
    superOptions: (superOptions ?? '').split(','),
  }
}

/** Space, tab, newline, backslash (and # in a source) are written as a backslash and three octal digits. */
function unescapeField(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

/** The mount that is visible at exactly this path: the last one mounted there. */
export function mountAt(table: readonly MountEntry[], mountPoint: string): MountEntry | undefined {
  return table.findLast((entry) => entry.mountPoint === mountPoint)
}

/**
 * A path as the mount table spells it: absolute and without symbolic links. Only the parent folder is
 * looked up, so a dead mount at the path itself does no harm; a link at the path itself is followed
 * where its target can be reached.
 * @throws the system error of the parent folder's lookup (ENOENT, EACCES...)
 */
export async function canonicalMountPoint(path: string): Promise<string> {
  const absolute = resolve(path)
  if (absolute === '/') return absolute
  const direct = join(await realpath(dirname(absolute)), basename(absolute))
  if (mountAt(await readMountTable(), direct)) return direct
  try {
    return await realpath(direct)
  } catch {
    return direct
  }
}
