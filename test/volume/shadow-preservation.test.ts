// What a shadow copy preserves, at what price, and what the bitmap between two of them says.

import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import { FALLOC } from '../../src/ext4/file-system.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { crashStates } from '../../src/storage/crash-states.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { delta } from '../../src/volume/delta.ts'
import { DirtyBitmap } from '../../src/volume/dirty-bitmap.ts'
import { Volume } from '../../src/volume/volume.ts'
import { isBlock, patternBlocks } from '../support/block-pattern.ts'
import { chosenSeed, Random } from '../support/random.ts'

const BLOCK = 4096
const CALLER = { uid: 0, gid: 0, pid: 1 }

function contentsOf(device: Pick<Volume, 'readSync' | 'blockCount'>): Buffer {
  const bytes = Buffer.alloc(device.blockCount * BLOCK)
  device.readSync(0, bytes.length, bytes, 0)
  return bytes
}

test('row 2: what is overwritten is kept once for each shadow copy, however often it is written', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 300 * MIB })
  volume.writeData(0, 1000, patternBlocks(0, 1000, 1), 0)
  const { root } = await volume.createSnapshot('shadow')
  const grownBy = async (write: () => void): Promise<number> => {
    const before = volume.space().snapshotBytes
    write()
    await volume.commit()
    return (volume.space().snapshotBytes - before) / BLOCK
  }
  const overwrite = (block: number, sequence: number) => () => {
    volume.writeData(block, 1, patternBlocks(block, 1, sequence), 0)
  }
  t.is(await grownBy(overwrite(500, 2)), 1 + root.levels, 'the block, and the way to it in the map')
  t.is(await grownBy(overwrite(500, 3)), 0, 'the same block again')
  t.is(await grownBy(overwrite(501, 3)), 1, 'its neighbour: exactly one block')
  t.is(await grownBy(overwrite(5000, 3)), 0, 'what the shadow copy never had')
  await volume.createSnapshot('second')
  t.is(await grownBy(overwrite(501, 4)), 1 + root.levels, 'once more for the next shadow copy')
  const bytes = contentsOf(volume.openSnapshot('shadow'))
  t.ok(isBlock(bytes, 500 * BLOCK, 500, 1) && isBlock(bytes, 501 * BLOCK, 501, 1))
  await volume.close()
})

test('row 2: a crash at any moment of the overwriting leaves the shadow copy as it was', async (t) => {
  const seed = chosenSeed(t)
  const memory = new MemoryStorage()
  const first = await Volume.create(memory, { sizeBytes: 3000 * BLOCK })
  first.writeData(0, 100, patternBlocks(0, 100, 1), 0)
  await first.createSnapshot('shadow')
  await first.close()
  const base = memory.fork()
  const log = new WriteLogStorage(memory)
  const volume = await Volume.open(log)
  for (const sequence of [2, 3, 4]) {
    volume.writeData(10, 5, patternBlocks(10, 5, sequence), 0)
    await volume.commit()
  }
  await volume.close()
  let count = 0
  const wrong: string[] = []
  for (const state of crashStates(log.entries, { seed, base, subsetsPerInterval: 20, tornPerInterval: 10 })) {
    count++
    const crashed = await Volume.open(state.storage)
    const bytes = contentsOf(crashed.openSnapshot('shadow'))
    for (let block = 0; block < 100; block++) {
      if (!isBlock(bytes, block * BLOCK, block, 1)) wrong.push(`${state.label}: block ${block}`)
    }
    await crashed.close()
  }
  t.alike(wrong, [])
  t.ok(count > 100, `${count} crashes`)
})

test('row 38: the bitmap between two shadow copies is what a comparison of blocks says', async (t) => {
  const random = new Random(chosenSeed(t))
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 3000 * BLOCK })
  volume.writeData(0, 3000, patternBlocks(0, 3000, 1), 0)
  await volume.createSnapshot('s1')
  for (let i = 2; i < 40; i++) {
    const first = random.below(2990)
    volume.writeData(first, random.between(1, 10), patternBlocks(first, 10, i), 0)
  }
  await volume.createSnapshot('s2')
  const [s1, s2] = [volume.snapshot('s1'), volume.snapshot('s2')]
  const [before, after] = [s1, s2].map((point) => contentsOf(volume.openSnapshot(point.id))) as [
    Buffer,
    Buffer,
  ]
  for (const granularityBytes of [BLOCK, 65_536]) {
    const shape = { blockCount: 3000, granularityBytes }
    const bitmap = DirtyBitmap.from(delta(volume.nodes, s1, s2), shape)
    const truth = new DirtyBitmap(shape)
    for (let block = 0; block < 3000; block++) {
      const [from, end] = [block * BLOCK, (block + 1) * BLOCK]
      if (before.compare(after, from, end, from, end) !== 0) truth.add({ blockIndex: block, blockCount: 1 })
    }
    t.alike(
      [...bitmap.extents()],
      [...truth.extents()],
      `of pure overwrites, ${granularityBytes} bytes a bit`,
    )
  }
  await volume.close()
})

test('row 39: holes, what was truncated since, and what was discarded since read as they did', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 64 * MIB })
  formatExt4(volume)
  const live = Ext4.open(volume)
  const root = live.inode(2)
  const pattern = Buffer.from(patternBlocks(0, 50, 7))
  for (const name of ['sparse', 'tail', 'punched', 'gone']) live.makeNode(root, name, 0o100644, 0, CALLER)
  const file = (fs: Ext4, name: string) => {
    const inode = fs.lookup(fs.inode(2), name)
    if (inode === undefined) throw new Error(`${name} is not there`)
    return inode
  }
  for (const name of ['tail', 'punched', 'gone'])
    live.write(file(live, name), 0, pattern.length, pattern, 0, false)
  live.write(file(live, 'sparse'), 20 * MIB, BLOCK, pattern, 0, false)
  live.allocate(file(live, 'sparse'), 0, 30 * MIB, MIB)
  await volume.createSnapshot('shadow')

  live.setAttributes(file(live, 'tail'), { sizeBytes: 100 }, CALLER)
  live.allocate(file(live, 'punched'), FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, BLOCK, 20 * BLOCK)
  live.unlink(root, 'gone')
  live.write(file(live, 'sparse'), MIB, BLOCK, pattern, 0, false)
  await volume.commit()
  await volume.drain()

  const shadow = Ext4.open(volume.openSnapshot('shadow'))
  const read = async (name: string, at: number, length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length, 0xff)
    t.is(await shadow.read(file(shadow, name), at, length, bytes, 0), length)
    return bytes
  }
  for (const name of ['tail', 'punched', 'gone']) {
    t.ok((await read(name, 0, pattern.length)).equals(pattern), name)
  }
  t.ok(
    (await read('sparse', 0, 2 * MIB)).every((byte) => byte === 0),
    'a hole stays one',
  )
  t.ok(
    (await read('sparse', 30 * MIB, MIB)).every((byte) => byte === 0),
    'allocated, never written',
  )
  t.is(shadow.seek(file(shadow, 'sparse'), 0, 3), 20 * MIB, 'and is one for SEEK_DATA')
  t.absent(volume.failure)
  await volume.close()
})
