// Resizing while mounted: random sizes under a writing load, with open files and locks, judged by e2fsck
// and the kernel's mount; snapshots before and after, and chains of images over the resize.

// deadline 240

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
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

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3', 'qemu-img'), timeout: 710_000 }
const MIB = 1 << 20
const BLOCK = 4096
const STEPS = isLong ? 20 : 5
const OPERATIONS = isLong ? 1500 : 250
/** What the two file systems are free to differ in. */
const IGNORED = ['atime', 'mtime', 'ctime', 'ino']

interface Resized {
  readonly sizeBytes: number
  readonly fileSystemBytes: number
}

async function assertWhole(t: Assertion, lab: Lab, snapshot: string, sizeBytes: number): Promise<void> {
  const image = lab.at(`${snapshot}.img`)
  await exportRaw(lab.dir, snapshot, image)
  t.is(statSync(image).size, sizeBytes, `${snapshot} has the size that it was taken with`)
  const verdict = e2fsck(image)
  t.ok(verdict.clean, `e2fsck finds nothing in ${snapshot}`)
  if (!verdict.clean) t.comment(verdict.output.slice(0, 2000))
}

/**
 * Sizes that rise from 64 MiB, some by a block, some past groups and past levels of the block map, to what
 * the host's ext4 holds as a raw image.
 */
function risingSizes(random: Random): number[] {
  const sizes: number[] = []
  let bytes = 64 * MIB
  for (let i = 0; i < STEPS; i++) {
    bytes += random.chance(0.3) ? BLOCK * random.between(1, 40_000) : bytes * random.between(1, 5)
    bytes = Math.min(bytes, 2 * 1024 * 1024 * MIB + i * BLOCK)
    sizes.push(bytes)
  }
  return sizes
}

test('a mounted volume grows under a writing load; snapshots keep their size', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '64M')
  const mounted = await lab.mount()
  const reference = await makeReference(t, lab.folder)
  const load = new Workload(t, random.below(2 ** 31), lab.dir, reference)
  const sizes = new Map<string, number>([['s0', 64 * MIB]])
  await load.run(OPERATIONS)
  await umbra(['snapshot', 'create', lab.dir, 's0'])
  const before = statfsSync(lab.dir).blocks
  for (const [i, sizeBytes] of risingSizes(random).entries()) {
    const working = load.run(OPERATIONS)
    const resized = await umbraJson<Resized>(['resize', lab.dir, '--size', String(sizeBytes)])
    t.is(resized.sizeBytes, sizeBytes)
    t.ok(resized.fileSystemBytes <= sizeBytes && resized.fileSystemBytes > sizeBytes - 8 * MIB)
    t.ok(statfsSync(lab.dir).blocks > before, 'statfs shows it at once')
    await umbra(['snapshot', 'create', lab.dir, `s${i + 1}`])
    sizes.set(`s${i + 1}`, sizeBytes)
    await working
  }
  await load.release()
  assertSameTree(t, await recordTree(lab.dir), await recordTree(reference), 'nothing was lost', IGNORED)
  for (const [name, sizeBytes] of sizes)
    if (sizeBytes < 4096 * MIB) await assertWhole(t, lab, name, sizeBytes)
  await mounted.unmount()
  await lab.mount()
  assertSameTree(t, await recordTree(lab.dir), await recordTree(reference), 'after mounting again', IGNORED)
  await load.quit()
})

test('what is open while a volume grows stays open, and the new room is used', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '32M')
  await lab.mount()
  const path = join(lab.dir, 'open')
  const fd = openSync(path, 'w+')
  t.teardown(() => closeSync(fd))
  const unlinked = openSync(join(lab.dir, 'unlinked'), 'w+')
  t.teardown(() => closeSync(unlinked))
  const first = random.bytes(MIB)
  writeSync(fd, first)
  writeSync(unlinked, first)
  await run('rm', [join(lab.dir, 'unlinked')])
  const holder = spawn('flock', ['-n', path, 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => void holder.kill('SIGKILL'), { order: -1 })
  holder.stdin.write('locked')
  await once(holder.stdout, 'data')
  const large = random.bytes(100 * MIB)
  t.exception(() => writeFileSync(join(lab.dir, 'large'), large), /ENOSPC/)
  await run('rm', ['-f', join(lab.dir, 'large')])
  // Whoever flushes next is told of what was lost, once.
  await umbra(['sync', lab.dir], { check: false })
  await umbra(['resize', lab.volume, '--size', '200M'])
  t.is((await run('flock', ['-n', path, 'true'], { check: false })).code, 1, 'the lock is still held')
  holder.stdin.end()
  await once(holder, 'exit')
  await run('flock', ['-n', path, 'true'])
  writeFileSync(join(lab.dir, 'large'), large)
  const second = random.bytes(MIB)
  writeSync(fd, second, 0, MIB, MIB)
  for (const [file, offset, expected] of [
    [fd, 0, first],
    [fd, MIB, second],
    [unlinked, 0, first],
  ] as const) {
    const found = new Uint8Array(MIB)
    readSync(file, found, 0, MIB, offset)
    t.ok(Buffer.compare(found, expected) === 0, `its bytes at ${offset}`)
  }
  await umbra(['sync', lab.dir])
  await umbra(['snapshot', 'create', lab.dir, 'after'])
  await assertWhole(t, lab, 'after', 200 * MIB)
  const kernel = await mountLoop(t, lab.at('after.img'))
  const compared = await run('cmp', [join(kernel.folder, 'large'), join(lab.dir, 'large')], { check: false })
  t.is(compared.code, 0, 'the kernel reads what was written to the new room')
  t.absent(existsSync(join(kernel.folder, 'unlinked')))
  await kernel.unmount()
  const smaller = await umbra(['resize', lab.dir, '--size', '100M'], { check: false })
  t.not(smaller.code, 0)
  t.ok(/cannot be made smaller/.test(smaller.stderr), smaller.stderr)
})

test('images over a resize: base + delta = target, for qemu, import, apply and backup', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '64M')
  await lab.mount()
  const names = ['one', 'two', 'three']
  const sizes = [64 * MIB, 64 * MIB + BLOCK * random.between(1, 9000), 700 * MIB]
  const repository = lab.at('repository')
  for (const [i, name] of names.entries()) {
    await umbra(['resize', lab.dir, '--size', String(sizes[i])])
    for (let k = 0; k < 4; k++)
      writeFileSync(join(lab.dir, `${k}-${random.below(3)}`), random.bytes(random.between(1, MIB)))
    await umbra(['snapshot', 'create', lab.dir, name])
    await umbra(['backup', lab.dir, '--to', repository, '--type', i === 0 ? 'full' : 'incremental'])
    await exportRaw(lab.dir, name, lab.at(`${name}.img`))
  }
  const chain = [lab.at('one.qcow2')]
  await umbra(['export', lab.dir, 'one', '--format', 'qcow2', '-o', lab.at('one.qcow2')])
  for (const [i, name] of names.entries()) {
    if (i === 0) continue
    const since = names[i - 1] as string
    const image = lab.at(`${name}.qcow2`)
    const backing = chain.at(-1) as string
    await umbra([
      'export',
      lab.dir,
      name,
      '--since',
      since,
      '--backing',
      backing,
      '--format',
      'qcow2',
      '-o',
      image,
    ])
    chain.push(image)
    const same = await run('qemu-img', ['compare', image, lab.at(`${name}.img`)], { check: false })
    t.is(same.code, 0, `qemu reads ${name} through its chain, size and all: ${same.stdout.trim()}`)
  }
  const target = lab.at('three.img')
  await umbra(['import', ...chain, '-o', lab.at('imported.umbra')])
  await umbra(['import', lab.at('one.qcow2'), '-o', lab.at('applied.umbra')])
  await umbra(['apply', lab.at('applied.umbra'), ...chain.slice(1)])
  const shrunk = await umbra(['apply', lab.at('applied.umbra'), lab.at('two.qcow2')], { check: false })
  t.not(shrunk.code, 0, 'it does not go back')
  for (const volume of ['imported', 'applied']) {
    const path = lab.at(`${volume}.umbra`)
    await umbra(['check', path])
    await umbra(['snapshot', 'create', path, 'x'])
    await exportRaw(path, 'x', lab.at('x.img'))
    const same = await run('cmp', [lab.at('x.img'), target], { check: false })
    t.is(same.code, 0, `${volume} is the target, byte for byte`)
  }
  await umbra(['apply', lab.at('one.img'), ...chain.slice(1)])
  t.is((await run('cmp', [lab.at('one.img'), target], { check: false })).code, 0, 'and so is a raw file')
  await umbra(['restore', repository, '--to', lab.at('restored.img'), '--as', 'raw'])
  const restored = await run('cmp', [lab.at('restored.img'), target], { check: false })
  t.is(restored.code, 0, 'and so is what the incremental backups hold')
})

test(
  'rolling back over a resize gives the old file system in the larger volume, and resize fills it',
  NEEDS,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const lab = await makeLab(t, '64M')
    const mounted = await lab.mount()
    const old = random.bytes(3 * MIB)
    writeFileSync(join(lab.dir, 'old'), old)
    await umbra(['snapshot', 'create', lab.dir, 'small'])
    await umbra(['resize', lab.dir, '--size', '600M'])
    writeFileSync(join(lab.dir, 'new'), random.bytes(30 * MIB))
    await mounted.unmount()
    await umbra(['snapshot', 'rollback', lab.volume, 'small'])
    const again = await lab.mount()
    t.alike(new Uint8Array(readFileSync(join(lab.dir, 'old'))), new Uint8Array(old))
    t.absent(existsSync(join(lab.dir, 'new')))
    t.ok(statfsSync(lab.dir).blocks * BLOCK <= 64 * MIB, 'the file system has its old size')
    await umbra(['resize', lab.dir, '--size', '600M'])
    t.ok(statfsSync(lab.dir).blocks * BLOCK > 500 * MIB, 'and fills the volume again')
    writeFileSync(join(lab.dir, 'new'), random.bytes(30 * MIB))
    await umbra(['snapshot', 'create', lab.dir, 'end'])
    await assertWhole(t, lab, 'end', 600 * MIB)
    await again.unmount()
  },
)
