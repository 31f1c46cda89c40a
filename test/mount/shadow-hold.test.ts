// The hold of a shadow set: what had returned before is in the snapshot, modifications wait in order,
// reads do not, and nobody can hold for longer than ten seconds.

// deadline 240

import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { loadFuseNative } from '../../src/fuse/fuse-native/load.ts'
import { HOLD_TIMEOUT_MS } from '../../src/shadow/coordinator/shadow-provider.ts'
import { type Child, startChild } from '../support/child.ts'
import { requires } from '../support/requires.ts'
import { isMountPoint, umbra, umbraJson } from '../support/umbra.ts'
import { Hands } from './hands.ts'
import { type Lab, makeLab } from './lab.ts'
import { beginSet, makeSet } from './shadow-sets.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'python3'), timeout: 240_000 }
const hasFuseNative = await loadFuseNative().then(
  () => true,
  () => false,
)
if (!hasFuseNative) console.log('# missing: fuse-native')
const FUSE_NATIVE = hasFuseNative ? NEEDS : { skip: true }
const DAEMON = fileURLToPath(new URL('./shadow-daemon.ts', import.meta.url))

async function serve(t: Assertion, lab: Lab, holdMs: number): Promise<Child> {
  const options = {
    volumePath: lab.volume,
    mountPoint: lab.dir,
    readOnly: false,
    writeThrough: false,
    allowOther: false,
    accessTimes: true,
    snapshot: null,
    driver: 'device',
    hooks: null,
  }
  const limits = { holdMs, windowMs: 60_000 }
  const daemon = startChild(t, DAEMON, { args: [JSON.stringify(options), JSON.stringify(limits)] })
  await daemon.message('ready')
  t.teardown(
    async () => {
      if (isMountPoint(lab.dir)) await umbra(['unmount', lab.dir], { check: false })
      await daemon.exit()
    },
    { order: -2 },
  )
  return daemon
}

async function snapshotNames(volume: string): Promise<string[]> {
  const all = await umbraJson<{ name: string }[]>(['snapshot', 'list', volume])
  return all.map(({ name }) => name)
}

test('row 6: a buffered write that returned before the request is in the shadow', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const big = Buffer.alloc(24 << 20, 'buffered and not synced ')
  writeFileSync(join(lab.dir, 'big'), big)
  writeFileSync(join(lab.dir, 'small'), 'returned')
  const set = await makeSet(t, [lab.dir])
  writeFileSync(join(lab.dir, 'small'), 'later')
  const shadow = join(lab.dir, '.snapshots', set.name)
  t.alike(readFileSync(join(shadow, 'small'), 'utf8'), 'returned')
  t.ok(readFileSync(join(shadow, 'big')).equals(big), 'every byte of the page cache')
  await set.end()
})

test('row 7: modifications wait for the release in their order, reads do not wait', NEEDS, async (t) => {
  // One group of inodes: the numbers of new files tell in which order they were made.
  const lab = await makeLab(t, '64M')
  const daemon = await serve(t, lab, 120_000)
  const hands = new Hands(t)
  const file = join(lab.dir, 'file')
  await hands.do('write', { path: file, text: 'before', direct: true })
  await daemon.message('write')
  const other = join(lab.dir, 'other')
  await hands.do('write', { path: other, text: 'other' })
  const folders = Array.from({ length: 6 }, (_, i) => join(lab.dir, `folder-${i}`))
  for (const path of folders) await hands.do('mkdir', { path })
  let done = 0
  const changes: Promise<unknown>[] = []
  const change = (command: string, fields: object): void => {
    changes.push(hands.do(command, fields).then(() => done++))
  }
  const set = await makeSet(t, [lab.dir], {
    after: async (step) => {
      if (step !== 'flushAndHold') return
      change('write', { path: file, text: 'after', direct: true })
      await daemon.message('write')
      // Folders of their own: the kernel lets one change at a time into a folder.
      for (const folder of [...folders].reverse()) {
        change('write', { path: join(folder, 'new'), text: 'new' })
        await daemon.message('create')
      }
      change('setxattr', { path: join(lab.dir, 'lost+found') })
      change('chmod', { path: folders[0], mode: 0o700 })
      // Not closed: under write-back the kernel sends the times of the queued write first, which wait.
      await hands.do('open', { path: file, name: 'reader' })
      const text = await hands.do('read_open', { name: 'reader', length: 6 })
      t.is(text, 'before', 'the file with a queued write is read')
      t.is(await readFile(other, 'utf8'), 'other', 'and another is')
      t.is(await hands.do('stat', { path: file }), 4096, 'and looked at')
      t.is(((await hands.do('list', { path: lab.dir })) as string[]).length, 9, 'and its folder listed')
      t.is(done, 0, 'no change has returned')
    },
  })
  await Promise.all(changes)
  const numbers = folders.map((folder) => statSync(join(folder, 'new')).ino)
  t.alike(
    numbers,
    [...numbers].sort((a, b) => b - a),
    'what was queued first was done first',
  )
  t.ok(readFileSync(file, 'latin1').startsWith('after'))
  const shadow = join(lab.dir, '.snapshots', set.name)
  t.ok(readFileSync(join(shadow, 'file'), 'latin1').startsWith('before'), 'the shadow has nothing of it')
  t.absent(existsSync(join(shadow, 'folder-5', 'new')))
  await set.end()
})

test('row 8: at ten seconds the hold ends, the creation fails, no shadow remains', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const hands = new Hands(t)
  const { sequences } = await beginSet(t, [lab.dir])
  const [sequence] = sequences
  if (!sequence) throw new Error('no sequence')
  await sequence.endPrepare({ setCount: 1 })
  await sequence.preCommit()
  await sequence.flushAndHold()
  const startedAtMs = performance.now()
  await hands.do('write', { path: join(lab.dir, 'held'), text: 'x' })
  const waitedMs = performance.now() - startedAtMs
  t.ok(waitedMs > HOLD_TIMEOUT_MS - 1000, `a write waited ${waitedMs.toFixed(0)} ms`)
  await t.exception(sequence.commit(), /were held/)
  await t.exception(sequence.release(), /were held/)
  t.alike(await snapshotNames(lab.dir), [])
  const again = await makeSet(t, [lab.dir])
  t.is(again.snapshots.length, 1, 'the next set is made')
  await again.end()
})

test('row 8: a commit that is done when the hold ends leaves nothing either', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await serve(t, lab, 300)
  const { sequences } = await beginSet(t, [lab.dir])
  const [sequence] = sequences
  if (!sequence) throw new Error('no sequence')
  await sequence.endPrepare({ setCount: 1 })
  await sequence.preCommit()
  await sequence.flushAndHold()
  await sequence.commit()
  await new Hands(t).do('write', { path: join(lab.dir, 'held'), text: 'x' })
  await t.exception(sequence.release(), /were held/)
  t.alike(await snapshotNames(lab.dir), [])
})

test('row 10: a hook that writes to the held volume does not hang the mount', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const hands = new Hands(t)
  const made = makeSet(t, [lab.dir], {
    // Waits for itself: the release comes after it.
    after: async (step) => {
      if (step === 'flushAndHold') await hands.do('write', { path: join(lab.dir, 'own'), text: 'deadlock' })
    },
  })
  const startedAtMs = performance.now()
  await t.exception(made, /were held/)
  t.ok(performance.now() - startedAtMs < HOLD_TIMEOUT_MS + 20_000, 'the creation failed in time')
  t.is(await hands.do('stat', { path: join(lab.dir, 'own') }), 8, 'the write was done')
  t.alike(await snapshotNames(lab.dir), [])
})

test('a flush and an unmount that come during a hold end after it', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  const daemon = await serve(t, lab, 2000)
  const { sequences } = await beginSet(t, [lab.dir])
  const [sequence] = sequences
  if (!sequence) throw new Error('no sequence')
  await sequence.endPrepare({ setCount: 1 })
  await sequence.preCommit()
  await sequence.flushAndHold()
  const hands = new Hands(t)
  const file = join(lab.dir, 'f')
  const written = hands.do('write', { path: file, text: 'x' })
  await umbra(['sync', lab.dir])
  await written
  t.is(readFileSync(file, 'utf8'), 'x')
  await umbra(['unmount', lab.dir])
  t.is((await daemon.exit()).code, 0)
})

test('row 7: the fuse-native driver holds too, and shows the window', FUSE_NATIVE, async (t) => {
  const lab = await makeLab(t, '64M')
  await lab.mount(['--driver', 'fuse-native'])
  const hands = new Hands(t)
  const file = join(lab.dir, 'file')
  const other = join(lab.dir, 'other')
  await hands.do('write', { path: file, text: 'before' })
  await hands.do('write', { path: other, text: 'other' })
  let isDone = false
  let written: Promise<unknown> | undefined
  const set = await makeSet(t, [lab.dir], {
    name: 'native',
    after: async (step) => {
      const window = join(lab.dir, '.snapshots', 'native', 'file')
      if (step === 'preFinalCommit') await hands.do('write', { path: window, text: 'window' })
      if (step !== 'flushAndHold') return
      written = hands.do('write', { path: file, text: 'after!' }).then(() => {
        isDone = true
      })
      // Not the same page: without write-back the kernel has locked it until the write is answered.
      t.is(readFileSync(other, 'utf8'), 'other', 'read while held')
      t.absent(isDone)
    },
  })
  await written
  const shadow = join(lab.dir, '.snapshots', set.name, 'file')
  t.is(readFileSync(file, 'utf8'), 'after!')
  t.is(readFileSync(shadow, 'utf8'), 'window')
  t.is(await hands.errno('write', { path: shadow, text: 'late' }), 'EROFS')
  await set.end()
})
