// Going back one transaction: when both copies of the newest superblock rot, the state before it must
// be there bit for bit, whatever was done since, and be as good to go on with as any other.

import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import { Volume } from '../../src/volume/volume.ts'
import { patternBlocks } from '../support/block-pattern.ts'
import { chosenSeed, Random } from '../support/random.ts'
import {
  type Contents,
  type Step,
  VolumeHistory,
  verifyDevice,
  type Written,
} from '../support/volume-history.ts'

const BLOCK = 4096
const isLong = process.env['UMBRA_LONG'] === '1'
const HISTORY_COUNT = isLong ? 200 : 8
const LIMIT = { timeout: isLong ? 3_600_000 : 300_000 }
/** All that make one state durable at a time. */
const STEPS: readonly Step[] = [
  'write',
  'metadata',
  'discard',
  'commit',
  'flush',
  'snapshot',
  'delete',
  'bookmark',
  'deleteBookmark',
  'reopen',
]

interface Committed {
  readonly live: Contents
  readonly snapshots: ReadonlyMap<string, Contents>
}

function rot(storage: MemoryStorage, transaction: number): void {
  for (const home of SUPERBLOCK_HOMES[transaction % 2] ?? []) {
    storage.write(home * BLOCK + 100, 8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 0)
  }
}

function remember(history: VolumeHistory): Committed {
  return {
    live: new Map(history.live),
    snapshots: new Map(history.snapshots.map((point) => [point.name, point.contents])),
  }
}

/** The newest write to each place of a block: data may be overwritten where it is. */
class Places {
  readonly #newest = new Map<string, number>()

  note(live: Contents): void {
    for (const [block, { place, sequence }] of live) this.#newest.set(`${block} ${place}`, sequence)
  }

  isOverwritten(block: number, { place, sequence }: Written): boolean {
    return this.#newest.get(`${block} ${place}`) !== sequence
  }
}

/** Everything wrong with a state, but for data overwritten in place since, which has its own rule. */
function verify(volume: Volume, expected: Committed, places: Places, random: Random): string[] {
  const problems: string[] = []
  const names = volume.snapshots().map((snapshot) => snapshot.name)
  if (names.sort().join() !== [...expected.snapshots.keys()].sort().join()) {
    problems.push(`snapshots are ${names}`)
  }
  const live = [...expected.live]
  const kept = new Map(live.filter(([block, written]) => !places.isOverwritten(block, written)))
  const skipped = live.flatMap(([block]) => (kept.has(block) ? [] : [`block ${block}:`]))
  const found = verifyDevice('the present', volume, kept, random)
  problems.push(...found.filter((problem) => !skipped.some((block) => problem.includes(block))))
  for (const [name, contents] of expected.snapshots) {
    problems.push(...verifyDevice(name, volume.openSnapshot(name), contents, random))
  }
  return problems
}

function findings(storage: MemoryStorage): string[] {
  const report = checkVolume(storage)
  const errors = report.errors.filter((finding) => finding.code !== 'SUPERBLOCK_COPY')
  const problems = errors.map((finding) => `${finding.code} ${finding.where}: ${finding.message}`)
  if (report.leaks.blockCount > 0) problems.push(`${report.leaks.blockCount} blocks are leaked`)
  return problems
}

/** Opens a copy whose newest superblock is lost. */
async function fallBack(
  storage: MemoryStorage,
  newest: number,
  expected: Committed,
  places: Places,
  random: Random,
): Promise<string[]> {
  const copy = storage.fork()
  rot(copy, newest)
  const problems = findings(copy)
  const volume = await Volume.open(copy)
  const { transaction, fellBack } = volume.openReport
  if (!fellBack || transaction !== newest - 1) {
    problems.push(`transaction ${transaction} was opened, not ${newest - 1}`)
  }
  problems.push(...verify(volume, expected, places, random))
  volume.writeData(0, 1, patternBlocks(0, 1, 1), 0)
  await volume.close()
  problems.push(...findings(copy))
  return problems
}

test('both copies of the newest superblock rot: the transaction before it is whole', LIMIT, async (t) => {
  const seed = chosenSeed(t)
  let count = 0
  for (let number = 0; number < HISTORY_COUNT; number++) {
    const random = new Random(seed + number)
    const storage = new MemoryStorage()
    const sizeBytes = random.pick([256, 3000, 70_000]) * BLOCK
    const history = await VolumeHistory.begin(storage, random, { sizeBytes, steps: STEPS })
    const committed = new Map<number, Committed>()
    const places = new Places()
    let known = -1
    for (let i = 0; i < 120; i++) {
      const durable = history.volume.durableTransaction
      while (known < durable) committed.set(++known, remember(history))
      await history.step()
      places.note(history.live)
      // After a step that committed nothing the storage holds a part of the next transaction.
      if (history.volume.durableTransaction !== durable || !random.chance(0.3)) continue
      const expected = committed.get(durable - 1)
      if (expected === undefined || durable < 2) continue
      count++
      const problems = await fallBack(storage, durable, expected, places, random)
      if (problems.length === 0) continue
      t.fail(`history ${number}: ${problems.slice(0, 5).join('\n')}\n${history.log.slice(-12).join('\n')}`)
      return
    }
  }
  t.ok(count > HISTORY_COUNT * 10, `${count} states were gone back to`)
})

test('in the middle of a commit the bitmaps are rebuilt', LIMIT, async (t) => {
  const seed = chosenSeed(t)
  let rebuilt = 0
  for (let number = 0; number < HISTORY_COUNT * 3; number++) {
    const random = new Random(seed + number)
    const memory = new MemoryStorage()
    const history = await VolumeHistory.begin(memory, random, { sizeBytes: 3000 * BLOCK, steps: STEPS })
    for (let i = 0; i < 30; i++) await history.step()
    await history.reopen()
    for (const step of ['write', 'metadata', 'commit'] as const) await history.take(step)
    const before = remember(history)
    const places = new Places()
    for (const step of ['write', 'discard', 'metadata', 'commit', 'write', 'write', 'metadata'] as const) {
      places.note(history.live)
      await history.take(step)
    }
    places.note(history.live)
    const newest = history.volume.durableTransaction
    const committing = history.volume.commit()
    while (history.volume.transaction === newest + 1) await Promise.resolve()
    const middle = memory.fork()
    await committing
    rot(middle, newest)
    if (checkVolume(middle).errors.some((finding) => finding.code === 'BITMAP_DAMAGED')) rebuilt++
    else if (checkVolume(middle).errors.some((finding) => finding.code === 'TABLE_DAMAGED')) rebuilt++
    const volume = await Volume.open(middle)
    t.is(volume.openReport.fellBack, true)
    t.alike(verify(volume, before, places, random), [])
    volume.writeData(5, 1, patternBlocks(5, 1, 1), 0)
    await volume.close()
    t.alike(findings(middle), [])
  }
  t.ok(rebuilt > 0, `${rebuilt} times bitmaps were gone`)
})

test('a volume opened after a crash keeps the way back too', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  volume.writeMetadata(7, patternBlocks(7, 1, 1), 0)
  await volume.commit()
  volume.writeMetadata(7, patternBlocks(7, 1, 2), 0)
  await volume.commit()
  const again = await Volume.open(storage)
  const opened = again.openReport.transaction
  t.is(again.durableTransaction, opened + 1, 'a twin of it was committed')
  for (let i = 0; i < 40; i++) again.writeMetadata(100 + i, patternBlocks(100 + i, 1, 3), 0)
  await again.flush()
  const copy = storage.fork()
  rot(copy, opened + 1)
  t.alike(findings(copy), [])
  await again.close()
  const { transaction } = (await Volume.open(storage)).openReport
  await (await Volume.open(storage)).close()
  t.is((await Volume.open(storage)).openReport.transaction, transaction, 'after a close there is one already')
})

test('what is freed on a full storage can be written again after reclaim()', async (t) => {
  const storage = new MemoryStorage({ capacityBytes: 24 * MIB })
  const volume = await Volume.create(storage, { sizeBytes: 64 * MIB })
  const write = (block: number, sequence: number) =>
    volume.writeData(block, 64, patternBlocks(block, 64, sequence), 0)
  let full = 0
  try {
    for (; ; full += 64) write(full, 1)
  } catch (error) {
    t.is((error as UmbraError).code, 'OUT_OF_SPACE')
  }
  await volume.commit()
  t.exception(() => write(full, 2), /ENOSPC|No free block/)
  volume.discard(0, full / 2)
  let turns = 0
  for (let block = 0; block < full / 4; block += 64) {
    try {
      write(block, 3)
    } catch (error) {
      if (!(error instanceof UmbraError) || error.code !== 'OUT_OF_SPACE') throw error
      const reclaimed = volume.reclaim()
      t.ok(reclaimed, 'something can be made available')
      await reclaimed
      turns++
      write(block, 3)
    }
  }
  t.ok(turns > 0 && turns < 4, `${turns} times space was made available`)
  await volume.close()
  t.alike(findings(storage), [])
})
