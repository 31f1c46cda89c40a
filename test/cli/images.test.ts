// Images by the real executable: applied to what they fit, refused where they do not, and before
// anything is written.

import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra, umbraJson } from '../support/umbra.ts'

const NEEDS = requires('root', '/dev/fuse')

/** A volume with snapshots one, two, three, and their images: full one, increments two and three. */
async function imagesOf(t: Pick<Assertion, 'teardown'>): Promise<(name: string) => string> {
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  mkdirSync(at('mnt'))
  await umbra(['create', at('v'), '--size', '64M'])
  const mounted = await mountVolume(t, at('v'), at('mnt'))
  for (const name of ['one', 'two', 'three']) {
    writeFileSync(at(`mnt/${name}`), name.repeat(3000))
    await umbra(['snapshot', 'create', at('mnt'), name])
  }
  await mounted.unmount()
  await umbra(['export', at('v'), 'one', '--format', 'qcow2', '-o', at('one.qcow2')])
  for (const [from, to] of [
    ['one', 'two'],
    ['two', 'three'],
  ] as const) {
    await umbra(['export', at('v'), to, '--since', from, '--format', 'qcow2', '-o', at(`${to}.qcow2`)])
  }
  return at
}

test('apply brings an imported volume and a raw file forward, step by step', NEEDS, async (t) => {
  const at = await imagesOf(t)
  await umbra(['import', at('one.qcow2'), '-o', at('w')])
  await umbra(['import', at('one.qcow2'), '--format', 'raw', '-o', at('w.img')])

  for (const target of ['w', 'w.img']) {
    for (const name of ['two', 'three']) {
      const result = await umbraJson<{ point: { name: string } }>(['apply', at(target), at(`${name}.qcow2`)])
      t.is(result.point.name, name)
    }
  }

  await umbra(['export', at('v'), 'three', '--format', 'raw', '-o', at('three.img')])
  await run('cmp', [at('three.img'), at('w.img')])
  await mountVolume(t, at('w'), at('mnt'))
  t.alike(readdirSync(at('mnt')).sort(), ['lost+found', 'one', 'three', 'two'])
  t.is(readFileSync(at('mnt/three'), 'utf8'), 'three'.repeat(3000))
})

test(
  'a wrong order, a wrong base and a damaged image are refused before anything is written',
  NEEDS,
  async (t) => {
    const at = await imagesOf(t)
    copyFileSync(at('two.qcow2'), at('bad.qcow2'))
    const fd = openSync(at('bad.qcow2'), 'r+')
    writeSync(fd, 'damage', statSync(at('bad.qcow2')).size - 4096)
    closeSync(fd)
    const code = async (args: readonly string[]) => (await umbra(args, { check: false })).code

    t.is(await code(['import', at('two.qcow2'), '-o', at('x')]), 9, 'a delta without its base')
    t.is(await code(['import', at('one.qcow2'), at('three.qcow2'), '-o', at('x')]), 9, 'a gap')
    t.is(await code(['import', at('one.qcow2'), at('bad.qcow2'), '-o', at('x')]), 10, 'damage')
    const delta = ['export', at('v'), 'two', '--since', 'one', '--format', 'qcow2']
    await umbra([...delta, '--backing', at('one.qcow2'), '-o', at('backed.qcow2')])
    t.is(await code(['import', at('backed.qcow2'), at('one.qcow2'), '-o', at('x')]), 9, 'the base last')
    t.absent(existsSync(at('x')))
    await umbra(['import', at('one.qcow2'), '-o', at('w')])
    const before = readFileSync(at('w'))
    t.is(await code(['apply', at('w'), at('three.qcow2')]), 9, 'not the next one')
    t.is(await code(['apply', at('w'), at('bad.qcow2')]), 10, 'damage')
    t.is(await code(['apply', at('v'), at('two.qcow2')]), 9, 'never imported')
    t.ok(readFileSync(at('w')).equals(before), 'not a byte has changed')
    const mounted = await mountVolume(t, at('w'), at('mnt'))
    t.is(await code(['apply', at('mnt'), at('two.qcow2')]), 5, 'mounted')
    writeFileSync(at('mnt/own'), 'a change of its own')
    await mounted.unmount()
    t.is(await code(['apply', at('w'), at('two.qcow2')]), 9, 'changed since')
  },
)

test('create --from takes an ext4 image of mke2fs', requires('root', '/dev/fuse', 'mke2fs'), async (t) => {
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  mkdirSync(at('tree'))
  mkdirSync(at('mnt'))
  writeFileSync(at('tree/hello'), 'hello\n')
  await run('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-b',
    '4096',
    '-d',
    at('tree'),
    at('made.img'),
    '64M',
  ])

  await umbra(['create', at('v'), '--from', at('made.img')])

  await mountVolume(t, at('v'), at('mnt'))
  t.is(readFileSync(at('mnt/hello'), 'utf8'), 'hello\n')
  writeFileSync(at('mnt/more'), 'more')
})
