// What the tests of this folder share: a mounted volume for real programs to work on, a judgement of
// the volume at its end, and trees compared byte for byte by diff(1).
//
// Always true: the volume is unmounted and its last state judged by `umbra check` and e2fsck before
// judge() returns; whatever a test forgot is unmounted at teardown.

import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { type MountedVolume, mountVolume, umbra } from '../support/umbra.ts'

export interface Stage {
  /** On the host, open to other users. */
  readonly folder: string
  readonly volume: string
  /** The mount's root. */
  readonly dir: string
  readonly mounted: MountedVolume
  /** Where files of a snapshot are seen on the mount. */
  within(snapshot: string, ...path: string[]): string
  /** Exports a snapshot as a raw image, judges it, and gives its path. */
  image(snapshot: string): Promise<string>
  /** Unmounts and judges what is left. */
  judge(): Promise<void>
}

export async function makeStage(
  t: Assertion,
  size: string,
  mountArgs: readonly string[] = [],
): Promise<Stage> {
  const folder = tempFolder(t)
  chmodSync(folder, 0o755)
  const volume = join(folder, 'v.umbra')
  const dir = join(folder, 'mnt')
  mkdirSync(dir)
  await umbra(['create', volume, '--size', size])
  const mounted = await mountVolume(t, volume, dir, mountArgs)
  const image = async (snapshot: string): Promise<string> => {
    const path = join(folder, `${snapshot}.img`)
    await umbra(['export', volume, snapshot, '--format', 'raw', '-o', path])
    const verdict = e2fsck(path)
    t.ok(verdict.clean, verdict.clean ? `e2fsck finds nothing in ${snapshot}` : verdict.output)
    return path
  }
  return {
    folder,
    volume,
    dir,
    mounted,
    within: (snapshot, ...path) => join(dir, '.snapshots', snapshot, ...path),
    image,
    async judge() {
      await mounted.unmount()
      t.is((await umbra(['check', volume], { check: false })).code, 0, 'umbra check finds nothing')
      await umbra(['snapshot', 'create', volume, 'last-state'])
      await image('last-state')
    },
  }
}

/** Lines in which diff(1) finds two trees to differ; symbolic links are compared, not followed. */
export async function differences(a: string, b: string, ...options: string[]): Promise<string[]> {
  const { stdout, stderr, code } = await run('diff', ['-rq', '--no-dereference', ...options, a, b], {
    check: false,
    timeoutMs: 120_000,
  })
  if (code > 1) throw new Error(`diff ${a} ${b}: ${stderr}`)
  return stdout.split('\n').filter((line) => line !== '')
}
