// Growing a volume: snapshots keep their size and content, deltas over the growth are right, and a crash
// in the middle leaves the old size or the new.

import test, { type Assertion } from 'brittle'
import { BLOCK_SIZE_BYTES, GIB, MIB, TIB } from '../../src/base/units.ts'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import { crashStates } from '../../src/storage/crash-states.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { delta } from '../../src/volume/delta.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, fillBlock, randomFrom } from './support/model.ts'

const SEED = Number(process.env['UMBRA_SEED'] ?? Math.floor(Math.random() * 2 ** 31))

function write(volume: Volume, live: Contents, block: number, tag: number): void {
  const bytes = new Uint8Array(BLOCK_SIZE_BYTES)
  fillBlock(bytes, 0, block, tag)
  volume.writeData(block, 1, bytes, 0)
  live.set(block, tag)
}

type Device = Pick<Volume, 'readSync'>

/** Only the blocks of the contents, and zeros beside them: the volumes are huge. */
function wrongBlocks(device: Device, blockCount: number, contents: Contents): string[] {
  const found = new Uint8Array(BLOCK_SIZE_BYTES)
  const expected = new Uint8Array(BLOCK_SIZE_BYTES)
  const wrong: string[] = []
  const blocks = new Set([...contents.keys()].flatMap((block) => [block, block + 1]))
  for (const block of blocks) {
    if (block >= blockCount) continue
    device.readSync(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, found, 0)
    const tag = contents.get(block)
    if (tag === undefined) expected.fill(0)
    else fillBlock(expected, 0, block, tag)
    if (Buffer.compare(found, expected) !== 0) wrong.push(`block ${block}, tag ${tag}`)
  }
  return wrong
}

async function growVolume(storage: BlockStorage, sizeBytes: number): Promise<void> {
  const volume = await Volume.open(storage)
  volume.grow(sizeBytes)
  await volume.close()
}

function assertSound(t: Assertion, storage: MemoryStorage): void {
  const report = checkVolume(storage.fork())
  t.alike(report.errors, [])
  t.is(report.leaks.blockCount, 0, 'no block is lost')
}

async function history(t: Assertion, sizes: readonly number[], seed: number): Promise<void> {
  const random = randomFrom(seed)
  const storage = new MemoryStorage()
  await (await Volume.create(storage, { sizeBytes: sizes[0] as number })).close()
  const live: Contents = new Map()
  const models = new Map<string, Contents>()
  for (const [i, sizeBytes] of sizes.entries()) {
    await growVolume(storage, sizeBytes)
    const volume = await Volume.open(storage)
    t.is(volume.blockCount, sizeBytes / BLOCK_SIZE_BYTES)
    t.alike(wrongBlocks(volume, volume.blockCount, live), [], 'what was there is there')
    for (let k = 0; k < 30; k++) write(volume, live, Math.floor(random() * volume.blockCount), i * 100 + k)
    for (const block of [...live.keys()].slice(0, 5)) write(volume, live, block, i * 100 + 50)
    const [gone] = [...live.keys()].slice(-1) as [number]
    volume.discard(gone, 1)
    live.delete(gone)
    write(volume, live, volume.blockCount - 1, i * 100 + 99)
    const { name } = await volume.createSnapshot(`s${i}`)
    models.set(name, new Map(live))
    for (const snapshot of volume.snapshots()) {
      const contents = models.get(snapshot.name) as Contents
      t.is(snapshot.blockCount, (sizes[Number(snapshot.name.slice(1))] as number) / BLOCK_SIZE_BYTES)
      t.alike(
        wrongBlocks(volume.openSnapshot(snapshot.name), snapshot.blockCount, contents),
        [],
        snapshot.name,
      )
    }
    assertDeltas(t, volume, models)
    await volume.close()
    assertSound(t, storage)
  }
  const volume = await Volume.open(storage)
  for (const { name } of volume.snapshots()) await volume.deleteSnapshot(name)
  await volume.drain()
  t.is(volume.space().snapshotBytes, 0)
  t.alike(wrongBlocks(volume, volume.blockCount, live), [])
  await volume.close()
  assertSound(t, storage)
}

/** Between any two, older to newer: the blocks whose contents differ, and no others. */
function assertDeltas(t: Assertion, volume: Volume, models: ReadonlyMap<string, Contents>): void {
  const points = volume.snapshots()
  for (const [j, to] of points.entries()) {
    for (const from of points.slice(0, j)) {
      const said: string[] = []
      for (const { kind, blockIndex, blockCount } of delta(volume.nodes, from, to)) {
        for (let i = 0; i < blockCount; i++) said.push(`${kind} ${blockIndex + i}`)
      }
      const before = models.get(from.name) as Contents
      const after = models.get(to.name) as Contents
      t.alike(said, changes(before, after), `${from.name} to ${to.name}`)
    }
  }
}

function changes(before: Contents, after: Contents): string[] {
  const blocks = [...new Set([...before.keys(), ...after.keys()])].sort((a, b) => a - b)
  return blocks
    .filter((block) => before.get(block) !== after.get(block))
    .map((block) => `${after.has(block) ? 'data' : 'zero'} ${block}`)
}

test('a volume grows from level to level, with its snapshots and deltas', async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  await history(t, [MIB, MIB + 4096, 100 * MIB, 300 * MIB, GIB, 70 * GIB, TIB, 16 * TIB], SEED)
  await history(t, [255 * MIB, 256 * MIB, 256 * MIB + 4096, 64 * GIB, 64 * GIB + 4096], SEED + 1)
})

test('an empty volume grows; a smaller size, or one past 16 TiB, is refused', async (t) => {
  const storage = new MemoryStorage()
  await (await Volume.create(storage, { sizeBytes: MIB })).close()
  await growVolume(storage, 16 * TIB)
  const volume = await Volume.open(storage)
  const live: Contents = new Map()
  write(volume, live, 2 ** 32 - 1, 7)
  await volume.close()
  await t.exception(() => growVolume(storage, TIB), /cannot be made smaller/)
  await t.exception(() => growVolume(storage, 32 * TIB), /16 TiB/)
  const again = await Volume.open(storage)
  t.alike(wrongBlocks(again, again.blockCount, live), [])
  await again.close()
  assertSound(t, storage)
})

test('a crash while a volume grows leaves the old size or the new, and everything in it', async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 200 * MIB })
  const live: Contents = new Map()
  for (let i = 0; i < 40; i++) write(volume, live, i * 1000, i)
  await volume.createSnapshot('one')
  const one = new Map(live)
  write(volume, live, 5, 500)
  await volume.close()
  const base = storage.fork()
  const log = new WriteLogStorage(storage)
  await growVolume(log, 100 * GIB)
  const sizes = new Set<number>()
  let states = 0
  for (const state of crashStates(log.entries, { seed: SEED, base, subsetsPerInterval: 20 })) {
    const after = await Volume.open(state.storage)
    const wrong = wrongBlocks(after, after.blockCount, live)
    const snapshot = after.openSnapshot('one')
    wrong.push(...wrongBlocks(snapshot, snapshot.blockCount, one))
    if (wrong.length > 0) t.fail(`${state.label}: ${wrong.slice(0, 3).join('; ')}`)
    sizes.add(after.blockCount * BLOCK_SIZE_BYTES)
    await after.close()
    const { errors } = checkVolume(state.storage)
    if (errors.length > 0) t.fail(`${state.label}: ${errors[0]?.message}`)
    states++
  }
  t.alike([...sizes].sort(), [100 * GIB, 200 * MIB].sort(), `${states} states`)
})
