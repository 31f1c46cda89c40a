// Inodes in memory stay within their limit whatever the kernel has looked up, and nothing is lost by it:
// the counts come back, and a file that is unlinked while the kernel knows it lives on until forgotten.

import test from 'brittle'
import { Inode } from '../../src/ext4/inode.ts'
import { InodeCache } from '../../src/ext4/inode-cache.ts'
import { makeFiles, ROOT } from '../support/ext4-files.ts'
import { chosenSeed, Random } from '../support/random.ts'

test('only the lookup counts of inodes outgrow the limit', (t) => {
  const limit = 1000
  const cache = new InodeCache(limit, () => 7)
  for (let ino = 11; ino < 11 + 20 * limit; ino++) {
    const inode = new Inode(ino)
    inode.lookupCount = 1 + (ino % 3)
    cache.add(inode)
    if (cache.count > limit + 1) t.fail(`${cache.count} inodes in memory`)
  }
  t.is(cache.get(12), undefined, 'an old one is gone')
  const again = new Inode(12)
  cache.add(again)
  t.is(again.lookupCount, 1 + (12 % 3), 'its count comes back with it')
  t.absent(cache.forgetLookups(12, 1), 'it is counted on the inode again')
  t.ok(cache.forgetLookups(14, 1))
  const less = new Inode(14)
  cache.add(less)
  t.is(less.lookupCount, 2)
  t.ok(cache.forgetLookups(13, 9), 'more than there were')
  const none = new Inode(13)
  cache.add(none)
  t.is(none.lookupCount, 0)
})

test('what is in use stays whatever the limit', (t) => {
  const cache = new InodeCache(600, () => 7)
  const open = new Inode(11)
  open.openCount = 1
  const orphan = new Inode(12)
  orphan.orphaned = true
  const dirty = new Inode(13)
  dirty.dirty = true
  const young = new Inode(14)
  young.inodeTransaction = 8
  const used = [open, orphan, dirty, young]
  for (const inode of used) cache.add(inode)
  for (let ino = 100; ino < 10_000; ino++) cache.add(new Inode(ino))
  for (const inode of used) t.is(cache.get(inode.ino), inode)
})

test('a file that left memory while the kernel knew it is unlinked like any other', async (t) => {
  const random = new Random(chosenSeed(t))
  const { fs, device, check } = await makeFiles(t, 256 << 20, {}, { inodeCacheCount: 512 })
  const root = fs.inode(2)
  const names = Array.from({ length: 5000 }, (_, i) => `file-${i}`)
  const numbers = new Map<string, number>()
  for (const name of names) {
    const inode = fs.makeNode(root, name, 0o100644, 0, ROOT)
    fs.addLookups(inode, 2)
    numbers.set(name, inode.ino)
    fs.write(inode, 0, 12, Buffer.from(name.padEnd(12)), 0, false)
  }
  await device.commit()
  for (const name of names) fs.lookup(root, name)
  const known = names.filter(() => random.chance(0.3))
  const free = fs.statistics().freeBlockCount
  for (const name of known) fs.unlink(root, name)
  await check(t, 'nobody sees them on disk')
  for (const name of known) {
    const inode = fs.inode(numbers.get(name) as number)
    const found = new Uint8Array(12)
    await fs.read(inode, 0, 12, found, 0)
    if (Buffer.from(found).toString() !== name.padEnd(12)) t.fail(`${name} has lost its content`)
  }
  for (const name of known) fs.forgetLookups(numbers.get(name) as number, 1)
  t.is(fs.inode(numbers.get(known[0] as string) as number).lookupCount, 1, 'one lookup is left')
  for (const name of known) fs.forgetLookups(numbers.get(name) as number, 1)
  t.exception(() => fs.inode(numbers.get(known[0] as string) as number), /not in use/)
  t.is(fs.statistics().freeBlockCount, free + known.length, 'their blocks are free')
  for (const name of names) fs.forgetLookups(numbers.get(name) as number, 2)
  await check(t, 'and all is well in the end')
})
