// Numbers of inodes: those that orphans hold are not handed out, are afterwards, and cost nothing meanwhile.

import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'

const CALLER = { uid: 0, gid: 0, pid: 1 }
const FILE = 0o100644

async function emptyFileSystem(): Promise<{ fs: Ext4; root: Inode }> {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 64 * MIB })
  formatExt4(volume)
  const fs = Ext4.open(volume)
  return { fs, root: fs.inode(2) }
}

/** Makes a file, removes its name, and leaves it open. */
function orphan(fs: Ext4, root: Inode, name: string): Inode {
  const inode = fs.makeNode(root, name, FILE, 0, CALLER)
  fs.open(inode)
  fs.unlink(root, name)
  return inode
}

test('a number that an orphan holds comes back when the orphan goes, and not before', async (t) => {
  const { fs, root } = await emptyFileSystem()
  const held = Array.from({ length: 50 }, (_, i) => orphan(fs, root, `held-${i}`))
  const numbers = new Set(held.map((inode) => inode.ino))
  t.is(numbers.size, 50)
  const beside = fs.makeNode(root, 'beside', FILE, 0, CALLER)
  t.absent(numbers.has(beside.ino))
  const [first, second] = held as [Inode, Inode]
  fs.close(second)
  fs.close(first)
  t.is(fs.makeNode(root, 'a', FILE, 0, CALLER).ino, first.ino, 'the lowest one first')
  t.is(fs.makeNode(root, 'b', FILE, 0, CALLER).ino, second.ino)
  t.absent(numbers.has(fs.makeNode(root, 'c', FILE, 0, CALLER).ino))
})

test('every number can be had, also when orphans held each of them once', async (t) => {
  const { fs, root } = await emptyFileSystem()
  const free = fs.statistics().freeInodeCount
  const held = Array.from({ length: free }, (_, i) => orphan(fs, root, `held-${i}`))
  t.is(fs.statistics().freeInodeCount, 0)
  t.exception(() => fs.makeNode(root, 'none', FILE, 0, CALLER), /inode/i)
  for (const inode of held) fs.close(inode)
  const made = new Set<number>()
  for (let i = 0; i < free; i++) made.add(fs.makeNode(root, `file-${i}`, FILE, 0, CALLER).ino)
  t.alike([...made].sort(), held.map((inode) => inode.ino).sort())
})
