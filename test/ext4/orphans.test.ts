// Unlinked files still in use, and running out of space: after every commit the image is clean.

import { copyFileSync } from 'node:fs'
import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { FALLOC } from '../../src/ext4/file-system.ts'
import { type Inode, ROOT_INO, S_IFREG } from '../../src/ext4/inode.ts'
import { Ext4Structure } from '../../src/ext4/structure.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { linkInRoot, makeFile, makeImage, openImage, readAll, unlinkFromRoot } from '../support/ext4-image.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'

test(
  'an unlinked open file is free in the committed view and whole in memory',
  requires('e2fsck'),
  async (t) => {
    const image = await makeImage(t, 32 * MIB)
    const { core, data, device } = image
    const empty = core.allocator.freeCount
    const inode = makeFile(core, 'doomed')
    const bytes = new Uint8Array(2 * MIB).fill(0x5a)
    data.write(inode, 0, bytes.length, bytes, 0, false)
    core.inode(ROOT_INO)
    inode.openCount = 1
    unlinkFromRoot(core, inode)
    t.ok(inode.orphaned)
    await image.check(t, 'with an orphan open')
    t.is(core.allocator.committedFreeCount, empty, 'free on disk')
    t.ok(core.allocator.freeCount < empty, 'not free in memory')
    t.ok(device.readSideTable().length > 0, 'the side table lists its blocks')
    data.write(inode, 4 * MIB, 5000, bytes, 0, false)
    const other = makeFile(core, 'other')
    data.write(other, 0, bytes.length, new Uint8Array(bytes.length).fill(1), 0, false)
    t.not(other.ino, inode.ino, 'its number is not reused')
    await image.check(t, 'orphan written, another file made')
    const read = await readAll(image, inode)
    t.ok(
      read.subarray(0, bytes.length).every((b) => b === 0x5a),
      'its bytes are whole',
    )
    data.truncate(inode, MIB)
    data.allocate(inode, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, 0, 4096)
    await image.check(t, 'orphan cut and punched')
    inode.openCount = 0
    core.releaseOrphan(inode)
    await image.check(t, 'orphan released')
    t.is(device.readSideTable().length, 0, 'the side table is empty')
    unlinkFromRoot(core, other)
    t.is(core.allocator.freeCount, empty, 'every block came back')
    await image.close()
  },
)

test('a temporary file is an orphan from birth and can be linked', requires('e2fsck'), async (t) => {
  let image = await makeImage(t, 32 * MIB)
  const { core, data } = image
  core.begin(8)
  const inode = core.allocateInode(core.inode(ROOT_INO), S_IFREG | 0o600, 1, 2)
  core.makeOrphan(inode)
  inode.openCount = 1
  for (let i = 0; i < 40; i++) data.write(inode, i * 8192, 3, Buffer.from('abc'), 0, false)
  await image.check(t, 'while temporary')
  const { generation } = inode
  core.adoptOrphan(inode)
  linkInRoot(core, inode, 'adopted')
  inode.openCount = 0
  await image.check(t, 'linked')
  image = await image.reopen()
  const again = image.core.inode(inode.ino)
  t.is(again.generation, generation)
  const bytes = await readAll(image, again)
  t.is(Buffer.from(bytes.subarray(39 * 8192)).toString(), 'abc')
  await image.close()
})

test('opening after a crash discards what orphans held', requires('e2fsck'), async (t) => {
  const image = await makeImage(t, 32 * MIB)
  const { core, data, device } = image
  const inode = makeFile(core, 'doomed')
  data.write(inode, 0, MIB, new Uint8Array(MIB).fill(9), 0, false)
  const block = core.mapBlock(inode, 0)
  inode.openCount = 1
  unlinkFromRoot(core, inode)
  await device.commit()
  // The same device opened anew is what a crash leaves: image and side table.
  const again = Ext4Structure.open(device)
  const bytes = new Uint8Array(4096)
  device.readSync(block * 4096, 4096, bytes, 0)
  t.ok(
    bytes.every((b) => b === 0),
    'the block reads as zeros',
  )
  t.is(device.readSideTable().length, 0)
  t.exception(() => again.inode(inode.ino), /not in use/)
  const copy = `${image.path}.crash`
  copyFileSync(image.path, copy)
  t.ok(e2fsck(copy).clean)
})

test('a full file system answers ENOSPC, stays clean and recovers', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const image = await makeImage(t, 3 * MIB)
  const { core, data } = image
  const empty = core.allocator.freeCount
  for (let round = 0; round < 6; round++) {
    const files: Inode[] = []
    const refusals = { write: 0, allocate: 0 }
    for (let i = 0; i < 10; i++) files.push(makeFile(core, `f${round}-${i}`))
    for (let i = 0; refusals.write + refusals.allocate < 60 && i < 5000; i++) {
      const inode = random.pick(files)
      const at = random.below(3000) * 4096 * 2
      try {
        if (random.chance(0.8)) {
          data.write(inode, at, 4096 * random.between(1, 3), random.bytes(4096 * 3), 0, false)
        } else data.allocate(inode, random.pick([0, 1, 16, 17]), at, 4096 * random.between(1, 9))
      } catch (error) {
        if (!hasCode(error, 'ENOSPC')) throw error
        refusals.write++
      }
    }
    t.ok(refusals.write > 0, 'it was full')
    await image.check(t, `full, round ${round}`)
    for (const inode of files) {
      if (random.chance(0.5)) data.truncate(inode, random.below(inode.sizeBytes))
    }
    await image.check(t, `cut, round ${round}`)
    for (const inode of files) unlinkFromRoot(core, inode)
    await image.check(t, `emptied, round ${round}`)
    t.is(core.allocator.freeCount, empty, 'every block came back')
  }
  await image.close()
})

test('inodes run out with ENOSPC and come back under new generations', requires('e2fsck'), async (t) => {
  const image = await makeImage(t, MIB)
  const { core } = image
  const inodes: Inode[] = []
  for (;;) {
    try {
      inodes.push(makeFile(core, `n${inodes.length}`))
    } catch (error) {
      if (!hasCode(error, 'ENOSPC')) throw error
      break
    }
  }
  t.is(core.inodeAllocator.freeCount, 0)
  await image.check(t, 'no inode left')
  const last = inodes.at(-1) as Inode
  unlinkFromRoot(core, last)
  await image.check(t, 'one freed')
  const next = makeFile(core, 'next')
  t.is(next.ino, last.ino)
  t.not(next.generation, last.generation)
  await image.check(t, 'one taken again')
  await image.close()
  const reopened = await openImage(image.path)
  t.is(reopened.core.inode(next.ino).generation, next.generation)
  await reopened.close()
})
