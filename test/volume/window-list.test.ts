// The list of what a window changed: written and read back, bounded, and what a check says of a bad one.

import test from 'brittle'
import { randomUuid } from '../../src/base/uuid.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { CATALOG_RECORD } from '../../src/volume/catalog.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { createVolume } from '../../src/volume/create-volume.ts'
import { SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import {
  blockChecksum,
  ENTRY_DATA,
  ENTRY_NODE,
  entryPhysicalBlock,
  type NodeReader,
  nodeBytes,
  setEntry,
} from '../../src/volume/map-node.ts'
import { ReadTickets } from '../../src/volume/read-tickets.ts'
import { encodeSuperblock } from '../../src/volume/superblock.ts'
import { chooseSuperblock } from '../../src/volume/superblock-slots.ts'
import { Volume } from '../../src/volume/volume.ts'
import { VolumeState } from '../../src/volume/volume-state.ts'
import {
  blocksOfWindowList,
  readWindowList,
  WINDOW_RUNS_MAX,
  WindowRunGatherer,
  windowListBlocks,
  writeWindowList,
} from '../../src/volume/window-list.ts'
import { patternBlocks } from '../support/block-pattern.ts'
import { chosenSeed, Random } from '../support/random.ts'

const BLOCK = 4096

async function freshState(): Promise<VolumeState> {
  const storage = new MemoryStorage()
  await createVolume(storage, { sizeBytes: 2 ** 30 })
  return new VolumeState(storage, chooseSuperblock(storage, false).superblock, new ReadTickets(), 2 ** 20)
}

test('lists of any length are read as they were written, and take the blocks they say', async (t) => {
  for (const count of [1, 511, 512, 513, 1024, 512 * 256, 512 * 256 + 1, 300_000]) {
    const state = await freshState()
    const runs: number[] = []
    for (let i = 0; i < count; i++) runs.push(i * 3, 1 + (i % 2))
    state.pool.ensure(windowListBlocks(count))
    const before = state.pool.freeBlocks
    const window = writeWindowList(state.store, runs)
    state.store.flush()
    t.is(before - state.pool.freeBlocks, windowListBlocks(count), `${count} runs`)
    t.is(window.runCount, count)
    let at = 0
    for (const { blockIndex, blockCount } of readWindowList(state.cache, window)) {
      if (runs[at] !== blockIndex || runs[at + 1] !== blockCount) break
      at += 2
    }
    t.is(at, runs.length)
    t.is(new Set(blocksOfWindowList(state.cache, window)).size, windowListBlocks(count))
  }
})

test('too many runs are joined, the closest first, and none is lost', (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 50; round++) {
    const most = random.between(2, 60)
    const gatherer = new WindowRunGatherer(most)
    const exact: [number, number][] = []
    let at = 0
    for (let i = random.between(1, 500); i > 0; i--) {
      const first = at + random.pick([0, 1, 2, 50, 3000])
      const count = random.between(1, 9)
      gatherer.add({ blockIndex: first, blockCount: count })
      exact.push([first, first + count])
      at = first + count
    }
    const { runs } = gatherer
    let isSound = runs.length / 2 <= most
    let next = 0
    for (const [first, end] of exact) {
      while (next < runs.length && (runs[next] as number) + (runs[next + 1] as number) < end) next += 2
      if (next >= runs.length || (runs[next] as number) > first) isSound = false
    }
    for (let i = 2; i < runs.length; i += 2) {
      if ((runs[i] as number) < (runs[i - 2] as number) + (runs[i - 1] as number)) isSound = false
    }
    t.ok(isSound, `${exact.length} runs into ${runs.length / 2} of ${most}`)
  }
  const one = new WindowRunGatherer(4)
  for (const first of [0, 10, 11, 1000, 1004, 5000]) one.add({ blockIndex: first, blockCount: 1 })
  t.alike(one.runs, [0, 1, 10, 2, 1000, 5, 5000, 1])
})

test('a whole volume as one run, and a run past what a field holds', (t) => {
  const gatherer = new WindowRunGatherer()
  gatherer.add({ blockIndex: 0, blockCount: 2 ** 32 })
  t.alike(gatherer.runs, [0, 2 ** 32 - 1, 2 ** 32 - 1, 1])
})

test('shapes that make no sense are CORRUPT, before anything is read', (t) => {
  const reader: NodeReader = {
    node: () => {
      throw new Error('nothing is to be read')
    },
  }
  const root = { physicalBlock: 2000, birthEpoch: 1, checksum: 1, levels: 2 }
  for (const window of [
    { root, runCount: 0 },
    { root, runCount: -1 },
    { root, runCount: 1.5 },
    { root, runCount: WINDOW_RUNS_MAX + 1 },
    { root: { ...root, levels: 3 }, runCount: 1 },
    { root: { ...root, physicalBlock: 0 }, runCount: 1 },
  ]) {
    t.exception(() => [...readWindowList(reader, window)], /makes no sense/)
    t.exception(() => blocksOfWindowList(reader, window), /makes no sense/)
  }
})

/** A closed volume with a shadow copy that its window changed, as a snapshot or as a bookmark. */
async function makeVolume(kind: 'snapshot' | 'bookmark'): Promise<MemoryStorage> {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 3000 * BLOCK })
  volume.writeData(0, 600, patternBlocks(0, 600, 1), 0)
  const shadow = await volume.cutUnsealed('shadow', { setId: randomUuid(), setCount: 1, attributes: 8 })
  for (const first of [10, 100, 700]) shadow.device.writeData(first, 20, patternBlocks(first, 20, 2), 0)
  await shadow.seal()
  if (kind === 'bookmark') await volume.deleteSnapshot('shadow', { keepBookmark: true })
  await volume.close()
  return storage
}

/** Changes the catalog's first record and the first block of its window list, and every checksum above. */
function forge(
  storage: MemoryStorage,
  change: (runs: Uint32Array, record: ReturnType<typeof CATALOG_RECORD.decode>) => void,
): void {
  const { superblock } = chooseSuperblock(storage, true)
  const read = (block: number) => {
    const words = new Uint32Array(BLOCK / 4)
    storage.readSync(block * BLOCK, BLOCK, nodeBytes(words), 0)
    return words
  }
  const put = (block: number, words: Uint32Array) => {
    storage.write(block * BLOCK, BLOCK, nodeBytes(words), 0)
    return blockChecksum(nodeBytes(words))
  }
  /** Rewrites the first block below a root of two levels. @returns the root's checksum */
  const below = (rootBlock: number, rewrite: (words: Uint32Array) => void): number => {
    const top = read(rootBlock)
    const leafBlock = entryPhysicalBlock(top, 0)
    const leaf = read(leafBlock)
    const block = entryPhysicalBlock(leaf, 0)
    const words = read(block)
    rewrite(words)
    setEntry(leaf, 0, ENTRY_DATA, block, 1, put(block, words))
    setEntry(top, 0, ENTRY_NODE, leafBlock, 1, put(leafBlock, leaf))
    return put(rootBlock, top)
  }
  const checksum = below(superblock.catalog.root.physicalBlock, (words) => {
    const bytes = nodeBytes(words)
    const record = CATALOG_RECORD.decode(bytes)
    const root = new DataView(record.windowRoot.buffer, record.windowRoot.byteOffset, 24)
    const rootBlock = Number(root.getBigUint64(0, true))
    root.setUint32(
      16,
      below(rootBlock, (runs) => change(runs, record)),
      true,
    )
    CATALOG_RECORD.encode(record, bytes)
  })
  const catalog = { ...superblock.catalog, root: { ...superblock.catalog.root, checksum } }
  for (const home of SUPERBLOCK_HOMES[superblock.transaction % 2] ?? []) {
    storage.write(home * BLOCK, BLOCK, encodeSuperblock({ ...superblock, catalog }), 0)
  }
}

test('a check sees a list that lacks something, is out of order, or is cut short', async (t) => {
  const codes = (storage: MemoryStorage) => checkVolume(storage).errors.map((finding) => finding.code)
  for (const kind of ['snapshot', 'bookmark'] as const) {
    const sound = await makeVolume(kind)
    forge(sound, () => {})
    t.alike(codes(sound), [], `a ${kind} as it was`)
    const lacking = sound.fork()
    forge(lacking, (runs) => runs.set([101, 19], 2))
    t.alike(codes(lacking), kind === 'snapshot' ? ['WINDOW_LIST'] : [], `a block less, ${kind}`)
    const wider = sound.fork()
    forge(wider, (runs) => runs.set([90, 30], 2))
    t.alike(codes(wider), [], 'more than was changed does no harm')
    const short = sound.fork()
    forge(short, (_, record) => {
      record.windowRuns = 2
    })
    t.alike(codes(short), kind === 'snapshot' ? ['WINDOW_LIST'] : [], `a run less, ${kind}`)
    const disordered = sound.fork()
    forge(disordered, (runs) => runs.set([15, 20], 2))
    t.alike(codes(disordered), ['LIST_DAMAGED'], `runs that overlap, ${kind}`)
    const long = sound.fork()
    forge(long, (_, record) => {
      record.windowRuns = 513
    })
    t.alike(codes(long), ['LIST_DAMAGED'], `more runs than there are, ${kind}`)
  }
})

test('a damaged list refuses the deletion that would have to read it, and changes nothing', async (t) => {
  const storage = await makeVolume('bookmark')
  forge(storage, (_, record) => {
    record.windowRuns = WINDOW_RUNS_MAX + 1
  })
  const volume = await Volume.open(storage)
  await t.exception(() => volume.deleteBookmark('shadow'), /makes no sense/)
  t.absent(volume.failure)
  await volume.createSnapshot('next')
  await volume.close()
})
