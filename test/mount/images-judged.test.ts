// Images of a volume that was in use, judged by qemu: chains of full, incremental and differential
// images against raw exports, the dirty bitmaps that other programs are shown against `umbra diff`, and
// what `import` and `apply` make of them.

// deadline 240

import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { mountVolume } from '../support/umbra.ts'
import {
  assertSameTree,
  exportRaw,
  isLong,
  judgeVolume,
  type Lab,
  makeLab,
  QUIET,
  recordTree,
  type Tree,
  umbra,
  umbraJson,
  Workload,
} from './lab.ts'

const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck', 'python3', 'qemu-img', 'qemu-nbd', 'nbdinfo'),
  timeout: 600_000,
}
const OPERATIONS = isLong ? 1500 : 200
const SIZE = isLong ? '1G' : '256M'

interface Run {
  readonly offsetBytes: number
  readonly lengthBytes: number
}

/** What `umbra diff` lists, data and zeros alike, neighbours as one. */
async function changedRuns(argument: string, from: string, to: string): Promise<Run[]> {
  const { extents } = await umbraJson<{ extents: Run[] }>(['diff', argument, from, to])
  return joined(extents)
}

function joined(extents: readonly Run[]): Run[] {
  const runs: { offsetBytes: number; lengthBytes: number }[] = []
  for (const { offsetBytes, lengthBytes } of extents) {
    const last = runs.at(-1)
    if (last && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += lengthBytes
    else runs.push({ offsetBytes, lengthBytes })
  }
  return runs
}

/** The dirty runs of an image's bitmap, as any NBD client is shown them. */
async function bitmapRuns(t: Assertion, lab: Lab, image: string): Promise<Run[]> {
  const info = JSON.parse((await run('qemu-img', ['info', '--output=json', image])).stdout)
  const bitmaps = info['format-specific'].data.bitmaps as { name: string; flags: string[] }[]
  t.is(bitmaps.length, 1, `one bitmap in ${image}`)
  const name = bitmaps[0]?.name ?? ''
  t.absent(bitmaps[0]?.flags.includes('in-use'), 'the bitmap is valid')
  const socket = lab.at('nbd.sock')
  const args = ['--read-only', '--persistent', '--socket', socket, '-f', 'qcow2', `--bitmap=${name}`, image]
  const server = spawn('qemu-nbd', args, { stdio: 'ignore' })
  t.teardown(() => void server.kill('SIGKILL'))
  await until('qemu-nbd listens', () => existsSync(socket))
  const { stdout } = await run('nbdinfo', [
    `--map=qemu:dirty-bitmap:${name}`,
    '--json',
    `nbd+unix:///?socket=${socket}`,
  ])
  server.kill()
  await until('qemu-nbd has ended', () => server.exitCode !== null || server.signalCode !== null)
  const map = JSON.parse(stdout) as { offset: number; length: number; type: number }[]
  const dirty = map.filter((entry) => (entry.type & 1) === 1)
  return joined(dirty.map(({ offset, length }) => ({ offsetBytes: offset, lengthBytes: length })))
}

async function assertSameContent(t: Assertion, one: string, other: string, comment: string): Promise<void> {
  const { code, stdout } = await run('qemu-img', ['compare', one, other], { check: false })
  t.is(code, 0, `${comment}: ${stdout.trim()}`)
}

/** Exports a delta and has it judged in itself. */
async function exportDelta(
  t: Assertion,
  lab: Lab,
  point: { to: string; since: string; backing: string },
  argument = lab.dir,
): Promise<string> {
  const image = lab.at(`${point.since}-${point.to}.qcow2`)
  const { to, since, backing } = point
  const how = ['--since', since, '--backing', backing, '--format', 'qcow2', '-o', image]
  await umbra(['export', argument, to, ...how])
  await assertWhole(t, image)
  const changed = await changedRuns(argument, since, to)
  t.ok(changed.length > 10, `${changed.length} runs have changed`)
  t.alike(await bitmapRuns(t, lab, image), changed, `bitmap of ${image}`)
  return image
}

async function assertWhole(t: Assertion, image: string): Promise<void> {
  const { code, stdout } = await run('qemu-img', ['check', '--output=json', image], { check: false })
  const { leaks = 0, corruptions = 0 } = JSON.parse(stdout)
  t.alike(
    [code, leaks, corruptions, JSON.parse(stdout)['check-errors']],
    [0, 0, 0, 0],
    `qemu-img check ${image}`,
  )
}

interface History {
  readonly lab: Lab
  readonly trees: ReadonlyMap<string, Tree>
  /** Raw exports by snapshot. */
  raw(name: string): string
}

/** Three snapshots with a random history between them, on a mount that stays in use. */
async function makeHistory(t: Assertion): Promise<History> {
  const lab = await makeLab(t, SIZE)
  await lab.mount()
  const workload = new Workload(t, chosenSeed(t), lab.dir)
  const trees = new Map<string, Tree>()
  for (const name of ['one', 'two', 'three']) {
    await workload.run(OPERATIONS)
    trees.set(name, await recordTree(lab.dir))
    await umbra(['snapshot', 'create', lab.dir, name])
  }
  await workload.run(50)
  await workload.release()
  await workload.quit()
  for (const name of trees.keys()) await exportRaw(lab.dir, name, lab.at(`${name}.img`))
  return { lab, trees, raw: (name) => lab.at(`${name}.img`) }
}

test('full, incremental and differential images are what qemu says they are', NEEDS, async (t) => {
  const { lab, trees, raw } = await makeHistory(t)
  const full = lab.at('one.qcow2')
  await umbra(['export', lab.dir, 'one', '--format', 'qcow2', '-o', full])
  await assertWhole(t, full)
  await assertSameContent(t, full, raw('one'), 'full')
  const second = await exportDelta(t, lab, { to: 'two', since: 'one', backing: full })
  await assertSameContent(t, second, raw('two'), 'incremental')
  // Its base is gone by now but for a bookmark.
  await umbra(['snapshot', 'delete', lab.dir, 'two', '--keep-bookmark'])
  const third = await exportDelta(t, lab, { to: 'three', since: 'two', backing: second })
  await assertSameContent(t, third, raw('three'), 'incremental since a bookmark')
  const differential = await exportDelta(t, lab, { to: 'three', since: 'one', backing: full })
  await assertSameContent(t, differential, raw('three'), 'differential')
  t.absent((await run('qemu-img', ['compare', full, raw('three')], { check: false })).code === 0)

  const restored = lab.at('restored.umbra')
  for (const chain of [
    [full, second, third],
    [full, differential],
  ]) {
    await umbra(['import', ...chain, '-o', restored])
    const mounted = await mountVolume(t, restored, lab.at('restored'), QUIET)
    assertSameTree(t, trees.get('three') as Tree, await recordTree(lab.at('restored')), 'imported')
    await mounted.unmount()
    await judgeVolume(restored, lab.at('judged.img'))
    await run('rm', [restored])
  }
})

test('apply brings a raw file and a volume forward, and refuses what does not follow', NEEDS, async (t) => {
  const { lab, trees, raw } = await makeHistory(t)
  const full = lab.at('one.qcow2')
  await umbra(['export', lab.dir, 'one', '--format', 'qcow2', '-o', full])
  const second = await exportDelta(t, lab, { to: 'two', since: 'one', backing: full })
  const third = await exportDelta(t, lab, { to: 'three', since: 'two', backing: second })
  const volume = lab.at('w.umbra')
  await umbra(['import', full, '-o', volume])

  const before = readFileSync(volume)
  t.is((await umbra(['apply', volume, third], { check: false })).code, 9, 'a delta that does not follow')
  t.is((await umbra(['apply', raw('one'), third], { check: false })).code, 9)
  t.is((await umbra(['import', full, third, '-o', lab.at('no')], { check: false })).code, 9)
  t.absent(existsSync(lab.at('no')))
  t.ok(readFileSync(volume).equals(before), 'the volume is as it was')

  await umbra(['apply', volume, second])
  await umbra(['apply', volume, third])
  await umbra(['apply', raw('one'), second, third])
  t.is((await run('cmp', [raw('one'), raw('three')], { check: false })).code, 0, 'the raw file, byte by byte')
  t.ok(e2fsck(raw('one')).clean)
  const mounted = await mountVolume(t, volume, lab.at('applied'), QUIET)
  assertSameTree(t, trees.get('three') as Tree, await recordTree(lab.at('applied')), 'applied')
  await mounted.unmount()
  await judgeVolume(volume, lab.at('judged.img'))
})

test('a rollback travels in the next incremental image', NEEDS, async (t) => {
  const lab = await makeLab(t, SIZE)
  const seed = chosenSeed(t)
  const work = async (salt: number) => {
    const mounted = await lab.mount()
    const workload = new Workload(t, seed + salt, lab.dir)
    await workload.run(OPERATIONS)
    await workload.release()
    await workload.quit()
    await mounted.unmount()
  }
  for (const [salt, name] of ['one', 'two'].entries()) {
    await work(salt)
    await umbra(['snapshot', 'create', lab.volume, name])
  }
  await umbra(['snapshot', 'rollback', lab.volume, 'one'])
  await umbra(['snapshot', 'create', lab.volume, 'back'])
  await work(2)
  await umbra(['snapshot', 'create', lab.volume, 'three'])
  for (const name of ['one', 'back', 'three']) await exportRaw(lab.volume, name, lab.at(`${name}.img`))

  await assertSameContent(t, lab.at('one.img'), lab.at('back.img'), 'rolled back')
  const full = lab.at('two.qcow2')
  await umbra(['export', lab.volume, 'two', '--format', 'qcow2', '-o', full])
  const third = await exportDelta(t, lab, { to: 'three', since: 'two', backing: full }, lab.volume)
  await assertSameContent(t, third, join(lab.folder, 'three.img'), 'incremental over a rollback')
})
