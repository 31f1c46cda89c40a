// Superblocks: which copy counts, what is mended, what is refused and with which code.

import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { BLOCK_SIZE_BYTES, GIB, MIB, TIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import { decodeSuperblock, encodeSuperblock, SUPERBLOCK } from '../../src/volume/superblock.ts'
import { Volume } from '../../src/volume/volume.ts'

const HOMES = SUPERBLOCK_HOMES.flat()

/** A closed volume whose newest transaction is `count` + 2, the twin of the one before it. */
async function committed(count: number): Promise<MemoryStorage> {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: MIB, label: 'Schatten' })
  for (let i = 0; i < count; i++) {
    volume.writeData(0, 1, new Uint8Array(BLOCK_SIZE_BYTES).fill(i + 1), 0)
    volume.writeData(i + 1, 1, new Uint8Array(BLOCK_SIZE_BYTES).fill(i + 1), 0)
    await volume.commit()
  }
  await volume.close()
  return storage
}

function damage(storage: MemoryStorage, block: number, offsetBytes = 70): void {
  const at = block * BLOCK_SIZE_BYTES + offsetBytes
  const byte = new Uint8Array(1)
  storage.readSync(at, 1, byte, 0)
  storage.write(at, 1, Uint8Array.of((byte[0] as number) ^ 0x10), 0)
}

async function codeOf(storage: MemoryStorage): Promise<string> {
  return await Volume.open(storage).then(
    () => 'opened',
    (error: unknown) => (error instanceof UmbraError ? error.code : String(error)),
  )
}

function slotOf(transaction: number): readonly [number, number] {
  return SUPERBLOCK_HOMES[transaction % 2] as readonly [number, number]
}

test('the newest transaction wins, and a bad copy is reported and mended', async (t) => {
  const storage = await committed(3)
  for (const copy of [0, 1]) {
    const block = slotOf(5)[copy] as number
    damage(storage, block)
    const looked = await Volume.open(storage, { readOnly: true })
    t.is(looked.openReport.transaction, 5)
    t.is(looked.openReport.mended.length, 0, 'a reader mends nothing')
    const volume = await Volume.open(storage)
    t.is(volume.openReport.badCopies[0]?.physicalBlock, block)
    t.is(volume.openReport.mended[0]?.physicalBlock, block)
    t.alike((await Volume.open(storage)).openReport, {
      transaction: 5,
      badCopies: [],
      mended: [],
      fellBack: false,
    })
  }
})

test('an older copy beside a newer twin is mended', async (t) => {
  const storage = await committed(3)
  const old = new Uint8Array(BLOCK_SIZE_BYTES)
  storage.readSync(slotOf(5)[0] * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, old, 0)
  const volume = await Volume.open(storage)
  for (const block of [60, 61]) {
    volume.writeData(block, 1, new Uint8Array(BLOCK_SIZE_BYTES).fill(1), 0)
    await volume.commit()
  }
  storage.write(slotOf(7)[0] * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, old, 0)
  const { openReport } = await Volume.open(storage)
  t.is(openReport.transaction, 7)
  t.is(openReport.mended.length, 1)
})

test('when both copies of the newest fail, the one before counts', async (t) => {
  const storage = await committed(3)
  for (const block of slotOf(5)) damage(storage, block)
  const volume = await Volume.open(storage)
  t.is(volume.openReport.transaction, 4)
  t.is(volume.openReport.fellBack, true)
})

test('what is no volume, damaged, cut off or too new is refused with its own code', async (t) => {
  const empty = new MemoryStorage()
  t.is(await codeOf(empty), 'NOT_A_VOLUME')
  const other = MemoryStorage.from(new Uint8Array(3 * MIB).fill(0x55))
  t.is(await codeOf(other), 'NOT_A_VOLUME')

  const damaged = await committed(1)
  for (const block of HOMES) damage(damaged, block)
  t.is(await codeOf(damaged), 'CHECKSUM_MISMATCH')

  const short = await committed(1)
  short.truncate(100 * MIB)
  t.is(await codeOf(short), 'TRUNCATED')

  const version = await committed(1)
  for (const block of HOMES) damage(version, block, 8)
  t.is(await codeOf(version), 'UNSUPPORTED_VERSION')
})

test('a newer program’s superblock refuses the volume, not only its slot', async (t) => {
  for (const [field, code] of [
    ['version', 'UNSUPPORTED_VERSION'],
    ['incompatibleFeatures', 'UNSUPPORTED_FEATURE'],
    ['readOnlyFeatures', 'UNSUPPORTED_FEATURE'],
  ] as const) {
    const storage = await committed(3)
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    for (const home of slotOf(5)) {
      storage.readSync(home * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
      const raw = SUPERBLOCK.decode(block)
      const changed = resealed({ ...raw, [field]: raw[field] + 2 })
      storage.write(home * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, changed, 0)
    }
    t.is(await codeOf(storage), code, field)
    if (field === 'readOnlyFeatures') {
      t.is((await Volume.open(storage, { readOnly: true })).openReport.transaction, 5)
    }
  }
})

function resealed(raw: ReturnType<typeof SUPERBLOCK.decode>): Uint8Array {
  const { checksum, ...rest } = raw
  const sealed = SUPERBLOCK.encode({ ...rest, checksum: 0 })
  // The volume's own encoder seals; seal by hand here, as another program would.
  let crc = 0xffffffff
  for (let i = 0; i < 4092; i++) {
    crc ^= sealed[i] as number
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  }
  new DataView(sealed.buffer).setUint32(4092, crc >>> 0, true)
  return sealed
}

test('every flipped byte of a superblock copy is noticed', async (t) => {
  const storage = await committed(2)
  const good = new Uint8Array(BLOCK_SIZE_BYTES)
  storage.readSync(slotOf(3)[0] * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, good, 0)
  t.alike(Buffer.from(encodeSuperblock(decodeSuperblock(good, false))), Buffer.from(good), 'round trip')
  let missed = 0
  for (let i = 0; i < BLOCK_SIZE_BYTES; i++) {
    const flipped = good.slice()
    flipped[i] = (flipped[i] as number) ^ 0xff
    try {
      decodeSuperblock(flipped, false)
      missed++
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
    }
  }
  t.is(missed, 0)
})

test('a volume of 1 TiB is created in the fixed places only', async (t) => {
  for (const sizeBytes of [GIB, TIB, 16 * TIB]) {
    const storage = new MemoryStorage()
    const started = performance.now()
    const volume = await Volume.create(storage, { sizeBytes })
    await volume.createSnapshot('first')
    volume.writeData(sizeBytes / BLOCK_SIZE_BYTES - 1, 1, new Uint8Array(BLOCK_SIZE_BYTES).fill(9), 0)
    await volume.createSnapshot('second')
    t.comment(`${sizeBytes / GIB} GiB: ${(performance.now() - started).toFixed(1)} ms`)
    t.ok(storage.allocatedBytes < MIB, `${storage.allocatedBytes} bytes hold it`)
    const again = await Volume.open(storage)
    const byte = new Uint8Array(1)
    again.readSync(sizeBytes - 1, 1, byte, 0)
    t.is(byte[0], 9)
  }
})

test('Volume.create() refuses what holds something, and sizes that make no sense', async (t) => {
  const create = (storage: MemoryStorage, sizeBytes: number) =>
    Volume.create(storage, { sizeBytes }).then(
      () => 'created',
      (error: UmbraError) => error.code,
    )
  t.is(await create(await committed(1), MIB), 'ALREADY_EXISTS')
  t.is(await create(MemoryStorage.from(Uint8Array.of(1)), MIB), 'ALREADY_EXISTS')
  t.is(await create(new MemoryStorage(), MIB + 1), 'INVALID_ARGUMENT')
  t.is(await create(new MemoryStorage(), 0), 'INVALID_ARGUMENT')
  t.is(await create(new MemoryStorage(), 16 * TIB + 4096), 'INVALID_ARGUMENT')
})
