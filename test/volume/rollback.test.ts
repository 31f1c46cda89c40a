// Rollback: the present reads as the snapshot does, everything else stays as it was, all or nothing.

import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { walkDelta } from '../../src/volume/delta.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, difference, fillBlock, randomFrom } from './support/model.ts'

const SEED = Number(process.env['UMBRA_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

function write(volume: Volume, contents: Contents, first: number, count: number, tag: number): void {
  const bytes = new Uint8Array(count * BLOCK_SIZE_BYTES)
  for (let i = 0; i < count; i++) {
    fillBlock(bytes, i * BLOCK_SIZE_BYTES, first + i, tag)
    contents.set(first + i, tag)
  }
  volume.writeData(first, count, bytes, 0)
}

function discard(volume: Volume, contents: Contents, first: number, count: number): void {
  for (let i = 0; i < count; i++) contents.delete(first + i)
  volume.discard(first, count)
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
  return 'resolved'
}

test('Volume.rollback() makes the present read as any snapshot, again and again', async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  const random = randomFrom(SEED)
  const below = (limit: number) => Math.floor(random() * limit)
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 20 * MIB, cacheBytes: 65536 })
  const snapshots = new Map<string, Contents>()
  let live: Contents = new Map()
  for (let round = 0; round < 12; round++) {
    for (let i = 0; i < 15; i++) {
      const count = 1 + below(40)
      const first = below(volume.blockCount - count)
      if (random() < 0.7) write(volume, live, first, count, round * 100 + i)
      else discard(volume, live, first, count)
    }
    await volume.createSnapshot(`r${round}`)
    snapshots.set(`r${round}`, new Map(live))
    const name = `r${below(round + 1)}`
    write(volume, live, 5, 3, 7777 + round)
    const kept = await volume.rollback(name, { keepAs: `kept${round}` })
    snapshots.set(kept.name, new Map(live))
    live = new Map(snapshots.get(name))
    t.absent(difference(volume, live), `round ${round}: the present is ${name}`)
    await volume.createSnapshot(`after${round}`)
    snapshots.set(`after${round}`, new Map(live))
    const { nodes, blockCount } = volume
    const target = volume.snapshot(name).root
    const extents = [...walkDelta(nodes, target, volume.snapshot(`after${round}`).root, blockCount)]
    t.ok(
      extents.every((extent) => extent.kind === 'data' || extent.kind === 'zero'),
      'a delta can be walked over it',
    )
  }
  await volume.close()
  const again = await Volume.open(storage)
  t.absent(difference(again, live), 'the present after reopening')
  for (const [name, contents] of snapshots) {
    const fault = difference(again.openSnapshot(name), contents)
    if (fault) t.fail(`${name}: ${fault}`)
  }
  await again.close()
})

test('Volume.rollback() that runs out of space changes nothing', async (t) => {
  const storage = new MemoryStorage({ capacityBytes: 21 * MIB })
  const volume = await Volume.create(storage, { sizeBytes: 16 * MIB })
  const old: Contents = new Map()
  write(volume, old, 0, 2048, 1)
  await volume.createSnapshot('old')
  const live: Contents = new Map()
  write(volume, live, 0, 2048, 2)
  await volume.commit()
  const before = volume.space()

  t.is(await codeOf(volume.rollback('old')), 'OUT_OF_SPACE')

  t.absent(volume.failure)
  t.absent(difference(volume, live), 'the present is as it was')
  t.absent(difference(volume.openSnapshot('old'), old), 'so is the snapshot')
  t.alike(
    volume.snapshots().map((snapshot) => snapshot.name),
    ['old'],
  )
  t.is(volume.space().liveBytes, before.liveBytes)
  write(volume, live, 3000, 10, 3)
  await volume.commit()
  t.absent(difference(volume, live), 'and it can be written')
  await volume.close()
  const again = await Volume.open(storage)
  t.absent(difference(again, live))
})

test('Volume.rollback() is refused on a mounted volume and for what is not there', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: MIB })
  t.is(await codeOf(volume.rollback('nothing')), 'NOT_FOUND')
  await volume.createSnapshot('one')
  t.is(await codeOf(volume.rollback('one', { keepAs: 'one' })), 'ALREADY_EXISTS')
  volume.onBeforeCommit(() => {})
  try {
    await volume.rollback('one')
    t.fail('it went on')
  } catch (error) {
    t.ok(hasCode(error, 'BUSY'))
  }
})
