// Crash states: each one must be possible under the storage's promise, and the promise must be used to
// the full (a replayer that never loses or tears anything would find no bug).

import test from 'brittle'
import { type CrashState, crashStates } from '../../src/storage/crash-states.ts'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { blockStorageContract, codeOf } from '../contract/block-storage.ts'
import { chosenSeed, Random } from '../support/random.ts'

blockStorageContract('WriteLogStorage', async () => ({ storage: new WriteLogStorage(new MemoryStorage()) }))

const BLOCK = 4096

function block(value: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(value)
}

/** First byte of each sector of a block. */
function sectors(state: CrashState, blockIndex: number): number[] {
  const target = new Uint8Array(BLOCK)
  state.storage.readSync(blockIndex * BLOCK, BLOCK, target, 0)
  return [0, 1, 2, 3, 4, 5, 6, 7].map((i) => target[i * 512] as number)
}

test('WriteLogStorage keeps bytes of its own, also of a Buffer', (t) => {
  const log = new WriteLogStorage(new MemoryStorage())
  const source = Buffer.alloc(BLOCK, 1)
  log.write(0, BLOCK, source, 0)
  source.fill(2)
  const [entry] = log.entries
  t.is(entry?.kind === 'write' && entry.bytes[0], 1)
})

test('crashStates() keeps what a flush covered, and loses the rest in every way', async (t) => {
  const seed = chosenSeed(t)
  const log = new WriteLogStorage(new MemoryStorage())
  log.write(0, BLOCK, block(1), 0)
  log.write(BLOCK, BLOCK, block(1), 0)
  await log.flush()
  log.mark('one')
  log.write(0, BLOCK, block(2), 0)
  log.write(BLOCK, BLOCK, block(2), 0)
  await log.flush()
  log.mark('two')
  const options = { seed, subsetsPerInterval: 40, tornPerInterval: 40, prefixesPerInterval: 40 }
  const seen = { exact: 0, both: 0, onlySecond: 0, torn: 0, neither: 0 }
  for (const state of crashStates(log.entries, options)) {
    const [a, b] = [sectors(state, 0), sectors(state, 1)]
    const all = [...a, ...b]
    if (state.marks.includes('two')) t.ok(all.every((value) => value === 2))
    else if (state.marks.includes('one')) t.absent(all.includes(0), state.label)
    if (state.label.startsWith('at the end')) seen.exact++
    if (all.every((value) => value === 2)) seen.both++
    if (all.every((value) => value === 1)) seen.neither++
    if (a.every((value) => value === 1) && b.every((value) => value === 2)) seen.onlySecond++
    if (a.includes(1) && a.includes(2)) seen.torn++
  }
  t.is(seen.exact, 2)
  for (const [what, count] of Object.entries(seen)) t.ok(count > 0, `${what}: ${count}`)
})

test('crashStates() does not let a flush cover a write made while it ran', async (t) => {
  const seed = chosenSeed(t)
  const slow = new FaultStorage(new MemoryStorage(), [{ operation: 'flush', delayMs: 2 }])
  const log = new WriteLogStorage(slow)
  log.write(0, BLOCK, block(1), 0)
  const flushed = log.flush()
  log.write(BLOCK, BLOCK, block(1), 0)
  await flushed
  log.mark('flushed')
  const states = [...crashStates(log.entries, { seed, subsetsPerInterval: 30 })]
  const after = states.filter((state) => state.cutIndex === log.entries.length - 1)
  t.ok(after.some((state) => state.label.startsWith('at the end') && sectors(state, 1)[0] === 0))
  const last = states.filter((state) => state.marks.length > 0)
  t.ok(
    last.every((state) => sectors(state, 0)[0] === 1),
    'the first write is there',
  )
  t.ok(last.some((state) => sectors(state, 1)[0] === 0) && last.some((state) => sectors(state, 1)[0] === 1))
})

test('crashStates() treats a punch as a write that ends later, and starts from a base', async (t) => {
  const seed = chosenSeed(t)
  const base = MemoryStorage.from(block(9))
  const slow = new FaultStorage(base.fork(), [{ operation: 'punch', delayMs: 5 }])
  const log = new WriteLogStorage(slow)
  const punched = log.punch(0, BLOCK)
  t.is(await codeOf(() => log.write(100, 1, block(1), 0)).then((code) => /punched/.test(code)), true)
  log.flushSync()
  await punched
  log.flushSync()
  const values = new Map<string, Set<number>>()
  for (const state of crashStates(log.entries, { seed, base, subsetsPerInterval: 20 })) {
    const label = state.label.startsWith('at the end') ? state.label : 'between'
    const set = values.get(label) ?? new Set()
    values.set(label, set.add(sectors(state, 0)[0] as number))
  }
  t.alike(
    [...values.entries()].map(([label, set]) => [label, [...set].sort()]),
    [
      ['between', [0, 9]],
      ['at the end of flush 2', [9]],
      ['at the end of flush 3', [0]],
    ],
  )
})

test('crashStates() of random logs hold in each sector some version written since the last flush', async (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 20; round++) {
    const log = new WriteLogStorage(new MemoryStorage())
    for (let value = 1; value <= 60; value++) {
      if (random.chance(0.15)) log.flushSync()
      log.write(random.below(8) * BLOCK, BLOCK, block(value), 0)
    }
    for (const state of crashStates(log.entries, { seed: random.below(2 ** 32) })) {
      const allowed = allowedVersions(log, state.cutIndex)
      const wrong = allowed.findIndex((versions, i) =>
        sectors(state, i).some((value) => !versions.has(value)),
      )
      if (wrong >= 0) t.fail(`${state.label}: block ${wrong} holds ${sectors(state, wrong)}`)
    }
  }
  t.pass()
})

/** For each of 8 blocks: what was there at the last flush's end before the cut, and what was written since. */
function allowedVersions(log: WriteLogStorage, cutIndex: number): Set<number>[] {
  const allowed = Array.from({ length: 8 }, () => new Set([0]))
  const flushed = log.entries.findLastIndex((entry, at) => at < cutIndex && entry.kind === 'flush-end')
  for (const [at, entry] of log.entries.slice(0, cutIndex).entries()) {
    if (entry.kind !== 'write') continue
    const versions = allowed[entry.offsetBytes / BLOCK] as Set<number>
    if (at < flushed) versions.clear()
    versions.add(entry.bytes[0] as number)
  }
  return allowed
}
