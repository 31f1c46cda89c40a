// Resizing while something else is going on: a shadow set that holds the volume or has its window open,
// exports and snapshots at the same time, the other driver, and a file system that mke2fs made.

// deadline 280

import { mkdirSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { loadFuseNative } from '../../src/fuse/fuse-native/load.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume } from '../support/umbra.ts'
import { Hands } from './hands.ts'
import {
  assertSameTree,
  exportRaw,
  isLong,
  type Lab,
  makeLab,
  makeReference,
  recordTree,
  umbra,
  umbraJson,
  Workload,
} from './lab.ts'
import { makeSet } from './shadow-sets.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'python3'), timeout: 600_000 }
const MIB = 1 << 20
const OPERATIONS = isLong ? 1500 : 200
const IGNORED = ['atime', 'mtime', 'ctime', 'ino']

const isInstalled = await loadFuseNative().then(
  () => true,
  () => false,
)
if (!isInstalled) console.log('# missing: fuse-native')

function resize(lab: Pick<Lab, 'dir'>, sizeBytes: number): Promise<{ fileSystemBytes: number }> {
  return umbraJson<{ fileSystemBytes: number }>(['resize', lab.dir, '--size', String(sizeBytes)])
}

/** @returns the image's path */
async function assertWhole(t: Assertion, lab: Lab, name: string, sizeBytes: number): Promise<string> {
  const image = lab.at(`${name}.img`)
  await exportRaw(lab.dir, name, image)
  t.is((await stat(image)).size, sizeBytes, `${name} has the size of its instant`)
  const verdict = e2fsck(image)
  t.ok(verdict.clean, `e2fsck finds nothing in ${name}`)
  if (!verdict.clean) t.comment(verdict.output.slice(0, 2000))
  return image
}

test('a resize waits for the hold of a shadow set, and grows while its window is open', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const hands = new Hands(t)
  await hands.do('write', { path: join(lab.dir, 'before'), text: 'before' })
  let isDone = false
  let growing: Promise<{ fileSystemBytes: number }> | undefined
  const set = await makeSet(t, [lab.dir], {
    after: async (step) => {
      if (step === 'flushAndHold') {
        growing = resize(lab, 512 * MIB)
        growing.then(
          () => {
            isDone = true
          },
          () => {},
        )
        // Time enough for the command to ask; were it served, it would have returned before the release.
        const status = await umbraJson<{ epoch: number }>(['status', lab.dir])
        t.ok(status.epoch >= 0, 'the daemon answers meanwhile')
      }
      if (step === 'commit') t.absent(isDone, 'nothing has grown while it is held')
      if (step === 'release') {
        await growing
        const grown = await resize(lab, 700 * MIB)
        t.is(grown.fileSystemBytes, 700 * MIB, 'it grows with the shadow copy unsealed')
      }
    },
  })
  await hands.do('write', { path: join(lab.dir, 'after'), text: 'after' })
  await umbra(['snapshot', 'create', lab.dir, 'later'])
  await assertWhole(t, lab, set.name, 256 * MIB)
  await assertWhole(t, lab, 'later', 700 * MIB)
  await set.end()
})

test('resizes, snapshots, exports and writers at once', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '128M')
  const mounted = await lab.mount()
  const reference = await makeReference(t, lab.folder)
  const load = new Workload(t, random.below(2 ** 31), lab.dir, reference)
  await load.run(OPERATIONS)
  let sizeBytes = 128 * MIB
  let isOver = false
  const writing = (async () => {
    while (!isOver) await load.run(50)
  })()
  for (let round = 0; round < (isLong ? 12 : 3); round++) {
    await umbra(['snapshot', 'create', lab.dir, `before-${round}`])
    const before = sizeBytes
    sizeBytes += 4096 * random.between(1, 60_000)
    const names = [`meanwhile-${round}`, `also-${round}`]
    await Promise.all([
      assertWhole(t, lab, `before-${round}`, before),
      resize(lab, sizeBytes),
      ...names.map((name) => umbra(['snapshot', 'create', lab.dir, name])),
    ])
    for (const name of names) {
      await exportRaw(lab.dir, name, lab.at('either.img'))
      const { size } = await stat(lab.at('either.img'))
      t.ok(size === before || size === sizeBytes, `${name} is of before or after, not between: ${size}`)
      t.ok(e2fsck(lab.at('either.img')).clean, `e2fsck finds nothing in ${name}`)
      await umbra(['snapshot', 'delete', lab.dir, name])
    }
  }
  isOver = true
  await writing
  await load.release()
  assertSameTree(t, await recordTree(lab.dir), await recordTree(reference), 'nothing was lost', IGNORED)
  await load.quit()
  await mounted.unmount()
})

test('fuse-native grows under a writing load', isInstalled ? NEEDS : { skip: true }, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '64M')
  const mounted = await lab.mount(['--driver', 'fuse-native'])
  const content = random.bytes(300_000)
  let count = 0
  let isOver = false
  const hands = new Hands(t)
  const writing = (async () => {
    while (!isOver)
      await hands.do('write', { path: join(lab.dir, `f-${count++}`), text: `${count}`, direct: true })
  })()
  for (const sizeBytes of [64 * MIB + 4096, 200 * MIB, 1024 * MIB]) {
    await resize(lab, sizeBytes)
    const { stdout } = await run('stat', ['-f', '-c', '%b', lab.dir])
    t.ok(Number(stdout) * 4096 > sizeBytes * 0.9, 'statfs shows it at once')
  }
  isOver = true
  await writing
  await run('dd', ['if=/dev/urandom', `of=${join(lab.dir, 'large')}`, 'bs=1M', 'count=150', 'status=none'])
  await run('sh', ['-c', 'cat > "$1"', 'sh', join(lab.dir, 'content')], { input: content })
  await umbra(['snapshot', 'create', lab.dir, 'grown'])
  const kernel = await mountLoop(t, await assertWhole(t, lab, 'grown', 1024 * MIB))
  for (const name of ['large', 'content', 'f-0', `f-${count - 1}`]) {
    const same = await run('cmp', [join(kernel.folder, name), join(lab.dir, name)], { check: false })
    t.is(same.code, 0, `the kernel reads ${name}`)
  }
  await kernel.unmount()
  await mounted.unmount()
})

test('an image of mke2fs with its defaults is taken in and grows, mounted', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  for (const [number, features] of ['has_journal,resize_inode', 'sparse_super2'].entries()) {
    const [image, volume, dir] = [at(`${number}.img`), at(`${number}.umbra`), at(`mnt-${number}`)]
    await run('truncate', ['-s', '300M', image])
    await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', '-O', features, image])
    const theirs = await mountLoop(t, image, 'rw')
    const old = random.bytes(5 * MIB)
    writeFileSync(join(theirs.folder, 'old'), old)
    await theirs.unmount()
    await umbra(['create', volume, '--from', image])
    const mounted = await mountVolume(t, volume, dir)
    const lab = { dir, volume, folder, at, mount: () => mountVolume(t, volume, dir) }
    mkdirSync(join(dir, 'work'))
    const load = new Workload(t, random.below(2 ** 31), join(dir, 'work'))
    for (const sizeBytes of [310 * MIB, 2000 * MIB]) {
      const working = load.run(OPERATIONS)
      t.ok((await resize(lab, sizeBytes)).fileSystemBytes > sizeBytes - 8 * MIB, features)
      await working
    }
    await load.release()
    await umbra(['snapshot', 'create', dir, 'grown'])
    const grown = await mountLoop(t, await assertWhole(t, lab, 'grown', 2000 * MIB), 'rw')
    const same = await run('cmp', [join(grown.folder, 'old'), join(dir, 'old')], { check: false })
    t.is(same.code, 0, 'the old file is there')
    const [ours, kernels] = [
      await recordTree(join(dir, 'work')),
      await recordTree(join(grown.folder, 'work')),
    ]
    assertSameTree(t, ours, kernels, 'the kernel sees all in the grown image', ['atime'])
    await load.quit()
    await grown.unmount()
    await mounted.unmount()
    await umbra(['check', volume])
  }
})
