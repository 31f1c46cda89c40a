// Commits: what is durable when, group commit, failures, reuse of freed blocks, reads in flight.

import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { fillBlock } from './support/model.ts'

const ENOSPC = 28
const EIO = 5

/** Counts, and holds back flushes and reads until told. */
class WatchedStorage implements BlockStorage {
  readonly supports
  readonly name = 'watched'
  readonly readOnly = false
  readonly written: number[] = []
  flushCount = 0
  writeCount = 0
  holdFlushes = false
  holdReads = false
  #held: (() => void)[] = []
  readonly #inner: MemoryStorage

  constructor(inner: MemoryStorage) {
    this.#inner = inner
    this.supports = inner.supports
  }

  get sizeBytes(): number {
    return this.#inner.sizeBytes
  }

  release(): void {
    const held = this.#held
    this.#held = []
    for (const go of held) go()
  }

  readSync(offset: number, length: number, target: Uint8Array, at: number): void {
    this.#inner.readSync(offset, length, target, at)
  }

  tryRead(offset: number, length: number, target: Uint8Array, at: number): boolean {
    return this.#inner.tryRead(offset, length, target, at)
  }

  async read(offset: number, length: number, target: Uint8Array, at: number): Promise<void> {
    if (this.holdReads) await new Promise<void>((resolve) => this.#held.push(resolve))
    this.#inner.readSync(offset, length, target, at)
  }

  write(offset: number, length: number, source: Uint8Array, at: number): void {
    this.writeCount++
    for (let i = 0; i < length / BLOCK_SIZE_BYTES; i++) this.written.push(offset / BLOCK_SIZE_BYTES + i)
    this.#inner.write(offset, length, source, at)
  }

  flushSync(): void {
    this.flushCount++
  }

  async flush(): Promise<void> {
    this.flushCount++
    if (this.holdFlushes) await new Promise<void>((resolve) => this.#held.push(resolve))
  }

  punchSync(offset: number, length: number): void {
    this.#inner.punchSync(offset, length)
  }

  punch(offset: number, length: number): Promise<void> {
    return this.#inner.punch(offset, length)
  }

  reserve(offset: number, length: number): void {
    this.#inner.reserve(offset, length)
  }

  truncate(size: number): void {
    this.#inner.truncate(size)
  }

  async close(): Promise<void> {}
}

function blockOf(tag: number, blockIndex = 0): Uint8Array {
  const bytes = new Uint8Array(BLOCK_SIZE_BYTES)
  fillBlock(bytes, 0, blockIndex, tag)
  return bytes
}

function tagAt(volume: Volume, blockIndex: number): number {
  const bytes = new Uint8Array(8)
  volume.readSync(blockIndex * BLOCK_SIZE_BYTES, 8, bytes, 0)
  return new DataView(bytes.buffer).getUint32(4, true)
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'resolved',
    (error: unknown) => (error instanceof UmbraError ? error.code : String(error)),
  )
}

function codeThrown(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    return (error as UmbraError).code
  }
  return 'nothing'
}

test('Volume.commit() is what makes writes survive', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  volume.writeData(3, 1, blockOf(1), 0)
  await volume.commit()
  volume.writeData(4, 1, blockOf(2), 0)
  volume.writeMetadata(5, blockOf(3), 0)

  const crashed = await Volume.open(storage.fork())

  t.is(tagAt(crashed, 3), 1)
  t.is(tagAt(crashed, 4), 0)
  t.is(tagAt(crashed, 5), 0)
})

test('Volume.commit() does nothing when nothing is dirty, and flush() only what it must', async (t) => {
  const storage = new WatchedStorage(new MemoryStorage())
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  t.is(volume.writeData(3, 1, blockOf(1), 0), true)
  await volume.commit()
  const { transaction } = volume
  storage.flushCount = 0
  storage.writeCount = 0

  await volume.commit()
  await volume.flush()
  t.alike([storage.writeCount, storage.flushCount], [0, 0], 'nothing dirty, no I/O')

  t.is(volume.writeData(3, 1, blockOf(2), 0), false, 'overwritten in place')
  await volume.flush()
  t.alike([storage.writeCount, storage.flushCount], [1, 1], 'one write, one flush')
  volume.writeData(3, 1, blockOf(3), 0)
  await volume.commit()
  t.alike([storage.writeCount, storage.flushCount], [2, 2], 'a commit of data in place is a flush')
  t.is(volume.transaction, transaction)
})

test('Volume.commit() is shared by all who ask while one runs', async (t) => {
  const storage = new WatchedStorage(new MemoryStorage())
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  storage.flushCount = 0
  volume.writeData(0, 1, blockOf(1), 0)
  storage.holdFlushes = true
  const first = [volume.commit(), volume.commit(), volume.commit()]
  await new Promise((resolve) => setImmediate(resolve))
  volume.writeData(1, 1, blockOf(2), 0)
  const second = [volume.commit(), volume.commit()]
  storage.holdFlushes = false
  storage.release()
  await Promise.all([...first, ...second])
  t.is(storage.flushCount, 4, 'two commits of two flushes')
  t.is(volume.durableTransaction, 3)
})

test('a failed flush turns the volume read-only and is not retried', async (t) => {
  const memory = new MemoryStorage()
  const storage = new FaultStorage(memory)
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  volume.writeData(0, 1, blockOf(1), 0)
  await volume.commit()
  volume.writeData(0, 1, blockOf(2), 0)
  volume.writeData(1, 1, blockOf(3), 0)
  storage.plant({ operation: 'flush', errno: EIO })

  t.is(await codeOf(volume.commit()), 'READ_ONLY')

  t.ok(volume.failure)
  t.is(volume.readOnly, true)
  t.is(storage.hitCount, 1)
  t.is(
    codeThrown(() => volume.writeData(2, 1, blockOf(4), 0)),
    'READ_ONLY',
  )
  t.is(
    codeThrown(() => volume.discard(2, 1)),
    'READ_ONLY',
  )
  t.is(await codeOf(volume.commit()), 'READ_ONLY')
  t.is(await codeOf(volume.createSnapshot('x')), 'READ_ONLY')
  t.is(tagAt(volume, 1), 3, 'reads go on')
  await volume.close()
  const again = await Volume.open(memory)
  t.is(tagAt(again, 1), 0, 'the transaction was dropped')
})

test('a failed write in the cut turns the volume read-only', async (t) => {
  const memory = new MemoryStorage()
  const storage = new FaultStorage(memory)
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  volume.writeData(0, 1, blockOf(1), 0)
  storage.plant({ operation: 'write', errno: EIO })
  t.is(await codeOf(volume.commit()), 'READ_ONLY')
  t.is(await codeOf(volume.commit()), 'READ_ONLY')
  t.is(tagAt(await Volume.open(memory), 0), 0)
})

test('data that finds no space changes nothing', async (t) => {
  const storage = new FaultStorage(new MemoryStorage())
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  volume.writeData(0, 1, blockOf(1), 0)
  await volume.createSnapshot('s')
  const { allocatedBytes } = volume.space()
  storage.plant({ operation: 'write', errno: ENOSPC })
  t.is(
    codeThrown(() => volume.writeData(0, 1, blockOf(2), 0)),
    'OUT_OF_SPACE',
  )
  t.absent(volume.failure)
  t.is(tagAt(volume, 0), 1)
  t.is(volume.space().allocatedBytes, allocatedBytes)
  volume.writeData(0, 1, blockOf(3), 0)
  await volume.commit()
  t.is(tagAt(volume, 0), 3)
})

/** Writes more than what is free in the file, so that every free run of some length is reused. */
function fillTheFile(volume: Volume): void {
  const filler = new Uint8Array(256 * BLOCK_SIZE_BYTES).fill(0xee)
  for (let i = 0; i < 140; i++) volume.writeData(1024 + i * 256, 256, filler, 0)
}

test('freed blocks are not written again before the commit that freed them is durable', async (t) => {
  const storage = new WatchedStorage(new MemoryStorage())
  const volume = await Volume.create(storage, { sizeBytes: 512 * MIB })
  storage.written.length = 0
  volume.writeData(0, 256, new Uint8Array(MIB).fill(1), 0)
  const places = new Set(storage.written)
  await volume.commit()
  volume.discard(0, 256)
  storage.holdFlushes = true
  const committing = volume.commit()
  await new Promise((resolve) => setImmediate(resolve))
  // A read that ends meanwhile is an occasion to release what may be released.
  await volume.read(0, 1, new Uint8Array(1), 0)
  await new Promise((resolve) => setTimeout(resolve, 10))
  storage.written.length = 0
  fillTheFile(volume)
  t.absent(
    storage.written.some((block) => places.has(block)),
    'nothing is reused while the commit is under way',
  )
  storage.holdFlushes = false
  storage.release()
  await committing
  await volume.drain()
  storage.written.length = 0
  for (let i = 0; i < 140; i++) volume.writeData(40_000 + i * 256, 256, new Uint8Array(MIB).fill(2), 0)
  t.ok(
    storage.written.some((block) => places.has(block)),
    'and it is reused afterwards',
  )
})

test('a read in flight keeps its blocks', async (t) => {
  const storage = new WatchedStorage(new MemoryStorage())
  const volume = await Volume.create(storage, { sizeBytes: 512 * MIB })
  volume.writeData(0, 256, new Uint8Array(MIB).fill(41), 0)
  await volume.commit()
  storage.holdReads = true
  const target = new Uint8Array(MIB)
  const reading = volume.read(0, MIB, target, 0)
  volume.discard(0, 256)
  await volume.commit()
  await volume.commit()
  t.ok(volume.space().pendingFreeBytes >= MIB, 'the blocks are pending')
  fillTheFile(volume)
  storage.holdReads = false
  storage.release()
  await reading
  t.ok(
    target.every((byte) => byte === 41),
    'it read what was there when it began',
  )
  await volume.commit()
  await volume.drain()
  t.is(volume.space().pendingFreeBytes, 0, 'and they are released afterwards')
})

test('callbacks write metadata into the commit they precede', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  let dirty = true
  volume.onBeforeCommit(() => {
    if (dirty) volume.writeMetadata(9, blockOf(5), 0)
    dirty = false
  })
  volume.requireRoom(1, false)
  await volume.commit()
  t.is(tagAt(await Volume.open(storage), 9), 5)
})

test('side table and snapshot are committed together with the blocks', async (t) => {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB })
  t.is(volume.readSideTable().length, 0)
  const table = new Uint8Array(9000).map((_, i) => i % 251)
  volume.writeSideTable(table)
  volume.writeData(0, 1, blockOf(1), 0)
  const [a, b] = await Promise.all([volume.createSnapshot('a'), volume.createSnapshot('b')])
  t.alike([a.epoch, b.epoch, volume.epoch], [1, 2, 3])
  volume.writeSideTable(new Uint8Array(10))
  const crashed = await Volume.open(storage.fork())
  t.alike(crashed.readSideTable(), table)
  t.alike(
    crashed.snapshots().map((snapshot) => snapshot.name),
    ['a', 'b'],
  )
  await volume.commit()
  t.is((await Volume.open(storage)).readSideTable().length, 10)
})
