// Space comes back: what files and snapshots held returns to the host when they are deleted, and a volume
// that is overwritten again and again under rotating snapshots does not grow.

// deadline 240

import { rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { until } from '../support/run.ts'
import { isLong, type Lab, makeLab, recordTree, umbra, umbraJson, Workload } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 600_000 }
const MIB = 1 << 20
/** Metadata, the free queue's last entries and what the host rounds up. */
const SLACK_BYTES = 4 * MIB

function diskBytes(path: string): number {
  return statSync(path).blocks * 512
}

interface Space {
  readonly liveBytes: number
  readonly snapshotBytes: number
}

async function spaceOf(lab: Lab): Promise<Space> {
  return (await umbraJson<{ space: Space }>(['status', lab.volume])).space
}

/** Giving back runs in the background and needs commits. */
async function assertShrinks(lab: Lab, limitBytes: number, what: string): Promise<void> {
  await until(
    `${what}: at most ${limitBytes} bytes on disk`,
    async () => {
      await umbra(['sync', lab.dir])
      return diskBytes(lab.volume) <= limitBytes
    },
    30_000,
  ).catch((error) => {
    throw new Error(`${error.message}, but ${diskBytes(lab.volume)}`)
  })
}

test('deleted files and snapshots give their space back to the host', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '1G')
  const mounted = await lab.mount()
  const emptyBytes = diskBytes(lab.volume)
  const files = Array.from({ length: 24 }, (_, i) => join(lab.dir, `f${i}`))
  for (const file of files) writeFileSync(file, random.bytes(2 * MIB))
  await umbra(['snapshot', 'create', lab.dir, 'one'])
  const fullBytes = diskBytes(lab.volume)
  t.ok(fullBytes >= 48 * MIB, `${fullBytes} bytes with 48 MiB in it`)

  for (const file of files.slice(0, 12)) rmSync(file)
  await umbra(['snapshot', 'create', lab.dir, 'two'])
  await umbra(['sync', lab.dir])
  t.ok(diskBytes(lab.volume) >= 48 * MIB, 'a snapshot keeps what it holds')
  const { uniqueBytes } = await umbraJson<{ uniqueBytes: number }>(['snapshot', 'show', lab.dir, 'one'])
  t.ok(uniqueBytes >= 24 * MIB && uniqueBytes < 25 * MIB, `it alone holds ${uniqueBytes}`)
  await umbra(['snapshot', 'delete', lab.dir, 'one'])
  await assertShrinks(lab, emptyBytes + 24 * MIB + SLACK_BYTES, 'without the first snapshot')
  await umbra(['snapshot', 'delete', lab.dir, 'two'])
  for (const file of files.slice(12)) rmSync(file)
  await assertShrinks(lab, emptyBytes + SLACK_BYTES, 'with nothing in it')
  await mounted.unmount()

  t.ok(diskBytes(lab.volume) <= emptyBytes + SLACK_BYTES, 'and it stays so')
})

test('a volume overwritten under rotating snapshots stays bounded', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const rounds = isLong ? 200 : 15
  const roundBytes = 16 * MIB
  const kept = 2
  let mostBytes = 0
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < 4; i++) writeFileSync(join(lab.dir, `f${i}`), random.bytes(roundBytes / 4))
    await umbra(['snapshot', 'create', lab.dir, `s${round}`])
    if (round >= kept) await umbra(['snapshot', 'delete', lab.dir, `s${round - kept}`])
    mostBytes = Math.max(mostBytes, diskBytes(lab.volume))
  }
  // The present, two snapshots, the one just being freed, and the transaction under way.
  const limitBytes = (kept + 3) * roundBytes + 2 * SLACK_BYTES
  t.ok(mostBytes <= limitBytes, `at most ${mostBytes} of ${limitBytes} bytes in ${rounds} rounds`)
  await assertShrinks(lab, (kept + 1) * roundBytes + SLACK_BYTES, 'at rest')
  const { liveBytes, snapshotBytes } = await spaceOf(lab)
  t.ok(liveBytes >= roundBytes && liveBytes < roundBytes + SLACK_BYTES, `live: ${liveBytes}`)
  t.ok(
    snapshotBytes >= roundBytes && snapshotBytes < kept * roundBytes + SLACK_BYTES,
    `held: ${snapshotBytes}`,
  )
})

test('after a random history that ends in an empty tree nothing is left', NEEDS, async (t) => {
  const lab = await makeLab(t, '1G')
  const mounted = await lab.mount()
  const emptyBytes = diskBytes(lab.volume)
  const before = await spaceOf(lab)
  const workload = new Workload(t, chosenSeed(t), lab.dir)
  for (const name of ['one', 'two', 'three']) {
    await workload.run(300)
    await umbra(['snapshot', 'create', lab.dir, name])
  }
  await workload.release()
  await workload.quit()
  const tree = await recordTree(lab.dir)
  t.ok(tree.size > 100, `${tree.size} paths are deleted`)
  for (const path of tree.keys()) {
    if (path !== '' && path !== '/lost+found' && !path.slice(1).includes('/')) {
      rmSync(Buffer.from(lab.dir + path, 'latin1'), { recursive: true })
    }
  }
  for (const name of ['two', 'one', 'three']) await umbra(['snapshot', 'delete', lab.dir, name])

  await assertShrinks(lab, emptyBytes + SLACK_BYTES, 'empty again')
  const after = await spaceOf(lab)
  t.is(after.snapshotBytes, 0, 'snapshots hold nothing')
  t.ok(after.liveBytes <= before.liveBytes + MIB, `live: ${before.liveBytes}, then ${after.liveBytes}`)
  await mounted.unmount()
})
