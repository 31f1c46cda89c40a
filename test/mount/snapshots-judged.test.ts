// Snapshots of a volume in use, judged by e2fsck and by the kernel's own ext4: each must hold exactly
// the tree that programs saw through the mount when it was taken.

// deadline 240

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import {
  assertSameTree,
  exportRaw,
  isLong,
  type Lab,
  makeLab,
  makeReference,
  recordTree,
  type Tree,
  treeDifferences,
  umbra,
  Workload,
} from './lab.ts'
import { OperationTimes } from './operation-times.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'python3'), timeout: 600_000 }
const ROUNDS = isLong ? 20 : 3
const OPERATIONS = isLong ? 1500 : 350

/** Times that the kernel chose are compared by OperationTimes; which inode number is free is the file system's. */
const NOT_IN_MODEL = ['ino', 'atime', 'mtime', 'ctime']

async function judgeSnapshot(t: Assertion, lab: Lab, name: string, recorded: Tree): Promise<void> {
  const image = lab.at(`${name}.img`)
  await exportRaw(lab.volume, name, image)
  const verdict = e2fsck(image)
  t.ok(verdict.clean, `e2fsck finds nothing in ${name}`)
  if (!verdict.clean) t.comment(verdict.output.slice(0, 4000))
  const loop = await mountLoop(t, image)
  assertSameTree(t, recorded, await recordTree(loop.folder), `${name}, mounted by the kernel`)
  await loop.unmount()
  rmSync(image)
}

test(
  'a random history: every snapshot is the tree as it was, for us and for the kernel',
  NEEDS,
  async (t) => {
    const seed = chosenSeed(t)
    const lab = await makeLab(t, isLong ? '2G' : '1G')
    const model = await makeReference(t, lab.folder, 2 ** 30, 'rw,noatime')
    let mounted = await lab.mount()
    const workload = new Workload(t, seed, lab.dir, model)
    const times = new OperationTimes([workload], lab.at('spans'), ['atime', 'mtime', 'ctime'])
    const recorded = new Map<string, { live: Tree; shown: Tree }>()
    for (let round = 0; round < ROUNDS; round++) {
      const name = `round-${round}`
      await workload.run(OPERATIONS)
      await times.update()
      const [live, wanted] = [await recordTree(lab.dir), await recordTree(model)]
      assertSameTree(t, live, wanted, 'the mount is what ext4 makes of the same', NOT_IN_MODEL)
      t.alike(times.differences(live, wanted), [], 'each time is of the same operation')
      await umbra(['snapshot', 'create', lab.dir, name])
      const shown = await recordTree(join(lab.dir, '.snapshots', name))
      assertSameTree(t, live, shown, `.snapshots/${name}`, ['ino'])
      recorded.set(name, { live, shown })
    }
    await workload.run(OPERATIONS)
    await workload.release()
    await workload.quit()
    const last = await recordTree(lab.dir)
    for (const [name, { shown }] of recorded) {
      assertSameTree(
        t,
        shown,
        await recordTree(join(lab.dir, '.snapshots', name)),
        `.snapshots/${name} later`,
      )
    }
    const [first] = recorded
    if (first) await judgeSnapshot(t, lab, first[0], first[1].live)
    await mounted.unmount()
    for (const [name, { live }] of recorded) await judgeSnapshot(t, lab, name, live)

    mounted = await lab.mount()
    assertSameTree(t, last, await recordTree(lab.dir), 'the present after unmount and mount')
    for (const [name, { shown }] of recorded) {
      const now = await recordTree(join(lab.dir, '.snapshots', name))
      assertSameTree(t, shown, now, `.snapshots/${name} after unmount and mount`)
    }
    const [name, { live }] = [...recorded].at(-1) as [string, { live: Tree; shown: Tree }]
    await umbra(['unmount', lab.dir])
    await umbra(['snapshot', 'rollback', lab.volume, name])
    mounted = await lab.mount()
    assertSameTree(t, live, await recordTree(lab.dir), `the present rolled back to ${name}`)
    await mounted.unmount()
  },
)

test('the comparison sees what it must: a byte, a time, a mode, an xattr, a link', NEEDS, async (t) => {
  const lab = await makeLab(t, '64M')
  await lab.mount()
  const file = join(lab.dir, 'f')
  const shell = async (script: string) => {
    const { run } = await import('../support/run.ts')
    await run('sh', ['-ec', script])
  }
  await shell(
    `printf abc > ${file}; ln ${file} ${file}2; cp ${file} ${file}3; setfattr -n user.x -v 1 ${file}`,
  )
  for (const change of [
    `printf b | dd of=${file} conv=notrunc status=none; touch -d @1 ${file}`,
    `touch -d @1.000000001 ${file}`,
    `chmod 600 ${file}`,
    `setfattr -n user.x -v 2 ${file}`,
    `ln -f ${file}3 ${file}2`,
    `mv ${file}3 ${file}4`,
  ]) {
    await umbra(['snapshot', 'create', lab.dir, 'before'])
    const before = await recordTree(join(lab.dir, '.snapshots/before'))
    await shell(change)
    t.ok(treeDifferences(before, await recordTree(lab.dir), ['ino', 'ctime']).length > 0, change)
    await umbra(['snapshot', 'delete', lab.dir, 'before'])
  }
})
