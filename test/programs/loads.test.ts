// Programs made to break file systems, on a mount: stress-ng's file-system stressors with --verify, and
// dbench. Each judges by itself; the volume is judged after them.
//
// Always true: what a stressor does not do or finds wrong on the mount it does not do or finds wrong on
// the kernel's ext4 either. The ordinary run tries every stressor shortly, the long one by itself.

// deadline 290

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { isLong, makeReference } from '../mount/lab.ts'
import { withOwnMounts } from '../support/own-mounts.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { makeStage, type Stage } from './stage.ts'

const NEEDS = ['root', '/dev/fuse', 'e2fsck'] as const
const LONG = { timeout: 3_600_000 }

/**
 * The ordinary run leaves out those of the class that do nothing to the folder they are given, and what
 * neither the mount nor ext4 as mke2fs makes it has: `verity`. `fiemap` is no call that reaches a FUSE
 * server: it says so and goes on.
 */
const LEFT_OUT = /^(?:bind-mount|binderfs|dup|eventfd|ioprio|procfs)$/
const AT_ONCE = isLong ? 1 : 7
const STRESS_SEC = isLong ? 15 : 2

async function stressors(): Promise<string[]> {
  const { stdout, stderr } = await run('stress-ng', ['--class', 'filesystem?'], { check: false })
  const names =
    /stressors: ([a-z0-9 -]+)/
      .exec(stdout + stderr)?.[1]
      ?.trim()
      .split(' ') ?? []
  if (names.length < 30) throw new Error(`stress-ng names ${names.length} stressors: ${stdout}${stderr}`)
  return isLong ? names : names.filter((name) => !LEFT_OUT.test(name))
}

/**
 * The exit code, and what it complained of or left out; not how much it did. Its fanotify takes hold of files of
 * every mount that it sees, which must not be those of other tests.
 * @param mount the folder's
 */
async function stress(mount: string, folder: string, names: readonly string[]): Promise<string> {
  // The next syncfs(2) is told once of a program that was killed while its times were sent (docs/DRIVERS.md):
  // stress-ng kills some, and its next run takes that for a failure of its own.
  await run('sync', ['-f', folder], { check: false })
  const [unshare = '', ...alone] = withOwnMounts([mount])
  const { code, stdout, stderr } = await run(
    unshare,
    [
      ...alone,
      'stress-ng',
      ...['--temp-path', folder, '--timeout', `${STRESS_SEC}s`, '--verify', '--hdd-bytes', '64M'],
      ...names.flatMap((name) => [`--${name}`, isLong ? '3' : '1']),
    ],
    { check: false, timeoutMs: 240_000, cwd: folder },
  )
  const said = (stdout + stderr).split('\n').filter((line) => /fail|error|skipp|unexpected/i.test(line))
  const plain = said
    .map((line) => line.replace(/\[\d+\]/, '').replaceAll(/\d+(?=:|\b)/g, 'N'))
    .filter((line) => !/failed: N$|skipped: N$/.test(line))
  return [`exit code ${code}`, ...new Set(plain)].join('\n')
}

test('stress-ng: every file-system stressor', {
  ...requires(...NEEDS, 'stress-ng', 'mke2fs'),
  ...LONG,
}, async (t) => {
  const stage = await makeStage(t, '4G')
  const folder = scratch(stage, 'stress')
  const names = await stressors()
  const suspects = new Map<string, string>()
  for (let at = 0; at < names.length; at += AT_ONCE) {
    const together = names.slice(at, at + AT_ONCE)
    const said = await stress(stage.dir, folder, together)
    if (said === 'exit code 0') t.pass(together.join(' '))
    // One that ends alike on ext4 must not hide the others: each by itself.
    else for (const name of together) suspects.set(name, await stress(stage.dir, folder, [name]))
  }
  if (suspects.size > 0) {
    const reference = await makeReference(t, stage.folder, 4 * 2 ** 30)
    const control = join(reference, 'stress')
    mkdirSync(control)
    for (const [name, said] of suspects) {
      if (said === 'exit code 0') {
        t.pass(`${name}, by itself`)
        continue
      }
      const there = await stress(reference, control, [name])
      const code = (text: string) => text.split('\n')[0]
      t.is(code(said), code(there), `${name}: as on ext4`)
      t.ok(!said.includes('fail:') || there.includes('fail:'), `${name}: no failure that ext4 has not`)
      t.comment(`on the mount: ${said.replaceAll('\n', ' | ')}`)
      t.comment(`on ext4: ${there.replaceAll('\n', ' | ')}`)
    }
  }
  rmSync(folder, { recursive: true })
  await stage.judge()
})

const LOADFILE = '/usr/share/dbench/client.txt'

test('dbench: clients of a file server', {
  ...requires(...NEEDS, 'dbench', LOADFILE),
  ...LONG,
}, async (t) => {
  const stage = await makeStage(t, '4G')
  for (const options of [[], ['--sync-dir'], ['-s']]) {
    const folder = scratch(stage, `dbench${options.join('')}`)
    const result = await run(
      'dbench',
      ['-D', folder, '-t', isLong ? '60' : '3', '-c', LOADFILE, ...options, isLong ? '16' : '4'],
      { check: false, timeoutMs: 200_000 },
    )
    t.is(result.code, 0, `dbench ${options.join(' ')}`)
    const wrong = `${result.stdout}${result.stderr}`.split('\n').filter((line) => /failed|ERROR/i.test(line))
    t.alike(wrong, [], 'no operation ended otherwise than its load file says')
    if (result.code !== 0) t.comment(`${result.stdout}${result.stderr}`.slice(0, 3000))
    rmSync(folder, { recursive: true })
  }
  await stage.judge()
})

function scratch(stage: Stage, name: string): string {
  const folder = join(stage.dir, name)
  mkdirSync(folder)
  return folder
}
