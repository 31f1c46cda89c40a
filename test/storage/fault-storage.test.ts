// The fault-injecting storage: transparent without faults, and each kind of fault.

import { constants } from 'node:os'
import test from 'brittle'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { blockStorageContract, codeOf } from '../contract/block-storage.ts'

const { EIO, ENOSPC } = constants.errno

blockStorageContract('FaultStorage', async () => ({ storage: new FaultStorage(new MemoryStorage()) }))

test('FaultStorage hits the n-th call, and as many as it was told', async (t) => {
  const storage = new FaultStorage(new MemoryStorage(), [
    { operation: 'flush', nth: 2, times: 2, errno: EIO },
  ])
  const codes: string[] = []
  for (let i = 0; i < 4; i++) codes.push(await codeOf(() => (i % 2 ? storage.flushSync() : storage.flush())))
  t.alike(codes, ['none', 'IO_FAILED', 'IO_FAILED', 'none'])
  t.is(storage.hitCount, 2)
})

test('FaultStorage tears a write after its first bytes', async (t) => {
  const inner = new MemoryStorage()
  const storage = new FaultStorage(inner)
  storage.plant({
    operation: 'write',
    matches: (call) => call.offsetBytes === 4096,
    errno: ENOSPC,
    tornBytes: 512,
  })
  storage.write(0, 4096, new Uint8Array(4096).fill(1), 0)
  t.is(await codeOf(() => storage.write(4096, 4096, new Uint8Array(4096).fill(2), 0)), 'OUT_OF_SPACE')
  t.is(inner.sizeBytes, 4096 + 512)
  storage.heal()
  storage.write(4096, 4096, new Uint8Array(4096).fill(2), 0)
  t.is(inner.sizeBytes, 8192)
})

test('FaultStorage fails every kind of call with the place in the context', async (t) => {
  const storage = new FaultStorage(new MemoryStorage({ name: 'disk' }))
  for (const operation of ['read', 'write', 'flush', 'punch', 'reserve', 'truncate'] as const) {
    storage.plant({ operation, times: Number.POSITIVE_INFINITY, errno: EIO })
  }
  const target = new Uint8Array(8)
  t.is(storage.tryRead(8, 8, target, 0), false)
  for (const call of [
    () => storage.readSync(8, 8, target, 0),
    () => storage.read(8, 8, target, 0),
    () => storage.write(8, 8, target, 0),
    () => storage.flush(),
    () => storage.flushSync(),
    () => storage.punch(8, 8),
    () => storage.punchSync(8, 8),
    () => storage.reserve(8, 8),
    () => storage.truncate(8),
  ]) {
    t.is(await codeOf(call), 'IO_FAILED')
  }
  const error = await storage.read(8, 8, target, 0).catch((thrown: unknown) => thrown)
  t.alike((error as { context: unknown }).context, {
    path: 'disk',
    offsetBytes: 8,
    lengthBytes: 8,
    errno: EIO,
  })
})

test('FaultStorage delays without failing', async (t) => {
  const storage = new FaultStorage(MemoryStorage.from(Uint8Array.of(1, 2, 3)), [
    { operation: 'read', delayMs: 5 },
  ])
  const target = new Uint8Array(3)
  const order: string[] = []
  const slow = storage.read(0, 3, target, 0).then(() => order.push('slow'))
  const fast = storage.read(0, 3, new Uint8Array(3), 0).then(() => order.push('fast'))
  await Promise.all([slow, fast])
  t.alike(order, ['fast', 'slow'])
  t.alike([...target], [1, 2, 3])
})
