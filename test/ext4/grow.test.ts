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
    await judge(t, sizes)
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

test('growExt4() of images of mke2fs: without resize_inode, and refused with it', NEEDS, async (t) => {
  const image = await makeImage(t, GIB)
  await image.close()
  const make = ['-q', '-F', '-t', 'ext4', '-b', '4096']
  await run('mke2fs', [...make, '-O', '^has_journal', image.path])
  await t.exception(() => grow(image.path, 3 * GIB), /resize_inode/)
  t.ok(e2fsck(image.path).clean, 'nothing changed')
  for (const features of ['^has_journal,^resize_inode', '^has_journal,^resize_inode,meta_bg']) {
    truncateSync(image.path, 0)
    truncateSync(image.path, GIB)
    await run('mke2fs', [...make, '-O', features, image.path])
    t.is(await grow(image.path, 20 * GIB), 5242880)
    const verdict = e2fsck(image.path)
    t.ok(verdict.clean, features)
    if (!verdict.clean) t.comment(verdict.output)
    const mount = await mountLoop(t, image.path, 'rw')
    writeFileSync(join(mount.folder, 'file'), 'from the kernel')
    await mount.unmount()
    t.ok(e2fsck(image.path).clean, 'clean after the kernel wrote')
  }
})
