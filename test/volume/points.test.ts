// Snapshots and bookmarks as users meet them: names, pins, leases, bookmarks, devices.

import test from 'brittle'
import type { UmbraError } from '../../src/base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { SnapshotDevice } from '../../src/volume/snapshot-device.ts'
import { Volume } from '../../src/volume/volume.ts'

const BLOCK = new Uint8Array(BLOCK_SIZE_BYTES).fill(0xab)

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'resolved',
    (error: UmbraError) => error.code,
  )
}

function byteAt(device: { readSync: Volume['readSync'] }, block: number): number {
  const byte = new Uint8Array(1)
  device.readSync(block * BLOCK_SIZE_BYTES, 1, byte, 0)
  return byte[0] as number
}

test('names are checked and unique over snapshots and bookmarks', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: MIB })
  for (const name of ['', '.', '..', 'a/b', 'a\0b', 'x'.repeat(256), 'ü'.repeat(128), '\ud800']) {
    t.is(await codeOf(volume.createSnapshot(name)), 'INVALID_NAME', JSON.stringify(name).slice(0, 20))
  }
  for (const name of ['x'.repeat(255), 'ü'.repeat(127), ' ', '...', 'a\nb']) {
    t.is(await codeOf(volume.createSnapshot(name)), 'resolved')
  }
  await volume.createBookmark('mark')
  t.is(await codeOf(volume.createSnapshot('mark')), 'ALREADY_EXISTS')
  t.is(await codeOf(volume.createBookmark(' ')), 'ALREADY_EXISTS')
  const [one, two] = await Promise.allSettled([volume.createSnapshot('same'), volume.createSnapshot('same')])
  t.alike([one.status, two.status], ['fulfilled', 'rejected'], 'one of two at once')
  t.absent(volume.failure)
})

test('pins, leases and what is not there keep from deleting', async (t) => {
  const storage = new MemoryStorage()
  let volume = await Volume.create(storage, { sizeBytes: MIB })
  await volume.createSnapshot('a')
  await volume.pin('a')
  t.is(volume.snapshot('a').pinned, true)
  t.is(await codeOf(volume.deleteSnapshot('a')), 'PINNED')
  await volume.close()
  volume = await Volume.open(storage)
  t.is(await codeOf(volume.deleteSnapshot('a')), 'PINNED', 'a pin lasts')
  await volume.unpin('a')
  const lease = volume.lease('a')
  const second = volume.lease('a')
  lease.release()
  lease.release()
  t.is(await codeOf(volume.deleteSnapshot('a')), 'LEASED')
  second.release()
  t.is(await codeOf(volume.deleteSnapshot('b')), 'NOT_FOUND')
  t.is(await codeOf(volume.deleteSnapshot('a')), 'resolved')
  t.is(await codeOf(volume.deleteSnapshot('a')), 'NOT_FOUND')
})

test('a deleted snapshot can leave a bookmark of the same id, epoch and name', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  const snapshot = await volume.createSnapshot('s')
  const later = await volume.createSnapshot('t')
  await volume.deleteSnapshot('s', { keepBookmark: true })
  const again = await Volume.open(storage)
  const point = again.point('s')
  t.alike([point.kind, point.id, point.epoch], ['bookmark', snapshot.id, snapshot.epoch])
  t.is(again.point(later.id).name, 't')
  t.is(await codeOf(again.deleteBookmark('t')), 'NOT_FOUND')
  await again.deleteBookmark(point.id)
  t.is(again.bookmarks().length, 0)
})

test('a snapshot is a read-only device, here and in another process', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  volume.writeData(3, 1, BLOCK, 0)
  const { root, epoch, blockCount } = await volume.createSnapshot('s')
  volume.discard(3, 1)
  await volume.commit()
  const here = volume.openSnapshot('s')
  const there = new SnapshotDevice(storage, { root, epoch, blockCount })
  for (const device of [here, there]) {
    t.is(byteAt(device, 3), 0xab)
    t.is(device.readOnly, true)
    await t.exception(() => device.writeData(0, 1, BLOCK, 0), /cannot be changed/)
    const target = new Uint8Array(6000).fill(1)
    await device.read(3 * BLOCK_SIZE_BYTES - 1000, 6000, target, 0)
    t.alike([target[999], target[1000], target[5095], target[5096]], [0, 0xab, 0xab, 0])
    t.is(device.tryRead(0, 6000, target, 0), true)
  }
  t.is(byteAt(volume, 3), 0)
  await volume.deleteSnapshot('s')
  await t.exception(() => byteAt(here, 3), /was deleted/)
  await t.exception(() => volume.readSync(MIB - 1, 2, new Uint8Array(2), 0), /Cannot read/)
})
