// What a restore that was killed has begun is taken back by the next one, on whatever device it is mounted by
// then, and without harm to what was made in the meantime.

import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { mendAbandoned } from '../../src/shadow/requester/restore/undo-change.ts'
import { startChild } from '../support/child.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const NEEDS = requires('root')
const CHANGE = new URL('./killed-change.ts', import.meta.url)
const NAMES = ['gone', 'kept', 'old', 'other']

async function killedAt(t: Assertion, step: number, folder = tempFolder(t)): Promise<string> {
  mkdirSync(join(folder, 'target'), { recursive: true })
  writeFileSync(join(folder, 'stored'), 'restored')
  for (const name of NAMES) writeFileSync(join(folder, 'target', name), name, { mode: 0o604 })
  for (const name of NAMES) chmodSync(join(folder, 'target', name), 0o604)
  const child = startChild(t, CHANGE, { args: [folder, String(step)], timeoutMs: 60_000 })
  t.is((await child.exit()).signal, 'SIGKILL')
  return folder
}

function assertAsBefore(t: Assertion, folder: string, what: string): void {
  const found = NAMES.map((name) => {
    const path = join(folder, 'target', name)
    return existsSync(path) ? `${readFileSync(path, 'utf8')} ${statSync(path).mode.toString(8)}` : 'nothing'
  })
  t.alike(
    found,
    NAMES.map((name) => `${name} 100604`),
    what,
  )
}

test('killed before each step, all is as it was', NEEDS, async (t) => {
  for (const step of [0, 1, 2, 3]) {
    const folder = await killedAt(t, step)
    t.alike(
      mendAbandoned(join(folder, 'journals')).map(({ how }) => how),
      ['rolled back'],
    )
    assertAsBefore(t, folder, `killed before step ${step}`)
    t.alike(readdirSync(join(folder, 'target')).sort(), NAMES)
  }
})

test('what was made at a restored place meanwhile is kept beside it', NEEDS, async (t) => {
  const folder = await killedAt(t, 2)
  const target = (name: string): string => join(folder, 'target', name)
  // As if it had been killed between the two renames of its step.
  const staging = readdirSync(join(folder, 'target')).find((name) => name.startsWith('.umbra-restore-')) ?? ''
  t.alike(readdirSync(target(staging)).sort(), ['old-0', 'old-2'], 'and new-1 is in its place')
  renameSync(target('old'), target(`${staging}/new-1`))
  writeFileSync(target('old'), 'made since')
  writeFileSync(target('gone'), 'made since, too')
  const [mended] = mendAbandoned(join(folder, 'journals'))
  assertAsBefore(t, folder, 'the old files are back')
  const [gone = '', old = ''] = readdirSync(join(folder, 'target')).filter((name) => name.includes('.umbra-'))
  t.is(readFileSync(target(gone), 'utf8'), 'made since, too')
  t.is(readFileSync(target(old), 'utf8'), 'made since')
  t.ok(mended?.how.includes(gone) && mended.how.includes(old), mended?.how)
})

test('what was replaced since keeps its attributes, and that is told', NEEDS, async (t) => {
  const folder = await killedAt(t, 3)
  const kept = join(folder, 'target', 'other')
  t.is(statSync(kept).mode, 0o100640, 'given by the restore')
  rmSync(kept)
  writeFileSync(kept, 'another', { mode: 0o600 })
  const [mended] = mendAbandoned(join(folder, 'journals'))
  t.is(statSync(kept).mode, 0o100600)
  t.ok(mended?.how.includes(`${kept} was replaced`), mended?.how)
})

test(
  'mounted as another device, attributes come back all the same',
  requires('root', 'mke2fs'),
  async (t) => {
    const folder = tempFolder(t)
    const at = (name: string): string => join(folder, name)
    await run('truncate', ['-s', '16M', at('image'), at('another')])
    for (const name of ['image', 'another']) await run('mke2fs', ['-q', '-F', '-t', 'ext4', at(name)])
    const mnt = at('mnt')
    mkdirSync(mnt)
    const mounted = async () => {
      const loop = await mountLoop(t, at('image'), 'rw')
      await run('mount', ['--bind', loop.folder, mnt])
      const unmount = async (): Promise<void> => {
        await run('umount', [mnt], { check: false })
        await loop.unmount()
      }
      t.teardown(unmount)
      return { device: statSync(mnt).dev, unmount }
    }
    const first = await mounted()
    await killedAt(t, 3, mnt)
    await first.unmount()
    // Takes the number that was free.
    await mountLoop(t, at('another'), 'rw')
    const second = await mounted()
    if (second.device === first.device) t.comment('it got the same number again')
    t.alike(
      mendAbandoned(join(mnt, 'journals')).map(({ how }) => how),
      ['rolled back'],
    )
    assertAsBefore(t, mnt, 'on another device')
    await second.unmount()
  },
)
