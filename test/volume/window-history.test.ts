// Random histories in which shadow copies are cut, written to and sealed all the time, beside everything
// else: base + delta = target for every pair of points, the volume sound after each, and after a crash at
// any moment of a window's life. The judge is judged: a window list that is forgotten turns it red.

import test, { type Assertion } from 'brittle'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { checkDeltas, type Fault, NO_FAULT } from '../support/delta-judge.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { type Step, VolumeHistory } from '../support/volume-history.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const HISTORY_COUNT = isLong ? 3000 : 120
/** brittle's own 30 s are too few on a busy machine. */
const LIMIT = { timeout: isLong ? 3_600_000 : 300_000 }

const WINDOW: readonly Step[] = [
  'cut',
  'windowWrite',
  'windowMetadata',
  'windowDiscard',
  'windowCommit',
  'seal',
]
const STEPS: readonly Step[] = [
  ...WINDOW,
  ...WINDOW,
  ...WINDOW,
  'drop',
  'write',
  'metadata',
  'discard',
  'commit',
  'snapshot',
  'delete',
  'delete',
  'delete',
  'bookmark',
  'deleteBookmark',
  'rollback',
  'reopen',
]

async function randomHistory(random: Random): Promise<VolumeHistory> {
  const sizeBytes = random.pick([256, 1000, 3000, 70_000]) * 4096
  const history = await VolumeHistory.begin(new MemoryStorage(), random, {
    sizeBytes,
    steps: STEPS,
    // The smallest cache has the window write its nodes out and take them up again.
    ...(random.chance(0.3) ? { cacheBytes: 64 * 1024 } : {}),
  })
  for (let i = random.between(20, 90); i > 0; i--) await history.step()
  return history
}

function soundness(storage: MemoryStorage): string[] {
  const { errors, leaks } = checkVolume(storage)
  const problems = errors.map(({ code, where, message }) => `${code} ${where}: ${message}`)
  return leaks.blockCount > 0 ? [...problems, `${leaks.blockCount} blocks are leaked`] : problems
}

function report(t: Assertion, history: VolumeHistory, problems: readonly string[]): void {
  for (const line of history.log) t.comment(line)
  t.fail(`${problems.slice(0, 5).join('; ')} (${problems.length} in all)`)
}

test(
  'row 38: base + delta = target, exactly, where windows changed the base or the target',
  LIMIT,
  async (t) => {
    const random = new Random(chosenSeed(t))
    let shadows = 0
    let bookmarks = 0
    for (let round = 0; round < HISTORY_COUNT; round++) {
      const history = await randomHistory(random)
      const { volume } = history
      await volume.commit()
      const problems = [...history.verify(), ...checkDeltas(history, NO_FAULT)]
      problems.push(...soundness(history.storage as MemoryStorage))
      shadows += volume.snapshots().filter((snapshot) => snapshot.shadow !== null).length
      bookmarks += volume.bookmarks().filter((bookmark) => bookmark.window !== null).length
      await volume.close()
      problems.push(...soundness(history.storage as MemoryStorage))
      if (problems.length > 0) return report(t, history, problems)
    }
    t.ok(shadows > HISTORY_COUNT / 2, `${shadows} shadow copies`)
    t.ok(bookmarks > HISTORY_COUNT / 10, `${bookmarks} bookmarks with a window list`)
  },
)

test('a forgotten window list turns the judge red', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const forgetful: Fault = {
    base: (from) => (from.kind === 'bookmark' ? { ...from, window: null } : from),
  }
  let red = 0
  for (let round = 0; round < 100; round++) {
    const history = await randomHistory(random)
    if (checkDeltas(history, forgetful).length > 0) red++
    await history.volume.close()
  }
  t.ok(red > 0, `seen in ${red} of 100 histories`)
})
