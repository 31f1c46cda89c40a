// What fsync and fdatasync owe before they return, and what becomes of reads that end late.

import test from 'brittle'
import { hasCode, UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { Volume } from '../../src/volume/volume.ts'
import { ROOT } from '../support/ext4-files.ts'

const FILE_MODE = 0o100644

test('fdatasync of a directory makes its new, moved and removed names durable', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 64 * MIB })
  formatExt4(volume)
  await volume.commit()
  const fs = Ext4.open(volume)
  const folder = fs.makeDirectory(fs.inode(2), 'folder', 0o755, ROOT)
  fs.makeNode(folder, 'old', FILE_MODE, 0, ROOT)
  fs.makeNode(folder, 'doomed', FILE_MODE, 0, ROOT)
  await volume.commit()

  const names = async () => {
    // What a crash now would leave.
    const crashed = await Volume.open(storage.fork(), { readOnly: true })
    const after = Ext4.open(crashed, { readOnly: true })
    const seen: string[] = []
    after.readDirectory(after.lookup(after.inode(2), 'folder') ?? after.inode(2), 0, ({ name }) => {
      if (!name.startsWith('.')) seen.push(name)
      return true
    })
    return seen.sort()
  }
  t.alike(await names(), ['doomed', 'old'])
  fs.makeNode(folder, 'new', FILE_MODE, 0, ROOT)
  await fs.sync(folder, true)
  t.alike(await names(), ['doomed', 'new', 'old'], 'a new name')
  fs.rename(folder, 'old', folder, 'moved', 0)
  await fs.sync(folder, true)
  t.alike(await names(), ['doomed', 'moved', 'new'], 'a moved name')
  fs.unlink(folder, 'doomed')
  await fs.sync(folder, true)
  t.alike(await names(), ['moved', 'new'], 'a removed name')
  await volume.close()
})

/** Reads of file data wait until they are let go; metadata can be made unreadable. */
class SlowDevice extends PlainDevice {
  isSlow = false
  isBroken = false
  readonly waiting: (() => void)[] = []
  override tryRead(offset: number, length: number, target: Uint8Array, at: number): boolean {
    return this.isSlow ? false : super.tryRead(offset, length, target, at)
  }

  override async read(offset: number, length: number, target: Uint8Array, at: number): Promise<void> {
    await new Promise<void>((resolve) => this.waiting.push(resolve))
    await super.read(offset, length, target, at)
  }

  override readSync(offset: number, length: number, target: Uint8Array, at: number): void {
    if (this.isBroken) throw new UmbraError('IO_FAILED', 'As told')
    super.readSync(offset, length, target, at)
  }
}

test('a read that fails half-way is not over before what it has begun is', async (t) => {
  const device = new SlowDevice(MemoryStorage.from(new Uint8Array(64 * MIB)))
  formatExt4(device)
  await device.commit()
  const writer = Ext4.open(device)
  const file = writer.makeNode(writer.inode(2), 'file', FILE_MODE, 0, ROOT)
  // Single blocks with holes between them, more than the inode itself has room for: a tree of two leaves.
  for (let i = 0; i < 700; i++) writer.write(file, i * 8192, 4096, new Uint8Array(4096).fill(7), 0, false)
  await device.commit()

  // A file system that has the first leaf of the tree in its cache, not the second.
  const fs = Ext4.open(device, { readOnly: true })
  const inode = fs.inode(file.ino)
  const target = new Uint8Array(6 * MIB)
  t.is(fs.read(inode, 0, 4096, target, 0), 4096)
  device.isSlow = true
  device.isBroken = true
  let isOver = false
  const result = (async () => fs.read(inode, 0, inode.sizeBytes, target, 0))().then(
    () => undefined,
    (error) => {
      isOver = true
      return error
    },
  )
  await new Promise((resolve) => setImmediate(resolve))
  t.ok(device.waiting.length > 0, 'reads are under way')
  t.absent(isOver, 'so the buffer is not free for others yet')
  for (const resolve of device.waiting) resolve()
  t.ok(hasCode(await result, 'IO_FAILED'))
})
