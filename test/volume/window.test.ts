// The auto-recovery window: a shadow copy is cut, written to by one, and sealed; what each step promises,
// what is refused meanwhile, what is left when it ends badly, and what it costs.

import test from 'brittle'
import { randomUuid } from '../../src/base/uuid.ts'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { dropAutoReleased } from '../../src/volume/auto-release.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { delta } from '../../src/volume/delta.ts'
import { SHADOW_ATTRIBUTES, type ShadowProperties } from '../../src/volume/points.ts'
import { FEATURE_SHADOWS, FEATURE_WINDOWS } from '../../src/volume/superblock.ts'
import { chooseSuperblock } from '../../src/volume/superblock-slots.ts'
import { Volume } from '../../src/volume/volume.ts'
import { describeBlock, isBlock, patternBlocks } from '../support/block-pattern.ts'

const BLOCK = 4096
const SIZE_BYTES = 70_000 * BLOCK

function shadowOf(attributes: number = SHADOW_ATTRIBUTES.NO_AUTO_RELEASE): ShadowProperties {
  return { setId: randomUuid(), setCount: 3, attributes }
}

async function codeOf(act: () => unknown): Promise<string> {
  try {
    await act()
    return 'done'
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}

function write(device: Pick<Volume, 'writeData'>, first: number, count: number, sequence: number): void {
  device.writeData(first, count, patternBlocks(first, count, sequence), 0)
}

function holds(device: Pick<Volume, 'readSync'>, block: number, sequence: number): boolean {
  const bytes = new Uint8Array(BLOCK)
  device.readSync(block * BLOCK, BLOCK, bytes, 0)
  return isBlock(bytes, 0, block, sequence)
}

/** What the check finds, as text; empty for a sound volume. */
function faultsOf(storage: MemoryStorage): string {
  const { errors, leaks } = checkVolume(storage)
  const leaked = leaks.blockCount > 0 ? [`${leaks.blockCount} leaked`] : []
  return [...errors.map(({ code, where, message }) => `${code} ${where}: ${message}`), ...leaked].join('; ')
}

async function makeVolume(
  storage = new MemoryStorage(),
): Promise<{ storage: MemoryStorage; volume: Volume }> {
  const volume = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  write(volume, 0, 1000, 1)
  await volume.createSnapshot('before')
  write(volume, 100, 100, 2)
  return { storage, volume }
}

test('row 16: what is written before the seal is in the shadow copy and nowhere else, and nothing after', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 50, 100, 3)
  shadow.device.discard(500, 20)
  write(volume, 60, 10, 4)
  await volume.commit()
  t.ok(holds(shadow.device, 60, 3) && holds(volume, 60, 4) && holds(volume, 50, 1))
  const sealed = await shadow.seal()
  t.is(sealed.name, 'shadow')
  t.alike(sealed.id, shadow.snapshot.id)
  t.is(await codeOf(() => write(shadow.device, 50, 1, 5)), 'READ_ONLY', 'the same write afterwards')
  t.is(await codeOf(() => shadow.device.writeMetadata(50, patternBlocks(50, 1, 5), 0)), 'READ_ONLY')
  t.is(await codeOf(() => shadow.device.discard(50, 1)), 'READ_ONLY')
  t.ok(shadow.device.readOnly)
  t.ok(holds(shadow.device, 149, 3), 'the device goes on reading')
  await volume.close()
  const again = await Volume.open(storage)
  const device = again.openSnapshot('shadow')
  t.ok(holds(device, 50, 3) && holds(device, 149, 3) && holds(device, 150, 2) && holds(device, 510, 0))
  t.ok(holds(again, 50, 1) && holds(again, 60, 4) && holds(again, 149, 2) && holds(again, 510, 1))
  t.ok(holds(again.openSnapshot('before'), 149, 1) && holds(again.openSnapshot('before'), 510, 1))
  t.is(faultsOf(storage), '')
  await again.close()
})

test('row 17: a shadow copy that is sealed at once has no window', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = shadowOf(SHADOW_ATTRIBUTES.NO_AUTORECOVERY | SHADOW_ATTRIBUTES.NO_AUTO_RELEASE)
  const taken = await volume.createSnapshot('shadow', shadow)
  t.alike(taken.shadow, shadow)
  t.absent(volume.unsealed)
  t.is(
    await codeOf(() => volume.openSnapshot('shadow').writeData(1, 1, new Uint8Array(BLOCK), 0)),
    'READ_ONLY',
  )
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('row 27: until it is sealed nothing lists it, finds it or changes it, and its name is taken', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  const { id } = shadow.snapshot
  const names = (of: Volume) => of.snapshots().map((snapshot) => snapshot.name)
  t.alike(names(volume), ['before'])
  for (const nameOrId of ['shadow', id]) {
    t.is(await codeOf(() => volume.snapshot(nameOrId)), 'NOT_FOUND')
    t.is(await codeOf(() => volume.point(nameOrId)), 'NOT_FOUND')
    t.is(await codeOf(() => volume.openSnapshot(nameOrId)), 'NOT_FOUND')
    t.is(await codeOf(() => volume.lease(nameOrId)), 'NOT_FOUND')
    t.is(await codeOf(() => volume.pin(nameOrId)), 'NOT_FOUND')
    t.is(await codeOf(() => volume.deleteSnapshot(nameOrId)), 'NOT_FOUND')
    t.is(await codeOf(() => volume.rollback(nameOrId)), 'NOT_FOUND')
  }
  t.is(await codeOf(() => volume.createSnapshot('shadow')), 'ALREADY_EXISTS')
  t.is(await codeOf(() => volume.createSnapshot('other')), 'BUSY')
  t.is(await codeOf(() => volume.createBookmark('other')), 'BUSY')
  t.is(await codeOf(() => volume.cutUnsealed('other', shadowOf())), 'BUSY')
  t.is(await codeOf(() => volume.rollback('before')), 'BUSY')
  t.is(volume.unsealed, shadow)
  const reader = await Volume.open(storage.fork(), { readOnly: true })
  t.alike(names(reader), ['before'], 'nor does who opens the volume for reading')
  await shadow.seal()
  t.absent(volume.unsealed)
  t.alike(names(volume), ['before', 'shadow'])
  t.is((await volume.createSnapshot('other')).epoch, shadow.snapshot.epoch + 1)
  t.is(await codeOf(() => shadow.seal()), 'BAD_STATE')
  t.is(await codeOf(() => shadow.drop()), 'BAD_STATE')
  await volume.close()
})

test('of two who cut at once one is refused, and nothing slips in between', async (t) => {
  const { volume } = await makeVolume()
  const outcomes = await Promise.all([
    codeOf(() => volume.cutUnsealed('one', shadowOf())),
    codeOf(() => volume.cutUnsealed('two', shadowOf())),
    codeOf(() => volume.createSnapshot('three')),
  ])
  t.alike(outcomes, ['done', 'BUSY', 'BUSY'])
  await volume.unsealed?.drop()
  t.alike(
    volume.snapshots().map((snapshot) => snapshot.name),
    ['before'],
  )
  await volume.close()
})

test('a process that ends before the seal leaves nothing behind', async (t) => {
  const { storage, volume } = await makeVolume()
  await volume.commit()
  const allocated = checkVolume(storage).counts.allocatedBlocks
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 3000, 3)
  await shadow.device.commit()
  write(volume, 5000, 10, 4)
  await volume.commit()
  const left = storage.fork()
  t.is(faultsOf(left), '', 'before it is opened again')
  t.ok(checkVolume(left).notes.some((note) => note.includes('shadow was not sealed')))
  t.ok(checkVolume(left).counts.allocatedBlocks < allocated + 50, 'what the window wrote is in use by nobody')
  const again = await Volume.open(left)
  t.alike(
    again.snapshots().map((snapshot) => snapshot.name),
    ['before'],
  )
  t.absent(again.unsealed)
  await again.createSnapshot('shadow')
  t.ok(holds(again, 5009, 4) && holds(again, 0, 1))
  await again.close()
  t.is(faultsOf(left), '')
  await volume.close()
  t.alike(
    (await Volume.open(storage)).snapshots().map((snapshot) => snapshot.name),
    ['before'],
    'as when closed',
  )
})

test('dropping gives everything back, also with a read in flight', async (t) => {
  const { storage, volume } = await makeVolume()
  await volume.drain()
  const before = volume.space()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 2000, 3)
  t.ok(volume.space().snapshotBytes >= before.snapshotBytes + 2000 * BLOCK, 'the space in use counts')
  const target = new Uint8Array(2000 * BLOCK)
  const reading = shadow.device.read(0, target.length, target, 0)
  await shadow.drop()
  await reading
  for (const block of [0, 700, 1999])
    t.ok(isBlock(target, block * BLOCK, block, 3), describeBlock(target, block * BLOCK))
  await shadow.drop()
  t.is(await codeOf(() => shadow.seal()), 'BAD_STATE')
  t.is(await codeOf(() => holds(shadow.device, 0, 3)), 'EVICTED')
  t.is(await codeOf(() => write(shadow.device, 0, 1, 3)), 'EVICTED')
  await volume.drain()
  const after = volume.space()
  t.is(after.snapshotBytes, before.snapshotBytes)
  t.ok(Math.abs(after.allocatedBytes - before.allocatedBytes) <= 8 * BLOCK, 'but for directories of lists')
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('what a read began with stays, whatever the window does with the block', async (t) => {
  const { storage, volume } = await makeVolume()
  const slow = new FaultStorage(storage, [
    { operation: 'read', times: Number.POSITIVE_INFINITY, delayMs: 20 },
  ])
  await volume.close()
  const again = await Volume.open(slow)
  const shadow = await again.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 50, 3)
  const target = new Uint8Array(50 * BLOCK)
  const reading = shadow.device.read(0, target.length, target, 0)
  shadow.device.discard(0, 50)
  write(shadow.device, 2000, 50, 4)
  write(again, 3000, 50, 5)
  await reading
  t.ok(isBlock(target, 7 * BLOCK, 7, 3))
  await shadow.seal()
  t.ok(holds(again.openSnapshot('shadow'), 2007, 4) && holds(again.openSnapshot('shadow'), 7, 0))
  await again.close()
  t.is(faultsOf(storage), '')
})

test('a seal takes one commit, with and without writes, and a plain snapshot still does', async (t) => {
  const { volume } = await makeVolume()
  await volume.drain()
  const commitsOf = async (act: () => Promise<unknown>): Promise<number> => {
    const before = volume.transaction
    await act()
    return volume.transaction - before
  }
  t.is(await commitsOf(() => volume.createSnapshot('plain')), 1)
  t.is(await commitsOf(() => volume.cutUnsealed('idle', shadowOf())), 1)
  t.is(await commitsOf(async () => volume.unsealed?.seal()), 1)
  const idle = volume.snapshot('idle')
  t.alike(idle.root, volume.snapshot('plain').root, 'a window without writes changes no tree')
  const shadow = await volume.cutUnsealed('busy', shadowOf())
  t.is(await commitsOf(async () => write(shadow.device, 0, 500, 3)), 0)
  t.is(await commitsOf(() => shadow.seal()), 1)
  await volume.close()
})

test('a window that undoes what it did leaves the snapshot as it was cut', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 5000, 10, 3)
  shadow.device.discard(5000, 10)
  const sealed = await shadow.seal()
  t.alike(sealed.root, shadow.snapshot.root)
  t.ok(holds(shadow.device, 5000, 0) && holds(shadow.device, 150, 2))
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('row 26: a shadow copy has the id that it was promised, over restarts', async (t) => {
  const { storage, volume } = await makeVolume()
  const id = '0f8b1c2d-3e4f-4a5b-8c6d-7e8f90a1b2c3'
  const shadow = await volume.cutUnsealed('shadow', shadowOf(), id)
  t.is(shadow.snapshot.id, id)
  t.is((await shadow.seal()).id, id)
  t.is(await codeOf(() => volume.cutUnsealed('again', shadowOf(), id)), 'ALREADY_EXISTS')
  t.is(await codeOf(() => volume.cutUnsealed('again', shadowOf(), 'no uuid')), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => volume.cutUnsealed('again', shadowOf(), id.toUpperCase())), 'INVALID_ARGUMENT')
  await volume.close()
  t.is((await Volume.open(storage)).snapshot(id).name, 'shadow')
})

test('row 26: set, count and attributes stay over restarts, and only as long as they are needed', async (t) => {
  const { storage, volume } = await makeVolume()
  const features = () => {
    const { incompatibleFeatures, readOnlyFeatures } = chooseSuperblock(storage, true).superblock
    return [incompatibleFeatures & FEATURE_WINDOWS, readOnlyFeatures & FEATURE_SHADOWS]
  }
  t.alike(features(), [0, 0])
  const properties = shadowOf(SHADOW_ATTRIBUTES.PERSISTENT | SHADOW_ATTRIBUTES.NO_AUTO_RELEASE)
  const shadow = await volume.cutUnsealed('shadow', properties)
  t.alike(features(), [FEATURE_WINDOWS, FEATURE_SHADOWS], 'an older program would list it')
  await shadow.seal()
  t.alike(features(), [0, FEATURE_SHADOWS], 'or lose its properties by writing')
  await volume.close()
  const again = await Volume.open(storage)
  t.alike(again.snapshot('shadow').shadow, properties)
  t.is(again.snapshot('before').shadow, null)
  const exposed = { ...properties, attributes: properties.attributes | SHADOW_ATTRIBUTES.EXPOSED_LOCALLY }
  t.alike((await again.setShadow('shadow', exposed)).shadow, exposed)
  await again.pin('shadow')
  t.alike(again.snapshot('shadow').shadow, exposed)
  await again.unpin('shadow')
  await again.deleteSnapshot('shadow', { keepBookmark: true })
  t.alike(features(), [0, 0])
  const second = await again.cutUnsealed('second', shadowOf())
  write(second.device, 0, 1, 7)
  await second.seal()
  await again.deleteSnapshot('second', { keepBookmark: true })
  t.alike(features(), [FEATURE_WINDOWS, 0], 'a bookmark with a window list')
  await again.deleteBookmark('second')
  t.alike(features(), [0, 0])
  t.is(await codeOf(() => again.cutUnsealed('x', { ...properties, setId: 'no uuid' })), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => again.cutUnsealed('x', { ...properties, setCount: 0 })), 'INVALID_ARGUMENT')
  t.is(
    await codeOf(() => again.createSnapshot('x', { ...properties, attributes: 2 ** 32 })),
    'INVALID_ARGUMENT',
  )
  await again.close()
  t.is(faultsOf(storage), '')
})

test('row 38: a bookmark keeps what the window changed, for later deltas and from other processes', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 50, 10, 3)
  shadow.device.discard(500, 5)
  write(shadow.device, 60_000, 2, 4)
  await shadow.seal()
  write(volume, 55, 2, 5)
  await volume.createSnapshot('later')
  const expected = [
    { kind: 'data', blockIndex: 50, blockCount: 10 },
    { kind: 'data', blockIndex: 500, blockCount: 5 },
    { kind: 'zero', blockIndex: 60_000, blockCount: 2 },
  ]
  t.alike([...delta(volume.nodes, volume.point('shadow'), volume.snapshot('later'))], expected)
  const { id, epoch } = volume.snapshot('shadow')
  await volume.deleteSnapshot('shadow', { keepBookmark: true })
  const bookmark = volume.point('shadow')
  t.is(bookmark.id, id)
  t.is(bookmark.epoch, epoch)
  t.alike([...delta(volume.nodes, bookmark, volume.snapshot('later'))], expected)
  const lease = volume.lease(id)
  t.is(await codeOf(() => volume.deleteBookmark('shadow')), 'LEASED')
  await volume.commit()
  // As a process does that was given the points as JSON and reads the volume file itself.
  const reader = await Volume.open(storage.fork(), { readOnly: true })
  const [from, to] = JSON.parse(JSON.stringify([bookmark, volume.snapshot('later')]))
  t.alike([...delta(reader.nodes, from, to)], expected)
  lease.release()
  await volume.deleteBookmark('shadow')
  await volume.drain()
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('figures add up: what is freed is what was said, also where a window replaced blocks', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 300, 3)
  await shadow.seal()
  write(volume, 0, 150, 4)
  await volume.createSnapshot('after')
  write(volume, 100, 100, 5)
  await volume.deleteSnapshot('before')
  const sizes = volume.sizesOf('shadow')
  const { referencedBytes } = volume.snapshot('shadow')
  t.is(sizes.uniqueBytes + sizes.sharedBytes, referencedBytes)
  t.ok(sizes.uniqueBytes >= 300 * BLOCK, 'what the window wrote is its own')
  t.is(volume.freedIfDeleted(['shadow']), sizes.uniqueBytes)
  const held = volume.space().snapshotBytes
  await volume.deleteSnapshot('shadow')
  t.is(held - volume.space().snapshotBytes, sizes.uniqueBytes)
  t.ok(holds(volume.openSnapshot('after'), 0, 4) && holds(volume.openSnapshot('after'), 150, 2))
  await volume.drain()
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('rolling back to a shadow copy brings what its window made of it', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 10, 3)
  shadow.device.discard(990, 10)
  await shadow.seal()
  await volume.rollback('shadow', { keepAs: 'kept' })
  t.ok(holds(volume, 9, 3) && holds(volume, 10, 1) && holds(volume, 150, 2) && holds(volume, 995, 0))
  t.ok(holds(volume.openSnapshot('kept'), 9, 1) && holds(volume.openSnapshot('kept'), 995, 1))
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('other snapshots are deleted while the window is open', async (t) => {
  const { storage, volume } = await makeVolume()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 150, 3)
  await volume.deleteSnapshot('before')
  write(shadow.device, 120, 100, 4)
  await volume.drain()
  await shadow.seal()
  const device = volume.openSnapshot('shadow')
  t.ok(holds(device, 119, 3) && holds(device, 219, 4) && holds(device, 220, 1) && holds(volume, 119, 2))
  await volume.deleteSnapshot('shadow')
  await volume.drain()
  t.is(volume.space().snapshotBytes, 0)
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('auto-release shadow copies go at the next opening, the others stay', async (t) => {
  const { storage, volume } = await makeVolume()
  await volume.createSnapshot('auto', shadowOf(0))
  await volume.createSnapshot('writerless', shadowOf(SHADOW_ATTRIBUTES.NO_WRITERS))
  await volume.createSnapshot('pinned', shadowOf(0))
  await volume.pin('pinned')
  await volume.createSnapshot('kept', shadowOf(SHADOW_ATTRIBUTES.NO_AUTO_RELEASE))
  await volume.close()
  const again = await Volume.open(storage)
  const dropped = await dropAutoReleased(again)
  t.alike(
    dropped.map((snapshot) => snapshot.name),
    ['auto', 'writerless'],
  )
  t.alike(
    again.snapshots().map((snapshot) => snapshot.name),
    ['before', 'pinned', 'kept'],
  )
  t.is(again.bookmarks().length, 0)
  await again.close()
  t.is(faultsOf(storage), '')
})

test('a window that runs out of space fails by itself; the volume goes on and the window too', async (t) => {
  const { storage, volume } = await makeVolume(new MemoryStorage({ capacityBytes: 24 * 2 ** 20 }))
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  let written = 0
  const code = await codeOf(() => {
    for (; written < 60_000; written += 50) write(shadow.device, written, 50, 3)
  })
  t.is(code, 'OUT_OF_SPACE')
  t.ok(written > 1000, `${written} blocks were written`)
  t.absent(volume.failure)
  t.ok(holds(shadow.device, written - 1, 3), 'what was written is there')
  t.ok(holds(shadow.device, written, written < 1000 ? 1 : 0), 'what was not is not')
  shadow.device.discard(200, written - 200)
  await volume.commit()
  t.absent(volume.failure, 'nor does a commit fail')
  const sealed = await codeOf(() => shadow.seal())
  t.ok(sealed === 'done' || sealed === 'OUT_OF_SPACE', sealed)
  if (sealed === 'done') t.ok(holds(volume.openSnapshot('shadow'), 199, 3))
  else await shadow.drop()
  t.ok(holds(volume, 199, 2) && holds(volume, 999, 1))
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('a write that fails breaks the window, not the volume', async (t) => {
  const { storage, volume } = await makeVolume()
  await volume.close()
  const faulty = new FaultStorage(storage)
  const again = await Volume.open(faulty)
  const shadow = await again.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 10, 3)
  faulty.plant({ operation: 'write', errno: 5 })
  t.is(await codeOf(() => write(shadow.device, 20, 10, 3)), 'IO_FAILED')
  t.is(await codeOf(() => shadow.seal()), 'IO_FAILED')
  t.is(await codeOf(() => write(shadow.device, 20, 10, 3)), 'IO_FAILED')
  t.absent(again.failure)
  write(again, 20, 10, 4)
  await again.commit()
  await shadow.drop()
  await again.createSnapshot('shadow')
  await again.close()
  t.is(faultsOf(storage), '')
})

test('only when nothing else is left is an unsealed shadow copy evicted, and who makes it is told', async (t) => {
  const { storage, volume } = await makeVolume(new MemoryStorage({ capacityBytes: 40 * 2 ** 20 }))
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 0, 1000, 3)
  let first = 2000
  for (let attempts = 0; shadow.isOpen && first < 12_000 && attempts < 2000; attempts++) {
    try {
      write(volume, first, 100, 4)
      first += 100
    } catch (error) {
      if ((error as { code?: string }).code !== 'OUT_OF_SPACE') throw error
      const room = volume.spaceKeeper.makeRoom(attempts % 3)
      if (!room) break
      await room
    }
  }
  t.alike(volume.snapshots(), [], 'the others went')
  t.absent(shadow.isOpen)
  t.is(await codeOf(() => shadow.seal()), 'EVICTED')
  t.is(await codeOf(() => write(shadow.device, 0, 1, 5)), 'EVICTED')
  await shadow.drop()
  t.alike(
    volume.bookmarks().map((bookmark) => bookmark.name),
    ['before'],
    'it leaves no bookmark',
  )
  t.absent(volume.failure)
  await volume.createSnapshot('next')
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('sealing what was written much to keeps nobody waiting, and closing meanwhile leaves a sound volume', async (t) => {
  const { storage, volume } = await makeVolume()
  const before = storage.fork()
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  for (let first = 0; first < 25_000; first += 500) write(shadow.device, first, 500, 3)
  let turns = 0
  const sealing = shadow.seal()
  const code = codeOf(() => sealing)
  t.is(await codeOf(() => shadow.seal()), 'BAD_STATE')
  t.is(await codeOf(() => shadow.drop()), 'BAD_STATE')
  t.is(await codeOf(() => write(shadow.device, 0, 1, 4)), 'READ_ONLY')
  for (; turns < 2; turns++) {
    await new Promise((resolve) => setImmediate(resolve))
    write(volume, 40_000 + turns, 1, 5)
  }
  await sealing
  t.ok(holds(volume.openSnapshot('shadow'), 24_999, 3))
  t.is(await code, 'done')
  await volume.close()
  t.is(faultsOf(storage), '')

  const again = await Volume.open(before)
  const second = await again.cutUnsealed('second', shadowOf())
  for (let first = 0; first < 25_000; first += 500) write(second.device, first, 500, 3)
  const outcome = codeOf(() => second.seal())
  await again.close()
  t.is(await outcome, 'CLOSED')
  t.is(faultsOf(before), '')
  const third = await Volume.open(before)
  t.alike(
    third.snapshots().map((snapshot) => snapshot.name),
    ['before'],
  )
  await third.close()
})

test('row 30: a window takes no more room than snapshots may have, and the live volume never pays', async (t) => {
  const limit = { snapshotLimitBytes: 24 * 2 ** 20, whenFull: 'protect' } as const
  const { storage, volume } = await makeVolume()
  await volume.spaceKeeper.setPolicy(limit)
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  const fill = async (): Promise<string> =>
    await codeOf(() => {
      for (let first = 0; first < 10_000; first += 100) write(shadow.device, first, 100, 3)
    })
  t.is(await fill(), 'OUT_OF_SPACE')
  t.is(volume.spaceKeeper.fault, null)
  const { snapshotBytes } = volume.space()
  t.ok(snapshotBytes > 16 * 2 ** 20 && snapshotBytes <= limit.snapshotLimitBytes, `${snapshotBytes} bytes`)
  write(volume, 20_000, 100, 4)
  await volume.commit()
  await shadow.seal()
  t.ok(volume.space().snapshotBytes <= limit.snapshotLimitBytes)
  await volume.deleteSnapshot('shadow')

  await volume.spaceKeeper.setPolicy({ whenFull: 'evict-oldest' })
  const second = await volume.cutUnsealed('second', shadowOf())
  t.is(
    await codeOf(() => write(second.device, 0, 8000, 5)),
    'OUT_OF_SPACE',
    'too much for the area: nothing goes in vain',
  )
  for (let first = 0; first < 5000; first += 100) {
    write(second.device, first, 100, 5)
    if (first % 1000 === 0) await volume.commit()
  }
  await second.seal()
  t.ok(volume.space().snapshotBytes <= limit.snapshotLimitBytes)
  t.alike(
    volume.snapshots().map((snapshot) => snapshot.name),
    ['before', 'second'],
  )
  await volume.close()
  t.is(faultsOf(storage), '')
})

test('a window list stays right when the volume grows, also by a level', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 3000 * BLOCK })
  const shadow = await volume.cutUnsealed('shadow', shadowOf())
  write(shadow.device, 10, 5, 2)
  write(shadow.device, 2999, 1, 2)
  await shadow.seal()
  write(volume, 12, 1, 3)
  await volume.deleteSnapshot('shadow', { keepBookmark: true })
  await volume.close()
  const small = await Volume.open(storage)
  small.grow(100_000 * BLOCK)
  await small.close()
  const again = await Volume.open(storage)
  write(again, 90_000, 1, 4)
  const later = await again.createSnapshot('later')
  t.alike(
    [...delta(again.nodes, again.point('shadow'), later)],
    [
      { kind: 'zero', blockIndex: 10, blockCount: 2 },
      { kind: 'data', blockIndex: 12, blockCount: 1 },
      { kind: 'zero', blockIndex: 13, blockCount: 2 },
      { kind: 'zero', blockIndex: 2999, blockCount: 1 },
      { kind: 'data', blockIndex: 90_000, blockCount: 1 },
    ],
  )
  await again.close()
  t.is(faultsOf(storage), '')
})
