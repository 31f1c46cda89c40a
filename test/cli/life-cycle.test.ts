// A volume's life by the real executable: create, mount, write, snapshot, change, export, unmount, and
// what is left of it when its daemon is killed. Judged by e2fsck and the kernel's own ext4.

// deadline 240

import { spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { isRunning } from '../../src/daemon/is-running.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { isMountPoint, mountVolume, umbra, umbraJson } from '../support/umbra.ts'

const NEEDS = requires('root', '/dev/fuse')
const JUDGED = requires('root', '/dev/fuse', 'e2fsck')

async function newVolume(
  t: Pick<Assertion, 'teardown'>,
  size = '1G',
): Promise<{ folder: string; volume: string; dir: string }> {
  const folder = tempFolder(t)
  const volume = join(folder, 'v.umbra')
  const dir = join(folder, 'mnt')
  mkdirSync(dir)
  await umbra(['create', volume, '--size', size])
  return { folder, volume, dir }
}

async function assertCleanExt4(t: Assertion, image: string): Promise<void> {
  const judged = await run('e2fsck', ['-fn', image], { check: false })
  t.is(judged.code, 0, `e2fsck -fn ${image}\n${judged.stdout}`)
  t.absent(/\b(Fix|Clear|Create|Expand|Recreate|IGNORED)\b\?/.test(judged.stdout), 'no repair is proposed')
}

test('create, mount, write, sync, unmount, mount again: everything is there', NEEDS, async (t) => {
  const { volume, dir } = await newVolume(t)

  const first = await mountVolume(t, volume, dir)
  mkdirSync(join(dir, 'a'))
  writeFileSync(join(dir, 'a', 'hello'), 'hello\n')
  writeFileSync(join(dir, 'big'), Buffer.alloc(5 << 20, 7))
  const status = await umbraJson<{ mountPoint: string; volume: string }>(['status', dir])
  t.is(status.mountPoint, dir)
  t.is(status.volume, volume)
  await umbra(['sync', dir])
  await first.unmount()

  t.absent(isMountPoint(dir), 'the mount is gone')
  t.absent(isRunning(first.pid), 'the daemon is gone')
  t.is((await umbraJson<{ daemon: null }>(['status', volume])).daemon, null)
  const second = await mountVolume(t, volume, dir)
  t.is(readFileSync(join(dir, 'a', 'hello'), 'utf8'), 'hello\n')
  t.ok(readFileSync(join(dir, 'big')).equals(Buffer.alloc(5 << 20, 7)))
  await second.unmount()
  t.alike(JSON.parse((await umbra(['check', volume, '--json'])).stdout).problems, [])
})

test('a snapshot of a mounted volume has every write that returned before', JUDGED, async (t) => {
  const { folder, volume, dir } = await newVolume(t)
  await mountVolume(t, volume, dir)
  for (let i = 0; i < 50; i++) writeFileSync(join(dir, `file-${i}`), `content ${i}\n`.repeat(i * 40))

  const taken = await umbraJson<{ flushMs: number; cutMs: number }>(['snapshot', 'create', dir, 'one'])
  writeFileSync(join(dir, 'file-0'), 'changed')
  writeFileSync(join(dir, 'later'), 'later')

  t.ok(taken.flushMs >= 0 && taken.cutMs >= 0, 'the times are told')
  t.alike(readdirSync(join(dir, '.snapshots')), ['one'])
  t.is(readFileSync(join(dir, '.snapshots/one/file-7'), 'utf8'), 'content 7\n'.repeat(280))
  t.absent(existsSync(join(dir, '.snapshots/one/later')))
  const image = join(folder, 'one.img')
  await umbra(['export', dir, 'one', '--format', 'raw', '-o', image])
  await assertCleanExt4(t, image)
  const { folder: loop } = await mountLoop(t, image)
  t.is(readFileSync(join(loop, 'file-0'), 'utf8'), '')
  t.is(readFileSync(join(loop, 'file-49'), 'utf8'), 'content 49\n'.repeat(49 * 40))
  t.absent(existsSync(join(loop, 'later')))
})

test('mkdir and rmdir in .snapshots take and delete a snapshot', NEEDS, async (t) => {
  const { volume, dir } = await newVolume(t)
  await mountVolume(t, volume, dir)
  writeFileSync(join(dir, 'x'), 'x')

  mkdirSync(join(dir, '.snapshots/by-mkdir'))
  t.is(readFileSync(join(dir, '.snapshots/by-mkdir/x'), 'utf8'), 'x')
  t.is((await umbraJson<unknown[]>(['snapshot', 'list', dir])).length, 1)
  rmdirSync(join(dir, '.snapshots/by-mkdir'))

  t.is((await umbraJson<unknown[]>(['snapshot', 'list', volume])).length, 0)
})

test('full and incremental images rebuild the volume in another file', JUDGED, async (t) => {
  const { folder, volume, dir } = await newVolume(t)
  const mounted = await mountVolume(t, volume, dir)
  for (let i = 0; i < 30; i++) writeFileSync(join(dir, `f${i}`), Buffer.alloc(40_000, i))
  await umbra(['snapshot', 'create', dir, 'one'])
  for (let i = 0; i < 10; i++) writeFileSync(join(dir, `f${i}`), Buffer.alloc(50_000, i + 100))
  await run('rm', [join(dir, 'f20'), join(dir, 'f21')])
  await umbra(['snapshot', 'create', dir, 'two'])

  const full = join(folder, 'one.qcow2')
  const increment = join(folder, 'two.qcow2')
  await umbra(['export', dir, 'one', '--format', 'qcow2', '-o', full])
  await umbra([
    'export',
    dir,
    'two',
    '--since',
    'one',
    '--backing',
    full,
    '--format',
    'qcow2',
    '-o',
    increment,
  ])
  const { changedBytes } = await umbraJson<{ changedBytes: number }>(['diff', dir, 'one', 'two'])
  t.ok(changedBytes >= 10 * 49_152 && changedBytes < 4 << 20, `${changedBytes} bytes changed`)
  t.ok(statSync(increment).blocks * 512 < 8 << 20, 'the increment is small')
  await umbra(['import', full, increment, '-o', join(folder, 'w.umbra')])
  await mounted.unmount()

  await mountVolume(t, join(folder, 'w.umbra'), dir)
  t.is(readdirSync(dir).filter((name) => name.startsWith('f')).length, 28)
  t.ok(readFileSync(join(dir, 'f3')).equals(Buffer.alloc(50_000, 103)))
  t.ok(readFileSync(join(dir, 'f15')).equals(Buffer.alloc(40_000, 15)))
})

test('kill -9 of the daemon: what was fsynced is there, the dead mount is cleared', JUDGED, async (t) => {
  const { folder, volume, dir } = await newVolume(t)
  const first = await mountVolume(t, volume, dir)
  const fd = openSync(join(dir, 'kept'), 'w')
  writeSync(fd, 'kept\n'.repeat(10_000))
  fsyncSync(fd)
  closeSync(fd)
  const load = spawn('sh', ['-c', `i=0; while echo $i > ${dir}/load-$i; do i=$((i+1)); done`], {
    stdio: 'ignore',
  })
  t.teardown(() => load.kill('SIGKILL'))
  await until('the load has begun', () => existsSync(join(dir, 'load-100')))

  process.kill(first.pid, 'SIGKILL')
  await until('the load has ended', () => load.exitCode !== null)
  t.ok(isMountPoint(dir), 'the dead mount is still there')
  await mountVolume(t, volume, dir)
  t.is(readFileSync(join(dir, 'kept'), 'utf8'), 'kept\n'.repeat(10_000))
  const second = await umbraJson<{ daemon: { pid: number } }>(['status', dir])
  process.kill(second.daemon.pid, 'SIGKILL')
  await until('the second daemon is gone', () => !existsSync(`/proc/${second.daemon.pid}`))
  await umbra(['unmount', dir])

  t.absent(isMountPoint(dir), 'unmount cleared the dead mount')
  t.alike(JSON.parse((await umbra(['check', volume, '--json'])).stdout).problems, [])
  await umbra(['snapshot', 'create', volume, 'after'])
  await umbra(['export', volume, 'after', '--format', 'raw', '-o', join(folder, 'after.img')])
  await assertCleanExt4(t, join(folder, 'after.img'))
})

test('SIGTERM and umount(8) end the daemon as cleanly as the command', NEEDS, async (t) => {
  const { volume, dir } = await newVolume(t)
  for (const end of ['SIGTERM', 'umount'] as const) {
    const mounted = await mountVolume(t, volume, dir)
    writeFileSync(join(dir, end), end)
    if (end === 'umount') await run('umount', [dir])
    else process.kill(mounted.pid, end)
    await until(`the daemon has ended after ${end}`, () => !existsSync(`/proc/${mounted.pid}`), 30_000)
    t.absent(isMountPoint(dir))
  }

  await mountVolume(t, volume, dir)
  t.is(readFileSync(join(dir, 'SIGTERM'), 'utf8'), 'SIGTERM')
  t.is(readFileSync(join(dir, 'umount'), 'utf8'), 'umount')
})

test('rollback makes the present what the snapshot is, and can be undone', NEEDS, async (t) => {
  const { volume, dir } = await newVolume(t)
  let mounted = await mountVolume(t, volume, dir)
  writeFileSync(join(dir, 'x'), 'before')
  await umbra(['snapshot', 'create', dir, 'before'])
  writeFileSync(join(dir, 'x'), 'after')
  const refused = await umbra(['snapshot', 'rollback', dir, 'before'], { check: false })
  t.is(refused.code, 5, 'not while it is mounted')
  await mounted.unmount()

  const { undo } = await umbraJson<{ undo: string }>(['snapshot', 'rollback', volume, 'before'])
  mounted = await mountVolume(t, volume, dir)
  t.is(readFileSync(join(dir, 'x'), 'utf8'), 'before')
  await mounted.unmount()
  await umbra(['snapshot', 'rollback', volume, undo])
  await mountVolume(t, volume, dir)

  t.is(readFileSync(join(dir, 'x'), 'utf8'), 'after')
})

test('mount --snapshot shows one snapshot by itself, while the volume is mounted too', NEEDS, async (t) => {
  const { folder, volume, dir } = await newVolume(t)
  await mountVolume(t, volume, dir)
  writeFileSync(join(dir, 'x'), 'before')
  await umbra(['snapshot', 'create', dir, 'one'])
  writeFileSync(join(dir, 'x'), 'after')
  const shown = join(folder, 'one')
  mkdirSync(shown)
  t.teardown(() => umbra(['unmount', shown], { check: false }))

  await umbra(['mount', volume, shown, '--snapshot', 'one'])

  t.is(readFileSync(join(shown, 'x'), 'utf8'), 'before')
  t.is(readFileSync(join(dir, 'x'), 'utf8'), 'after')
  t.exception(() => writeFileSync(join(shown, 'y'), ''), /EROFS/)
  t.is((await umbra(['snapshot', 'delete', dir, 'one'], { check: false })).code, 5, 'it is leased')
  await umbra(['unmount', shown])
  t.is((await umbra(['snapshot', 'delete', dir, 'one'])).code, 0)
})
