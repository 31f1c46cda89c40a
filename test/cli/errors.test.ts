// What goes wrong is told in one line, with the documented exit code, and leaves nothing behind.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { isMountPoint, mountVolume, umbra } from '../support/umbra.ts'

const NEEDS = requires('root', '/dev/fuse')

async function fails(t: Assertion, code: number, args: readonly string[]): Promise<string> {
  const result = await umbra(args, { check: false })
  t.is(result.code, code, `umbra ${args.join(' ')}: ${result.stderr.trim()}`)
  t.is(result.stdout, '', 'nothing on standard output')
  t.ok(/^umbra: [^\n]+\n$/.test(result.stderr), 'one line on standard error')
  t.absent(/\bat .*\.(js|ts):\d/.test(result.stderr), 'no stack trace')
  return result.stderr
}

test('a usage error exits with 2 and says how', async (t) => {
  const folder = tempFolder(t)
  for (const args of [
    ['frobnicate'],
    ['create'],
    ['create', join(folder, 'v'), '--size'],
    ['mount', '--wrong', 'a', 'b'],
    ['snapshot', 'creat', 'a'],
    ['export', 'a', 'b', '--format', 'vmdk'],
  ]) {
    await fails(t, 2, args)
  }
  await fails(t, 2, ['create', join(folder, 'v'), '--size', 'much'])
  await fails(t, 2, ['create', join(folder, 'v'), '--size', '17T'])
  await fails(t, 2, ['create', join(folder, 'v'), '--size', '1K'])
  t.alike(readdirSync(folder), [], 'nothing was made')
})

test('every command has help, and the program has a version', async (t) => {
  const names = [
    'create',
    'mount',
    'unmount',
    'sync',
    'status',
    'snapshot',
    'bookmark',
    'diff',
    'export',
    'import',
    'apply',
    'check',
    'doctor',
  ]
  for (const name of names) {
    const { stdout } = await umbra([name, '--help'])
    t.ok(stdout.startsWith(`Usage: umbra ${name}`), name)
  }
  t.ok(/^\d+\.\d+\.\d+\n$/.test((await umbra(['--version'])).stdout))
})

test('a volume that is none, is missing, exists or is cut short', async (t) => {
  const folder = tempFolder(t)
  const at = (name: string) => join(folder, name)
  mkdirSync(at('dir'))
  writeFileSync(at('zeros'), Buffer.alloc(1 << 20))
  writeFileSync(at('text'), 'no volume at all')
  await umbra(['create', at('good'), '--size', '64M'])
  copyFileSync(at('good'), at('short'))
  truncateSync(at('short'), Math.floor(statSync(at('good')).size / 2))

  await fails(t, 3, ['status', at('none')])
  await fails(t, 3, ['mount', at('none'), at('dir')])
  await fails(t, 3, ['status', at('dir')])
  await fails(t, 4, ['create', at('good'), '--size', '64M'])
  for (const name of ['zeros', 'text']) {
    await fails(t, 6, ['status', at(name)])
    await fails(t, 6, ['mount', at(name), at('dir')])
    await fails(t, 6, ['check', at(name)])
  }
  await fails(t, 7, ['mount', at('short'), at('dir')])
  t.absent(isMountPoint(at('dir')))
  t.is((await umbra(['status', at('good')])).code, 0, 'the good one is as it was')
})

test('a second daemon, a busy volume, a mount point that is missing or taken', NEEDS, async (t) => {
  const folder = tempFolder(t)
  const at = (name: string) => join(folder, name)
  for (const name of ['mnt', 'other', 'parent']) mkdirSync(at(name))
  await umbra(['create', at('v'), '--size', '64M'])
  await umbra(['create', at('parent/w'), '--size', '64M'])

  await fails(t, 3, ['mount', at('v'), at('nowhere')])
  await fails(t, 2, ['mount', at('v'), at('v')])
  await fails(t, 2, ['mount', at('parent/w'), at('parent')])
  await fails(t, 3, ['unmount', at('mnt')])
  await mountVolume(t, at('v'), at('mnt'))
  await fails(t, 5, ['mount', at('v'), at('other')])
  await fails(t, 5, ['mount', at('parent/w'), at('mnt')])
  t.ok((await umbra(['status', at('mnt')])).stdout.includes('serving'), 'the first is as it was')
  writeFileSync(at('mnt/x'), 'x')
  const holder = await import('node:child_process').then(({ spawn }) =>
    spawn('sleep', ['30'], { cwd: at('mnt') }),
  )
  t.teardown(() => holder.kill())
  await fails(t, 5, ['unmount', at('mnt')])
  t.is(readFileSync(at('mnt/x'), 'utf8'), 'x', 'a busy mount stays')
  holder.kill()
})

test('snapshot names that exist, are missing or malformed, pins', async (t) => {
  const folder = tempFolder(t)
  const volume = join(folder, 'v')
  await umbra(['create', volume, '--size', '64M'])
  await umbra(['snapshot', 'create', volume, 'one'])

  await fails(t, 4, ['snapshot', 'create', volume, 'one'])
  await fails(t, 3, ['snapshot', 'show', volume, 'none'])
  await fails(t, 3, ['snapshot', 'delete', volume, 'none'])
  for (const name of ['', '.', '..', 'a/b', 'x'.repeat(300)]) {
    await fails(t, 2, ['snapshot', 'create', volume, name])
  }
  await umbra(['snapshot', 'pin', volume, 'one'])
  await fails(t, 5, ['snapshot', 'delete', volume, 'one'])
  await umbra(['snapshot', 'unpin', volume, 'one'])
  await umbra(['snapshot', 'delete', volume, 'one'])
  t.is((await umbra(['snapshot', 'list', volume, '--json'])).stdout.trim(), '[]')
})

test('an export on a full disk fails in one line and leaves nothing behind', requires('root'), async (t) => {
  const folder = tempFolder(t)
  const small = join(folder, 'small')
  mkdirSync(small)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'none', small])
  t.teardown(() => run('umount', [small]))
  const volume = join(folder, 'v')
  await umbra(['create', volume, '--size', '256M'])
  await umbra(['snapshot', 'create', volume, 'one'])

  await fails(t, 8, ['export', volume, 'one', '--format', 'raw', '-o', join(small, 'one.img')])
  await fails(t, 8, ['export', volume, 'one', '--format', 'qcow2', '-o', join(small, 'one.qcow2')])

  t.alike(readdirSync(small), [])
  await umbra(['export', volume, 'one', '--format', 'raw', '-o', join(folder, 'one.img')])
  await fails(t, 4, ['export', volume, 'one', '--format', 'raw', '-o', join(folder, 'one.img')])
  await fails(t, 2, [
    'export',
    volume,
    'one',
    '--since',
    'one',
    '--format',
    'raw',
    '-o',
    join(folder, 'two.img'),
  ])
  t.absent(existsSync(join(folder, 'two.img')))
})

test('--force replaces neither a volume nor the image that the new one needs', async (t) => {
  const folder = tempFolder(t)
  const at = (name: string) => join(folder, name)
  const link = at('link')
  await umbra(['create', at('v'), '--size', '64M'])
  await umbra(['snapshot', 'create', at('v'), 'one'])
  await umbra(['snapshot', 'create', at('v'), 'two'])
  await umbra(['export', at('v'), 'one', '--format', 'qcow2', '-o', at('one.qcow2')])
  symlinkSync(at('v'), link)
  const volume = readFileSync(at('v'))
  const image = readFileSync(at('one.qcow2'))

  for (const output of [at('v'), link]) {
    await fails(t, 2, ['export', at('v'), 'one', '--format', 'raw', '--force', '-o', output])
    await fails(t, 2, ['export', at('v'), 'one', '--format', 'qcow2', '--force', '-o', output])
  }
  const delta = ['export', at('v'), 'two', '--since', 'one', '--format', 'qcow2']
  await fails(t, 2, [...delta, '--backing', at('one.qcow2'), '--force', '-o', at('one.qcow2')])

  t.ok(readFileSync(at('v')).equals(volume), 'the volume is as it was')
  t.ok(readFileSync(at('one.qcow2')).equals(image), 'so is the image')
  t.alike(readdirSync(folder).sort(), ['link', 'one.qcow2', 'v'], 'nothing was left behind')
})
