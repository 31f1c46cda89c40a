// fio writes with checksums and reads them back, in every engine that works on files and every mode that
// a regular file has, with all the ways to make a file and to have it synchronised.
//
// Left out: `trim` modes are for block devices, `e4defrag` for a call of the kernel's ext4 that no FUSE
// server gets, and the engines for networks and devices. Always true: each engine is one run of fio,
// whose jobs follow each other, and the volume is judged at the end. The checksums are proved to find a
// wrong byte.

// deadline 600

import { closeSync, mkdirSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { isLong, makeLab } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { type RunResult, run } from '../support/run.ts'
import { makeStage } from './stage.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'fio'), timeout: 3_600_000 }

/** Name of a job and its options. */
type Job = readonly [name: string, ...options: string[]]

const SIZE = isLong ? '64m' : '2m'
const COMMON = [
  ...['size', SIZE, 'bsrange', '4k-128k', 'blockalign', '4k', 'iodepth', '8', 'verify', 'crc32c'],
  ...['do_verify', '1', 'verify_fatal', '1', 'verify_dump', '0', 'unlink', '1', 'fallocate', 'none'],
]

const PATTERNS = isLong ? ['write', 'randwrite', 'rw', 'randrw'] : ['write', 'randrw']

/** Engines that read and write; `mmap` and `splice` have no direct mode. */
const ENGINES = {
  sync: [0, 1],
  psync: [0, 1],
  vsync: [0, 1],
  pvsync: [0, 1],
  pvsync2: [0, 1],
  posixaio: [0, 1],
  libaio: [0, 1],
  io_uring: [0, 1],
  mmap: [0],
  splice: [0],
} as const

/** The modes of one engine: each pattern, cached and direct; two processes each in the long run. */
const modes = (engine: keyof typeof ENGINES): Job[] =>
  PATTERNS.flatMap((pattern) =>
    ENGINES[engine].map(
      (direct): Job => [`${pattern}-${direct}`, `rw=${pattern}`, `direct=${direct}`, 'fsync=64', 'numjobs=2'],
    ),
  )

/** What a mode can do besides, each tried by the engines that it makes a difference to. */
const WAYS: readonly Job[] = [
  ...['none', 'native', 'posix', 'keep', 'truncate'].map(
    (how): Job => [`fallocate-${how}`, 'rw=randwrite', `fallocate=${how}`],
  ),
  ['fsync', 'rw=randwrite', 'fsync=4'],
  ['fdatasync', 'rw=randwrite', 'fdatasync=4'],
  ['sync-file-range', 'rw=write', 'sync_file_range=wait_before,write,wait_after:8'],
  ['o-sync', 'rw=randwrite', 'sync=sync'],
  ['o-dsync', 'rw=randwrite', 'sync=dsync'],
  ['o-dsync-direct', 'rw=randwrite', 'sync=dsync', 'direct=1'],
  ['end-fsync', 'rw=write', 'end_fsync=1', 'fsync_on_close=1'],
  ['overwrite', 'rw=randwrite', 'overwrite=1'],
  ['overwrite-direct', 'rw=randwrite', 'overwrite=1', 'direct=1'],
  ['append', 'rw=write', 'file_append=1'],
  ['create-on-open', 'rw=write', 'create_on_open=1', 'nrfiles=8'],
  ['many-files', 'rw=randwrite', 'nrfiles=32', 'openfiles=4', 'file_service_type=random'],
  ['holes', 'rw=write:12k'],
  ['again-and-again', 'rw=randwrite', 'norandommap=1', 'bsrange=4k-4k'],
  ['small-direct', 'rw=randwrite', 'direct=1', 'bsrange=512-4096', 'blockalign=512'],
  ['odd-sizes', 'rw=write', 'bs_unaligned=1', 'bsrange=1021-65537'],
  ['large', 'rw=write', 'bsrange=1m-2m', 'direct=1'],
  ['backlog', 'rw=randwrite', 'verify_backlog=16', 'verify_async=2'],
  ['threads', 'rw=randrw', 'thread=1', 'numjobs=4'],
  ...['md5', 'sha256', 'xxhash', 'crc64', 'crc16', 'crc7'].map(
    (sum): Job => [`sum-${sum}`, 'rw=randwrite', `verify=${sum}`],
  ),
  ['pattern', 'rw=randwrite', 'verify=pattern', 'verify_pattern=0xdeadbeef'],
]

const WAYS_OF: Readonly<Record<string, readonly Job[]>> = {
  psync: WAYS,
  libaio: [
    ['batch', 'rw=randwrite', 'direct=1', 'iodepth=32', 'iodepth_batch=8', 'iodepth_batch_complete_min=4'],
    ...(isLong ? WAYS : []),
  ],
  io_uring: [
    ['fixed-buffers', 'rw=randwrite', 'direct=1', 'fixedbufs=1'],
    ['registered-files', 'rw=randwrite', 'registerfiles=1'],
    ['forced-threads', 'rw=randwrite', 'force_async=1'],
    ['own-thread', 'rw=randwrite', 'sqthread_poll=1'],
    ...(isLong ? WAYS : []),
  ],
  mmap: [
    ['msync', 'rw=randwrite', 'fsync=4'],
    ...(isLong ? WAYS.filter(([, ...all]) => !all.includes('direct=1')) : []),
  ],
}

/** Engines that have no data to verify. */
const WITHOUT_DATA: readonly Job[] = [
  ['falloc', 'ioengine=falloc', 'rw=write', 'bs=64k', 'size=8m', 'unlink=1'],
  ['falloc-random', 'ioengine=falloc', 'rw=randtrim', 'bs=64k', 'size=8m', 'unlink=1'],
  ['ftruncate', 'ioengine=ftruncate', 'rw=randwrite', 'bs=4k', 'size=8m', 'unlink=1'],
  ['filecreate', 'ioengine=filecreate', 'nrfiles=200', 'filesize=4k', 'create_on_open=1', 'openfiles=1'],
  ['filestat', 'ioengine=filestat', 'rw=randread', 'nrfiles=200', 'filesize=4k', 'openfiles=1'],
  ['filedelete', 'ioengine=filedelete', 'nrfiles=200', 'filesize=4k', 'openfiles=1'],
]

/** One run of fio whose jobs wait for each other. */
function fio(folder: string, global: readonly string[], jobs: readonly Job[]): Promise<RunResult> {
  const section = (name: string, options: readonly string[]) => [`[${name}]`, ...options, ''].join('\n')
  const file = [
    section('global', [`directory=${folder}`, 'group_reporting=1', ...global]),
    ...jobs.map(([name, ...options]) => section(name, ['stonewall', ...options])),
  ].join('\n')
  return run('fio', ['--minimal', '-'], { input: file, check: false, timeoutMs: 1_800_000, cwd: folder })
}

function settings(pairs: readonly string[]): string[] {
  const lines: string[] = []
  for (let at = 0; at < pairs.length; at += 2) lines.push(`${pairs[at]}=${pairs[at + 1]}`)
  return lines
}

function judge(t: Assertion, result: RunResult, jobs: readonly Job[], what: string): void {
  // A job that is told something it does not know ends the whole run with an error: nothing is left out.
  const done = result.stdout.split('\n').filter((line) => /^3;fio/.test(line)).length
  t.is(result.code, 0, `${what}: ${jobs.map(([name]) => name).join(' ')}`)
  t.is(done, jobs.length, 'and each of them ran')
  if (result.code !== 0) t.comment(`${result.stderr}${result.stdout}`.slice(0, 3000))
}

/** In some containers the kernel refuses io_uring to everyone: asked on the host, not on the mount. */
async function isUringRefused(folder: string): Promise<boolean> {
  const result = await fio(folder, ['ioengine=io_uring', 'size=4k', 'unlink=1'], [['probe', 'rw=write']])
  return result.code !== 0
}

for (const args of isLong ? [[], ['--write-through']] : [[]]) {
  test(`fio: every engine verifies what it has written, ${args[0] ?? 'write-back'}`, NEEDS, async (t) => {
    const stage = await makeStage(t, '8G', args)
    const folder = join(stage.dir, 'fio')
    mkdirSync(folder)
    for (const engine of Object.keys(ENGINES) as (keyof typeof ENGINES)[]) {
      const jobs = [...modes(engine), ...(WAYS_OF[engine] ?? [])]
      if (engine === 'io_uring' && (await isUringRefused(stage.folder))) {
        console.log('# missing: io_uring, which the kernel refuses on the host, too')
        continue
      }
      judge(t, await fio(folder, [`ioengine=${engine}`, ...settings(COMMON)], jobs), jobs, engine)
    }
    judge(t, await fio(folder, [], WITHOUT_DATA), WITHOUT_DATA, 'without data')
    rmSync(folder, { recursive: true })
    await stage.judge()
  })
}

test('fio: what it wrote is verified after a remount, and a wrong byte is found', NEEDS, async (t) => {
  const lab = await makeLab(t, '1G')
  const folder = join(lab.dir, 'fio')
  const jobs: Job[] = PATTERNS.map((pattern) => [pattern, `rw=${pattern.replace('rw', 'write')}`])
  const options = [...settings(COMMON), 'ioengine=psync', 'randseed=7', 'allrandrepeat=1']
  const kept = options.filter((option) => !/^(?:unlink|do_verify)=/.test(option))
  const first = await lab.mount()
  mkdirSync(folder)
  judge(t, await fio(folder, [...kept, 'do_verify=0'], jobs), jobs, 'written')
  await first.unmount()
  await lab.mount()
  const verify = () => fio(folder, [...kept, 'verify_only=1'], jobs)
  judge(t, await verify(), jobs, 'verified')
  for (const name of readdirSync(folder)) {
    const file = openSync(join(folder, name), 'r+')
    writeSync(file, Buffer.from('!'), 0, 1, 500_001)
    closeSync(file)
  }
  t.not((await verify()).code, 0, 'a byte changed in each file is found')
})
