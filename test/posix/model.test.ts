// Several processes at once, each with a long random history of its own, handing things to each other
// through a shared folder: done on a mount and on the kernel's ext4 alike. Each operation must end alike
// in both, and at intervals, and after a remount, both trees must be the same.

// deadline 280

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import {
  assertSameTree,
  isLong,
  makeLab,
  makeReference,
  QUIET,
  recordTree,
  type Tree,
  treeDifferences,
  Workload,
} from '../mount/lab.ts'
import { OperationTimes } from '../mount/operation-times.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'python3'), timeout: 3_600_000 }
const PROCESSES = 4
const ROUNDS = isLong ? 40 : 3
const OPERATIONS = isLong ? 1500 : 150

/** Times that the kernel chose are compared by OperationTimes; which inode number is free is the file system's. */
const NOT_IN_MODEL = ['ino', 'atime', 'mtime', 'ctime']

class SharingWorkload extends Workload {
  static override readonly script: string = fileURLToPath(new URL('./model-worker.py', import.meta.url))
}

for (const args of [[], ['--write-through']]) {
  test(`${PROCESSES} processes at once, ${args.join(' ') || 'write-back'}`, NEEDS, async (t) => {
    const seed = chosenSeed(t)
    const lab = await makeLab(t, '4G')
    const model = await makeReference(t, lab.folder, 2 ** 32, 'rw,noatime')
    let mounted = await lab.mount([...args, ...QUIET])
    for (const top of [lab.dir, model]) mkdirSync(join(top, 'shared'))
    const workers = Array.from({ length: PROCESSES }, (_, number) => {
      const tops = [lab.dir, model].map((top) => join(top, String(number)))
      return new SharingWorkload(t, seed + number, lab.at('lock'), ...tops)
    })
    const times = new OperationTimes(workers, lab.at('spans'), ['atime', 'mtime', 'ctime'])
    const assertAsModel = async (live: Tree, when: string) => {
      const wanted = await recordTree(model)
      assertSameTree(t, live, wanted, when, NOT_IN_MODEL)
      const found = times.differences(live, wanted)
      t.is(found.length, 0, `${when}: each time is of the same operation`)
      for (const difference of found.slice(0, 5)) t.comment(difference)
    }
    for (let round = 0; round < ROUNDS; round++) {
      await Promise.all(workers.map((worker) => worker.run(OPERATIONS)))
      await times.update()
      await assertAsModel(await recordTree(lab.dir), `after round ${round}`)
    }
    for (const worker of workers) await worker.release()
    for (const worker of workers) await worker.quit()
    const before = await recordTree(lab.dir)
    await mounted.unmount()
    mounted = await lab.mount()
    const after = await recordTree(lab.dir)
    t.alike(treeDifferences(before, after), [], 'the same after a remount, with numbers and times')
    await assertAsModel(after, 'which is what ext4 has')
    await mounted.unmount()
  })
}
