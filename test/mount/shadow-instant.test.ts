// The common instant of a shadow set: one process counts up in files of two volumes in turn, so in every
// set the counters may differ by the one step that was in flight, and no more.

// deadline 240

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { mountVolume, umbra } from '../support/umbra.ts'
import { Alternating } from './hands.ts'
import { isLong, makeLab } from './lab.ts'
import { makeSet, type SetOptions } from './shadow-sets.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'python3'), timeout: 600_000 }
const SETS = isLong ? 100 : 12
/** Enough for the fault to show, many times over. */
const SETS_OF_THE_FAULT = 10

type Mode = 'sync' | 'direct' | 'plain'

async function twoVolumes(t: Assertion, mountArgs: readonly string[] = []): Promise<string[]> {
  const lab = await makeLab(t, '256M')
  await lab.mount(mountArgs)
  await umbra(['create', lab.at('w.umbra'), '--size', '256M'])
  await mountVolume(t, lab.at('w.umbra'), lab.at('mnt2'), mountArgs)
  return [lab.dir, lab.at('mnt2')]
}

function counterIn(folder: string, file: string): number {
  const text = readFileSync(join(folder, file), 'latin1')
  return Number(
    text
      .split('\n')
      .filter((line) => /^\d{15}$/.test(line))
      .at(-1) ?? 0,
  )
}

/** For each set, by how much the first volume was ahead, per writer. */
async function differences(
  t: Assertion,
  folders: readonly string[],
  modes: readonly Mode[],
  count: number,
  options: SetOptions = {},
): Promise<number[]> {
  const writers = await Promise.all(
    modes.map((mode) =>
      Alternating.start(
        t,
        mode,
        folders.map((folder) => join(folder, mode)),
      ),
    ),
  )
  const ahead: number[] = []
  for (let i = 0; i < count; i++) {
    const set = await makeSet(t, folders, options)
    for (const mode of modes) {
      const counters = folders.map((folder) => counterIn(join(folder, '.snapshots', set.name), mode))
      const [first = 0, second = 0] = counters
      if (second < 1) throw new Error(`nothing of ${mode} is in ${set.name}: ${counters}`)
      ahead.push(first - second)
    }
    await set.end()
  }
  for (const writer of writers) {
    const counted = await writer.stop()
    t.comment(`counted to ${counted} during ${count} sets`)
  }
  return ahead
}

function isOneInstant(ahead: readonly number[]): boolean {
  return ahead.every((difference) => difference === 0 || difference === 1)
}

test('row 4: two volumes, O_SYNC and O_DIRECT writers: every set is one instant', NEEDS, async (t) => {
  const folders = await twoVolumes(t)
  const ahead = await differences(t, folders, ['sync', 'direct'], SETS)
  t.is(ahead.length, 2 * SETS)
  t.ok(isOneInstant(ahead), `differences: ${ahead.join(' ')}`)
})

test('row 4: with --write-through a buffered writer too', NEEDS, async (t) => {
  const folders = await twoVolumes(t, ['--write-through'])
  const ahead = await differences(t, folders, ['plain'], SETS)
  t.ok(isOneInstant(ahead), `differences: ${ahead.join(' ')}`)
})

test('the oracle of row 4 sees a set whose volumes were not held together', NEEDS, async (t) => {
  const folders = await twoVolumes(t)
  const ahead = await differences(t, folders, ['sync', 'direct'], SETS_OF_THE_FAULT, { oneByOne: true })
  t.absent(isOneInstant(ahead), `differences: ${ahead.join(' ')}`)
})
