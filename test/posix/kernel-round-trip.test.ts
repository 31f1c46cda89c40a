// The kernel's ext4 and we work on one file system in turn: a random history on a mount, exported; the
// kernel goes on in the image; what it left is taken in again, and we go on. At each change of hands
// both show every path, byte, number and time alike.

// deadline 280

import { join } from 'node:path'
import test from 'brittle'
import {
  assertSameTree,
  exportRaw,
  isLong,
  judgeVolume,
  makeLab,
  QUIET,
  recordTree,
  umbra,
  Workload,
} from '../mount/lab.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { mountVolume } from '../support/umbra.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 1_800_000 }
const TURNS = isLong ? 8 : 2
const OPERATIONS = isLong ? 2000 : 350

test('we and the kernel in turn, on one file system', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const lab = await makeLab(t, '1G')
  const work = async (turn: number, folder: string) => {
    const workload = new Workload(t, seed + turn, folder)
    await workload.run(OPERATIONS)
    await workload.release()
    await workload.quit()
    return recordTree(folder)
  }
  let volume = lab.volume
  for (let turn = 0; turn < TURNS; turn++) {
    const mounted = await mountVolume(t, volume, lab.dir, QUIET)
    const ours = await work(2 * turn, lab.dir)
    await mounted.unmount()
    const image = lab.at(`turn-${turn}.img`)
    await umbra(['snapshot', 'create', volume, 'handed-over'])
    await exportRaw(volume, 'handed-over', image)

    const loop = await mountLoop(t, image, 'rw,noatime')
    assertSameTree(t, ours, await recordTree(loop.folder), `turn ${turn}: the kernel sees what we left`)
    const theirs = await work(2 * turn + 1, loop.folder)
    await loop.unmount()
    const verdict = e2fsck(image)
    const errors = verdict.proposals.filter((line) => !/could be (shorter|narrower)/.test(line))
    t.alike([verdict.exitCode, errors], [0, []], 'e2fsck finds no error in what the kernel left')
    // The kernel does not lower the trees of extents that it thins out; e2fsck does.
    if (!verdict.clean) await run('e2fsck', ['-fy', image], { check: false })
    t.ok(e2fsck(image).clean, 'and nothing to propose then')

    volume = lab.at(`turn-${turn}.umbra`)
    await umbra(['create', volume, '--from', image])
    const again = await mountVolume(t, volume, lab.dir, QUIET)
    assertSameTree(t, theirs, await recordTree(lab.dir), `turn ${turn}: we see what the kernel left`)
    await again.unmount()
    await judgeVolume(volume, join(lab.folder, 'judged.img'))
  }
})
