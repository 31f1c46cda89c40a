// The real executable in tests: run a command, mount a volume, and have everything gone afterwards.
//
// Always true: the test's own process never serves a mount; what mountVolume() started is unmounted
// at teardown, by the command first, then by force, each within a deadline.

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Assertion } from 'brittle'
import { type RunOptions, type RunResult, run } from './run.ts'

/** On a busy machine a daemon's last commit takes its time. */
const UNMOUNT_TIMEOUT_MS = 120_000

export const UMBRA = fileURLToPath(new URL('../../bin/umbra.js', import.meta.url))

/** Runs `umbra ARGS`; rejects on a non-zero exit code unless `check: false`. */
export function umbra(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(process.execPath, [UMBRA, ...args], options)
}

/** Runs `umbra ARGS --json` and gives the parsed output. */
export async function umbraJson<T = Record<string, unknown>>(args: readonly string[]): Promise<T> {
  return JSON.parse((await umbra([...args, '--json'])).stdout) as T
}

export interface MountedVolume {
  readonly volume: string
  readonly folder: string
  /** Process that serves the mount. */
  readonly pid: number
  unmount(): Promise<void>
}

/** Mounts `volume` at `folder` (made if missing) with the real command. */
export async function mountVolume(
  t: Pick<Assertion, 'teardown'>,
  volume: string,
  folder: string,
  args: readonly string[] = [],
): Promise<MountedVolume> {
  if (!existsSync(folder) && !isMountPoint(folder)) mkdirSync(folder)
  let gone = false
  const unmount = async (): Promise<void> => {
    if (gone) return
    await umbra(['unmount', folder], { timeoutMs: UNMOUNT_TIMEOUT_MS })
    gone = true
  }
  t.teardown(async () => {
    // What is mounted there after it is somebody else's to unmount.
    if (gone) return
    await unmount().catch(() => undefined)
    if (isMountPoint(folder)) await run('umount', ['-l', folder], { check: false, timeoutMs: 10_000 })
  })
  const { daemon } = await umbraJson<{ daemon: { pid: number } }>(['mount', volume, folder, ...args])
  return { volume, folder, pid: daemon.pid, unmount }
}

/** Looks only in the kernel's table: never touches the mount itself, which may be dead. */
export function isMountPoint(folder: string): boolean {
  const escaped = folder.replaceAll('\\', '\\134').replaceAll(' ', '\\040')
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === escaped)
}
