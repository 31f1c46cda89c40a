// Closing a volume while others still ask things of it: what they were promised is there at the next
// open.

import test from 'brittle'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'

/** Gives space back only when it is let. */
class SlowPunch extends MemoryStorage {
  isSlow = false
  readonly waiting: (() => void)[] = []

  override async punch(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.isSlow) await new Promise<void>((resolve) => this.waiting.push(resolve))
    await super.punch(offsetBytes, lengthBytes)
  }
}

test('blocks that are given back at the end go to nobody meanwhile', async (t) => {
  const storage = new SlowPunch()
  const volume = await Volume.create(storage, { sizeBytes: 256 * MIB })
  const bytes = new Uint8Array(MIB).fill(5)
  // Data up to where the pool for metadata lies.
  for (let block = 0; block < 20 * 256; block += 256) volume.writeData(block, 256, bytes, 0)
  await volume.commit()
  storage.isSlow = true
  const closed = volume.close()
  while (storage.waiting.length === 0) await new Promise((resolve) => setImmediate(resolve))
  for (let block = 20 * 256; block < 90 * 256; block += 256) volume.writeData(block, 256, bytes, 0)
  await volume.commit()
  storage.isSlow = false
  for (const resolve of storage.waiting) resolve()
  await closed

  const again = await Volume.open(storage)
  const found = new Uint8Array(MIB)
  let lost = 0
  for (let block = 0; block < 90 * 256; block += 256) {
    again.readSync(block * BLOCK_SIZE_BYTES, MIB, found, 0)
    if (Buffer.compare(found, bytes) !== 0) lost++
  }
  t.is(lost, 0, 'what was committed while the volume closed is there')
  await again.close()
})
