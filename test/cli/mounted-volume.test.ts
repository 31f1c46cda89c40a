// What only the real daemon shows: holes of a file that is still being written, the host's space in
// statfs, snapshots deleted while they are in use, checking and repairing.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra, umbraJson } from '../support/umbra.ts'

const NEEDS = requires('root', '/dev/fuse')
const MIB = 1024 * 1024

async function newVolume(
  t: Pick<Assertion, 'teardown'>,
  folder = tempFolder(t),
): Promise<{ folder: string; volume: string; dir: string }> {
  const volume = join(folder, 'v.umbra')
  const dir = join(folder, 'mnt')
  mkdirSync(dir)
  await umbra(['create', volume, '--size', '1G'])
  return { folder, volume, dir }
}

/** Holds a file open for writing with one dirty MiB at 8 MiB and a hole on either side. */
const WRITER = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 32 << 20)
os.pwrite(fd, b'd' * (1 << 20), 8 << 20)
data = os.lseek(fd, 0, os.SEEK_DATA)
hole = os.lseek(fd, data, os.SEEK_HOLE)
os.write(1, b'%d %d' % (data, hole))
sys.stdin.read()
`

test(
  'a file still open for writing: its dirty pages are data, its holes stay holes in a sparse copy',
  requires('root', '/dev/fuse', 'python3'),
  async (t) => {
    const { folder, volume, dir } = await newVolume(t)
    await mountVolume(t, volume, dir)
    const writer = spawn('python3', ['-c', WRITER, join(dir, 'sparse')], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    t.teardown(() => void writer.kill('SIGKILL'), { order: -1 })
    const [said] = (await once(writer.stdout, 'data')) as [Buffer]

    t.is(said.toString().trim(), `${8 * MIB} ${9 * MIB}`, 'SEEK_DATA and SEEK_HOLE are exact')
    const copy = join(folder, 'copy')
    await run('cp', ['--sparse=auto', join(dir, 'sparse'), copy])
    const expected = Buffer.alloc(32 * MIB)
    expected.fill('d', 8 * MIB, 9 * MIB)
    t.ok(readFileSync(copy).equals(expected), 'the copy has the bytes')
    t.ok(statSync(copy).blocks * 512 < 2 * MIB, 'and the holes')
    await run('cp', ['--sparse=auto', join(dir, 'sparse'), join(dir, 'copy')])
    t.ok(readFileSync(join(dir, 'copy')).equals(expected), 'on the mount, too')

    writer.stdin.end()
    await once(writer, 'exit')
  },
)

test('statfs promises no more than the host has', requires('root', '/dev/fuse', 'mount'), async (t) => {
  const host = join(tempFolder(t), 'host')
  mkdirSync(host)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', host])
  t.teardown(() => run('umount', ['-l', host], { check: false }), { order: 10 })
  const { volume, dir } = await newVolume(t, host)
  await mountVolume(t, volume, dir)
  const available = (path: string): number => {
    const { bavail, bsize } = statfsSync(path)
    return bavail * bsize
  }

  t.ok(available(dir) <= available(host), `${available(dir)} of ${available(host)}`)
  t.ok(available(dir) > 32 * MIB, 'but what there is')
  t.ok(statfsSync(dir).bfree * 4096 > 900 * MIB, 'free blocks are the file system’s own')
  writeFileSync(join(host, 'other'), Buffer.alloc(40 * MIB, 1))
  await until('the mount shows it', () => available(dir) <= available(host))
  rmSync(join(host, 'other'))
  await until('and that it is gone', () => available(dir) > 32 * MIB)
})

test('a snapshot in use below .snapshots is not deleted by the command', NEEDS, async (t) => {
  const { volume, dir } = await newVolume(t)
  await mountVolume(t, volume, dir)
  writeFileSync(join(dir, 'x'), 'kept')
  await umbra(['snapshot', 'create', dir, 'one'])
  const fd = openSync(join(dir, '.snapshots/one/x'), 'r')

  const refused = await umbra(['snapshot', 'delete', volume, 'one'], { check: false })
  t.is(refused.code, 5)
  t.ok(/open below \.snapshots\/one/.test(refused.stderr), refused.stderr)
  t.is(readFileSync(fd, 'utf8'), 'kept', 'and stays readable')
  closeSync(fd)

  await until('it can be deleted once the file is closed', async () => {
    const { code } = await umbra(['snapshot', 'delete', volume, 'one'], { check: false })
    return code === 0
  })
  t.exception(() => statSync(join(dir, '.snapshots/one')), /ENOENT/)
  mkdirSync(join(dir, '.snapshots/one'))
  t.is(readFileSync(join(dir, '.snapshots/one/x'), 'utf8'), 'kept', 'the name is free again')
})

interface CheckOutput {
  scope: string
  checked: string[]
  notChecked: string[]
  problems: { code: string }[]
  repaired: string[]
}

test('check of a mounted volume says what it looked at, and leaves nothing behind', NEEDS, async (t) => {
  const { volume, dir } = await newVolume(t)
  await mountVolume(t, volume, dir)
  writeFileSync(join(dir, 'x'), Buffer.alloc(3 * MIB, 3))
  await umbra(['snapshot', 'create', dir, 'one'])

  const result = await umbraJson<CheckOutput>(['check', dir])
  t.is(result.scope, 'snapshots')
  t.ok(
    result.checked.some((text) => /the trees of 1 snapshot and of the present/.test(text)),
    result.checked.join(),
  )
  t.ok(result.notChecked.includes('allocation bitmaps'))
  t.alike(result.problems, [])
  const text = (await umbra(['check', dir])).stdout
  t.ok(/^not checked while it is mounted: .*allocation bitmaps/m.test(text), text)
  await until('its temporary snapshot is gone', async () => {
    return (await umbraJson<unknown[]>(['snapshot', 'list', dir])).length === 1
  })

  const refused = await umbra(['check', '--repair', dir], { check: false })
  t.is(refused.code, 5)
  t.ok(/unmount/.test(refused.stderr))
})

test('check --repair mends a damaged superblock copy of an unmounted volume', NEEDS, async (t) => {
  const { volume } = await newVolume(t)
  const [home] = SUPERBLOCK_HOMES.flat()
  const fd = openSync(volume, 'r+')
  writeSync(fd, Buffer.alloc(100, 0xee), 0, 100, (home as number) * 4096 + 64)
  closeSync(fd)

  const found = await umbra(['check', volume, '--json'], { check: false })
  t.is(found.code, 7)
  t.alike(
    (JSON.parse(found.stdout) as CheckOutput).problems.map(({ code }) => code),
    ['SUPERBLOCK_COPY'],
  )
  const repaired = await umbraJson<CheckOutput>(['check', volume, '--repair'])
  t.is(repaired.repaired.length, 1)
  t.alike(repaired.problems, [])
  t.alike((await umbraJson<CheckOutput>(['check', volume])).problems, [])

  ftruncateSync(openSync(volume, 'r+'), 4096)
  const lost = await umbra(['check', volume, '--repair'], { check: false })
  t.is(lost.code, 7, lost.stderr)
})

test('unmounting asks no other daemon: one that hangs would hold it up', NEEDS, async (t) => {
  const { folder, volume, dir } = await newVolume(t)
  const env = { UMBRA_RUNTIME_DIR: join(folder, 'run') }
  mkdirSync(env.UMBRA_RUNTIME_DIR, { mode: 0o700 })
  let asked = 0
  const hanging = createServer((socket) => {
    asked++
    socket.on('error', () => {})
  })
  hanging.listen(join(env.UMBRA_RUNTIME_DIR, 'hanging.sock'))
  await once(hanging, 'listening')
  t.teardown(() => void hanging.close())
  t.teardown(() => run('umount', ['-l', dir], { check: false }), { order: -1 })

  await umbra(['mount', volume, dir], { env })
  await umbra(['status', dir], { env })
  await umbra(['unmount', dir], { env })
  t.is(asked, 0)
})

test('a name that is not ASCII is one and the same to the command and below .snapshots', NEEDS, async (t) => {
  const folder = tempFolder(t)
  const mount = join(folder, 'mnt')
  await umbra(['create', join(folder, 'v'), '--size', '64M'])
  await mountVolume(t, join(folder, 'v'), mount)
  writeFileSync(join(mount, 'file'), 'as it was')
  await umbra(['snapshot', 'create', mount, 'grün 日'])
  // The mount's own server is another process, so this one may touch it.
  t.is(readFileSync(join(mount, '.snapshots/grün 日/file'), 'utf8'), 'as it was')
  t.exception(() => mkdirSync(join(mount, '.snapshots/grün 日')), /EEXIST/)
  mkdirSync(join(mount, '.snapshots/später'))
  t.alike(readdirSync(join(mount, '.snapshots')), ['grün 日', 'später'])
  const listed = await umbraJson<{ name: string }[]>(['snapshot', 'list', mount])
  t.alike(
    listed.map(({ name }) => name),
    ['grün 日', 'später'],
  )
  const noText = Buffer.concat([Buffer.from(`${mount}/.snapshots/`), Buffer.of(0xff)])
  t.exception(() => mkdirSync(noText), /EINVAL/)
  await umbra(['snapshot', 'pin', mount, 'grün 日'])
  t.exception(() => rmdirSync(join(mount, '.snapshots/grün 日')), /EBUSY/)
  rmdirSync(join(mount, '.snapshots/später'))
  t.is((await umbraJson<unknown[]>(['snapshot', 'list', mount])).length, 1)
})
