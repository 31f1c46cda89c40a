// What every block storage must do, as a function of a way to make one.
//
// Always true: the model is a plain array of bytes; random operations are replayed on both, and every
// way of reading must agree with it.

import test, { type Assertion } from 'brittle'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import { chosenSeed, Random } from '../support/random.ts'

export interface StorageUnderTest {
  readonly storage: BlockStorage
  /** Closes and opens again, with the contents kept; left out where closing is the end. */
  readonly reopen?: () => Promise<BlockStorage>
}

export type StorageFactory = (t: Assertion) => Promise<StorageUnderTest>

const SPAN_BYTES = 300_000

export function blockStorageContract(name: string, make: StorageFactory): void {
  test(`${name}: an empty storage has size 0 and reads as zeros`, async (t) => {
    const { storage } = await make(t)
    t.is(storage.sizeBytes, 0)
    t.is(storage.readOnly, false)
    const target = new Uint8Array(100).fill(7)
    storage.readSync(12_345, 98, target, 1)
    t.is(target[0], 7)
    t.is(target[99], 7)
    t.absent(target.subarray(1, 99).some((byte) => byte !== 0))
    await storage.close()
  })

  test(`${name}: a write extends, a read past the end gives zeros`, async (t) => {
    const { storage } = await make(t)
    storage.write(5, 3, Uint8Array.of(9, 1, 2, 3, 9), 1)
    t.is(storage.sizeBytes, 8)
    for (const target of await readAllWays(storage, 4, 10)) {
      t.alike([...target], [0, 1, 2, 3, 0, 0, 0, 0, 0, 0])
    }
    storage.write(0, 0, new Uint8Array(0), 0)
    t.is(storage.sizeBytes, 8)
    await storage.close()
  })

  test(`${name}: write() has taken the bytes when it returns`, async (t) => {
    const { storage } = await make(t)
    const source = new Uint8Array(10_000).fill(1)
    storage.write(0, source.length, source, 0)
    source.fill(2)
    await storage.flush()
    for (const target of await readAllWays(storage, 0, 10_000)) t.absent(target.some((byte) => byte !== 1))
    await storage.close()
  })

  test(`${name}: truncate() grows with zeros, and what it cut off does not come back`, async (t) => {
    const { storage } = await make(t)
    storage.write(0, 100_000, new Uint8Array(100_000).fill(3), 0)
    storage.truncate(50_001)
    t.is(storage.sizeBytes, 50_001)
    storage.truncate(90_000)
    t.is(storage.sizeBytes, 90_000)
    for (const target of await readAllWays(storage, 49_999, 10_000)) {
      t.alike([...target.subarray(0, 4)], [3, 3, 0, 0])
      t.absent(target.subarray(2).some((byte) => byte !== 0))
    }
    await storage.close()
  })

  test(`${name}: punch() makes zeros and keeps the size`, async (t) => {
    const { storage } = await make(t)
    storage.write(0, 200_000, new Uint8Array(200_000).fill(5), 0)
    await storage.punch(10_000, 100_000)
    storage.punchSync(150_000, 10)
    storage.punchSync(190_000, 1_000_000)
    await storage.punch(0, 0)
    t.is(storage.sizeBytes, 200_000)
    const [target] = await readAllWays(storage, 0, 200_000)
    const isHole = (at: number) =>
      (at >= 10_000 && at < 110_000) || (at >= 150_000 && at < 150_010) || at >= 190_000
    t.is(
      target?.findIndex((byte, at) => byte !== (isHole(at) ? 0 : 5)),
      -1,
    )
    await storage.close()
  })

  test(`${name}: reserve() changes neither size nor contents`, async (t) => {
    const { storage } = await make(t)
    storage.write(0, 5000, new Uint8Array(5000).fill(5), 0)
    storage.reserve(0, 100_000)
    t.is(storage.sizeBytes, 5000)
    const [target] = await readAllWays(storage, 4999, 3)
    t.alike([...(target ?? [])], [5, 0, 0])
    await storage.close()
  })

  test(`${name}: places far past 4 GiB are as good as any`, async (t) => {
    const { storage } = await make(t)
    const far = 3 * 2 ** 40 + 12_345
    storage.write(far, 4, Uint8Array.of(1, 2, 3, 4), 0)
    t.is(storage.sizeBytes, far + 4)
    for (const target of await readAllWays(storage, far - 1, 6)) t.alike([...target], [0, 1, 2, 3, 4, 0])
    storage.truncate(0)
    t.is(storage.sizeBytes, 0)
    await storage.close()
  })

  test(`${name}: after close() everything is refused with CLOSED`, async (t) => {
    const { storage } = await make(t)
    storage.write(0, 4, Uint8Array.of(1, 2, 3, 4), 0)
    await storage.close()
    const target = new Uint8Array(4)
    for (const call of [
      () => storage.readSync(0, 4, target, 0),
      () => storage.tryRead(0, 4, target, 0),
      () => storage.read(0, 4, target, 0),
      () => storage.write(0, 4, target, 0),
      () => storage.flush(),
      () => storage.flushSync(),
      () => storage.punch(0, 4),
      () => storage.truncate(0),
    ]) {
      t.is(await codeOf(call), 'CLOSED')
    }
    await storage.close()
  })

  test(`${name}: random operations agree with an array of bytes`, async (t) => {
    const seed = chosenSeed(t)
    const { storage, reopen } = await make(t)
    await replayRandomly(t, new Random(seed), storage, reopen)
  })
}

async function replayRandomly(
  t: Assertion,
  random: Random,
  first: BlockStorage,
  reopen: (() => Promise<BlockStorage>) | undefined,
): Promise<void> {
  let storage = first
  const model = new Model()
  for (let step = 0; step < 400; step++) {
    const offset = random.below(SPAN_BYTES)
    const length = random.below(Math.min(SPAN_BYTES - offset, random.chance(0.2) ? 100_000 : 9000) + 1)
    if (random.chance(0.7)) await changeRandomly(storage, model, random, offset, length)
    else if (random.chance(0.3)) storage = reopen && random.chance(0.3) ? await reopen() : storage
    else if (!(await agree(storage, model, offset, length))) t.fail(`contents differ at step ${step}`)
    if (storage.sizeBytes !== model.sizeBytes) {
      t.fail(`size is ${storage.sizeBytes}, not ${model.sizeBytes} (step ${step})`)
    }
  }
  t.ok(await agree(storage, model, 0, SPAN_BYTES), 'contents agree')
  await storage.close()
}

class Model {
  readonly bytes = new Uint8Array(SPAN_BYTES)
  sizeBytes = 0
}

async function changeRandomly(
  storage: BlockStorage,
  model: Model,
  random: Random,
  offset: number,
  length: number,
): Promise<void> {
  switch (random.below(8)) {
    case 0:
      await storage.punch(offset, length)
      model.bytes.fill(0, offset, offset + length)
      break
    case 1:
      storage.punchSync(offset, length)
      model.bytes.fill(0, offset, offset + length)
      break
    case 2:
      storage.truncate(offset)
      model.bytes.fill(0, offset)
      model.sizeBytes = offset
      break
    case 3:
      if (random.chance(0.5)) storage.flushSync()
      else await storage.flush()
      break
    default: {
      const source = random.bytes(length + 3)
      storage.write(offset, length, source, 3)
      model.bytes.set(source.subarray(3), offset)
      if (length > 0) model.sizeBytes = Math.max(model.sizeBytes, offset + length)
    }
  }
}

async function agree(storage: BlockStorage, model: Model, offset: number, length: number): Promise<boolean> {
  const expected = model.bytes.subarray(offset, offset + length)
  const seen = await readAllWays(storage, offset, length)
  return seen.every((target) => Buffer.compare(target, expected) === 0)
}

/** The same range by readSync, read and, where it answers, tryRead. */
async function readAllWays(storage: BlockStorage, offset: number, length: number): Promise<Uint8Array[]> {
  const targets = [0, 1, 2].map(() => new Uint8Array(length + 2).fill(0xee))
  const [a, b, c] = targets as [Uint8Array, Uint8Array, Uint8Array]
  storage.readSync(offset, length, a, 1)
  await storage.read(offset, length, b, 1)
  const answered = storage.tryRead(offset, length, c, 1)
  return (answered ? targets : [a, b]).map((target) => target.subarray(1, length + 1))
}

/** The code of the error that a call throws or rejects with; `none` where it succeeds. */
export async function codeOf(call: () => unknown): Promise<string> {
  try {
    await call()
    return 'none'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
