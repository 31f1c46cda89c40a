// Real volumes exported, and rebuilt from the images: base + delta = target, judged by our own model of
// the blocks and by qemu; and applies that fail must leave the volume as it was.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import test from 'brittle'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import { withChain } from '../../src/image/import.ts'
import { writeQcow2 } from '../../src/image/qcow2-writer.ts'
import { writeRaw } from '../../src/image/raw-writer.ts'
import { volumeSource } from '../../src/image/volume-source.ts'
import { applyToVolume, importToVolume } from '../../src/image/volume-target.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { randomBlock } from './memory-history.ts'
import { rejectsWith, scratchFolder, tool } from './scratch.ts'

const SIZE_BYTES = 24 * MIB

/** Writes and discards at random, on the volume and on the plain bytes that it should be. */
function churn(volume: Volume, plain: Buffer, random: Random): void {
  for (let step = 0; step < 60; step++) {
    const first = random.below(volume.blockCount)
    const count = Math.min(1 + random.below(random.below(6) === 0 ? 400 : 10), volume.blockCount - first)
    if (random.below(4) === 0) {
      volume.discard(first, count)
      plain.fill(0, first * BLOCK_SIZE_BYTES, (first + count) * BLOCK_SIZE_BYTES)
      continue
    }
    const bytes = Buffer.concat(Array.from({ length: count }, () => randomBlock(random)))
    volume.writeData(first, count, bytes, 0)
    bytes.copy(plain, first * BLOCK_SIZE_BYTES)
  }
}

function contentOf(device: BlockDevice): Buffer {
  const bytes = Buffer.alloc(device.blockCount * BLOCK_SIZE_BYTES)
  device.readSync(0, bytes.byteLength, bytes, 0)
  return bytes
}

test('images of a real volume rebuild it: full, incremental, differential, since a bookmark', async (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 3; round++) {
    const at = scratchFolder(t)
    const volume = await Volume.create(new MemoryStorage(), { sizeBytes: SIZE_BYTES })
    const plain = Buffer.alloc(SIZE_BYTES)
    const contents: Buffer[] = []
    for (let i = 0; i < 4; i++) {
      churn(volume, plain, random)
      await volume.createSnapshot(`s${i}`)
      contents.push(Buffer.from(plain))
      writeFileSync(at(`${i}.plain`), plain)
      if (i === 0) await writeQcow2(volumeSource(volume, 's0', null), at('0.qcow2'))
      else {
        const backing = { name: `${i - 1}.qcow2`, format: 'qcow2' }
        await writeQcow2(volumeSource(volume, `s${i}`, `s${i - 1}`), at(`${i}.qcow2`), { backing })
      }
      await tool('qemu-img', 'check', at(`${i}.qcow2`))
      await tool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', at(`${i}.qcow2`), at(`${i}.plain`))
    }
    churn(volume, plain, random)
    await writeRaw(volumeSource(volume, 's3', null), at('3.raw'))
    t.ok(readFileSync(at('3.raw')).equals(contents[3] as Buffer), 'the raw export is the snapshot')
    await volume.deleteSnapshot('s1', { keepBookmark: true })
    await writeQcow2(volumeSource(volume, 's3', 's1'), at('since.qcow2'))

    for (const [chain, name] of [
      [['0.qcow2', '1.qcow2', '2.qcow2', '3.qcow2'], 'incremental'],
      [['0.qcow2', '1.qcow2', 'since.qcow2'], 'since a bookmark of a deleted snapshot'],
    ] as const) {
      const target = await Volume.create(new MemoryStorage(), { sizeBytes: SIZE_BYTES })
      await withChain(chain.map(at), {}, (opened) => importToVolume(opened, target))
      t.ok(contentOf(target).equals(contents[3] as Buffer), `imported: ${name}`)
      await target.close()
    }
  }
})

test('applyToVolume() brings an imported volume on, and refuses one that has changed', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: SIZE_BYTES })
  const plain = Buffer.alloc(SIZE_BYTES)
  const contents: Buffer[] = []
  for (let i = 0; i < 4; i++) {
    churn(volume, plain, random)
    await volume.createSnapshot(`day "${i}"\n`)
    contents.push(Buffer.from(plain))
    const since = i === 0 ? null : `day "${i - 1}"\n`
    await writeQcow2(volumeSource(volume, `day "${i}"\n`, since), at(`${i}`))
  }
  const storage = new MemoryStorage()
  const target = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  await withChain([at('0')], {}, (chain) => importToVolume(chain, target))
  await rejectsWith(
    t,
    () => withChain([at('0')], {}, (chain) => importToVolume(chain, target)),
    'INVALID_ARGUMENT',
    'a second import',
  )
  await target.close()
  const holds = async (bytes: Buffer | undefined, comment: string) => {
    const reopened = await Volume.open(storage, { readOnly: true })
    t.ok(contentOf(reopened).equals(bytes as Buffer), comment)
    t.is(reopened.bookmarks().length, 1, 'one mark says where it stands')
    await reopened.close()
  }

  await rejectsWith(t, () => applyToVolume(storage, [at('2')]), 'WRONG_BASE', 'a missing link')
  const abort = new AbortController()
  const work = { signal: abort.signal, onProgress: () => abort.abort() }
  const large = Buffer.concat(Array.from({ length: 2560 }, () => randomBlock(random)))
  await holds(contents[0], 'as imported')
  await applyToVolume(storage, [at('1')])
  await holds(contents[1], 'one delta')

  const source = volumeSource(volume, 'day "2"\n', 'day "1"\n')
  const inflated = {
    ...source,
    extents: () => [{ kind: 'data' as const, blockIndex: 0, blockCount: volume.blockCount }],
  }
  await writeQcow2(inflated, at('2-large'))
  await rejectsWith(t, () => applyToVolume(storage, [at('2-large')], work), 'ABORTED', 'aborted on the way')
  await holds(contents[1], 'an aborted apply leaves the volume as it was')
  await applyToVolume(storage, [at('2'), at('3')])
  await holds(contents[3], 'two at once')

  const changed = await Volume.open(storage)
  changed.writeData(5, 1, large, 0)
  await changed.close()
  await writeQcow2(volumeSource(volume, 'day "3"\n', 'day "2"\n'), at('3-again'))
  await rejectsWith(
    t,
    () => applyToVolume(storage, [at('3-again')]),
    'WRONG_BASE',
    'a volume that has changed',
  )
})

test('applyToVolume() that runs out of space leaves the volume as it was', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: SIZE_BYTES })
  const plain = Buffer.alloc(SIZE_BYTES)
  churn(volume, plain, random)
  await volume.createSnapshot('first')
  await writeQcow2(volumeSource(volume, 'first', null), at('0'))
  for (let i = 0; i < volume.blockCount; i++) volume.writeData(i, 1, randomBlock(random), 0)
  await volume.createSnapshot('second')
  await writeQcow2(volumeSource(volume, 'second', 'first'), at('1'))

  const storage = new MemoryStorage({ capacityBytes: 20 * MIB })
  const target = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  await withChain([at('0')], {}, (chain) => importToVolume(chain, target))
  await target.close()
  await rejectsWith(
    t,
    () => applyToVolume(storage, [at('1')]),
    ['OUT_OF_SPACE', 'READ_ONLY'],
    'too small a host',
  )
  const reopened = await Volume.open(storage)
  t.ok(contentOf(reopened).equals(plain), 'unchanged')
  await reopened.close()
})

test('a snapshot that is deleted during its export makes the export fail, and leaves no file', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: SIZE_BYTES })
  for (let i = 0; i < 4000; i++) volume.writeData(i, 1, randomBlock(random), 0)
  await volume.createSnapshot('gone')
  let deleting: Promise<void> | undefined
  const onProgress = () => {
    deleting ??= volume.deleteSnapshot('gone')
  }
  await rejectsWith(
    t,
    () => writeQcow2(volumeSource(volume, 'gone', null), at('x'), { onProgress }),
    'EVICTED',
    'deleted on the way',
  )
  await deleting
  t.alike(readdirSync(at('.')), [])
})
