// File systems made by mke2fs in many ways, filled by the kernel and taken in: served in place or
// converted, journals replayed. The kernel's mount of the image and of what we made of it must show the
// same tree, and e2fsck must find nothing.

// deadline 240

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { importForeign } from '../../src/daemon/import-images.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import { writeRaw } from '../../src/image/raw-writer.ts'
import { volumeSource } from '../../src/image/volume-source.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { assertSameTree, recordTree, type Tree, Workload } from '../mount/lab.ts'
import { FileHistory } from '../shadow/file-history.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { assertClean } from '../support/ext4-image.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const NEEDS = { ...requires('root', 'mke2fs', 'e2fsck', 'python3'), timeout: 120_000 }
const isLong = process.env['UMBRA_LONG'] === '1'
const SIZE = '160M'
/** What a copy into a fresh file system does not keep. */
const NOT_CONVERTED = ['ino']

/** Name, arguments of mke2fs, whether it is converted. */
const LAYOUTS: readonly (readonly [string, readonly string[], boolean])[] = [
  ['the defaults, 4 KiB', ['-t', 'ext4', '-b', '4096'], false],
  [
    'metadata_csum_seed, large_dir',
    ['-t', 'ext4', '-b', '4096', '-O', 'metadata_csum_seed,large_dir'],
    false,
  ],
  ['the defaults of a small one, 1 KiB', ['-t', 'ext4'], true],
  ['2 KiB', ['-t', 'ext4', '-b', '2048'], true],
  ['no checksums, 32 bits', ['-t', 'ext4', '-b', '4096', '-O', '^metadata_csum,^64bit'], true],
  ['ext3, 1 KiB', ['-t', 'ext3', '-b', '1024'], true],
  ['inodes of 128 bytes', ['-t', 'ext4', '-b', '1024', '-I', '128'], true],
]

/** In the long mode only. */
const MORE_LAYOUTS: typeof LAYOUTS = [
  ['an orphan file', ['-t', 'ext4', '-b', '4096', '-O', 'orphan_file'], false],
  ['ext2, 4 KiB', ['-t', 'ext2', '-b', '4096'], true],
  ['clusters', ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '16384'], true],
  ['meta_bg, no flex_bg, 1 KiB', ['-t', 'ext4', '-b', '1024', '-O', 'meta_bg,^flex_bg,^resize_inode'], true],
]

async function makeImage(path: string, args: readonly string[]): Promise<void> {
  writeFileSync(path, '')
  await run('truncate', ['-s', SIZE, path])
  await run('mke2fs', ['-q', '-F', ...args, path])
}

/** Does a random history on an image through the kernel. @returns the tree then */
async function fill(t: Assertion, image: string, seed: number, count: number): Promise<Tree> {
  const loop = await mountLoop(t, image, 'rw')
  const workload = new Workload(t, seed, loop.folder)
  await workload.run(count)
  await workload.quit()
  mkdirSync(join(loop.folder, 'big'), { recursive: true })
  for (let i = 0; i < 300; i++)
    writeFileSync(join(loop.folder, 'big', `${'long-name-'.repeat(5)}${i}`), `${i}`)
  await loop.unmount()
  // Looking at it in a mount that writes would change the times of access.
  return kernelTree(t, image)
}

async function openVolume<T>(path: string, use: (volume: Volume) => Promise<T>): Promise<T> {
  const storage = await FileStorage.open(path)
  try {
    const volume = await Volume.open(storage)
    const result = await use(volume)
    await volume.close()
    return result
  } finally {
    await storage.close()
  }
}

/** A snapshot of the volume as a raw image. */
async function exportRaw(volumePath: string, image: string): Promise<void> {
  await openVolume(volumePath, async (volume) => {
    await volume.createSnapshot('point')
    await writeRaw(volumeSource(volume, 'point', null), image)
    await volume.deleteSnapshot('point')
  })
}

/** What the kernel shows of an image. */
async function kernelTree(t: Assertion, image: string): Promise<Tree> {
  const loop = await mountLoop(t, image)
  const tree = await recordTree(loop.folder)
  await loop.unmount()
  return tree
}

/** lost+found is ours where the image had none, and has another size where it is converted. */
function withoutLostFound(tree: Tree): Tree {
  return new Map([...tree].filter(([path]) => path !== '/lost+found'))
}

for (const [name, args, isConverted] of isLong ? [...LAYOUTS, ...MORE_LAYOUTS] : LAYOUTS) {
  test(`an image of mke2fs with ${name} is taken in`, NEEDS, async (t) => {
    const seed = chosenSeed(t)
    const folder = tempFolder(t)
    const at = (file: string): string => join(folder, file)
    await makeImage(at('image'), args)
    const tree = await fill(t, at('image'), seed, isLong ? 1200 : 100)
    assertClean(t, at('image'), 'the image')
    const { converted } = await importForeign([at('image')], at('volume'), {})
    t.is(converted !== null, isConverted, converted ?? 'served in place')
    await exportRaw(at('volume'), at('out'))
    assertClean(t, at('out'), 'what was made of it')
    const made = await kernelTree(t, at('out'))
    const ignored = isConverted ? NOT_CONVERTED : []
    assertSameTree(
      t,
      withoutLostFound(tree),
      withoutLostFound(made),
      'the kernel shows the same tree',
      ignored,
    )
    await openVolume(at('volume'), async (volume) => {
      const history = new FileHistory(volume, new Random(seed), undefined, 'ours-')
      history.run(60)
      t.is(Ext4.open(volume, { readOnly: true }).readOnly, true)
      await volume.commit()
    })
    await exportRaw(at('volume'), at('written'))
    assertClean(t, at('written'), 'after we wrote to it')
  })
}

const DIRTY: readonly (readonly [string, readonly string[], boolean])[] = [
  ['the defaults, 4 KiB', ['-t', 'ext4', '-b', '4096'], false],
  ['an orphan file', ['-t', 'ext4', '-b', '4096', '-O', 'orphan_file'], false],
  ['1 KiB', ['-t', 'ext4', '-b', '1024'], true],
  ['ext3', ['-t', 'ext3', '-b', '4096'], true],
]

/** A process that holds files open that have no name any more. */
async function holdOrphans(t: Assertion, folder: string): Promise<() => Promise<void>> {
  const script = `
import os, sys
held = []
for i in range(5):
    path = os.path.join(sys.argv[1], 'orphan-%d' % i)
    held.append(os.open(path, os.O_CREAT | os.O_RDWR))
    os.write(held[-1], b'o' * 300000 * i)
    os.fsync(held[-1])
    os.unlink(path)
os.sync()
print('held', flush=True)
sys.stdin.read()
`
  const child = spawn('python3', ['-c', script, folder], { stdio: ['pipe', 'pipe', 'inherit'] })
  const end = async (): Promise<void> => {
    child.stdin.end()
    if (child.exitCode === null) await once(child, 'exit')
  }
  t.teardown(() => void child.kill('SIGKILL'), { order: -1 })
  await once(child.stdout, 'data')
  return end
}

/** The kernel does not lower the trees of extents that it thins out, and what is served in place keeps them. */
const isFault = (line: string): boolean => !/could be (shorter|narrower)/.test(line)

for (const [name, args, isConverted] of DIRTY) {
  test(`an image copied while it was mounted, with ${name}, is recovered`, NEEDS, async (t) => {
    const seed = chosenSeed(t)
    const folder = tempFolder(t)
    const at = (file: string): string => join(folder, file)
    await makeImage(at('live'), args)
    const loop = await mountLoop(t, at('live'), 'rw')
    const workload = new Workload(t, seed, loop.folder)
    await workload.run(100)
    await run('sync', ['-f', loop.folder])
    await workload.run(60)
    const release = await holdOrphans(t, loop.folder)
    copyFileSync(at('live'), at('dirty'))
    await release()
    await workload.quit()
    await loop.unmount()
    const header = (await run('dumpe2fs', ['-h', at('dirty')])).stdout
    t.ok(/needs_recovery/.test(header), 'it needs recovery')

    copyFileSync(at('dirty'), at('judge'))
    await (await mountLoop(t, at('judge'), 'rw')).unmount()
    const theirs = e2fsck(at('judge'))
    t.alike(theirs.proposals.filter(isFault), [], 'e2fsck finds no fault in what the kernel makes of it')
    const expected = await kernelTree(t, at('judge'))

    await importForeign([at('dirty')], at('volume'), {})
    await exportRaw(at('volume'), at('out'))
    const ours = e2fsck(at('out'))
    t.is(ours.exitCode, 0, ours.output)
    const more = ours.proposals.filter((line) => isFault(line) || !theirs.proposals.includes(line))
    t.alike(more, [], 'nor more to propose in what we make of it')
    const made = await kernelTree(t, at('out'))
    const ignored = isConverted ? NOT_CONVERTED : []
    assertSameTree(t, withoutLostFound(expected), withoutLostFound(made), 'the same tree', ignored)
  })
}

test('a journal with a damaged block is refused, and nothing is left', NEEDS, async (t) => {
  const folder = tempFolder(t)
  const at = (file: string): string => join(folder, file)
  await makeImage(at('live'), ['-t', 'ext4', '-b', '4096'])
  const loop = await mountLoop(t, at('live'), 'rw')
  for (let i = 0; i < 50; i++) writeFileSync(join(loop.folder, `file-${i}`), 'x'.repeat(5000))
  await run('sync', ['-f', loop.folder])
  copyFileSync(at('live'), at('dirty'))
  await loop.unmount()
  const bytes = readFileSync(at('dirty'))
  const damaged = damageJournalData(bytes)
  t.ok(damaged > 0, `a block of data in the journal, at ${damaged}`)
  writeFileSync(at('dirty'), bytes)
  await t.exception(
    () => importForeign([at('dirty')], at('volume'), {}),
    /journal does not match its checksum/,
  )
  t.exception(() => readFileSync(at('volume')), /ENOENT/)
})

/** Flips a bit in the block behind the journal's first descriptor. */
function damageJournalData(bytes: Buffer): number {
  const magic = Buffer.from('c03b399800000004', 'hex')
  for (let at = 0; at < bytes.length; at += 4096) {
    if (!bytes.subarray(at, at + 8).equals(magic)) continue
    const start = at + bytes.readUInt32BE(at + 28) * 4096
    if (bytes.readUInt32BE(start + 4) !== 1) throw new Error('the log does not start with a descriptor')
    bytes[start + 4096 + 100] = (bytes[start + 4096 + 100] as number) ^ 1
    return start + 4096
  }
  return 0
}

test('the kernel writes on an exported image, which is taken in again', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const folder = tempFolder(t)
  const at = (file: string): string => join(folder, file)
  await makeImage(at('image'), ['-t', 'ext4', '-b', '4096'])
  await fill(t, at('image'), seed, 100)
  await importForeign([at('image')], at('volume-0'), {})
  for (let round = 0; round < (isLong ? 6 : 1); round++) {
    await openVolume(at(`volume-${round}`), async (volume) => {
      new FileHistory(volume, new Random(seed + round), undefined, `round-${round}-`).run(150)
      await volume.commit()
    })
    await exportRaw(at(`volume-${round}`), at(`out-${round}`))
    assertClean(t, at(`out-${round}`), `round ${round}: ours`)
    const tree = await fill(t, at(`out-${round}`), seed + round, 80)
    assertClean(t, at(`out-${round}`), `round ${round}: the kernel's`)
    await importForeign([at(`out-${round}`)], at(`volume-${round + 1}`), {})
    await exportRaw(at(`volume-${round + 1}`), at('again'))
    assertSameTree(t, tree, await kernelTree(t, at('again')), `round ${round}: the same tree again`)
    await run('rm', [at('again')])
  }
})

test('a file mapped by blocks in a file system with extents has it converted', NEEDS, async (t) => {
  const folder = tempFolder(t)
  const at = (file: string): string => join(folder, file)
  await makeImage(at('image'), ['-t', 'ext4', '-b', '4096'])
  const loop = await mountLoop(t, at('image'), 'rw')
  writeFileSync(join(loop.folder, 'mapped'), 'm'.repeat(30_000))
  writeFileSync(join(loop.folder, 'other'), 'o'.repeat(30_000))
  await run('sync', ['-f', loop.folder])
  await run('chattr', ['-e', join(loop.folder, 'mapped')])
  await loop.unmount()
  const expected = await kernelTree(t, at('image'))
  const { converted } = await importForeign([at('image')], at('volume'), {})
  t.is(converted, 'it has files mapped by blocks, not extents')
  await exportRaw(at('volume'), at('out'))
  assertClean(t, at('out'), 'what was made of it')
  const made = await kernelTree(t, at('out'))
  assertSameTree(t, withoutLostFound(expected), withoutLostFound(made), 'the same tree', NOT_CONVERTED)
})

test('what cannot be read is refused by name', NEEDS, async (t) => {
  const folder = tempFolder(t)
  const at = (file: string): string => join(folder, file)
  for (const [feature, pattern] of [
    ['inline_data', /needs inline_data/],
    ['casefold', /needs casefold/],
    ['encrypt', /needs encrypt/],
    ['ea_inode', /needs ea_inode/],
  ] as const) {
    await makeImage(at(feature), ['-t', 'ext4', '-O', feature])
    await t.exception(() => importForeign([at(feature)], at('volume'), {}), pattern, feature)
  }
  await makeImage(at('unclean'), ['-t', 'ext2', '-b', '1024'])
  await run('debugfs', ['-w', '-R', 'ssv state 0', at('unclean')])
  await t.exception(() => importForeign([at('unclean')], at('volume'), {}), /was not unmounted/)
  await makeImage(at('short'), ['-t', 'ext4', '-b', '1024'])
  truncateSync(at('short'), 20 << 20)
  await t.exception(() => importForeign([at('short')], at('volume'), {}), /more than the image has/)
})
