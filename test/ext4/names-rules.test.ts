// What POSIX and Linux ask of single operations on names: errors, times, ownership, links, leftovers.

import test from 'brittle'
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from '../../src/ext4/file-system.ts'
import { INODE_FLAG, type Inode } from '../../src/ext4/inode.ts'
import { codeOf, type Ext4Files, makeFiles, namesOf, openFiles, ROOT } from '../support/ext4-files.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'

const MIB = 1024 * 1024
const NEEDS = requires('e2fsck')
const FILE = 0o100644

function file(files: Ext4Files, name: string, parent = files.root): Inode {
  return files.fs.makeNode(parent, name, FILE, 0, ROOT)
}

test('each refused operation has its errno and changes nothing', NEEDS, async (t) => {
  const files = await makeFiles(t, 16 * MIB)
  const { fs, root } = files
  const f = file(files, 'f')
  const d = fs.makeDirectory(root, 'd', 0o755, ROOT)
  const below = fs.makeDirectory(d, 'below', 0o755, ROOT)
  const long = 'n'.repeat(256)
  const cases: [string, string, () => unknown][] = [
    ['EEXIST', 'create over a name', () => file(files, 'f')],
    ['EEXIST', 'mkdir "."', () => fs.makeDirectory(root, '.', 0o755, ROOT)],
    ['ENAMETOOLONG', 'create', () => file(files, long)],
    ['ENAMETOOLONG', 'lookup', () => fs.lookup(root, long)],
    ['ENOTDIR', 'create below a file', () => file(files, 'x', f)],
    ['ENOTDIR', 'lookup in a file', () => fs.lookup(f, 'x')],
    ['ENOTDIR', 'list a file', () => fs.readDirectory(f, 0, () => true)],
    ['EINVAL', 'a slash', () => file(files, 'a/b')],
    ['ENOENT', 'an empty name', () => file(files, '')],
    ['ENOENT', 'unlink', () => fs.unlink(root, 'none')],
    ['EISDIR', 'unlink a directory', () => fs.unlink(root, 'd')],
    ['ENOTDIR', 'rmdir a file', () => fs.removeDirectory(root, 'f')],
    ['ENOTEMPTY', 'rmdir', () => fs.removeDirectory(root, 'd')],
    ['EINVAL', 'rmdir "."', () => fs.removeDirectory(d, '.')],
    ['ENOTEMPTY', 'rmdir ".."', () => fs.removeDirectory(below, '..')],
    ['EPERM', 'link a directory', () => fs.link(d, root, 'd2')],
    ['EEXIST', 'link over a name', () => fs.link(f, root, 'd')],
    ['ENOENT', 'symlink to nothing', () => fs.makeSymlink(root, 's', Buffer.alloc(0), ROOT)],
    ['ENAMETOOLONG', 'symlink', () => fs.makeSymlink(root, 's', Buffer.alloc(4096, 1), ROOT)],
    ['EINVAL', 'readlink of a file', () => fs.readSymlink(f)],
    ['EINVAL', 'move below itself', () => fs.rename(root, 'd', below, 'x', 0)],
    ['EINVAL', 'exchange with an ancestor', () => fs.rename(d, 'below', root, 'd', RENAME_EXCHANGE)],
    ['ENOTEMPTY', 'replace an ancestor', () => fs.rename(d, 'below', root, 'd', 0)],
    ['EISDIR', 'file over directory', () => fs.rename(root, 'f', root, 'd', 0)],
    ['ENOTDIR', 'directory over file', () => fs.rename(root, 'd', root, 'f', 0)],
    ['EEXIST', 'no replace', () => fs.rename(root, 'f', root, 'd', RENAME_NOREPLACE)],
    ['ENOENT', 'exchange with nothing', () => fs.rename(root, 'f', root, 'x', RENAME_EXCHANGE)],
    ['EINVAL', 'flags together', () => fs.rename(root, 'f', root, 'd', RENAME_EXCHANGE | RENAME_NOREPLACE)],
    ['EBUSY', 'rename "."', () => fs.rename(d, '.', root, 'x', 0)],
    ['EISDIR', 'truncate a directory', () => fs.setAttributes(d, { sizeBytes: 0 }, ROOT)],
    ['ESTALE', 'inode not in use', () => fs.inode(500)],
  ]
  await files.device.commit()
  const before = [...namesOf(fs, root), root.linkCount, root.mtime.sec, root.mtime.nsec]
  for (const [code, what, act] of cases) t.is(codeOf(act), code, what)
  t.alike([...namesOf(fs, root), root.linkCount, root.mtime.sec, root.mtime.nsec], before)
  await files.check(t, 'after refusals')
})

test('a read-only file system refuses every change with EROFS', NEEDS, async (t) => {
  const files = await makeFiles(t, 16 * MIB)
  file(files, 'f')
  await files.close()
  const { fs, root, close } = await openFiles(files.path, { readOnly: true })
  t.teardown(close, { order: 1 })
  const f = fs.lookup(root, 'f') as Inode
  for (const act of [
    () => fs.makeNode(root, 'x', FILE, 0, ROOT),
    () => fs.unlink(root, 'f'),
    () => fs.rename(root, 'f', root, 'g', 0),
    () => fs.setAttributes(f, { mode: 0 }, ROOT),
    () => fs.setXattr(f, 'user.x', Buffer.from('1'), 0),
    () => fs.write(f, 0, 1, Buffer.from('1'), 0, false),
  ]) {
    t.is(codeOf(act), 'EROFS')
  }
})

test('a removed directory that is still in use is empty and takes nothing', NEEDS, async (t) => {
  const files = await makeFiles(t, 16 * MIB)
  const { fs, root } = files
  const d = fs.makeDirectory(root, 'd', 0o755, ROOT)
  fs.addLookups(d, 1)
  fs.removeDirectory(root, 'd')
  await files.check(t, 'while in use')

  t.is(
    codeOf(() => file(files, 'x', d)),
    'ENOENT',
  )
  t.is(fs.lookup(d, 'x'), undefined)
  t.alike(namesOf(fs, d), [])
  fs.forgetLookups(d.ino, 1)
  await files.check(t, 'when nobody uses it')
})

test(
  'an unlinked open file lives until it is closed, a temporary one until it is linked',
  NEEDS,
  async (t) => {
    const files = await makeFiles(t, 16 * MIB)
    const { fs, root } = files
    const before = fs.statistics().freeBlockCount
    const f = file(files, 'f')
    fs.write(f, 0, 5000, Buffer.alloc(5000, 1), 0, false)
    fs.setXattr(f, 'user.large', Buffer.alloc(1000, 2), 0)
    fs.open(f)
    fs.unlink(root, 'f')
    await files.check(t, 'with an orphan')
    t.is(fs.getXattr(f, 'user.large')?.length, 1000)
    t.is(
      codeOf(() => fs.link(f, root, 'back')),
      'ENOENT',
    )
    fs.close(f)
    t.is(fs.statistics().freeBlockCount, before, 'all blocks are free again')

    const temporary = fs.makeTemporary(root, 0o600, ROOT)
    fs.open(temporary)
    fs.write(temporary, 0, 3, Buffer.from('abc'), 0, false)
    await files.check(t, 'with a temporary file')
    fs.link(temporary, root, 'kept')
    fs.close(temporary)
    const gone = fs.makeTemporary(root, 0o600, ROOT)
    fs.open(gone)
    fs.close(gone)
    await files.check(t, 'linked')
    const again = await files.reopen()
    t.teardown(again.close, { order: 1 })
    const kept = again.fs.lookup(again.root, 'kept') as Inode
    t.is(kept.linkCount, 1)
    t.is(kept.sizeBytes, 3)
  },
)

test('times move where POSIX says', NEEDS, async (t) => {
  let sec = 1000
  const now = () => ({ sec: sec++, nsec: 7 })
  const files = await makeFiles(t, 16 * MIB, {}, { now })
  const { fs, root } = files
  const d = fs.makeDirectory(root, 'd', 0o755, ROOT)
  const f = file(files, 'f')
  t.alike(
    [f.atime, f.mtime, f.ctime].map((time) => time.sec - f.crtime.sec),
    [0, 0, 0],
  )
  const moved = (inode: Inode, act: () => void): string => {
    const before = { ...inode, mtime: { ...inode.mtime }, ctime: { ...inode.ctime } }
    act()
    const changed = [inode.mtime.sec > before.mtime.sec && 'm', inode.ctime.sec > before.ctime.sec && 'c']
    return changed.filter(Boolean).join('')
  }
  t.is(
    moved(f, () => fs.link(f, d, 'l')),
    'c',
    'link: the inode',
  )
  t.is(
    moved(d, () => fs.link(f, d, 'l2')),
    'mc',
    'link: the directory',
  )
  t.is(
    moved(f, () => fs.unlink(d, 'l')),
    'c',
    'unlink: the inode',
  )
  t.is(
    moved(f, () => fs.rename(root, 'f', d, 'g', 0)),
    'c',
    'rename: the inode',
  )
  t.is(
    moved(root, () => fs.rename(d, 'g', root, 'f', 0)),
    'mc',
    'rename: the new parent',
  )
  t.is(
    moved(d, () => fs.rename(root, 'f', d, 'g', 0)),
    'mc',
    'rename: the other one',
  )
  t.is(
    moved(f, () => fs.setAttributes(f, { mode: 0o600 }, ROOT)),
    'c',
    'chmod',
  )
  t.is(
    moved(f, () => fs.setAttributes(f, { sizeBytes: 10 }, ROOT)),
    'mc',
    'truncate',
  )
  t.is(
    moved(f, () => fs.setXattr(f, 'user.x', Buffer.from('1'), 0)),
    'c',
    'setxattr',
  )
  fs.setAttributes(f, { mtime: { sec: 5e10, nsec: 1 }, atime: { sec: -5e10, nsec: 2 } }, ROOT)
  t.alike(
    f.mtime,
    { sec: 2 ** 34 - 2 ** 31 - 1, nsec: 0 },
    'clamped to 2446, without a fraction, as the kernel does',
  )
  t.alike(f.atime, { sec: -(2 ** 31), nsec: 0 }, 'clamped to 1901')
  await files.check(t, 'times')
})

test('ownership, set-id bits and inode flags follow the rules', NEEDS, async (t) => {
  const files = await makeFiles(t, 16 * MIB)
  const { fs, root } = files
  const user = { uid: 7, gid: 8, pid: 1, umask: 0o027 }
  const shared = fs.makeDirectory(root, 'shared', 0o2775, { uid: 1, gid: 99, pid: 1 })
  const f = fs.makeNode(shared, 'f', 0o104777, 0, user)
  t.alike([f.uid, f.gid, f.mode], [7, 99, 0o104750], 'group of the directory, umask')
  t.is(fs.makeDirectory(shared, 'd', 0o777, user).mode, 0o042750, 'the directory passes sgid on')
  fs.setXattr(f, 'security.capability', Buffer.alloc(20, 1), 0)

  fs.setAttributes(f, { mode: 0o6755 }, user)
  fs.setAttributes(f, { uid: 9 }, ROOT)
  t.is(f.mode, 0o100755, 'chown takes suid and sgid')
  t.is(fs.getXattr(f, 'security.capability'), undefined, 'and capabilities')
  fs.setAttributes(f, { mode: 0o2644 }, ROOT)
  fs.setAttributes(f, { clearSuidSgid: true }, ROOT)
  t.is(f.mode, 0o102644, 'sgid stays where the group may not execute')

  fs.setAttributes(f, { inodeFlags: INODE_FLAG.IMMUTABLE }, ROOT)
  t.ok((f.flags & INODE_FLAG.EXTENTS) !== 0, 'the file system keeps its own flags')
  t.is(
    codeOf(() => fs.unlink(shared, 'f')),
    'EPERM',
  )
  t.is(
    codeOf(() => fs.rename(shared, 'f', root, 'f', 0)),
    'EPERM',
  )
  t.is(
    codeOf(() => fs.link(f, root, 'f2')),
    'EPERM',
  )
  t.is(
    codeOf(() => fs.setAttributes(f, { mode: 0o777 }, ROOT)),
    'EPERM',
  )
  t.is(
    codeOf(() => fs.setXattr(f, 'user.a', Buffer.from('1'), 0)),
    'EPERM',
  )
  fs.setAttributes(f, { inodeFlags: 0 }, ROOT)
  fs.unlink(shared, 'f')
  await files.check(t, 'ownership')
})

test('a whiteout stays where a file was moved from', NEEDS, async (t) => {
  const files = await makeFiles(t, 16 * MIB)
  const { fs, root } = files
  const f = file(files, 'f')
  fs.rename(root, 'f', root, 'g', RENAME_WHITEOUT)
  t.is(fs.lookup(root, 'g'), f)
  const whiteout = fs.lookup(root, 'f') as Inode
  t.is(whiteout.mode, 0o020000)
  t.is(fs.deviceNumber(whiteout), 0)
  await files.check(t, 'whiteout')
})

test('a file has at most 65,000 links', NEEDS, async (t) => {
  const files = await makeFiles(t, 64 * MIB)
  const { fs, root } = files
  const f = file(files, 'f')
  for (let i = 1; i < 65_000; i++) fs.link(f, root, `l${i}`)
  t.is(
    codeOf(() => fs.link(f, root, 'more')),
    'EMLINK',
  )
  t.is(f.linkCount, 65_000)
  await files.check(t, '65,000 links')
})

test(
  'a directory of more than 64,998 subdirectories shows one link',
  process.env['UMBRA_LONG'] ? NEEDS : { skip: true },
  async (t) => {
    const files = await makeFiles(t, 768 * MIB, { inodeRatioBytes: 8192 })
    const { fs, root } = files
    const d = fs.makeDirectory(root, 'd', 0o755, ROOT)
    for (let i = 0; i < 64_997; i++) fs.makeDirectory(d, `d${i}`, 0o755, ROOT)
    t.is(d.linkCount, 64_999)
    fs.makeDirectory(d, 'one-more', 0o755, ROOT)
    t.is(d.linkCount, 1)
    await files.check(t, 'many')
    for (let i = 0; i < 100; i++) fs.removeDirectory(d, `d${i}`)
    t.is(d.linkCount, 1)
    await files.check(t, 'fewer again')
  },
)

test('running out of space leaves a whole tree each time', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const files = await makeFiles(t, 3 * MIB, { inodeRatioBytes: 4096 })
  const { fs, root } = files
  let refusals = 0
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 600; i++) {
      const name = `${'n'.repeat(random.below(200))}${round}-${i}`
      const kind = random.below(4)
      const code = codeOf(() => {
        if (kind === 0) fs.makeDirectory(root, name, 0o755, ROOT)
        else if (kind === 1) fs.makeSymlink(root, name, Buffer.alloc(100, 0x61), ROOT)
        else if (kind === 2) fs.setXattr(file(files, name), 'user.x', Buffer.alloc(500, i), 0)
        else file(files, name)
      })
      if (code === '') continue
      if (code !== 'ENOSPC') t.is(code, 'ENOSPC', name)
      refusals++
    }
    await files.check(t, `round ${round}`)
    for (const name of namesOf(fs, root)) {
      if (name === 'lost+found' || random.chance(0.3)) continue
      if (fs.lookup(root, name)?.isDirectory) fs.removeDirectory(root, name)
      else fs.unlink(root, name)
    }
    await files.check(t, `round ${round}, after removals`)
  }
  t.ok(refusals > 100, `${refusals} refusals`)
})
