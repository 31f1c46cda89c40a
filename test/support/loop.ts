// Mounts an image file through the kernel's own ext4 by a loop device: the judge of our images.
//
// Always true: the mount and the loop device are gone at teardown, or at the end of the process. There
// are few loop devices (8 in many a kernel) and test files run side by side: one waits for a free one.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { run, until } from './run.ts'

const RELEASE_TIMEOUT_MS = 60_000

export interface LoopMount {
  readonly folder: string
  readonly device: string
  unmount(): Promise<void>
}

/**
 * @param options mount options after `loop`; the default demands that no journal replay be needed
 * @throws Error with mount's message when the kernel refuses the image
 */
export async function mountLoop(
  t: Pick<Assertion, 'teardown'>,
  image: string,
  options = 'ro',
  type = 'ext4',
): Promise<LoopMount> {
  const attach = ['-f', '--show', ...(/(^|,)ro(,|$)/.test(options) ? ['-r'] : []), image]
  const device = await attachLoop(attach)
  const attached = backingFile(device)
  const folder = mkdtempSync(join(tmpdir(), 'umbra-loop-'))
  let mounted = false
  let gone = false
  const unmount = async (): Promise<void> => {
    if (gone) return
    gone = true
    process.off('exit', atExit)
    if (mounted) await run('umount', [folder]).catch(() => run('umount', ['-l', folder], { check: false }))
    await run('losetup', ['-d', device], { check: false })
    // While another test's mount namespace has a copy of the mount, the kernel has not written its last.
    await until(
      `the end of ${device}`,
      () => attached === null || backingFile(device) !== attached,
      RELEASE_TIMEOUT_MS,
    )
    rmdirSync(folder)
  }
  const atExit = (): void => {
    spawnSync('umount', ['-l', folder])
    spawnSync('losetup', ['-d', device])
    rmdirSync(folder)
  }
  process.on('exit', atExit)
  t.teardown(unmount)
  await run('mount', ['-t', type, '-o', options, device, folder])
  mounted = true
  return { folder, device, unmount }
}

const FREE_DEVICE_TIMEOUT_MS = 120_000

/**
 * Another process may hold all devices, or take the free one between its choice and its use: then again.
 * The caller detaches it.
 *
 * @returns the device's path
 * @throws Error with what losetup said of anything else, or of that after two minutes
 */
export async function attachLoop(args: readonly string[]): Promise<string> {
  const deadlineMs = Date.now() + FREE_DEVICE_TIMEOUT_MS
  for (;;) {
    const { code, stdout, stderr } = await run('losetup', args, { check: false })
    if (code === 0) return stdout.trim()
    const isTaken = /unused loop device|busy|temporarily unavailable/i.test(stderr)
    if (!isTaken || Date.now() > deadlineMs) throw new Error(`losetup ${args.join(' ')}: ${stderr}`)
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** What a loop device shows; null: nothing. */
function backingFile(device: string): string | null {
  try {
    return readFileSync(`/sys/block/${device.slice('/dev/'.length)}/loop/backing_file`, 'utf8')
  } catch {
    return null
  }
}
