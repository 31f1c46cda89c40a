// The memory storage: the contract, forks, and room that is bounded.

import test from 'brittle'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { blockStorageContract, codeOf } from '../contract/block-storage.ts'

blockStorageContract('MemoryStorage', async () => ({ storage: new MemoryStorage() }))

test('MemoryStorage.fork() shares memory and nothing else', (t) => {
  const first = MemoryStorage.from(new Uint8Array(50_000).fill(1))
  const second = first.fork()
  first.write(0, 1, Uint8Array.of(2), 0)
  second.write(20_000, 1, Uint8Array.of(3), 0)
  second.truncate(30_000)
  const read = (storage: MemoryStorage, at: number) => {
    const target = new Uint8Array(1)
    storage.readSync(at, 1, target, 0)
    return target[0]
  }
  t.alike(
    [0, 20_000, 40_000].map((at) => read(first, at)),
    [2, 1, 1],
  )
  t.alike(
    [0, 20_000, 40_000].map((at) => read(second, at)),
    [1, 3, 0],
  )
  t.is(first.sizeBytes, 50_000)
})

test('MemoryStorage holds many TiB sparsely', (t) => {
  const storage = new MemoryStorage({ sizeBytes: 16 * 2 ** 40 })
  storage.write(15 * 2 ** 40, 4, Uint8Array.of(1, 2, 3, 4), 0)
  storage.punchSync(0, 15 * 2 ** 40)
  t.is(storage.allocatedBytes, 16 * 1024)
  storage.punchSync(0, 16 * 2 ** 40)
  t.is(storage.allocatedBytes, 0)
  t.is(storage.sizeBytes, 16 * 2 ** 40)
})

test('MemoryStorage answers OUT_OF_SPACE past its capacity', async (t) => {
  const storage = new MemoryStorage({ capacityBytes: 64 * 1024 })
  storage.reserve(0, 32 * 1024)
  t.is(await codeOf(() => storage.write(32 * 1024, 40_000, new Uint8Array(40_000), 0)), 'OUT_OF_SPACE')
  t.is(storage.sizeBytes, 64 * 1024, 'a prefix was written')
  t.is(await codeOf(() => storage.write(0, 10, new Uint8Array(10), 0)), 'none', 'what is reserved has room')
  t.is(await codeOf(() => storage.reserve(64 * 1024, 1)), 'OUT_OF_SPACE')
})

test('MemoryStorage refuses changes when read-only', async (t) => {
  const storage = MemoryStorage.from(new Uint8Array(10))
  storage.readOnly = true
  for (const call of [
    () => storage.write(0, 1, new Uint8Array(1), 0),
    () => storage.truncate(0),
    () => storage.punch(0, 1),
    () => storage.reserve(0, 1),
    () => storage.flush(),
  ]) {
    t.is(await codeOf(call), 'READ_ONLY')
  }
})
