// Programs made to break file systems, on a mount: stress-ng's file-system stressors with --verify, fio
// with --verify in every engine and mode, dbench. Each judges by itself; the volume is judged after them.
//
// Always true: the ordinary run tries every stressor and every engine, shortly; the long one at length.

// deadline 290

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { isLong } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { makeStage, type Stage } from './stage.ts'

const NEEDS = ['root', '/dev/fuse', 'e2fsck'] as const
const LONG = { timeout: 3_600_000 }

/**
 * The class `filesystem` of stress-ng, less those that do nothing to the folder they are given:
 * bind-mount, binderfs, dup, eventfd, ioprio, procfs. `fiemap` and `verity` say by themselves that the
 * mount lacks what they try (on ext4 the second does, too, as mke2fs makes it).
 */
const STRESSORS =
  `access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify fallocate fanotify fcntl
  fiemap file-ioctl filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix lease
  link locka lockf lockofd mknod open rename symlink sync-file touch utime verity xattr`.split(/\s+/)
const AT_ONCE = isLong ? 1 : 7
const STRESS_SEC = isLong ? 20 : 2

test('stress-ng: every file-system stressor', { ...requires(...NEEDS, 'stress-ng'), ...LONG }, async (t) => {
  const stage = await makeStage(t, '4G')
  const folder = scratch(stage, 'stress')
  for (let at = 0; at < STRESSORS.length; at += AT_ONCE) {
    const together = STRESSORS.slice(at, at + AT_ONCE)
    const result = await run(
      'stress-ng',
      [
        ...['--temp-path', folder, '--timeout', `${STRESS_SEC}s`, '--verify', '--hdd-bytes', '64M'],
        ...together.flatMap((name) => [`--${name}`, isLong ? '4' : '1']),
      ],
      { check: false, timeoutMs: 120_000 },
    )
    t.is(result.code, 0, together.join(' '))
    if (result.code !== 0) t.comment(`${result.stdout}${result.stderr}`)
  }
  rmSync(folder, { recursive: true })
  await stage.judge()
})

const ENGINES = ['sync', 'psync', 'libaio', 'io_uring', 'mmap'] as const
const PATTERNS = isLong ? ['write', 'randwrite', 'rw', 'randrw'] : ['write', 'randwrite']
const FILE_SIZE = isLong ? '256m' : '8m'

async function fio(t: Assertion, folder: string, engine: string, pattern: string, isDirect: boolean) {
  const name = `${engine} ${pattern} ${isDirect ? 'direct' : 'buffered'}`
  const result = await run(
    'fio',
    [
      ...[`--name=${name.replaceAll(' ', '-')}`, `--directory=${folder}`, `--ioengine=${engine}`],
      ...[`--rw=${pattern}`, `--direct=${isDirect ? 1 : 0}`, `--size=${FILE_SIZE}`, '--bsrange=4k-128k'],
      ...['--blockalign=4k', '--numjobs=2', '--iodepth=8', '--verify=crc32c', '--do_verify=1'],
      ...[
        '--verify_fatal=1',
        '--verify_dump=0',
        '--fsync=64',
        '--unlink=1',
        '--group_reporting',
        '--minimal',
      ],
    ],
    { check: false, timeoutMs: 240_000, cwd: folder },
  )
  // In some containers the kernel refuses io_uring to everyone.
  if (engine === 'io_uring' && /Operation not permitted|not implemented/.test(result.stderr)) {
    t.comment(`skipped: ${name}: the kernel refuses io_uring here`)
    return
  }
  t.is(result.code, 0, name)
  if (result.code !== 0) t.comment(`${result.stdout}${result.stderr}`.slice(0, 3000))
}

for (const args of isLong ? [[], ['--write-through']] : [[]]) {
  test(`fio: every engine verifies what it has written, ${args[0] ?? 'write-back'}`, {
    ...requires(...NEEDS, 'fio'),
    ...LONG,
  }, async (t) => {
    const stage = await makeStage(t, '4G', args)
    const folder = scratch(stage, 'fio')
    for (const engine of ENGINES) {
      for (const pattern of PATTERNS) {
        for (const isDirect of engine === 'mmap' ? [false] : [false, true]) {
          await fio(t, folder, engine, pattern, isDirect)
        }
      }
    }
    rmSync(folder, { recursive: true })
    await stage.judge()
  })
}

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
