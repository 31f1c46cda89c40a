// The check itself: silent on sound volumes, and for each kind of damage the right code. Damage is
// planted with checksums made right again where a lying checksum would hide what is meant.

import test, { type Assertion } from 'brittle'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { repairVolume } from '../../src/volume/check-repair.ts'
import type { CheckReport } from '../../src/volume/check-report.ts'
import { bitmapHome, SUPERBLOCK_HOMES, tableHome } from '../../src/volume/group-layout.ts'
import { GROUP_RECORD } from '../../src/volume/group-table.ts'
import {
  blockChecksum,
  ENTRY_DATA,
  ENTRY_NODE,
  entryBirth,
  entryChecksum,
  entryFlags,
  entryKind,
  entryPhysicalBlock,
  type NodeWords,
  nodeBytes,
  setEntry,
} from '../../src/volume/map-node.ts'
import {
  decodeSuperblock,
  encodeSuperblock,
  SUPERBLOCK,
  type Superblock,
} from '../../src/volume/superblock.ts'
import { Volume } from '../../src/volume/volume.ts'
import { describeBlock, patternBlocks } from '../support/block-pattern.ts'

const BLOCK = 4096

/** A closed volume with snapshots, dead lists, a bookmark and a side table. */
async function makeVolume(): Promise<MemoryStorage> {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 3000 * BLOCK })
  volume.writeData(0, 600, patternBlocks(0, 600, 1), 0)
  volume.writeSideTable(patternBlocks(0, 3, 9))
  await volume.createSnapshot('one')
  volume.writeData(10, 50, patternBlocks(10, 50, 2), 0)
  volume.discard(500, 40)
  await volume.createSnapshot('two')
  volume.writeData(20, 10, patternBlocks(20, 10, 3), 0)
  await volume.createBookmark('mark')
  volume.writeData(300, 10, patternBlocks(300, 10, 4), 0)
  await volume.close()
  return storage
}

function readBlock(storage: MemoryStorage, block: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK)
  storage.readSync(block * BLOCK, BLOCK, bytes, 0)
  return bytes
}

function newestSuperblock(storage: MemoryStorage): Superblock {
  const found: Superblock[] = []
  for (const home of SUPERBLOCK_HOMES.flat()) {
    try {
      found.push(decodeSuperblock(readBlock(storage, home), true))
    } catch {
      // A slot that was never written.
    }
  }
  return found.sort((a, b) => b.transaction - a.transaction)[0] as Superblock
}

/** Replaces the newest superblock by a changed one with a right checksum. */
function changeSuperblock(storage: MemoryStorage, change: (superblock: Superblock) => Superblock): void {
  const superblock = change(newestSuperblock(storage))
  const bytes = encodeSuperblock(superblock)
  for (const home of SUPERBLOCK_HOMES[superblock.transaction % 2] ?? []) {
    storage.write(home * BLOCK, BLOCK, bytes, 0)
  }
}

/** Changes the leaf of the present that maps block 0, and every checksum above it. */
function changeLeaf(storage: MemoryStorage, change: (words: NodeWords) => void): void {
  changeSuperblock(storage, (superblock) => {
    const { liveRoot } = superblock
    const rewrite = (physicalBlock: number, level: number): number => {
      const bytes = readBlock(storage, physicalBlock)
      const words = new Uint32Array(bytes.buffer)
      if (level === 0) change(words)
      else {
        const child = entryPhysicalBlock(words, 0)
        const checksum = rewrite(child, level - 1)
        setEntry(words, 0, ENTRY_NODE, child, entryBirth(words, 0), checksum)
      }
      storage.write(physicalBlock * BLOCK, BLOCK, bytes, 0)
      return blockChecksum(nodeBytes(words))
    }
    const checksum = rewrite(liveRoot.physicalBlock, liveRoot.levels - 1)
    return { ...superblock, liveRoot: { ...liveRoot, checksum } }
  })
}

/** Changes group 0's bitmap; the record's checksum follows, its free count only if told. */
function changeBitmap(storage: MemoryStorage, change: (bytes: Uint8Array) => void, freeBy: number): void {
  changeSuperblock(storage, (superblock) => {
    const [pointer] = superblock.tables
    const home = tableHome(0, pointer?.home ?? 0)
    const table = readBlock(storage, home)
    const record = GROUP_RECORD.decode(table)
    const at = bitmapHome(0, record.flags & 1)
    const bitmap = readBlock(storage, at)
    change(bitmap)
    storage.write(at * BLOCK, BLOCK, bitmap, 0)
    const { freeCount } = record
    GROUP_RECORD.encode({ ...record, checksum: blockChecksum(bitmap), freeCount: freeCount + freeBy }, table)
    storage.write(home * BLOCK, BLOCK, table, 0)
    return { ...superblock, tables: [{ checksum: blockChecksum(table), home: pointer?.home ?? 0 }] }
  })
}

function codes(report: CheckReport): string[] {
  return [...new Set(report.errors.map((finding) => finding.code))].sort()
}

function flip(storage: MemoryStorage, block: number, at = 100): void {
  const bytes = readBlock(storage, block)
  bytes[at] = (bytes[at] as number) ^ 0x40
  storage.write(block * BLOCK, BLOCK, bytes, 0)
}

async function expectCodes(
  t: Assertion,
  what: string,
  damage: (storage: MemoryStorage) => void,
  expected: string[],
): Promise<void> {
  const storage = await makeVolume()
  damage(storage)
  const report = checkVolume(storage)
  t.alike(codes(report), expected, what)
  for (const finding of report.errors) {
    if (finding.where === '' || finding.message === '' || finding.action === '') t.fail('an empty finding')
  }
}

test('checkVolume() finds nothing in a sound volume, and counts it', async (t) => {
  const storage = await makeVolume()
  const report = checkVolume(storage)
  t.alike(report.errors, [])
  t.alike(report.leaks, { blockCount: 0, runs: [] })
  t.ok(report.isComplete)
  t.is(report.counts.snapshots, 2)
  t.is(report.counts.bookmarks, 1)
  t.is(report.counts.reachedBlocks, report.counts.allocatedBlocks)
  const volume = await Volume.open(storage)
  t.is(report.counts.liveBlocks * BLOCK, volume.space().liveBytes)
  t.is(report.counts.allocatedBlocks * BLOCK, volume.space().allocatedBytes)
  await volume.close()
})

test('checkVolume() names each damage of what is not a tree', async (t) => {
  const bad = (storage: MemoryStorage) => newestSuperblock(storage)
  await expectCodes(
    t,
    'one superblock copy',
    (storage) => flip(storage, SUPERBLOCK_HOMES[bad(storage).transaction % 2]?.[1] ?? 0),
    ['SUPERBLOCK_COPY'],
  )
  await expectCodes(
    t,
    'a table',
    (storage) => flip(storage, tableHome(0, bad(storage).tables[0]?.home ?? 0)),
    ['TABLE_DAMAGED'],
  )
  await expectCodes(
    t,
    'a bitmap',
    (storage) => {
      const record = GROUP_RECORD.decode(readBlock(storage, tableHome(0, bad(storage).tables[0]?.home ?? 0)))
      flip(storage, bitmapHome(0, record.flags & 1))
    },
    ['BITMAP_DAMAGED'],
  )
  await expectCodes(t, 'a free count', (storage) => changeBitmap(storage, () => {}, 1), ['BITMAP_COUNT'])
  const one = (storage: MemoryStorage) => bad(storage).liveRoot.physicalBlock
  await expectCodes(
    t,
    'a block in use marked free',
    (storage) => {
      const block = one(storage)
      changeBitmap(
        storage,
        (bytes) => (bytes[block >> 3] = (bytes[block >> 3] as number) & ~(1 << (block & 7))),
        1,
      )
    },
    ['NOT_ALLOCATED'],
  )
  await expectCodes(t, 'the catalog', (storage) => flip(storage, bad(storage).catalog.root.physicalBlock), [
    'OBJECT_DAMAGED',
  ])
  await expectCodes(
    t,
    'the side table',
    (storage) => flip(storage, bad(storage).sideTable.root.physicalBlock),
    ['OBJECT_DAMAGED'],
  )
  await expectCodes(t, 'a dead list', (storage) => flip(storage, bad(storage).deadList.root.physicalBlock), [
    'LIST_DAMAGED',
  ])
  await expectCodes(
    t,
    'the number of live blocks',
    (storage) => changeSuperblock(storage, (block) => ({ ...block, liveBlocks: block.liveBlocks + 1 })),
    ['COUNT_WRONG'],
  )
  await expectCodes(
    t,
    'a forgotten dead list',
    (storage) => {
      const empty = { root: { physicalBlock: 0, birthEpoch: 0, checksum: 0, levels: 1 }, size: 0 }
      changeSuperblock(storage, (block) => ({ ...block, deadList: empty }))
    },
    ['DEAD_LIST'],
  )
  await expectCodes(
    t,
    'an epoch that went back',
    (storage) => changeSuperblock(storage, (block) => ({ ...block, epoch: 1 })),
    ['BIRTH_ORDER', 'POINT_ORDER'],
  )
})

test('checkVolume() names each damage of a tree', async (t) => {
  await expectCodes(
    t,
    'a node',
    (storage) => flip(storage, newestSuperblock(storage).liveRoot.physicalBlock),
    ['NODE_DAMAGED'],
  )
  const at = 25
  const change = (edit: (words: NodeWords) => void) => (storage: MemoryStorage) => changeLeaf(storage, edit)
  await expectCodes(
    t,
    'a block used twice',
    change((words) =>
      setEntry(words, 200, ENTRY_DATA, entryPhysicalBlock(words, at), entryBirth(words, at), 0),
    ),
    ['DEAD_LIST', 'DOUBLE_USE'],
  )
  await expectCodes(
    t,
    'a block that a snapshot lost',
    change((words) => setEntry(words, at, 0, 0, 0, 0)),
    ['COUNT_WRONG'],
  )
  await expectCodes(
    t,
    'a birth after its node',
    change((words) => setEntry(words, at, ENTRY_DATA, entryPhysicalBlock(words, at), 99, 0)),
    ['BIRTH_ORDER'],
  )
  await expectCodes(
    t,
    'a birth before the snapshot that lacks it',
    change((words) => setEntry(words, at, ENTRY_DATA, entryPhysicalBlock(words, at), 1, 0)),
    ['BIRTH_ORDER'],
  )
  await expectCodes(
    t,
    'a place outside the file',
    change((words) => setEntry(words, at, ENTRY_DATA, 2 ** 40, entryBirth(words, at), 0)),
    ['OUT_OF_RANGE'],
  )
  await expectCodes(
    t,
    'a place with a fixed purpose',
    change((words) => setEntry(words, at, ENTRY_DATA, 1, entryBirth(words, at), 0)),
    ['DOUBLE_USE'],
  )
  await expectCodes(
    t,
    'a node where data belongs',
    change((words) => {
      const [block, birth] = [entryPhysicalBlock(words, at), entryBirth(words, at)]
      setEntry(words, at, ENTRY_NODE, block, birth, entryChecksum(words, at))
    }),
    ['ENTRY_INVALID'],
  )
  await expectCodes(
    t,
    'flags nobody knows',
    change((words) => {
      const flags = entryFlags(words, at) | 0x40
      setEntry(words, at, flags, entryPhysicalBlock(words, at), entryBirth(words, at), 0)
    }),
    ['ENTRY_INVALID'],
  )
})

test('checkVolume() tells leaks apart from errors', async (t) => {
  const storage = await makeVolume()
  changeBitmap(storage, (bytes) => bytes.fill(0xff, 4000, 4002), -16)
  const report = checkVolume(storage)
  t.alike(report.errors, [])
  t.alike(report.leaks, { blockCount: 16, runs: [{ physicalBlock: 32_000, blockCount: 16 }] })
})

test('the leaf that the tests change is the one they mean', async (t) => {
  const storage = await makeVolume()
  let kind = 0
  changeLeaf(storage, (words) => {
    kind = entryKind(words, 25)
  })
  t.is(kind, ENTRY_DATA)
  t.is(SUPERBLOCK.sizeBytes, BLOCK)
  t.alike(checkVolume(storage).errors, [], 'and writing it back unchanged harms nothing')
})

test('repairVolume() mends copies, tables and bitmaps, and nothing else', async (t) => {
  const damages: Record<string, (storage: MemoryStorage) => void> = {
    'a superblock copy': (storage) => {
      flip(storage, SUPERBLOCK_HOMES[newestSuperblock(storage).transaction % 2]?.[1] ?? 0)
    },
    'a table': (storage) => flip(storage, tableHome(0, newestSuperblock(storage).tables[0]?.home ?? 0)),
    'a free count': (storage) => changeBitmap(storage, () => {}, 1),
    'a leak': (storage) => changeBitmap(storage, (bytes) => bytes.fill(0xff, 4000, 4002), -16),
    'blocks in use marked free': (storage) => changeBitmap(storage, (bytes) => bytes.fill(0, 129, 131), 16),
  }
  for (const [what, damage] of Object.entries(damages)) {
    const storage = await makeVolume()
    damage(storage)
    const { before, after, repaired } = await repairVolume(storage)
    t.ok(before.errorCount + before.leaks.blockCount > 0 && repaired.length > 0, what)
    t.alike([after.errors, after.leaks.blockCount], [[], 0], `${what} is repaired`)
    const volume = await Volume.open(storage)
    const bytes = new Uint8Array(BLOCK)
    volume.readSync(305 * BLOCK, BLOCK, bytes, 0)
    t.is(describeBlock(bytes, 0), '4@305')
    await volume.deleteSnapshot('one')
    await volume.close()
    t.alike(checkVolume(storage).errors, [], `${what}: and the volume goes on`)
  }
  const lost = await makeVolume()
  flip(lost, newestSuperblock(lost).liveRoot.physicalBlock)
  changeBitmap(lost, () => {}, 1)
  const { after, repaired } = await repairVolume(lost)
  t.alike(repaired, [], 'bitmaps are not rebuilt while a tree is damaged')
  t.alike(codes(after), ['BITMAP_COUNT', 'NODE_DAMAGED'])
})
