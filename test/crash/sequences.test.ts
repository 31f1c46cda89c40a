// Crash replay of every sequence of one and of two operations on a few fixed files, followed by one of
// fsync, fdatasync and commit; longer ones are sampled.
// deadline 600

import test, { type Assertion } from 'brittle'
import type { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { freshStorage } from './history.ts'
import { ImageJudge } from './image-judge.ts'
import { replay, report } from './replay.ts'
import { beginSequence, OPERATIONS, type Operation, runSequence, SYNCS } from './sequences.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const LIMIT = { ...requires('e2fsck'), timeout: isLong ? 7_200_000 : 580_000 }
const SAMPLES = isLong ? 3000 : 60

interface Totals {
  sequences: number
  crashes: number
}

class Replayer {
  readonly totals: Totals = { sequences: 0, crashes: 0 }
  readonly #t: Assertion
  readonly #images: ImageJudge
  readonly #fresh: MemoryStorage
  readonly #isThorough: boolean

  constructor(t: Assertion, fresh: MemoryStorage, isThorough: boolean) {
    this.#t = t
    this.#images = new ImageJudge(t)
    this.#fresh = fresh
    this.#isThorough = isThorough || isLong
  }

  get imageCount(): number {
    return this.#images.judgedCount
  }

  /** @returns false: something was wrong, and is reported */
  async run(operations: readonly Operation[], seed: number): Promise<boolean> {
    const { stack, base, fromIndex } = await beginSequence(this.#fresh)
    // What cannot be done was part of no sequence.
    if (!(await runSequence(stack, operations))) return true
    const bounds = this.#isThorough
      ? {
          prefixesPerInterval: 2,
          subsetsPerInterval: 3,
          tornPerInterval: 2,
          imageEvery: isLong ? 1 : 12,
          useEvery: isLong ? 1 : 3,
        }
      : { prefixesPerInterval: 0, subsetsPerInterval: 1, tornPerInterval: 1, imageEvery: 60, useEvery: 12 }
    const outcome = await replay(stack, { seed, base, fromIndex, images: this.#images, ...bounds })
    if (typeof outcome !== 'number') {
      this.#t.comment(operations.map(({ name }) => name).join('; '))
      report(this.#t, stack, seed, outcome)
      return false
    }
    this.totals.sequences++
    this.totals.crashes += outcome
    return true
  }
}

test('one operation, then every kind of sync', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const replayer = new Replayer(t, await freshStorage(), true)
  for (const operation of OPERATIONS) {
    for (const sync of SYNCS) if (!(await replayer.run([operation, sync], random.below(2 ** 32)))) return
  }
  const { sequences, crashes } = replayer.totals
  t.ok(sequences >= 130, `${sequences} sequences, ${crashes} crashes, ${replayer.imageCount} images`)
})

test('two operations, then a sync', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const replayer = new Replayer(t, await freshStorage(), false)
  let turn = random.below(SYNCS.length)
  for (const first of OPERATIONS) {
    for (const second of OPERATIONS) {
      for (const sync of isLong ? SYNCS : [SYNCS[turn++ % SYNCS.length] as Operation])
        if (!(await replayer.run([first, second, sync], random.below(2 ** 32)))) return
    }
  }
  const { sequences, crashes } = replayer.totals
  t.ok(sequences >= 700, `${sequences} sequences, ${crashes} crashes, ${replayer.imageCount} images`)
})

test('three operations with syncs between, sampled', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const replayer = new Replayer(t, await freshStorage(), true)
  for (let i = 0; i < SAMPLES; i++) {
    const operations = Array.from({ length: 3 }, () => random.pick(OPERATIONS))
    operations.push(random.pick(SYNCS))
    if (random.chance(0.5)) operations.splice(random.between(1, 2), 0, random.pick(SYNCS))
    if (!(await replayer.run(operations, random.below(2 ** 32)))) return
  }
  const { sequences, crashes } = replayer.totals
  t.ok(sequences >= SAMPLES / 4, `${sequences} sequences, ${crashes} crashes, ${replayer.imageCount} images`)
})
