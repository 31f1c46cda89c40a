// Images that we write, judged by qemu: check, compare, map, info, and the bitmap through qemu-nbd.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'brittle'
import { BLOCK_SIZE_BYTES, TIB } from '../../src/base/units.ts'
import { openChain } from '../../src/image/chain.ts'
import type { ImageSource } from '../../src/image/image-source.ts'
import { planQcow2 } from '../../src/image/qcow2-layout.ts'
import { writeQcow2 } from '../../src/image/qcow2-writer.ts'
import { verifyChain } from '../../src/image/verify.ts'
import type { DeltaExtent } from '../../src/volume/points.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { MemoryHistory, randomBlock } from './memory-history.ts'
import { rejectsWith, scratchFolder, tool } from './scratch.ts'

async function checkIsClean(t: { is(a: unknown, b: unknown, c: string): void }, path: string): Promise<void> {
  const report = JSON.parse(await tool('qemu-img', 'check', '--output=json', path)) as Record<string, unknown>
  for (const finding of ['corruptions', 'leaks', 'check-errors'])
    t.is(report[finding] ?? 0, 0, `qemu-img check of ${path}: no ${finding}`)
}

test('writeQcow2() makes chains that qemu reads as the volume, after random histories', async (t) => {
  const seed = chosenSeed(t)
  for (let round = 0; round < 4; round++) {
    const random = new Random(seed + round)
    const at = scratchFolder(t)
    const history = new MemoryHistory(1000 + random.below(9000))
    const files: string[] = []
    for (let i = 0; i < 4; i++) {
      history.churn(random, i === 2 ? 0 : 60)
      history.cut()
      const file = at(`${i}.qcow2`)
      const backing = i === 0 ? undefined : { name: `${i - 1}.qcow2`, format: 'qcow2' }
      await writeQcow2(i === 0 ? history.full(0) : history.delta(i - 1, i), file, { backing })
      files.push(file)
      await checkIsClean(t, file)
      writeFileSync(at(`${i}.raw`), history.content(i))
      t.is(
        (await tool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', file, at(`${i}.raw`))).trim(),
        'Images are identical.',
        `chain of ${i + 1} is the volume`,
      )
    }
    const differential = at('differential.qcow2')
    await writeQcow2(history.delta(0, 3), differential, { backing: { name: '0.qcow2', format: 'qcow2' } })
    await checkIsClean(t, differential)
    await tool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', differential, at('3.raw'))
    const info = JSON.parse(
      await tool('qemu-img', 'info', '--backing-chain', '--output=json', files[3] as string),
    ) as { 'virtual-size': number; 'format-specific': { data: Record<string, unknown> } }[]
    t.is(info.length, 4, 'the backing chain has four files')
    t.is(info[0]?.['virtual-size'], history.blockCount * BLOCK_SIZE_BYTES)
    t.is(info[0]?.['format-specific'].data['corrupt'], false)
    t.alike(
      info[0]?.['format-specific'].data['bitmaps'],
      [{ flags: [], name: 'umbra-point 2', granularity: 4096 }],
      'qemu lists the bitmap, not in use and not recording',
    )
  }
})

test('the comparison with qemu notices a delta that lacks one extent (planted fault)', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(3000)
  history.churn(random, 40)
  history.cut()
  for (let i = 0; i < 30; i++) history.write(100 * i, randomBlock(random))
  history.cut()
  const delta = history.delta(0, 1)
  const extents = [...delta.extents()]
  extents.splice(random.below(extents.length), 1)
  await writeQcow2(history.full(0), at('0.qcow2'))
  const backing = { name: '0.qcow2', format: 'qcow2' }
  await writeQcow2({ ...delta, extents: () => extents }, at('1.qcow2'), { backing })
  writeFileSync(at('1.raw'), history.content(1))
  await t.exception(tool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', at('1.qcow2'), at('1.raw')))
})

test('writeQcow2() writes discards of a delta as zeros that hide the backing file', async (t) => {
  const at = scratchFolder(t)
  const history = new MemoryHistory(64)
  const random = new Random(1)
  for (let i = 0; i < 64; i++) history.write(i, randomBlock(random))
  history.cut()
  history.discard(10, 20)
  history.cut()
  await writeQcow2(history.full(0), at('0.qcow2'))
  await writeQcow2(history.delta(0, 1), at('1.qcow2'), { backing: { name: '0.qcow2', format: 'qcow2' } })
  const map = JSON.parse(await tool('qemu-img', 'map', '--output=json', at('1.qcow2'))) as {
    start: number
    length: number
    depth: number
    zero: boolean
  }[]
  const top = map.filter((extent) => extent.depth === 0)
  t.alike(
    top.map(({ start, length, zero }) => ({ start, length, zero })),
    [{ start: 10 * 4096, length: 20 * 4096, zero: true }],
  )
})

/** The delta's extents as qemu-nbd tells them to libnbd. */
async function dirtyThroughNbd(path: string, bitmap: string, socket: string): Promise<[number, number][]> {
  const server = spawn('qemu-nbd', ['-r', '-f', 'qcow2', '-B', bitmap, '-k', socket, path], {
    stdio: 'ignore',
  })
  try {
    for (let tries = 0; !existsSync(socket); tries++) {
      if (tries > 500 || server.exitCode !== null) throw new Error(`qemu-nbd does not serve ${path}`)
      await sleep(20)
    }
    const uri = `nbd+unix:///?socket=${socket}`
    const json = await tool('nbdinfo', `--map=qemu:dirty-bitmap:${bitmap}`, '--json', uri)
    const map = JSON.parse(json) as { offset: number; length: number; type: number }[]
    return map.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, length])
  } finally {
    const ended = new Promise((resolve) => server.once('exit', resolve))
    if (server.exitCode === null && server.kill('SIGKILL')) await ended
  }
}

function extentsOf(source: ImageSource): [number, number][] {
  const merged: [number, number][] = []
  for (const { blockIndex, blockCount } of source.extents()) {
    const last = merged.at(-1)
    const offset = blockIndex * BLOCK_SIZE_BYTES
    if (last && last[0] + last[1] === offset) last[1] += blockCount * BLOCK_SIZE_BYTES
    else merged.push([offset, blockCount * BLOCK_SIZE_BYTES])
  }
  return merged
}

test('writeQcow2() leaves a bitmap that qemu-nbd serves as exactly our delta', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(40_000)
  history.churn(random, 50)
  history.cut('base "ü"')
  history.churn(random, 200)
  history.discard(0, 3000)
  history.write(39_999, randomBlock(random))
  history.cut()
  const delta = history.delta(0, 1)
  await writeQcow2(delta, at('delta.qcow2'), { bitmapName: 'changes' })
  t.alike(await dirtyThroughNbd(at('delta.qcow2'), 'changes', at('nbd.sock')), extentsOf(delta))

  // Planted fault: a delta that lacks an extent must not pass for the whole one.
  const short = { ...delta, extents: () => [...delta.extents()].slice(1) }
  await writeQcow2(short, at('short.qcow2'), { bitmapName: 'changes' })
  t.unlike(await dirtyThroughNbd(at('short.qcow2'), 'changes', at('nbd2.sock')), extentsOf(delta))
})

test('writeQcow2() of an empty delta, an empty volume and a one-block volume is clean', async (t) => {
  const at = scratchFolder(t)
  const history = new MemoryHistory(1)
  history.cut()
  history.cut()
  history.write(0, randomBlock(new Random(3)))
  history.cut()
  for (const [name, source] of [
    ['empty', history.full(0)],
    ['nothing', history.delta(0, 1)],
    ['one', history.full(2)],
    ['first', history.delta(1, 2)],
  ] as const) {
    await writeQcow2(source, at(name))
    await checkIsClean(t, at(name))
  }
  t.is(readFileSync(at('one')).readUInt32BE(0), 0x514649fb)
})

test('writeQcow2() of a long discard shares tables of zeros, and qemu takes and changes it', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  for (const [tables, sharedBytes] of [
    [1, 4096],
    [700, 4096],
    [140_000, 3 * 4096],
  ] as const) {
    // More references than one table can have: qemu takes its time over so many.
    if (tables > 65_535 && !process.env['UMBRA_LONG']) continue
    const blockCount = (tables + 3) * 512
    const history = new MemoryHistory(blockCount)
    const inside = 700 + random.below(tables * 512 - 400)
    for (const i of [5, inside, blockCount - 3]) history.write(i, randomBlock(random))
    history.cut()
    history.discard(inside, 1)
    history.write(3, randomBlock(random))
    history.cut()
    const zeros = { kind: 'zero' as const, blockIndex: 300, blockCount: (tables + 1) * 512 }
    const source = history.delta(0, 1)
    const [first] = source.extents()
    const wide = { ...source, extents: () => [first as DeltaExtent, zeros] }
    const force = true
    await writeQcow2(history.full(0), at('0.qcow2'), { force })
    const backing = { name: '0.qcow2', format: 'qcow2' }
    const written = await writeQcow2(wide, at('1.qcow2'), { force, backing, bitmapName: null })
    await checkIsClean(t, at('1.qcow2'))
    const l1Bytes = Math.ceil(((tables + 3) * 8) / 4096) * 4096
    t.is(
      written.fileBytes - l1Bytes,
      4096 * (1 + 1 + 1 + 2 + 1) + sharedBytes,
      `${tables} tables of zeros are shared`,
    )
    await writeQcow2(history.full(1), at('full1.qcow2'), { force })
    await tool('qemu-img', 'compare', at('1.qcow2'), at('full1.qcow2'))
    const chain = await openChain([at('0.qcow2'), at('1.qcow2')])
    const bytes = Buffer.alloc(8192, 1)
    chain.readSync(inside * 4096, 4096, bytes, 0)
    chain.readSync(3 * 4096, 4096, bytes, 4096)
    t.ok(
      bytes.subarray(0, 4096).every((byte) => byte === 0),
      'read back: the discard',
    )
    t.ok(bytes.subarray(4096).equals(history.cuts[1]?.blocks.get(3) as Buffer), 'read back: the data')
    chain.close()
    await tool('qemu-io', '-f', 'qcow2', '-c', `write -P 9 ${inside * 4096} 4096`, at('1.qcow2'))
    await checkIsClean(t, at('1.qcow2'))
  }
})

test('writeQcow2() takes the longest and strangest names', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(3001)
  history.churn(random, 30)
  history.cut('\u0001'.repeat(255))
  history.churn(random, 30)
  history.write(3000, randomBlock(random))
  history.cut('\\"\n'.repeat(85))
  const folder = 'd/../'.repeat(200)
  mkdirSync(at('d'))
  await writeQcow2(history.full(0), at('0.qcow2'))
  const backing = { name: `${folder}0.qcow2`, format: 'qcow2' }
  await writeQcow2(history.delta(0, 1), at('1.qcow2'), { backing, bitmapName: 'b'.repeat(1023) })
  await checkIsClean(t, at('1.qcow2'))
  writeFileSync(at('1.raw'), history.content(1))
  await tool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', at('1.qcow2'), at('1.raw'))
  const [, verified] = await verifyChain([at('1.qcow2')])
  t.alike(verified?.identity.base?.name, '\u0001'.repeat(255))
  t.alike(verified?.identity.point.name, '\\"\n'.repeat(85))
  await rejectsWith(
    t,
    () => writeQcow2(history.delta(0, 1), at('x'), { bitmapName: 'b'.repeat(1024) }),
    'LIMIT_EXCEEDED',
    'a longer bitmap name',
  )
  const far = { name: 'x'.repeat(1024), format: 'qcow2' }
  await rejectsWith(
    t,
    () => writeQcow2(history.delta(0, 1), at('x'), { backing: far }),
    'LIMIT_EXCEEDED',
    'a longer backing name',
  )
})

test('writeQcow2() takes larger clusters where 4 KiB ends, and qemu agrees', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  for (const [blockCount, clusterBits] of [
    [(8 * TIB) / BLOCK_SIZE_BYTES, 12],
    [(8 * TIB) / BLOCK_SIZE_BYTES + 1, 13],
    [(16 * TIB) / BLOCK_SIZE_BYTES, 13],
  ] as const) {
    const history = new MemoryHistory(blockCount)
    const far = blockCount - 700
    for (let i = 0; i < 600; i++) history.write(far + random.below(700), randomBlock(random))
    history.cut()
    history.discard(far + 3, 300)
    for (let i = 0; i < 50; i++) history.write(far + random.below(700), randomBlock(random))
    history.write(blockCount - 1, randomBlock(random))
    history.cut()
    t.is(planQcow2(history.full(0), null).clusterBits, clusterBits, `clusters for ${blockCount} blocks`)
    await writeQcow2(history.full(0), at('0.qcow2'), { force: true })
    await writeQcow2(history.delta(0, 1), at('1.qcow2'), {
      force: true,
      backing: { name: '0.qcow2', format: 'qcow2' },
    })
    await checkIsClean(t, at('0.qcow2'))
    await checkIsClean(t, at('1.qcow2'))
    await writeQcow2(history.full(1), at('full1.qcow2'), { force: true })
    await tool('qemu-img', 'compare', at('1.qcow2'), at('full1.qcow2'))
    t.pass('chain and full image are identical')
  }
})
