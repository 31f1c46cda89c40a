// Damaged volumes end to end: each command tells what is wrong in one line with an exit code from the
// documented list, or gives exactly the right bytes; nothing hangs.

// deadline 300

import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { type RunResult, run } from '../support/run.ts'
import { isMountPoint } from '../support/umbra.ts'
import {
  exportRaw,
  isLong,
  type Lab,
  makeLab,
  misbehaviour,
  recordTree,
  type Tree,
  treeDifferences,
  umbra,
  Workload,
} from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 1_800_000 }
const FLIPS = isLong ? 300 : 12
const CUTS = isLong ? 100 : 7

interface Sample {
  readonly lab: Lab
  readonly pristine: string
  readonly image: string
  readonly tree: Tree
}

/** A volume with some history, unmounted, and what its snapshot and its present hold. */
async function makeSample(t: Assertion, seed: number): Promise<Sample> {
  const lab = await makeLab(t, '32M')
  const mounted = await lab.mount()
  writeFileSync(lab.at('mnt/big'), new Random(seed).bytes(2 << 20))
  const workload = new Workload(t, seed, lab.dir)
  await workload.run(60)
  await umbra(['snapshot', 'create', lab.dir, 'one'])
  await workload.run(60)
  await workload.release()
  await workload.quit()
  const tree = await recordTree(lab.dir)
  await mounted.unmount()
  const image = lab.at('pristine.img')
  await exportRaw(lab.volume, 'one', image)
  await umbra(['snapshot', 'create', lab.volume, 'present'])
  await exportRaw(lab.volume, 'present', lab.at('present.img'))
  const pristine = lab.at('pristine')
  await run('cp', ['--sparse=always', lab.volume, pristine])
  return { lab, pristine, image, tree }
}

/** Where the file holds something. */
async function allocatedBytes(path: string): Promise<number[]> {
  const program = `import os,sys
fd=os.open(sys.argv[1],os.O_RDONLY); at=0; end=os.fstat(fd).st_size
while at<end:
    try: at=os.lseek(fd,at,os.SEEK_DATA)
    except OSError: break
    hole=os.lseek(fd,at,os.SEEK_HOLE); print(at,hole); at=hole`
  const { stdout } = await run('python3', ['-c', program, path])
  return stdout.trim().split(/\s+/).map(Number)
}

function anywhere(random: Random, ranges: readonly number[]): number {
  const range = random.below(ranges.length / 2)
  const [from, to] = [ranges[range * 2] as number, ranges[range * 2 + 1] as number]
  return from + random.below(to - from)
}

/** Offsets of blocks that no snapshot's content explains: the volume's own structures, mostly. */
function blocksOfTheVolume(path: string, ranges: readonly number[], images: readonly string[]): number[] {
  const contents = new Set<string>()
  for (const image of images) {
    const bytes = readFileSync(image)
    for (let at = 0; at < bytes.length; at += 4096) contents.add(digest(bytes.subarray(at, at + 4096)))
  }
  const bytes = readFileSync(path)
  const offsets: number[] = []
  for (let i = 0; i < ranges.length; i += 2) {
    for (let at = ranges[i] as number; at < (ranges[i + 1] as number); at += 4096) {
      if (!contents.has(digest(bytes.subarray(at, at + 4096)))) offsets.push(at)
    }
  }
  return offsets
}

function digest(block: Uint8Array): string {
  return createHash('sha1').update(block).digest('hex')
}

function flipBit(path: string, offset: number, bit: number): void {
  const fd = openSync(path, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, offset)
  byte[0] = (byte[0] as number) ^ (1 << bit)
  writeSync(fd, byte, 0, 1, offset)
  closeSync(fd)
}

/** How many bytes differ, up to a few. */
async function differingBytes(one: string, other: string): Promise<number> {
  const { stdout } = await run('cmp', ['-l', one, other], { check: false })
  return stdout.split('\n').filter((line) => line !== '').length
}

test('row 32: a flipped bit anywhere: an error in one line, or the right bytes', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const random = new Random(seed)
  const sample = await makeSample(t, seed)
  const { lab, pristine, image } = sample
  const damaged = lab.at('damaged')
  const exported = lab.at('exported.img')
  const ranges = await allocatedBytes(pristine)
  const metadata = blocksOfTheVolume(pristine, ranges, [image, lab.at('present.img')])
  t.ok(metadata.length > 20, `${metadata.length} blocks of metadata`)
  const problems: string[] = []
  const codes = new Map<string, number>()
  const note = (what: string, result: RunResult) => {
    problems.push(...misbehaviour(what, result))
    const key = `${what.split(' ')[0]} ${result.code}`
    codes.set(key, (codes.get(key) ?? 0) + 1)
  }
  for (let i = 0; i < FLIPS; i++) {
    await run('cp', ['--sparse=always', pristine, damaged])
    const bit = random.below(8)
    const offset = i % 2 === 0 ? random.pick(metadata) + random.below(4096) : anywhere(random, ranges)
    flipBit(damaged, offset, bit)
    const where = `with bit ${bit} of byte ${offset} flipped`
    const limits = { check: false, timeoutMs: 120_000 }
    const checked = await umbra(['check', damaged], limits)
    note(`check ${where}`, checked)
    rmSync(exported, { force: true })
    const result = await umbra(['export', damaged, 'one', '--format', 'raw', '-o', exported], limits)
    note(`export ${where}`, result)
    if (result.code === 0) {
      // Data of files carries no checksum in this version: there one byte is what was flipped.
      const differing = await differingBytes(image, exported)
      if (differing > 1) problems.push(`export ${where}: ${differing} bytes differ`)
    } else if (existsSync(exported)) problems.push(`export ${where}: left a file behind`)
    if (i % 4 === 0) problems.push(...(await mountDamaged(sample, damaged, where)))
  }
  t.is(problems.length, 0, `${FLIPS} flips: ${[...codes].sort().join(', ')}`)
  for (const problem of problems.slice(0, 10)) t.comment(problem)
  t.ok((codes.get('check 7') ?? 0) > 0, 'some of it was found')
  for (const path of [damaged, exported]) rmSync(path, { force: true })
})

/** Serves a damaged volume: it comes up and shows the tree but for what was hit, or says why not. */
async function mountDamaged({ lab, tree }: Sample, damaged: string, where: string): Promise<string[]> {
  const limits = { check: false, timeoutMs: 120_000 }
  const mounted = await umbra(['mount', damaged, lab.dir], limits)
  if (mounted.code !== 0) {
    const left = isMountPoint(lab.dir) ? [`mount ${where}: failed and left a mount`] : []
    return [...misbehaviour(`mount ${where}`, mounted), ...left]
  }
  const problems: string[] = []
  const shown = await recordTree(lab.dir).catch(() => undefined)
  if (shown) {
    // The inode that was hit, and its directory if it was one.
    const found = treeDifferences(tree, shown, ['atime'])
    if (found.length > 4) problems.push(`mount ${where}: ${found.length} paths differ: ${found[0]}`)
  }
  try {
    writeFileSync(join(lab.dir, 'written'), 'x')
  } catch (error) {
    // What a new file needs may be what was hit.
    const { code = '' } = error as NodeJS.ErrnoException
    if (!['EIO', 'EROFS'].includes(code)) problems.push(`write ${where}: ${String(error)}`)
  }
  const unmounted = await umbra(['unmount', lab.dir], limits)
  problems.push(...misbehaviour(`unmount ${where}`, unmounted))
  if (isMountPoint(lab.dir)) {
    problems.push(`unmount ${where}: still mounted`)
    await umbra(['unmount', lab.dir, '--force'], limits)
  }
  return problems
}

test('a volume cut short anywhere', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const random = new Random(seed)
  const { lab, pristine, image } = await makeSample(t, seed)
  const { size } = statSync(pristine)
  const damaged = lab.at('damaged')
  const exported = lab.at('exported.img')
  const problems: string[] = []
  const sizes = [0, 1, 4095, 4096, size - 4096, size - 1]
  while (sizes.length < CUTS) sizes.push(random.below(size))
  for (const length of sizes) {
    await run('cp', ['--sparse=always', pristine, damaged])
    truncateSync(damaged, length)
    const where = `of ${length} bytes`
    for (const args of [
      ['status', damaged],
      ['check', damaged],
      ['export', damaged, 'one', '--format', 'raw', '-o', exported],
      ['mount', damaged, lab.dir],
      ['snapshot', 'create', damaged, 'two'],
    ]) {
      const result = await umbra(args, { check: false, timeoutMs: 120_000 })
      problems.push(...misbehaviour(`${args[0]} ${where}`, result))
      if (result.code === 0 && length < 4096) problems.push(`${args[0]} ${where} went well`)
      if (result.code === 0 && args[0] === 'export' && (await differingBytes(image, exported)) > 0) {
        problems.push(`export ${where} gave wrong bytes`)
      }
      if (isMountPoint(lab.dir)) await umbra(['unmount', lab.dir])
      rmSync(exported, { force: true })
    }
  }
  t.is(problems.length, 0, `cut to ${sizes.join(', ')}`)
  for (const problem of problems.slice(0, 10)) t.comment(problem)
  rmSync(damaged)
})
