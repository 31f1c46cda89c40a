// base + delta = target, over random histories at the block layer, for all pairs of points; and the
// delta is exact. The judge is a model that knows nothing of trees (test/support/volume-history.ts).
// The judge itself is judged: with a planted fault in the walker it must turn red.

import test, { type Assertion } from 'brittle'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { checkDeltas, type Fault, NO_FAULT } from '../support/delta-judge.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { VolumeHistory } from '../support/volume-history.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const HISTORY_COUNT = isLong ? 3000 : 250
/** brittle's own 30 s are too few on a busy machine. */
const LIMIT = { timeout: isLong ? 3_600_000 : 300_000 }

async function randomHistory(random: Random): Promise<VolumeHistory> {
  const blocks = random.pick([256, 1000, 3000, 70_000])
  const cacheBytes = random.chance(0.3) ? 64 * 1024 : undefined
  const history = await VolumeHistory.begin(new MemoryStorage(), random, {
    sizeBytes: blocks * 4096,
    ...(cacheBytes === undefined ? {} : { cacheBytes }),
  })
  for (let i = random.between(10, 60); i > 0; i--) await history.step()
  await history.volume.commit()
  return history
}

function failFirst(t: Assertion, problems: readonly string[], history: VolumeHistory, round: number): void {
  if (problems.length === 0) return
  for (const line of history.log) t.comment(line)
  t.fail(`history ${round}: ${problems.slice(0, 5).join('; ')} (${problems.length} in all)`)
}

test('base + delta = target, exactly, between all points of random histories', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  let pairs = 0
  for (let round = 0; round < HISTORY_COUNT; round++) {
    const history = await randomHistory(random)
    const problems = [...history.verify(), ...checkDeltas(history, NO_FAULT)]
    pairs += history.snapshots.length * (history.points.size + 1)
    await history.volume.close()
    const report = checkVolume(history.storage)
    problems.push(...report.errors.map((finding) => `${finding.code} ${finding.where}: ${finding.message}`))
    if (report.leaks.blockCount > 0) problems.push(`${report.leaks.blockCount} blocks are leaked`)
    failFirst(t, problems, history, round)
    if (problems.length > 0) return
  }
  t.ok(pairs > HISTORY_COUNT, `${HISTORY_COUNT} histories, ${pairs} pairs of points`)
})

test('a planted fault turns the judge red', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const faults: Record<string, Fault> = {
    'drops one extent': { extents: (extents) => extents.slice(1) },
    'ignores the births of holes': {
      extents: (extents, fromBookmark) =>
        fromBookmark ? extents.filter((extent) => extent.kind === 'data') : extents,
    },
    'takes one block too many': {
      extents: (extents) =>
        extents.map((extent, i) =>
          i === extents.length - 1 ? { ...extent, blockCount: extent.blockCount + 1 } : extent,
        ),
    },
    'calls a discard data': { extents: (extents) => extents.map((extent) => ({ ...extent, kind: 'data' })) },
  }
  const red = new Map(Object.keys(faults).map((name) => [name, 0]))
  for (let round = 0; round < 60; round++) {
    const history = await randomHistory(random)
    for (const [name, fault] of Object.entries(faults)) {
      if (checkDeltas(history, fault).length > 0) red.set(name, (red.get(name) as number) + 1)
    }
    await history.volume.close()
  }
  for (const [name, count] of red) t.ok(count > 0, `${name}: seen in ${count} of 60 histories`)
})
