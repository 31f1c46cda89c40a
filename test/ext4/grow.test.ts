// Growing a file system, judged by e2fsck, dumpe2fs and the kernel, in steps from small to huge.

import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { GIB, KIB, MIB, TIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import { growExt4 } from '../../src/ext4/grow.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { ROOT } from '../support/ext4-files.ts'
import { makeImage } from '../support/ext4-image.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const NEEDS = { ...requires('e2fsck', 'root', 'losetup', 'dumpe2fs'), timeout: 240_000 }
const isLong = process.env['UMBRA_LONG'] === '1'

/** Each list is one file system, grown from step to step. */
const HISTORIES: readonly (readonly number[])[] = [
  [MIB, 77 * MIB + 12 * KIB, 128 * MIB, 130 * MIB, 140 * MIB],
  [GIB, 8 * GIB, 8 * GIB + 200 * MIB, 16 * GIB + 4 * MIB, 100 * GIB],
  [GIB, TIB],
]

async function grow(path: string, sizeBytes: number): Promise<number> {
  truncateSync(path, sizeBytes)
  const storage = await FileStorage.open(path, { lock: 'none' })
  const device = new PlainDevice(storage)
  const blockCount = growExt4(device)
  await device.commit()
  await storage.close()
  return blockCount
}

/** A file written by our own driver, in the blocks that are new as well. */
async function writeByUmbra(path: string, name: string, bytes: Uint8Array): Promise<void> {
  const storage = await FileStorage.open(path, { lock: 'none' })
  const fs = Ext4.open(new PlainDevice(storage))
  const inode = fs.makeNode(fs.inode(2), name, 0o100644, 0, ROOT)
  fs.write(inode, 0, bytes.length, bytes, 0, false)
  await fs.sync(inode, false)
  await storage.close()
}

async function judge(t: Assertion, sizes: readonly number[]): Promise<void> {
  const random = new Random(chosenSeed(t))
  const image = await makeImage(t, sizes[0] as number)
  await image.close()
  const contents = new Map<string, Uint8Array>()
  for (const [i, sizeBytes] of sizes.entries()) {
    if (i > 0) {
      const bytes = (await grow(image.path, sizeBytes)) * 4096
      t.ok(bytes <= sizeBytes && bytes > sizeBytes - 8 * MIB, `${bytes} of ${sizeBytes} bytes`)
    }
    const fresh = e2fsck(image.path)
    t.ok(fresh.clean, `e2fsck finds nothing at ${sizeBytes}`)
    if (!fresh.clean) t.comment(fresh.output.slice(0, 2000))
    const own = random.bytes(40 * KIB)
    await writeByUmbra(image.path, `own-${i}`, own)
    contents.set(`own-${i}`, own)
    const mount = await mountLoop(t, image.path, 'rw')
    for (const [name, bytes] of contents)
      t.alike(new Uint8Array(readFileSync(join(mount.folder, name))), bytes, name)
    const theirs = random.bytes(40 * KIB)
    writeFileSync(join(mount.folder, `kernel-${i}`), theirs)
    contents.set(`kernel-${i}`, theirs)
    await mount.unmount()
    t.ok(e2fsck(image.path).clean, 'clean after both wrote')
  }
}

for (const sizes of HISTORIES) {
  test(`growExt4() in steps to ${(sizes.at(-1) as number) / MIB} MiB is clean and mounts`, NEEDS, (t) =>
    judge(t, sizes),
  )
}

test('growExt4() to random sizes', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  for (let i = 0; i < (isLong ? 20 : 2); i++) {
    const sizes: number[] = []
    for (let bytes = MIB * random.between(1, 400); bytes < 40 * GIB; bytes *= random.between(2, 9)) {
      sizes.push(bytes + 4096 * random.below(40_000))
    }
    await judge(
      t,
      sizes.sort((a, b) => a - b),
    )
  }
})

test('growExt4() says by descriptors what the kernel reads', NEEDS, async (t) => {
  const image = await makeImage(t, GIB)
  await image.close()
  await grow(image.path, 24 * GIB)
  const { stdout } = await run('dumpe2fs', ['-h', image.path])
  t.ok(/Filesystem features: .*\bmeta_bg\b/.test(stdout))
  t.ok(/First meta block group: +1\n/.test(stdout))
  t.ok(/Block count: +6291456\n/.test(stdout))
  t.is(await grow(image.path, 24 * GIB), 6291456, 'doing it again changes nothing')
  t.ok(e2fsck(image.path).clean)
})

/** What mke2fs makes and import serves in place, and the blocks to grow it to: by a part of a group, and more. */
const FOREIGN: readonly (readonly [features: string, options?: readonly string[]])[] = [
  ['has_journal,resize_inode'],
  ['^has_journal', ['-E', 'resize=16000000']],
  ['^has_journal', ['-m', '0', '-G', '1']],
  ['^has_journal,^flex_bg'],
  ['^has_journal,^resize_inode,^sparse_super'],
  ['^has_journal,^resize_inode'],
  ['^has_journal,^resize_inode,meta_bg'],
  ['^has_journal,sparse_super2'],
  ['^has_journal,^resize_inode,sparse_super2'],
  ['^has_journal,^resize_inode,sparse_super2,meta_bg'],
  ['^has_journal,sparse_super2', ['-E', 'num_backup_sb=1']],
]

test(
  'growExt4() of images of mke2fs: with and without resize_inode, sparse_super2, meta_bg',
  NEEDS,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const path = join(tempFolder(t), 'image')
    for (const [features, options = []] of FOREIGN) {
      const name = `${features} ${options.join(' ')}`
      let sizeBytes = random.between(3, 9) * 100 * MIB + 4096 * random.below(20_000)
      writeFileSync(path, '')
      truncateSync(path, sizeBytes)
      await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', '-O', features, ...options, path])
      const filled = await mountLoop(t, path, 'rw')
      writeFileSync(join(filled.folder, 'old'), random.bytes(MIB))
      const old = readFileSync(join(filled.folder, 'old'))
      await filled.unmount()
      for (const factor of isLong ? [1.01, 2.7, 9, 3] : [1.01, 5.3]) {
        sizeBytes = Math.floor((sizeBytes * factor) / 4096) * 4096
        const bytes = (await grow(path, sizeBytes)) * 4096
        t.ok(bytes <= sizeBytes && bytes > sizeBytes - 8 * MIB, `${name}: ${bytes} of ${sizeBytes} bytes`)
        const verdict = e2fsck(path)
        t.ok(verdict.clean, `${name}: e2fsck finds nothing`)
        if (!verdict.clean) t.comment(verdict.output.slice(0, 2000))
        await writeByUmbra(path, `own-${sizeBytes}`, random.bytes(100 * KIB))
        const mount = await mountLoop(t, path, 'rw')
        t.alike(readFileSync(join(mount.folder, 'old')), old)
        writeFileSync(join(mount.folder, 'file'), random.bytes(30 * MIB))
        await mount.unmount()
        t.ok(e2fsck(path).clean, 'clean after both wrote')
      }
    }
  },
)
