// Trees that the kernel's ext4 wrote, read and changed by us, and ours read by the kernel.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import test from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { makeFiles, namesOf, openFiles, ROOT } from '../support/ext4-files.ts'
import { sparseFile } from '../support/ext4-image.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { differences, dumpFiles, dumpMounted } from '../support/tree-dump.ts'

const NEEDS = requires('root', 'mke2fs', 'e2fsck', 'getfattr', 'setfacl', '/dev/loop-control')
const SCRIPT = `
set -e
mkdir big plain 'd\u00e9'
i=0; while [ $i -lt 10000 ]; do echo big/name-$i; i=$((i+1)); done | xargs touch
ln -s short plain/fast
ln -s "$(printf 'x%.0s' $(seq 1 300))" plain/slow
ln plain/fast plain/fast2
mknod plain/null c 1 3
mknod plain/high b 300 70000
mkfifo plain/fifo
touch plain/f1 plain/f2 plain/f3
setfattr -n user.small -v abc plain/f1
setfattr -n user.large -v "$(printf 'y%.0s' $(seq 1 900))" plain/f1
setfattr -n user.large -v "$(printf 'y%.0s' $(seq 1 900))" plain/f2
setfattr -n user.large -v "$(printf 'y%.0s' $(seq 1 900))" plain/f3
setfattr -n trusted.t -v 1 plain/f2
setfacl -m u:7:rw,u:8:r,g:9:rx plain/f1
setfacl -d -m u:7:rwx,g:100000:r plain
mkdir plain/sub
touch plain/sub/inheriting
chmod 4755 plain/f3
`

async function kernelImage(
  t: Assertion,
  options: readonly string[] = [],
  without = '^has_journal,^resize_inode',
): Promise<string> {
  const path = sparseFile(t, 192 * 1024 * 1024)
  await run('mke2fs', ['-q', '-t', 'ext4', '-b', '4096', '-I', '256', '-O', without, '-N', '20000', path])
  if (options.length > 0) await run('tune2fs', [...options, path])
  const mount = await mountLoop(t, path, 'rw')
  const script = join(mount.folder, 'make.sh')
  writeFileSync(script, SCRIPT)
  await run('sh', [script], { cwd: mount.folder })
  await mount.unmount()
  return path
}

test('a tree made by the kernel is read identically', NEEDS, async (t) => {
  const path = await kernelImage(t)
  const files = await openFiles(path, { readOnly: true })
  t.teardown(() => files.close(), { order: 1 })
  const ours = dumpFiles(files.fs)
  const mount = await mountLoop(t, path, 'ro')

  t.alike(differences(ours, await dumpMounted(mount.folder)), [])
  t.ok(ours.size > 10_015, `${ours.size} paths`)
})

for (const algorithm of ['tea', 'legacy', 'half_md4']) {
  test(`a hashed directory made by the kernel with ${algorithm} is kept`, NEEDS, async (t) => {
    const path = await kernelImage(t, ['-E', `hash_alg=${algorithm}`])
    const files = await openFiles(path, { nameLimit: 0 })
    t.teardown(() => files.close(), { order: 1 })
    const big = files.fs.lookup(files.root, 'big')
    if (!big) throw new Error('big is not there')

    for (let i = 0; i < 10_000; i += 3) files.fs.unlink(big, `name-${i}`)
    for (let i = 0; i < 5000; i++) files.fs.makeNode(big, `\xff\xe9new-${i}`, 0o100600, 0, ROOT)

    t.is(new Set(namesOf(files.fs, big)).size, 10_000 - 3334 + 5000)
    t.is(namesOf(files.fs, big).length, 10_000 - 3334 + 5000)
    await files.check(t, algorithm)
    const ours = dumpFiles(files.fs)
    await files.close()
    const mount = await mountLoop(t, path, 'ro')
    t.alike(differences(ours, await dumpMounted(mount.folder)), [])
  })
}

test('a long directory without a hash tree is kept linear and listed by position', NEEDS, async (t) => {
  const path = await kernelImage(t, [], '^has_journal,^resize_inode,^dir_index')
  const files = await openFiles(path)
  t.teardown(() => files.close(), { order: 1 })
  const { fs } = files
  const big = fs.lookup(files.root, 'big')
  if (!big) throw new Error('big is not there')
  const seen: string[] = []
  for (let cookie = 0, more = true; more; ) {
    more = false
    let left = 37
    fs.readDirectory(big, cookie, (entry) => {
      if (left-- === 0) {
        more = true
        return false
      }
      cookie = entry.nextCookie
      seen.push(entry.name)
      return true
    })
    const last = seen.at(-1)
    if (last?.startsWith('name-')) fs.unlink(big, last)
    fs.makeNode(big, `later-${cookie}-${'x'.repeat(cookie % 100)}`, 0o100600, 0, ROOT)
  }
  const names = seen.filter((name) => name.startsWith('name-'))
  t.is(names.length, 10_000)
  t.is(new Set(names).size, 10_000)
  t.is(big.flags & 0x1000, 0)
  await files.check(t, 'linear')
  const ours = dumpFiles(fs)
  await files.close()
  const mount = await mountLoop(t, path, 'ro')
  t.alike(differences(ours, await dumpMounted(mount.folder)), [])
})

test('a block of xattrs that inodes share is left to the others', NEEDS, async (t) => {
  const path = await kernelImage(t)
  const files = await openFiles(path)
  t.teardown(() => files.close(), { order: 1 })
  const { fs } = files
  const plain = fs.lookup(files.root, 'plain')
  const [f1, f2, f3] = ['f1', 'f2', 'f3'].map((name) => plain && fs.lookup(plain, name))
  if (!plain || !f1 || !f2 || !f3) throw new Error('files are missing')
  const before = fs.getXattr(f3, 'user.large')
  t.is(f2.xattrBlock, f3.xattrBlock, 'the kernel shares the block')

  fs.setXattr(f2, 'user.more', Buffer.from('more'.repeat(50)), 0)
  fs.removeXattr(f1, 'user.large')

  t.alike(fs.getXattr(f3, 'user.large'), before)
  t.is(fs.getXattr(f2, 'user.more')?.length, 200)
  fs.unlink(plain, 'f3')
  await files.check(t, 'after changes')
  const ours = dumpFiles(fs)
  await files.close()
  const mount = await mountLoop(t, path, 'ro')
  t.alike(differences(ours, await dumpMounted(mount.folder)), [])
})

test('a tree of ours is read identically by the kernel', NEEDS, async (t) => {
  const files = await makeFiles(t, 64 * 1024 * 1024, { inodeRatioBytes: 4096 })
  const { fs } = files
  const directory = fs.makeDirectory(files.root, 'dir\xe9', 0o2775, { uid: 5, gid: 70_000, pid: 1 })
  const file = fs.makeNode(directory, 'f', 0o100644, 0, { uid: 100_000, gid: 6, pid: 1 })
  fs.setXattr(file, 'user.a', Buffer.from('1'), 0)
  fs.setXattr(file, 'user.empty', Buffer.alloc(0), 0)
  fs.setXattr(file, 'security.selinux', Buffer.from('label\0'), 0)
  fs.setXattr(file, 'user.big', Buffer.alloc(2000, 7), 0)
  fs.setXattr(file, 'trusted.t', Buffer.alloc(70, 8), 0)
  fs.makeNode(directory, 'c', 0o020666, 0x103, ROOT)
  fs.makeNode(directory, 'b', 0o060660, (300 << 8) | (70_000 & 0xff) | ((70_000 & ~0xff) << 12), ROOT)
  fs.makeNode(directory, 'p', 0o010600, 0, ROOT)
  fs.makeNode(directory, 's', 0o140600, 0, ROOT)
  for (const length of [1, 59, 60, 4095]) {
    fs.makeSymlink(directory, `l${length}`, Buffer.alloc(length, 0x61), ROOT)
  }
  fs.link(file, files.root, 'hard')
  fs.setAttributes(file, { atime: { sec: -1, nsec: 5 }, mtime: { sec: 2 ** 33, nsec: 999_999_999 } }, ROOT)
  await files.check(t, 'made')

  const ours = dumpFiles(fs)
  await files.close()
  const mount = await mountLoop(t, files.path, 'ro')
  t.alike(differences(ours, await dumpMounted(mount.folder)), [])
})

test('the comparison finds a difference that was planted', NEEDS, async (t) => {
  const files = await makeFiles(t, 16 * 1024 * 1024)
  const file = files.fs.makeNode(files.root, 'f', 0o100644, 0, ROOT)
  await files.check(t, 'before')
  const ours = dumpFiles(files.fs)
  files.fs.setXattr(file, 'user.late', Buffer.from('x'), 0)
  await files.close()
  const mount = await mountLoop(t, files.path, 'ro')

  t.is(differences(ours, await dumpMounted(mount.folder)).length, 1)
  t.ok(e2fsck(files.path).clean)
})
