// Space: running full, giving back, huge transactions in bounded memory, thousands of snapshots.

import test from 'brittle'
import type { UmbraError } from '../../src/base/errors.ts'
import { BLOCK_SIZE_BYTES, GIB, MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, difference, fillBlock, randomFrom } from './support/model.ts'

const SEED = Number(process.env['UMBRA_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const MANY = process.env['UMBRA_LONG'] ? 10_000 : 1_500

function writeTagged(volume: Volume, contents: Contents, first: number, count: number, tag: number): void {
  const bytes = new Uint8Array(count * BLOCK_SIZE_BYTES)
  for (let i = 0; i < count; i++) fillBlock(bytes, i * BLOCK_SIZE_BYTES, first + i, tag)
  volume.writeData(first, count, bytes, 0)
  for (let i = 0; i < count; i++) contents.set(first + i, tag)
}

test('a volume whose host is full refuses writes, commits, deletes and goes on', async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  const random = randomFrom(SEED)
  const storage = new MemoryStorage({ capacityBytes: 24 * MIB })
  const volume = await Volume.create(storage, { sizeBytes: 64 * MIB })
  const live: Contents = new Map()
  let refused = 0
  let snapshots = 0
  for (let i = 0; i < 3000 && refused < 100; i++) {
    const first = Math.floor(random() * (volume.blockCount - 8))
    try {
      if (i % 5 === 4) {
        volume.requireRoom(2, false)
        const block = new Uint8Array(BLOCK_SIZE_BYTES)
        fillBlock(block, 0, first, i)
        volume.writeMetadata(first, block, 0)
        live.set(first, i)
      } else {
        writeTagged(volume, live, first, 1 + Math.floor(random() * 8), i)
      }
      if (i % 100 === 99) await volume.createSnapshot(`s${snapshots++}`)
    } catch (error) {
      if ((error as UmbraError).code !== 'OUT_OF_SPACE') throw error
      refused++
    }
    if (i % 20 === 0) await volume.commit()
  }
  t.is(refused, 100, 'it ran full')
  await volume.commit()
  t.absent(volume.failure, 'no commit failed for lack of space')
  t.absent(difference(volume, live))
  for (const { name } of volume.snapshots()) await volume.deleteSnapshot(name)
  await volume.drain()
  volume.discard(0, volume.blockCount)
  live.clear()
  await volume.commit()
  await volume.drain()
  t.absent(volume.failure)
  writeTagged(volume, live, 100, 1000, 5000)
  await volume.commit()
  t.absent(difference(volume, live), 'and is usable again')
  await volume.close()
  t.absent(difference(await Volume.open(storage), live))
})

test('what is deleted goes back to the host', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: GIB })
  const live: Contents = new Map()
  await volume.commit()
  for (let round = 0; round < 4; round++) {
    for (let first = 0; first < 4096; first += 256) writeTagged(volume, live, first, 256, round)
    await volume.createSnapshot(`s${round}`)
  }
  const full = storage.allocatedBytes
  t.ok(full >= 64 * MIB, 'four generations of 16 MiB')
  for (const name of ['s1', 's0', 's2']) await volume.deleteSnapshot(name)
  await volume.drain()
  t.ok(storage.allocatedBytes < 20 * MIB, `${storage.allocatedBytes} bytes are left of ${full}`)
  await volume.deleteSnapshot('s3')
  volume.discard(0, 4096)
  await volume.commit()
  await volume.drain()
  await volume.close()
  t.ok(storage.allocatedBytes < 2 * MIB, `${storage.allocatedBytes} bytes are left of an empty volume`)
})

test('space stays bounded while snapshots come and go', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: GIB })
  const random = randomFrom(SEED)
  const live: Contents = new Map()
  let highest = 0
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 40; i++) {
      writeTagged(volume, live, Math.floor(random() * 2000), 1 + Math.floor(random() * 16), round)
    }
    await volume.createSnapshot(`s${round}`)
    if (round >= 3) await volume.deleteSnapshot(`s${round - 3}`)
    if (round >= 20) highest = Math.max(highest, storage.sizeBytes)
  }
  await volume.drain()
  t.is(highest, 128 * MIB, 'the file never needed a second group')
  t.ok(volume.space().allocatedBytes < 48 * MIB)
  t.absent(difference(volume, live))
})

test('sequential writes lie side by side in the file', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 4 * GIB })
  const chunk = new Uint8Array(MIB)
  for (let i = 0; i < 64; i++) volume.writeData(i * 256, 256, chunk, 0)
  const runs: number[] = []
  const spy = Object.create(storage) as MemoryStorage
  let reads = 0
  Object.defineProperty(spy, 'readSync', {
    value: (offset: number, length: number, target: Uint8Array, at: number) => {
      reads++
      runs.push(length)
      storage.readSync(offset, length, target, at)
    },
  })
  Object.defineProperty(spy, 'sizeBytes', { get: () => storage.sizeBytes })
  Object.defineProperty(spy, 'name', { value: 'spy' })
  Object.defineProperty(spy, 'readOnly', { value: true })
  await volume.commit()
  const again = await Volume.open(spy, { readOnly: true })
  again.readSync(0, 1, new Uint8Array(1), 0)
  reads = 0
  again.readSync(0, 64 * MIB, new Uint8Array(64 * MIB), 0)
  t.ok(reads < 64 + 8, `${reads} reads for 64 MiB, nodes included`)
})

test('a transaction much larger than the cache stays in bounded memory', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 64 * GIB, cacheBytes: 64 * 4096 })
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  const tags = new Map<number, number>()
  const random = randomFrom(SEED)
  for (let i = 0; i < 6000; i++) {
    const at = Math.floor(random() * volume.blockCount)
    fillBlock(block, 0, at, i)
    volume.writeData(at, 1, block, 0)
    tags.set(at, i)
  }
  await volume.commit()
  const again = await Volume.open(storage)
  const found = new Uint8Array(8)
  let wrong = 0
  for (const [at, tag] of tags) {
    again.readSync(at * BLOCK_SIZE_BYTES, 8, found, 0)
    if (new DataView(found.buffer).getUint32(4, true) !== tag) wrong++
  }
  t.is(wrong, 0)
  t.is(again.space().liveBytes, volume.space().liveBytes)
})

test(`${MANY} snapshots: each costs a few blocks`, { timeout: 600_000 }, async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: GIB })
  const live: Contents = new Map()
  const started = performance.now()
  for (let i = 0; i < MANY; i++) {
    writeTagged(volume, live, (i * 37) % 5000, 1, i)
    await volume.createSnapshot(`hourly-${i}`)
  }
  t.comment(`${((performance.now() - started) / MANY).toFixed(3)} ms each`)
  t.is(volume.snapshots().length, MANY)
  const perSnapshot = volume.space().allocatedBytes / MANY
  t.ok(perSnapshot < 64 * 1024, `${Math.round(perSnapshot)} bytes each`)
  const opening = performance.now()
  const again = await Volume.open(storage.fork())
  t.comment(`opened in ${(performance.now() - opening).toFixed(1)} ms`)
  t.is(again.snapshot(`hourly-${MANY - 1}`).epoch, MANY)
  const deleting = performance.now()
  const random = randomFrom(SEED)
  const names = volume.snapshots().map((snapshot) => snapshot.name)
  for (let i = 0; i < 300; i++) {
    const [name] = names.splice(Math.floor(random() * names.length), 1)
    await volume.deleteSnapshot(name as string)
  }
  t.comment(`${((performance.now() - deleting) / 300).toFixed(3)} ms per delete`)
  await volume.drain()
  const freed = volume.freedIfDeleted(names)
  t.is(freed, volume.space().snapshotBytes, 'deleting all would free all that snapshots hold')
  t.absent(difference(volume, live))
})
