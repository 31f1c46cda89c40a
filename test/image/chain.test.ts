// Chains of our images: content, links, and damage, all judged before anything is written.

import { copyFileSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { openChain } from '../../src/image/chain.ts'
import { importToRaw } from '../../src/image/import.ts'
import { writeQcow2 } from '../../src/image/qcow2-writer.ts'
import { writeRaw } from '../../src/image/raw-writer.ts'
import { verifyChain, verifyImage } from '../../src/image/verify.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { MemoryHistory, randomBlock } from './memory-history.ts'
import { rejectsWith, scratchFolder, tool } from './scratch.ts'

type Place = (name: string) => string

/** A history of `count` cuts: full.raw, 0.qcow2 (full), 1.qcow2... (incremental, no backing names). */
async function exported(history: MemoryHistory, random: Random, count: number, at: Place): Promise<string[]> {
  const files: string[] = []
  for (let i = 0; i < count; i++) {
    history.churn(random, 40)
    history.cut(`day ${i}`)
    files.push(at(`${i}.qcow2`))
    await writeQcow2(i === 0 ? history.full(0) : history.delta(i - 1, i), files[i] as string)
  }
  await writeRaw(history.full(0), at('full.raw'))
  return files
}

async function bytesOf(files: readonly string[]): Promise<Buffer> {
  const chain = await openChain(files)
  try {
    const bytes = Buffer.alloc(chain.sizeBytes, 0xee)
    chain.readSync(0, bytes.byteLength, bytes, 0)
    return bytes
  } finally {
    chain.close()
  }
}

test('openChain() shows each point, from qcow2 or raw, incremental or differential', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 5; round++) {
    const folder: Place = (name) => at(`${round}-${name}`)
    const history = new MemoryHistory(200 + random.below(4000))
    const files = await exported(history, random, 4, folder)
    for (let i = 0; i < files.length; i++)
      t.ok((await bytesOf(files.slice(0, i + 1))).equals(history.content(i)), `chain to point ${i}`)
    const mixed = [folder('full.raw'), ...files.slice(1)]
    t.ok((await bytesOf(mixed)).equals(history.content(3)), 'a raw full image below qcow2 deltas')
    await writeQcow2(history.delta(0, 3), folder('differential'), {
      backing: { name: `${round}-full.raw`, format: 'raw' },
    })
    t.ok((await bytesOf([folder('differential')])).equals(history.content(3)), 'a backing name is followed')
    const report = await verifyChain(files)
    t.alike(
      report.map(({ identity }) => identity.point.name),
      ['day 0', 'day 1', 'day 2', 'day 3'],
    )

    await importToRaw(files, folder('imported.raw'))
    t.ok(readFileSync(folder('imported.raw')).equals(history.content(3)), 'imported as a raw file')
    const { identity } = await verifyImage(folder('imported.raw'))
    await writeQcow2(history.full(3), folder('full3.qcow2'))
    t.alike(
      identity,
      (await verifyImage(folder('full3.qcow2'))).identity,
      'the import is a full export of the point',
    )
  }
})

test('openChain() hides what a shrunken volume lost when it grows again', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(4)
  const history = new MemoryHistory(100)
  for (let i = 0; i < 100; i++) history.write(i, randomBlock(random))
  history.cut()
  history.discard(60, 40)
  const after = history.delta.bind(history)
  history.blockCount = 60
  history.cut()
  history.blockCount = 100
  history.write(70, randomBlock(random))
  history.cut()
  const shrunk = after(0, 1)
  await writeQcow2(history.full(0), at('0'))
  await writeQcow2({ ...shrunk, extents: () => [] }, at('1'), { backing: { name: '0', format: 'qcow2' } })
  await writeQcow2(history.delta(1, 2), at('2'), { backing: { name: '1', format: 'qcow2' } })
  t.ok((await bytesOf([at('0'), at('1'), at('2')])).equals(history.content(2)))
  await tool('qemu-img', 'convert', '-O', 'raw', at('2'), at('2.raw'))
  t.ok(readFileSync(at('2.raw')).equals(history.content(2)), 'qemu agrees')
})

test('openChain() refuses wrong order, a missing link, another volume, and images without identity', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(500)
  const [full, first, second, third] = (await exported(history, random, 4, at)) as [
    string,
    string,
    string,
    string,
  ]
  const other = new MemoryHistory(500)
  const otherFiles = await exported(other, random, 2, (name) => at(`other-${name}`))
  const refused = (files: string[], comment: string) =>
    rejectsWith(t, () => importToRaw(files, at('never.raw')), ['WRONG_BASE', 'BAD_IMAGE'], comment)
  await refused([full, second], 'a missing link')
  await refused([full, second, first], 'wrong order')
  await refused([first, full], 'deltas before the full image')
  await refused([first], 'a delta alone')
  await refused([full, first, first], 'an image twice')
  await refused([full, first, full], 'a full image in the middle')
  await refused([full, otherFiles[1] as string], 'a delta of another volume')
  copyFileSync(at('full.raw'), at('bare.raw'))
  await refused([at('bare.raw'), first], 'a raw file without its sidecar')
  await tool('qemu-img', 'create', '-f', 'qcow2', '-b', full, '-F', 'qcow2', at('foreign.qcow2'))
  await refused([full, at('foreign.qcow2')], 'an image of another tool')
  await rejectsWith(
    t,
    () => importToRaw([full, third], at('never.raw')),
    'WRONG_BASE',
    'the code of a missing link',
  )
  t.absent(existsSync(at('never.raw')), 'nothing was written')
  await importToRaw([full, first, second, third], at('right.raw'))
  t.ok(readFileSync(at('right.raw')).equals(history.content(3)), 'the right order goes through')
  await rejectsWith(t, () => importToRaw([full], at('right.raw')), 'ALREADY_EXISTS', 'an existing file')
  await importToRaw([full], at('right.raw'), { force: true })
  t.ok(readFileSync(at('right.raw')).equals(history.content(0)), 'unless it is forced')
})

test('verifyImage() finds truncation and every flipped byte of a small image', {
  timeout: 120_000,
}, async (t) => {
  const at = scratchFolder(t)
  const history = new MemoryHistory(40)
  const random = new Random(7)
  for (let i = 0; i < 10; i++) history.write(3 * i, randomBlock(random))
  history.cut('before')
  for (let i = 0; i < 6; i++) history.write(5 * i, randomBlock(random))
  history.discard(6, 7)
  history.cut('after')
  await writeQcow2(history.full(0), at('full.qcow2'))
  await writeQcow2(history.delta(0, 1), at('delta.qcow2'))
  const content = history.content(1)
  const good = readFileSync(at('delta.qcow2'))
  const identity = (await verifyImage(at('delta.qcow2'))).identity
  let found = 0
  let harmless = 0
  const wrong: number[] = []
  for (let where = 0; where < good.byteLength; where++) {
    // Every byte of the header's cluster; of the rest a part, unless there is time.
    if (where >= 4096 && where % 11 !== 0 && !process.env['UMBRA_LONG']) continue
    const bytes = Buffer.from(good)
    bytes[where] = (bytes[where] as number) ^ (1 << (where % 8))
    writeFileSync(at('bad.qcow2'), bytes)
    try {
      const chain = await openChain([at('full.qcow2'), at('bad.qcow2')])
      const read = Buffer.alloc(content.byteLength)
      chain.readSync(0, read.byteLength, read, 0)
      chain.close()
      if (read.equals(content) && JSON.stringify(chain.identity) === JSON.stringify(identity)) harmless++
      else wrong.push(where)
    } catch (error) {
      if (
        !hasCode(error, 'BAD_IMAGE') &&
        !hasCode(error, 'UNSUPPORTED_FEATURE') &&
        !hasCode(error, 'UNSUPPORTED_VERSION') &&
        !hasCode(error, 'ENOENT')
      )
        throw error
      found++
    }
  }
  t.alike(wrong, [], 'no flip passes with other content or another identity')
  t.ok(
    found > 1000,
    `${found} flips were refused; ${harmless} lie where nothing is read (padding, refcounts, bitmap)`,
  )
  let passed = 0
  for (let length = 0; length < good.byteLength; length += 509) {
    writeFileSync(at('bad.qcow2'), good)
    truncateSync(at('bad.qcow2'), length)
    try {
      await verifyImage(at('bad.qcow2'))
      passed++
    } catch (error) {
      if (!hasCode(error, 'BAD_IMAGE')) throw error
    }
  }
  t.is(passed, 0, 'no truncated image passes')
})

test('verifyImage() of a raw image finds a changed byte, a changed size and a damaged sidecar', async (t) => {
  const at = scratchFolder(t)
  const history = new MemoryHistory(300)
  history.churn(new Random(chosenSeed(t)), 30)
  history.cut()
  await writeRaw(history.full(0), at('image.raw'))
  await verifyImage(at('image.raw'))
  const good = readFileSync(at('image.raw'))
  const flipped = Buffer.from(good)
  flipped[12_345] = (flipped[12_345] as number) ^ 4
  writeFileSync(at('image.raw'), flipped)
  await rejectsWith(t, () => verifyImage(at('image.raw')), 'BAD_IMAGE', 'a changed byte')
  writeFileSync(at('image.raw'), good)
  await verifyImage(at('image.raw'))
  truncateSync(at('image.raw'), good.byteLength - 4096)
  await rejectsWith(t, () => verifyImage(at('image.raw')), 'BAD_IMAGE', 'a changed size')
  writeFileSync(at('image.raw'), good)
  const sidecar = readFileSync(at('image.raw.umbra.json'))
  writeFileSync(at('image.raw.umbra.json'), String(sidecar).replace('"epoch":1', '"epoch":2'))
  await rejectsWith(t, () => verifyImage(at('image.raw')), 'BAD_IMAGE', 'an edited sidecar')
  writeFileSync(at('image.raw.umbra.json'), '{')
  await rejectsWith(t, () => verifyImage(at('image.raw')), 'BAD_IMAGE', 'a broken sidecar')
})

test('importToRaw() takes foreign chains as they are', async (t) => {
  const at = scratchFolder(t)
  writeFileSync(at('odd.raw'), Buffer.alloc(1_000_448, 3))
  await tool('qemu-img', 'convert', '-c', '-O', 'qcow2', at('odd.raw'), at('odd.qcow2'))
  await rejectsWith(t, () => importToRaw([at('odd.qcow2')], at('x.raw')), 'BAD_IMAGE', 'foreign must be said')
  const result = await importToRaw([at('odd.qcow2')], at('x.raw'), { foreign: true })
  t.is(result.identity, null)
  const history = new MemoryHistory(300)
  history.churn(new Random(5), 20)
  history.cut()
  await writeQcow2(history.full(0), at('ours.qcow2'))
  const claimed = await importToRaw([at('ours.qcow2')], at('y.raw'), { foreign: true })
  t.is(claimed.identity, null, 'taken as foreign, an image of ours proves no identity')
  t.absent(existsSync(at('y.raw.umbra.json')))
  t.ok(readFileSync(at('x.raw')).equals(readFileSync(at('odd.raw'))), 'same bytes, same size')
  t.alike(
    readdirSync(at('.')).filter((name) => name.includes('partial')),
    [],
    'no temporary is left',
  )
})
