// Crash replay of the whole stack: random histories of file operations, fsyncs, commits, snapshots,
// deletes and rollbacks, cut at every flush and at many places between, with lost, reordered and torn
// writes. Each state must open, be clean, show what was promised, and go on.
// deadline 600

import test from 'brittle'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { freshStorage, RandomHistory } from './history.ts'
import { ImageJudge } from './image-judge.ts'
import { replay, report } from './replay.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const HISTORY_COUNT = isLong ? 3000 : 60
const LIMIT = { ...requires('e2fsck'), timeout: isLong ? 7_200_000 : 580_000 }

test('after any crash the file system is what was promised, clean, and goes on', LIMIT, async (t) => {
  const seeds = new Random(chosenSeed(t))
  const images = new ImageJudge(t)
  const base = await freshStorage()
  let count = 0
  for (let round = 0; round < HISTORY_COUNT; round++) {
    const seed = seeds.below(2 ** 32)
    const history = await RandomHistory.begin(base, new Random(seed))
    await history.run(history.random.between(3, 15))
    const outcome = await replay(history.stack, {
      seed,
      base,
      images,
      imageEvery: isLong ? 1 : 20,
      useEvery: isLong ? 1 : 3,
      prefixesPerInterval: 1,
      subsetsPerInterval: 2,
      tornPerInterval: 1,
    })
    if (typeof outcome !== 'number') {
      report(t, history.stack, seed, outcome)
      return
    }
    count += outcome
  }
  t.ok(
    count > HISTORY_COUNT * 5,
    `${HISTORY_COUNT} histories, ${count} crashes, ${images.judgedCount} images`,
  )
})
