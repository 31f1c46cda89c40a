// What the file system remembers stays within its limits, counted in entries and not in bytes of a heap:
// names of directories, and clean blocks of metadata. What is forgotten is found again.

import test from 'brittle'
import { BlockCache } from '../../src/ext4/block-cache.ts'
import { DirectoryIndexCache } from '../../src/ext4/directory-index.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { makeFiles, ROOT } from '../support/ext4-files.ts'

const BLOCK = 4096

test('names of all directories together stay within the limit', (t) => {
  const limit = 1000
  const cache = new DirectoryIndexCache(limit)
  let most = 0
  for (let ino = 11; ino < 61; ino++) {
    const index = cache.get(ino, () => 1)
    cache.start(index)
    for (let i = 0; i < 100; i++) {
      cache.set(index, `name-${i}`, 100 + i)
      most = Math.max(most, cache.nameCount)
    }
  }
  t.is(most, limit, 'the limit is reached and never passed')
  const large = cache.get(99, () => 1)
  cache.start(large)
  for (let i = 0; i <= limit; i++) cache.set(large, `name-${i}`, 100 + i)
  t.is(large.names, undefined, 'a directory larger than the limit is not remembered at all')
  t.is(cache.nameCount, 0)
})

test('clean blocks stay within the limit, dirty ones until they are written', (t) => {
  const limitBlocks = 1024
  const device = new PlainDevice(new MemoryStorage(), 16_384)
  const cache = new BlockCache(device, limitBlocks * BLOCK)
  for (let block = 1; block < 16_384; block++) {
    cache.get(block)
    if (cache.blockCount > limitBlocks) t.fail(`${cache.blockCount} blocks in memory`)
  }
  for (let block = 1; block <= 3 * limitBlocks; block++) {
    const changed = cache.get(block)
    changed.bytes[0] = block
    cache.markDirty(changed, () => undefined)
  }
  t.is(cache.dirtyCount, 3 * limitBlocks, 'none of them is lost')
  cache.flush()
  for (let block = 8000; block < 8000 + 2 * limitBlocks; block++) cache.get(block)
  t.ok(cache.blockCount <= limitBlocks, 'and they go when they are written')
  t.is(cache.get(7).bytes[0], 7)
})

test('names are found whether they are remembered or not, in the room that others left', async (t) => {
  const { fs, check } = await makeFiles(t, 256 << 20, {}, { nameLimit: 100 })
  const root = fs.inode(2)
  const there = new Set<string>()
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 900; i++) {
      // Lengths differ, so that what one leaves is too small or too large for the next.
      const name = `${'n'.repeat(1 + ((i * 7 + round * 13) % 60))}-${i}`
      if (there.has(name)) continue
      fs.makeNode(root, name, 0o100644, 0, ROOT)
      there.add(name)
    }
    for (const name of [...there]) {
      if ((name.length + round) % 3 !== 0) continue
      fs.unlink(root, name)
      there.delete(name)
    }
  }
  const listed: string[] = []
  fs.readDirectory(root, 0, ({ name }) => listed.push(name) > 0)
  const names = listed.filter((name) => name !== '.' && name !== '..' && name !== 'lost+found')
  t.alike(names.sort(), [...there].sort())
  for (const name of there) if (!fs.lookup(root, name)) t.fail(`${name} is not found`)
  await check(t, 'e2fsck agrees')
})
