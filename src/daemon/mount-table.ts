// The kernel's table of mounts, read without touching any of them: a dead mount answers no path.
//
// Always true: nothing here opens, stats or resolves a path at or below a mount point; paths are
// compared as text. Mounts of ours are those of type MOUNT_TYPE; their source is the volume's path.

import { readFileSync, realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

/** Types under which our mounts appear: the device driver's and, through libfuse, fuse-native's. */
const OUR_TYPES: readonly string[] = ['fuse.umbra']

export interface MountEntry {
  readonly mountPoint: string
  readonly type: string
  /** What was mounted; for a mount of ours the path of the volume file. */
  readonly source: string
  /** Minor number of the device: the number of a FUSE connection. */
  readonly deviceMinor: number
  readonly readOnly: boolean
}

/** The mounts of this mount namespace, in order of mounting: a later one hides an earlier one. */
export function readMountTable(text = readFileSync('/proc/self/mountinfo', 'utf8')): MountEntry[] {
  const entries: MountEntry[] = []
  for (const line of text.split('\n')) {
    // 36 35 98:0 /root /mount/point rw,noatime shared:1 - type source rw,options
    const [before, after] = line.split(' - ')
    const fields = before?.split(' ') ?? []
    const [type, source] = after?.split(' ') ?? []
    if (fields[4] === undefined || type === undefined || source === undefined) continue
    entries.push({
      mountPoint: unescapeField(fields[4]),
      type,
      source: unescapeField(source),
      deviceMinor: Number(fields[2]?.split(':')[1]),
      readOnly: (fields[5] ?? '').split(',').includes('ro'),
    })
  }
  return entries
}

/** The table writes space, tab, newline and backslash as three octal digits. */
function unescapeField(text: string): string {
  const latin = text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  )
  return latin
}

export function isOurs(entry: MountEntry): boolean {
  return OUR_TYPES.includes(entry.type)
}

/**
 * The path as the table writes it: absolute, links resolved in all but the last part, so that the
 * mount itself is not touched.
 */
export function mountPointPath(path: string): string {
  const absolute = resolve(path)
  if (absolute === '/') return absolute
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute))
  } catch {
    return absolute
  }
}

/** The topmost mount at exactly this path, if any. */
export function findMount(path: string, table = readMountTable()): MountEntry | undefined {
  const wanted = [resolve(path), mountPointPath(path)]
  return table.findLast((entry) => wanted.includes(entry.mountPoint))
}

/** Our mounts of a volume file, by its path as mounted. */
export function mountsOfVolume(volumePath: string, table = readMountTable()): MountEntry[] {
  return table.filter((entry) => isOurs(entry) && entry.source === volumePath)
}
