// mkfs judged by e2fsck, dumpe2fs and the kernel; and the judge itself judged with planted faults.

import { closeSync, openSync, readFileSync, readSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { CRC32C_SEED, crc32c } from '../../src/base/crc32c.ts'
import { GIB, KIB, MIB, TIB } from '../../src/base/units.ts'
import { ROOT_INO } from '../../src/ext4/inode.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { makeFile, makeImage, openImage } from '../support/ext4-image.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'

const SIZES: readonly [string, number][] = [
  ['256 KiB', 256 * KIB],
  ['1 MiB', MIB],
  ['an odd size', 77 * MIB + 4096 * 3 + 1000],
  ['127 MiB', 127 * MIB],
  ['just over one group', 128 * MIB + 40 * KIB],
  ['a short last group', 128 * MIB + 12 * MIB],
  ['1 GiB', GIB],
  ['10 GiB', 10 * GIB],
  ['1 TiB', TIB],
]

for (const [name, sizeBytes] of SIZES) {
  test(`formatExt4() of ${name} is clean and mounts`, requires('e2fsck', 'root', 'losetup'), async (t) => {
    const image = await makeImage(t, sizeBytes, { label: 'umbra-test' })
    t.is(image.core.inode(ROOT_INO).linkCount, 3)
    t.is(image.core.label, 'umbra-test')
    await image.close()
    const verdict = e2fsck(image.path)
    t.ok(verdict.clean, 'e2fsck finds nothing')
    if (!verdict.clean) t.comment(verdict.output)
    const mount = await mountLoop(t, image.path, 'rw')
    writeFileSync(join(mount.folder, 'from-the-kernel'), 'hello')
    await mount.unmount()
    t.ok(e2fsck(image.path).clean, 'clean after the kernel wrote')
  })
}

test('formatExt4() of 1 TiB takes less than 1 MiB', requires('e2fsck', 'dumpe2fs'), async (t) => {
  const image = await makeImage(t, TIB)
  await image.close()
  t.ok(statSync(image.path).blocks * 512 < MIB, 'less than 1 MiB on disk')
  t.ok(e2fsck(image.path).clean, 'e2fsck finds nothing')
  const { stdout } = await run('dumpe2fs', ['-h', image.path])
  t.ok(
    /Filesystem features: +ext_attr dir_index filetype extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum\n/.test(
      stdout,
    ),
    'exactly the features asked for',
  )
  t.ok(/Default mount options: +user_xattr acl/.test(stdout))
  t.ok(/Default directory hash: +half_md4/.test(stdout))
  t.ok(/Filesystem flags: +signed_directory_hash/.test(stdout))
  t.ok(/Inode size:\s+256/.test(stdout))
  t.ok(/Flex block group size: +16/.test(stdout))
})

test('formatExt4() refuses what cannot be', async (t) => {
  await t.exception(makeImage(t, 100 * KIB), /64 to/)
  await t.exception(makeImage(t, MIB, { label: 'seventeen letters' }), /16 bytes/)
  await t.exception(makeImage(t, MIB, { uuid: 'no' }), /UUID/)
})

test('e2fsck() as a judge sees a flipped bitmap bit', requires('e2fsck'), async (t) => {
  const image = await makeImage(t, 16 * MIB)
  await image.close()
  t.ok(e2fsck(image.path).clean, 'clean before')
  // Group 0: superblock, descriptors, block bitmap.
  patch(image.path, 2 * 4096 + 400, (b) => b.writeUInt8(b.readUInt8(0) ^ 1, 0), 1)
  t.absent(e2fsck(image.path).clean, 'not clean after')
})

test(
  'e2fsck() as a judge sees a free count that is wrong in the superblock only',
  requires('e2fsck'),
  async (t) => {
    const image = await makeImage(t, 16 * MIB)
    await image.close()
    patch(
      image.path,
      1024,
      (b) => {
        b.writeUInt32LE(b.readUInt32LE(0x0c) - 5, 0x0c)
        b.writeUInt32LE(crc32c(CRC32C_SEED, b, 0, 1020), 1020)
      },
      1024,
    )
    const verdict = e2fsck(image.path)
    t.absent(verdict.clean, 'the judge says no')
    t.ok(/Free blocks count wrong/.test(verdict.output), `exit code was ${verdict.exitCode}`)
  },
)

function patch(path: string, offset: number, edit: (bytes: Buffer) => void, lengthBytes: number): void {
  const fd = openSync(path, 'r+')
  const bytes = Buffer.alloc(lengthBytes)
  readSync(fd, bytes, 0, lengthBytes, offset)
  edit(bytes)
  writeSync(fd, bytes, 0, lengthBytes, offset)
  closeSync(fd)
}

test(
  'what the kernel wrote is read, and what was written the kernel reads',
  requires('root', 'losetup'),
  async (t) => {
    let image = await makeImage(t, 64 * MIB)
    const bytes = new Uint8Array(3 * MIB + 777)
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >> 12)) & 0xff
    const ours = makeFile(image.core, 'ours')
    image.data.write(ours, 0, bytes.length, bytes, 0, false)
    image.data.write(ours, 10 * MIB, 5000, bytes, 0, false)
    image.data.allocate(ours, 1, 20 * MIB, MIB)
    await image.close()
    const mount = await mountLoop(t, image.path, 'rw')
    const seen = readFileSync(join(mount.folder, 'ours'))
    t.is(seen.length, 10 * MIB + 5000)
    t.ok(seen.subarray(0, bytes.length).equals(bytes), 'the kernel reads the bytes')
    t.ok(
      seen.subarray(bytes.length, 10 * MIB).every((b) => b === 0),
      'and the hole',
    )
    t.ok(seen.subarray(10 * MIB).equals(bytes.subarray(0, 5000)), 'and what follows')
    writeFileSync(join(mount.folder, 'theirs'), bytes)
    const ino = statSync(join(mount.folder, 'theirs')).ino
    await mount.unmount()
    image = await openImage(image.path)
    const theirs = image.core.inode(ino)
    const target = new Uint8Array(bytes.length + 100)
    t.is(await image.data.read(theirs, 0, target.length, target, 0), bytes.length)
    t.ok(Buffer.from(target.subarray(0, bytes.length)).equals(bytes), 'the bytes that the kernel wrote')
    image.data.write(theirs, bytes.length, 4000, bytes, 0, false)
    await image.check(t, 'after appending to a file of the kernel')
    await image.close()
  },
)

test(
  'Ext4Structure.open() refuses by name what it does not serve',
  requires('mke2fs', 'tune2fs'),
  async (t) => {
    const image = await makeImage(t, 16 * MIB)
    await image.close()
    const make = (...args: string[]) =>
      run('mke2fs', ['-F', '-q', '-b', '4096', '-t', 'ext4', ...args, image.path])
    await make('-O', 'has_journal,^resize_inode')
    const journaled = await openImage(image.path)
    makeFile(journaled.core, 'file')
    await journaled.check(t, 'written to beside an empty journal, which stays')
    await journaled.close()
    const readOnly = await openImage(image.path, { readOnly: true })
    t.is(readOnly.core.inode(ROOT_INO).isDirectory, true)
    await t.exception(() => readOnly.core.begin(1), /read-only/)
    await readOnly.close()
    await make('-O', '^has_journal,inline_data')
    await t.exception(openImage(image.path), /inline_data/)
    await make('-O', '^has_journal,^metadata_csum')
    await t.exception(openImage(image.path), /metadata_csum/)
    await make('-O', '^has_journal')
    const imported = await openImage(image.path)
    const file = makeFile(imported.core, 'file')
    imported.data.write(file, 0, 10_000, new Uint8Array(10_000).fill(7), 0, false)
    await imported.check(t, 'a file system of mke2fs with resize_inode, written to')
    await imported.close()
    patch(image.path, 1024 + 0x38, (b) => b.writeUInt16LE(0, 0), 2)
    await t.exception(openImage(image.path), /Not an ext4/)
  },
)
