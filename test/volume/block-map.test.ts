// The block map: holes and their births, inheritance, collapse; in place or not.

import test from 'brittle'
import { BLOCK_SIZE_BYTES, GIB, MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import {
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryBirth,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
} from '../../src/volume/map-node.ts'
import { Volume } from '../../src/volume/volume.ts'

const BLOCK = new Uint8Array(BLOCK_SIZE_BYTES).fill(0xab)

interface Found {
  readonly kind: number
  readonly birth: number
  readonly level: number
  readonly physicalBlock: number
}

/** The entry that decides about a block, as committed. */
async function entryOf(volume: Volume, block: number): Promise<Found> {
  await volume.commit()
  const { levels, ...root } = volume.liveRoot()
  if (root.physicalBlock === 0) return { kind: ENTRY_EMPTY, birth: 0, level: levels, physicalBlock: 0 }
  let words = volume.nodes.node(root.physicalBlock, root.checksum)
  for (let level = levels - 1; ; level--) {
    const index = Math.floor(block / ENTRIES_PER_NODE ** level) % ENTRIES_PER_NODE
    const kind = entryKind(words, index)
    const physicalBlock = entryPhysicalBlock(words, index)
    if (kind !== ENTRY_NODE) return { kind, birth: entryBirth(words, index), level, physicalBlock }
    words = volume.nodes.node(physicalBlock, entryChecksum(words, index))
  }
}

test('without any point a discard leaves nothing behind', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: GIB })
  volume.writeData(1000, 1, BLOCK, 0)
  volume.discard(1000, 1)
  const { kind, level } = await entryOf(volume, 1000)
  t.alike([kind, level], [ENTRY_EMPTY, 2], 'nodes that hold nothing are gone')
})

test('a discard after a point is a hole with a birth, at the highest level it covers', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: GIB })
  volume.writeData(256, 1, BLOCK, 0)
  volume.writeData(600, 1, BLOCK, 0)
  await volume.createSnapshot('one')
  volume.discard(256, 256)
  t.alike(await entryOf(volume, 300), { kind: ENTRY_HOLE, birth: 2, level: 1, physicalBlock: 0 })
  volume.discard(600, 1)
  t.alike(await entryOf(volume, 600), { kind: ENTRY_HOLE, birth: 2, level: 0, physicalBlock: 0 })
  t.is((await entryOf(volume, 601)).kind, ENTRY_EMPTY, 'what was never written stays so')
})

test('blocks of a subtree made again under a hole inherit its birth', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 300 * GIB })
  volume.writeData(70000, 256, new Uint8Array(MIB), 0)
  await volume.createSnapshot('one')
  volume.discard(65536, 65536)
  t.alike(await entryOf(volume, 70000), { kind: ENTRY_HOLE, birth: 2, level: 2, physicalBlock: 0 })
  await volume.createSnapshot('two')
  await volume.createBookmark('three')
  volume.writeData(70005, 1, BLOCK, 0)
  const data = await entryOf(volume, 70005)
  t.alike([data.kind, data.birth, data.level], [ENTRY_DATA, 4, 0])
  t.alike(await entryOf(volume, 70006), { kind: ENTRY_HOLE, birth: 2, level: 0, physicalBlock: 0 })
  t.alike(await entryOf(volume, 90000), { kind: ENTRY_HOLE, birth: 2, level: 1, physicalBlock: 0 })
})

test('data is overwritten in place only within its epoch, metadata never once committed', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: MIB })
  volume.writeData(1, 1, BLOCK, 0)
  volume.writeMetadata(2, BLOCK, 0)
  const data = await entryOf(volume, 1)
  const metadata = await entryOf(volume, 2)
  t.is(volume.writeData(1, 1, BLOCK, 0), false)
  volume.writeMetadata(2, BLOCK, 0)
  const first = await entryOf(volume, 2)
  t.is((await entryOf(volume, 1)).physicalBlock, data.physicalBlock)
  t.not(first.physicalBlock, metadata.physicalBlock, 'metadata moved')

  volume.writeMetadata(2, BLOCK, 0)
  t.is(volume.writeData(2, 1, BLOCK, 0), true, 'data over metadata moves')
  await volume.createBookmark('b')
  t.is(volume.writeData(1, 1, BLOCK, 0), true, 'a bookmark ends the epoch')
  const moved = await entryOf(volume, 1)
  t.not(moved.physicalBlock, data.physicalBlock)
  t.is(moved.birth, 2)
  volume.discard(1, 1)
  t.is(volume.writeData(1, 1, BLOCK, 0), true, 'and so does a discard')
})

test('damage in a node or a bitmap is told from the checksum', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: GIB })
  volume.writeData(5, 1, BLOCK, 0)
  await volume.commit()
  const { physicalBlock } = volume.liveRoot()
  storage.write(physicalBlock * BLOCK_SIZE_BYTES + 9, 1, Uint8Array.of(0x77), 0)
  const again = await Volume.open(storage)
  await t.exception(() => again.readSync(0, 1, new Uint8Array(1), 0), /damaged/)
})
