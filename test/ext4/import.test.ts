// File systems made by mke2fs with other features and layouts, written to by us and judged by e2fsck.

import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { type Inode, ROOT_INO, S_IFDIR } from '../../src/ext4/inode.ts'
import { makeFile, openImage, sparseFile, unlinkFromRoot } from '../support/ext4-image.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'

const LAYOUTS: readonly [string, string[]][] = [
  ['defaults without journal', ['-O', '^has_journal']],
  ['meta_bg', ['-O', '^has_journal,meta_bg,^resize_inode']],
  ['sparse_super2', ['-O', '^has_journal,sparse_super2']],
  ['metadata_csum_seed and large_dir', ['-O', '^has_journal,metadata_csum_seed,large_dir']],
  ['no flex_bg', ['-O', '^has_journal,^flex_bg']],
  ['flex groups of 4, initialised lazily', ['-O', '^has_journal', '-G', '4', '-E', 'lazy_itable_init=1']],
  ['many inodes', ['-O', '^has_journal', '-i', '4096']],
]

for (const [name, args] of LAYOUTS) {
  test(`a file system of mke2fs with ${name} can be filled`, requires('mke2fs', 'e2fsck'), async (t) => {
    const path = sparseFile(t, 600 * MIB + 40_960)
    await run('mke2fs', ['-F', '-q', '-t', 'ext4', '-b', '4096', ...args, path])
    const image = await openImage(path)
    const { core, data } = image
    const empty = core.allocator.freeCount
    const files: Inode[] = []
    const megabyte = new Uint8Array(MIB).fill(0x42)
    // Unwritten extents over every group, and a few bytes in each.
    for (let i = 0; i < 5; i++) {
      const inode = makeFile(core, `file${i}`)
      data.allocate(inode, 0, 0, Math.floor((empty * 4096) / 5.5))
      data.write(inode, i * MIB, MIB, megabyte, 0, false)
      files.push(inode)
    }
    await image.check(t, 'nearly full')
    for (const inode of files) unlinkFromRoot(core, inode)
    t.is(core.allocator.freeCount, empty, 'every block came back')
    await image.check(t, 'emptied')
    await image.close()
  })
}

test('inodes of every group can be used', requires('mke2fs', 'e2fsck'), async (t) => {
  const path = sparseFile(t, 400 * MIB)
  await run('mke2fs', ['-F', '-q', '-t', 'ext4', '-b', '4096', '-O', '^has_journal', '-N', '128', path])
  const image = await openImage(path)
  const { core } = image
  const root = core.inode(ROOT_INO)
  const groups = new Set<number>()
  const made: Inode[] = []
  while (core.inodeAllocator.freeCount > 0) {
    const inode = core.allocateInode(root, S_IFDIR | 0o755, 0, 0)
    core.appendBlock(inode, 0)
    inode.sizeBytes = 4096
    groups.add(core.inodeAllocator.groupOf(inode.ino))
    made.push(inode)
  }
  t.is(groups.size, core.geometry.groupCount)
  for (const inode of made) core.dropInode(inode)
  await image.check(t, 'all of them used once')
  await image.close()
})
