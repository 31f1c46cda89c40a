// Zeros ahead of small commits: they are written where nothing is, and nowhere else.

import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { Volume } from '../../src/volume/volume.ts'
import { isBlock, patternBlocks } from '../support/block-pattern.ts'
import { chosenSeed, Random } from '../support/random.ts'

const BLOCK = 4096

test('a writer of small commits finds its blocks written, and nothing else is lost', async (t) => {
  const random = new Random(chosenSeed(t))
  const memory = new MemoryStorage()
  await (await Volume.create(memory, { sizeBytes: 64 * MIB })).close()
  const log = new WriteLogStorage(memory)
  const volume = await Volume.open(log)
  const sequences = new Map<number, number>()
  const write = (block: number, count: number, sequence: number): void => {
    volume.writeData(block, count, patternBlocks(block, count, sequence), 0)
    for (let i = 0; i < count; i++) sequences.set(block + i, sequence)
  }
  for (let i = 0; i < 300; i++) {
    write(i < 100 ? i : random.below(2000), 1, i + 1)
    if (random.chance(0.1)) write(4000 + random.below(4000), random.between(1, 60), i + 1)
    if (random.chance(0.1)) volume.discard(3000, 900)
    if (i % 60 === 59) await volume.createSnapshot(`s${i}`)
    await volume.commit()
  }
  const bytes = new Uint8Array(BLOCK)
  const wrong = [...sequences].filter(([block, sequence]) => {
    volume.readSync(block * BLOCK, BLOCK, bytes, 0)
    return !isBlock(bytes, 0, block, sequence)
  })
  t.is(wrong.length, 0, 'every block reads as it was written last')
  await volume.close()
  t.alike(checkVolume(memory).errors, [])
  const ahead = log.entries.filter((entry) => entry.kind === 'write' && isZeros(entry.bytes, 8 * BLOCK))
  t.ok(ahead.length > 2 && ahead.length < 100, `${ahead.length} times zeros were written ahead`)
})

function isZeros(bytes: Uint8Array, leastBytes: number): boolean {
  return bytes.length >= leastBytes && bytes.every((byte) => byte === 0)
}
