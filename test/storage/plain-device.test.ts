// The plain block device: contents against a model, commits, the side table, and its limits.

import test from 'brittle'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { codeOf } from '../contract/block-storage.ts'
import { chosenSeed, Random } from '../support/random.ts'

const BLOCK = 4096

test('PlainDevice agrees with an array of bytes', async (t) => {
  const random = new Random(chosenSeed(t))
  const device = new PlainDevice(new MemoryStorage({ sizeBytes: 64 * BLOCK + 5 }))
  t.is(device.blockCount, 64)
  const model = new Uint8Array(64 * BLOCK)
  for (let step = 0; step < 300; step++) {
    const first = random.below(64)
    const count = random.between(1, Math.min(8, 64 - first))
    if (random.chance(0.3)) {
      device.discard(first, count)
      model.fill(0, first * BLOCK, (first + count) * BLOCK)
    } else {
      const source = new Uint8Array(count * BLOCK + 7).fill(random.below(256))
      if (count === 1) device.writeMetadata(first, source, 7)
      else device.writeData(first, count, source, 7)
      model.set(source.subarray(7), first * BLOCK)
    }
  }
  const target = new Uint8Array(model.length)
  await device.read(0, model.length, target, 0)
  t.is(Buffer.compare(target, model), 0)
})

test('PlainDevice.commit() calls its hooks, flushes and counts', async (t) => {
  const storage = new FaultStorage(new MemoryStorage({ sizeBytes: BLOCK }), [
    { operation: 'flush', delayMs: 2 },
  ])
  const device = new PlainDevice(storage)
  let hooks = 0
  device.onBeforeCommit(() => {
    hooks++
  })
  t.alike([device.transaction, device.durableTransaction], [1, 0])
  const shared = [device.commit(), device.commit()]
  await Promise.resolve()
  await Promise.resolve()
  t.alike([device.transaction, device.durableTransaction], [2, 0], 'the cut is made, the flush runs')
  const next = device.commit()
  await Promise.all([...shared, next])
  t.is(hooks, 2, 'commits asked for together are one')
  t.alike([device.transaction, device.durableTransaction], [3, 2])
})

test('PlainDevice keeps the side table in memory and bounds it', async (t) => {
  const device = new PlainDevice(new MemoryStorage({ sizeBytes: BLOCK }))
  t.is(device.readSideTable().length, 0)
  device.writeSideTable(Uint8Array.of(1, 2, 3))
  t.alike([...device.readSideTable()], [1, 2, 3])
  t.is(await codeOf(() => device.writeSideTable(new Uint8Array(2 ** 20 + 1))), 'LIMIT_EXCEEDED')
})

test('PlainDevice refuses what lies outside, and changes to a read-only storage', async (t) => {
  const storage = new MemoryStorage({ sizeBytes: 2 * BLOCK })
  const device = new PlainDevice(storage)
  const bytes = new Uint8Array(2 * BLOCK)
  t.is(await codeOf(() => device.readSync(BLOCK, BLOCK + 1, bytes, 0)), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => device.read(-1, 1, bytes, 0)), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => device.writeData(1, 2, bytes, 0)), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => device.discard(0, 3)), 'INVALID_ARGUMENT')
  storage.readOnly = true
  t.is(await codeOf(() => device.writeData(0, 1, bytes, 0)), 'READ_ONLY')
  t.is(await codeOf(() => device.discard(0, 1)), 'READ_ONLY')
  t.is(await codeOf(() => device.requireRoom()), 'READ_ONLY')
})
