// Extended attributes and ACLs: their codecs, limits and flags, and getfacl's and e2fsck's word on them.

import { join } from 'node:path'
import test from 'brittle'
import {
  type Acl,
  decodeDiskAcl,
  decodeInterfaceAcl,
  encodeDiskAcl,
  encodeInterfaceAcl,
  inheritAcl,
  modeFromAcl,
} from '../../src/ext4/acl.ts'
import { XATTR_CREATE, XATTR_REPLACE } from '../../src/ext4/file-system.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import {
  decodeXattrArea,
  decodeXattrBlock,
  encodeXattrArea,
  encodeXattrBlock,
  type Xattr,
} from '../../src/ext4/xattr-block.ts'
import { codeOf, makeFiles, ROOT } from '../support/ext4-files.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'

const MIB = 1024 * 1024
const ACCESS = 'system.posix_acl_access'
const DEFAULT = 'system.posix_acl_default'
const NONE = 0xffffffff

function acl(...entries: [tag: number, permissions: number, id?: number][]): Acl {
  return entries.map(([tag, permissions, id]) => ({ tag, permissions, id: id ?? NONE }))
}

const NAMED = acl([1, 7], [2, 6, 1000], [2, 4, 70_000], [4, 5], [8, 1, 12], [16, 6], [32, 4])

test('ACLs go to disk and back, and what is malformed is refused', (t) => {
  t.alike(decodeDiskAcl(encodeDiskAcl(NAMED), 1), NAMED)
  t.alike(decodeInterfaceAcl(encodeInterfaceAcl(NAMED)), NAMED)
  t.is(encodeDiskAcl(NAMED).length, 4 + 3 * 8 + 4 * 4, 'short entries for those without an id')
  t.is(modeFromAcl(0o100000, NAMED), 0o100764, 'the mask is the group of the mode')
  t.is(decodeInterfaceAcl(Uint8Array.of(2, 0, 0, 0)), undefined, 'empty means none')
  for (const [what, bad] of [
    ['no owner', acl([4, 5], [32, 4])],
    ['no others', acl([1, 7], [4, 5])],
    ['no mask', acl([1, 7], [2, 6, 5], [4, 5], [32, 4])],
    ['order', acl([4, 5], [1, 7], [32, 4])],
    ['two owners', acl([1, 7], [1, 7], [4, 5], [32, 4])],
    ['permissions', acl([1, 8], [4, 5], [32, 4])],
    ['named user without id', acl([1, 7], [2, 6], [4, 5], [16, 7], [32, 4])],
    ['unknown tag', acl([1, 7], [4, 5], [64, 1], [32, 4])],
  ] as const) {
    t.is(
      codeOf(() => decodeInterfaceAcl(encodeInterfaceAcl(bad))),
      'EINVAL',
      what,
    )
  }
  t.is(
    codeOf(() => decodeInterfaceAcl(Uint8Array.of(2, 0, 0, 0, 1))),
    'EINVAL',
  )
  t.is(
    codeOf(() => decodeInterfaceAcl(Uint8Array.of(1, 0, 0, 0))),
    'EOPNOTSUPP',
  )
})

test('a default ACL limits what the mode asks for', (t) => {
  const inherited = inheritAcl(NAMED, 0o100666)
  t.is(inherited.mode, 0o100664)
  t.is(modeFromAcl(0, inherited.acl), 0o664)
  const plain = inheritAcl(acl([1, 7], [4, 5], [32, 0]), 0o100666)
  t.is(plain.mode, 0o100640)
})

test('any bytes in place of xattrs are decoded or refused, never more', (t) => {
  const random = new Random(chosenSeed(t))
  const xattrs: Xattr[] = [
    { nameIndex: 1, name: 'one', value: random.bytes(5) },
    { nameIndex: 6, name: 'two', value: random.bytes(30) },
  ]
  const area = new Uint8Array(96)
  const block = new Uint8Array(4096)
  let refused = 0
  for (let round = 0; round < 3000; round++) {
    encodeXattrArea(area, xattrs)
    encodeXattrBlock(block, xattrs)
    for (let i = random.between(1, 4); i > 0; i--) {
      area[random.between(4, 60)] = random.below(256)
      block[random.between(32, 90)] = random.below(256)
    }
    for (const decode of [() => decodeXattrArea(area, 1), () => decodeXattrBlock(block, 1)]) {
      const code = codeOf(decode)
      if (code === 'CORRUPT') refused++
      else if (code !== '') t.is(code, 'CORRUPT')
    }
  }
  t.ok(refused > 100, `${refused} refused`)
  encodeXattrArea(area, xattrs)
  t.alike(decodeXattrArea(area, 1), xattrs)
  encodeXattrBlock(block, xattrs)
  t.alike(decodeXattrBlock(block, 1), xattrs)
})

test(
  'setXattr() keeps to flags and limits, and a refusal keeps the old value',
  requires('e2fsck'),
  async (t) => {
    const files = await makeFiles(t, 16 * MIB)
    const { fs, root } = files
    const f = fs.makeNode(root, 'f', 0o100644, 0, ROOT)
    const link = fs.makeSymlink(root, 'l', Buffer.from('f'), ROOT)
    const set = (name: string, size: number, flags = 0, inode: Inode = f): string =>
      codeOf(() => fs.setXattr(inode, name, Buffer.alloc(size, 1), flags))

    t.is(set('user.a', 10, XATTR_REPLACE), 'ENODATA')
    t.is(set('user.a', 10, XATTR_CREATE), '')
    t.is(set('user.a', 10, XATTR_CREATE), 'EEXIST')
    t.is(set('user.a', 11, XATTR_REPLACE), '')
    t.is(set('user.', 1), 'EINVAL')
    t.is(set(`user.${'n'.repeat(251)}`, 1), 'ERANGE')
    t.is(set('other.a', 1), 'EOPNOTSUPP')
    t.is(set('system.a', 1), 'EOPNOTSUPP')
    t.is(set('user.a', 65_537), 'E2BIG')
    t.is(set('user.a', 5000), 'ENOSPC')
    t.is(fs.getXattr(f, 'user.a')?.length, 11)
    t.is(set('user.a', 1, 0, link), 'EPERM')
    t.is(set('trusted.a', 1, 0, link), '')
    t.is(
      codeOf(() => fs.removeXattr(f, 'user.none')),
      'ENODATA',
    )
    t.is(set('user.block', 3000), '')
    t.is(set('user.a', 1500), 'ENOSPC', 'neither fits')
    t.is(fs.getXattr(f, 'user.a')?.length, 11)
    t.is(set('user.block', 20), '', 'back into the inode')
    t.is(f.xattrBlock, 0)
    await files.check(t, 'xattrs')
  },
)

test('random xattrs stay what they were set to', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const files = await makeFiles(t, 16 * MIB)
  const { fs, root } = files
  const f = fs.makeNode(root, 'f', 0o100644, 0, ROOT)
  const model = new Map<string, string>()
  for (let step = 0; step < 2000; step++) {
    const name = `${random.pick(['user.', 'trusted.', 'security.'])}${'x'.repeat(random.below(12))}${random.below(4)}`
    if (random.chance(0.3)) {
      const code = codeOf(() => fs.removeXattr(f, name))
      t.is(code, model.delete(name) ? '' : 'ENODATA')
    } else {
      const value = random.bytes(random.chance(0.3) ? random.below(900) : random.below(30))
      const code = codeOf(() => fs.setXattr(f, name, value, 0))
      if (code === '') model.set(name, Buffer.from(value).toString('hex'))
      else t.is(code, 'ENOSPC')
    }
    if (step % 100 !== 0) continue
    const have = fs.listXattrs(f).map((key) => [key, Buffer.from(fs.getXattr(f, key) ?? []).toString('hex')])
    t.alike(have.sort(), [...model].sort(), `after ${step} steps`)
  }
  await files.check(t, 'random xattrs')
})

const NEEDS_KERNEL = requires('root', 'e2fsck', 'getfacl', '/dev/loop-control')

test('getfacl sees the ACLs that were set, inherited and changed by chmod', NEEDS_KERNEL, async (t) => {
  const files = await makeFiles(t, 16 * MIB)
  const { fs, root } = files
  const f = fs.makeNode(root, 'f', 0o100600, 0, ROOT)
  fs.setXattr(f, ACCESS, encodeInterfaceAcl(NAMED), 0)
  t.is(f.mode, 0o100764)
  fs.setAttributes(f, { mode: 0o751 }, ROOT)
  t.alike(decodeInterfaceAcl(fs.getXattr(f, ACCESS) as Uint8Array)?.at(-2), {
    tag: 16,
    permissions: 5,
    id: NONE,
  })

  const plain = fs.makeNode(root, 'plain', 0o100600, 0, ROOT)
  fs.setXattr(plain, ACCESS, encodeInterfaceAcl(acl([1, 7], [4, 5], [32, 1])), 0)
  t.is(plain.mode, 0o100751)
  t.alike(fs.listXattrs(plain), [], 'what the mode says is not stored')
  t.is(
    codeOf(() => fs.setXattr(plain, DEFAULT, encodeInterfaceAcl(NAMED), 0)),
    'EACCES',
  )
  t.is(
    codeOf(() => fs.removeXattr(plain, ACCESS)),
    '',
    'removing none is no error',
  )

  const d = fs.makeDirectory(root, 'd', 0o777, ROOT)
  fs.setXattr(d, DEFAULT, encodeInterfaceAcl(NAMED), 0)
  const caller = { ...ROOT, umask: 0o077 }
  const child = fs.makeNode(d, 'child', 0o100666, 0, caller)
  t.is(child.mode, 0o100664, 'the default ACL takes the place of the umask')
  const sub = fs.makeDirectory(d, 'sub', 0o777, caller)
  t.alike(fs.listXattrs(sub).sort(), [ACCESS, DEFAULT])
  t.alike(fs.listXattrs(fs.makeSymlink(d, 'l', Buffer.from('x'), caller)), [])
  await files.check(t, 'ACLs')
  await files.close()

  const mount = await mountLoop(t, files.path, 'ro')
  const facl = async (name: string): Promise<string> => {
    const { stdout } = await run('getfacl', ['-n', '-c', '--absolute-names', join(mount.folder, name)])
    return stdout.replaceAll(/\t#.*/g, '').trim().split('\n').join(' ')
  }
  t.is(await facl('f'), 'user::rwx user:1000:rw- user:70000:r-- group::r-x group:12:--x mask::r-x other::--x')
  t.is(await facl('plain'), 'user::rwx group::r-x other::--x')
  t.is(
    await facl('d/child'),
    'user::rw- user:1000:rw- user:70000:r-- group::r-x group:12:--x mask::rw- other::r--',
  )
  t.ok((await facl('d/sub')).includes('default:user:1000:rw-'))
})
