// Raises what the kernel sets low for FUSE mounts: read-ahead (128 KiB) and the share of dirty pages
// (one percent, strictly). Doubles large sequential reads and writes; needs root, does without it.
//
// Always true here: best effort, nothing throws; only /sys is touched, never the mount.

import { writeFile } from 'node:fs/promises'
import { mountAt, readMountTable } from './mount-table.ts'

const SETTINGS = [
  ['read_ahead_kb', '1024'],
  ['strict_limit', '0'],
  ['max_ratio', '100'],
] as const

/**
 * @param mountPoint as mountDevice() returned it
 * @returns the names of the settings that took
 */
export async function tuneMount(mountPoint: string): Promise<string[]> {
  const entry = await readMountTable().then(
    (table) => mountAt(table, mountPoint),
    () => undefined,
  )
  if (!entry) return []
  const folder = `/sys/class/bdi/${entry.deviceMajor}:${entry.deviceMinor}`
  const taken: string[] = []
  for (const [name, value] of SETTINGS) {
    try {
      await writeFile(`${folder}/${name}`, value)
      taken.push(name)
    } catch {
      // Without privilege, or on a kernel that lacks it: the mount works as it is.
    }
  }
  return taken
}
