// Images that qemu-img makes, read by us: compared with what qemu itself converts them to.

import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import test from 'brittle'
import { openChain } from '../../src/image/chain.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { run } from '../support/run.ts'
import { rejectsWith, scratchFolder, tool } from './scratch.ts'

/** A raw file with random data, zeros and holes; its size is any multiple of 512. */
function randomRaw(path: string, random: Random, sizeBytes: number): void {
  writeFileSync(path, '')
  truncateSync(path, sizeBytes)
  const fd = openSync(path, 'r+')
  for (let i = 0; i < 60; i++) {
    const length = Math.min(512 * (1 + random.below(400)), sizeBytes)
    const offset = random.below((sizeBytes - length) / 512 + 1) * 512
    const bytes = Buffer.alloc(length)
    if (random.below(4) !== 0)
      for (let at = 0; at < length; at += 32) bytes.writeUInt32LE(random.below(2 ** 32), at)
    writeSync(fd, bytes, 0, length, offset)
  }
  closeSync(fd)
}

/** Reads a foreign chain whole, and in random pieces, and compares both with qemu's own conversion. */
async function readsAs(
  t: { ok(value: unknown, comment: string): void; is(a: unknown, b: unknown, c: string): void },
  path: string,
  reference: string,
  random: Random,
): Promise<void> {
  await tool('qemu-img', 'convert', '-O', 'raw', path, reference)
  const expected = readFileSync(reference)
  const chain = await openChain([path], { foreign: true })
  try {
    t.is(chain.sizeBytes, expected.byteLength, `${path}: size`)
    const bytes = Buffer.alloc(expected.byteLength, 0xee)
    chain.readSync(0, bytes.byteLength, bytes, 0)
    t.ok(bytes.equals(expected), `${path}: the whole reads as qemu reads it`)
    let same = true
    for (let i = 0; i < 200; i++) {
      const offset = random.below(expected.byteLength)
      const length = 1 + random.below(Math.min(100_000, expected.byteLength - offset))
      const piece = Buffer.alloc(length, 0xee)
      chain.readSync(offset, length, piece, 0)
      same &&= piece.equals(expected.subarray(offset, offset + length))
    }
    t.ok(same, `${path}: random pieces too`)
    const fromExtents = Buffer.alloc(chain.blockCount * 4096)
    for (const { blockIndex, blockCount } of chain.extents())
      chain.readSync(blockIndex * 4096, blockCount * 4096, fromExtents, blockIndex * 4096)
    t.ok(fromExtents.subarray(0, expected.byteLength).equals(expected), `${path}: extents cover all data`)
  } finally {
    chain.close()
  }
}

test('Qcow2Reader reads every cluster size, compressed or not, as qemu does', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  for (const clusterBytes of [512, 1024, 4096, 65536, 2097152]) {
    const sizeBytes = 512 * (1 + random.below(12_000))
    randomRaw(at('source.raw'), random, sizeBytes)
    for (const flags of [[], ['-c']]) {
      const options = `cluster_size=${clusterBytes}`
      await tool('qemu-img', 'convert', ...flags, '-O', 'qcow2', '-o', options, at('source.raw'), at('image'))
      await readsAs(t, at('image'), at('reference.raw'), random)
    }
  }
  randomRaw(at('source.raw'), random, 1024 * 1024)
  await tool('qemu-img', 'convert', '-O', 'qcow2', '-o', 'compat=0.10', at('source.raw'), at('version2'))
  await readsAs(t, at('version2'), at('reference.raw'), random)
  await tool(
    'qemu-img',
    'convert',
    '-O',
    'qcow2',
    '-o',
    'preallocation=metadata',
    at('source.raw'),
    at('pre'),
  )
  await readsAs(t, at('pre'), at('reference.raw'), random)
})

test('openChain() reads backing chains with zero clusters, discards and sizes that differ', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  for (const clusterBytes of [512, 4096, 65536]) {
    const options = `cluster_size=${clusterBytes}`
    randomRaw(at('base.raw'), random, 3_000_320)
    let below: [string, string] = ['base.raw', 'raw']
    for (const [layer, sizeBytes] of [3_000_320, 2_000_384, 5_000_192].entries()) {
      const path = at(`${clusterBytes}-${layer}.qcow2`)
      const more = ['-b', below[0], '-F', below[1]]
      await tool('qemu-img', 'create', '-f', 'qcow2', '-o', options, ...more, path, String(sizeBytes))
      const commands: string[] = []
      for (let i = 0; i < 40; i++) {
        const length = 512 * (1 + random.below(200))
        const offset = random.below((sizeBytes - length) / 512) * 512
        const command = random.pick(['write -P 171', 'write -P 7', 'write -z', 'write -z -u', 'discard'])
        commands.push('-c', `${command} ${offset} ${length}`)
      }
      await tool('qemu-io', '-f', 'qcow2', '-d', 'unmap', ...commands, path)
      below = [`${clusterBytes}-${layer}.qcow2`, 'qcow2']
      await readsAs(t, path, at('reference.raw'), random)
    }
  }
})

test('openChain() refuses what it cannot read, by name', async (t) => {
  const at = scratchFolder(t)
  const open = (name: string) => async () => (await openChain([at(name)], { foreign: true })).close()
  await tool('qemu-img', 'create', '-f', 'qcow2', '-o', 'compression_type=zstd', at('zstd'), '1M')
  await open('zstd')()
  t.pass('zstd without compressed clusters is read')
  writeFileSync(at('ones'), Buffer.alloc(1024 * 1024, 1))
  const zstd = ['-c', '-O', 'qcow2', '-o', 'compression_type=zstd']
  await tool('qemu-img', 'convert', ...zstd, at('ones'), at('packed'))
  const chain = await openChain([at('packed')], { foreign: true })
  await rejectsWith(
    t,
    async () => chain.readSync(0, 4096, Buffer.alloc(4096), 0),
    'UNSUPPORTED_FEATURE',
    'zstd',
  )
  chain.close()
  await tool('qemu-img', 'create', '-f', 'qcow2', '-o', 'extended_l2=on', at('extended'), '1M')
  await rejectsWith(t, open('extended'), 'UNSUPPORTED_FEATURE', 'extended L2')
  await tool('qemu-img', 'create', '-f', 'qcow2', '-o', `data_file=${at('data')}`, at('external'), '1M')
  await rejectsWith(t, open('external'), 'UNSUPPORTED_FEATURE', 'external data file')
  // AES, not LUKS: qemu measures the processor to make a LUKS key, and gives up on a busy machine.
  const secret = ['--object', 'secret,id=s,data=x', '-o', 'encrypt.format=aes,encrypt.key-secret=s']
  await tool('qemu-img', 'create', '-f', 'qcow2', ...secret, at('aes'), '1M')
  await rejectsWith(t, open('aes'), 'UNSUPPORTED_FEATURE', 'encryption')
  await tool('qemu-img', 'create', '-f', 'vmdk', at('disk.vmdk'), '1M')
  await rejectsWith(t, open('disk.vmdk'), 'UNSUPPORTED_FEATURE', 'vmdk')
  await tool('qemu-img', 'create', '-u', '-f', 'qcow2', '-b', 'nbd:localhost:1', '-F', 'raw', at('nbd'), '1M')
  await rejectsWith(t, open('nbd'), 'UNSUPPORTED_FEATURE', 'a backing file over the network')
  await tool('qemu-img', 'create', '-u', '-f', 'qcow2', '-b', 'gone', '-F', 'raw', at('orphan'), '1M')
  await rejectsWith(t, open('orphan'), 'ENOENT', 'a backing file that is missing')
  await tool('qemu-img', 'create', '-u', '-f', 'qcow2', '-b', 'b', '-F', 'qcow2', at('a'), '1M')
  await tool('qemu-img', 'create', '-u', '-f', 'qcow2', '-b', 'a', '-F', 'qcow2', at('b'), '1M')
  await rejectsWith(t, open('a'), 'BAD_IMAGE', 'a loop of backing files')
  await rejectsWith(t, open('nothing-there'), 'ENOENT', 'a missing file')
})

test('Qcow2Reader answers damage anywhere in the metadata with an error or zeros, never a crash', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  randomRaw(at('source.raw'), random, 400 * 512)
  await tool(
    'qemu-img',
    'convert',
    '-c',
    '-O',
    'qcow2',
    '-o',
    'cluster_size=4096',
    at('source.raw'),
    at('image'),
  )
  await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 9 8192 20000', at('image')])
  const good = readFileSync(at('image'))
  let refused = 0
  for (let i = 0; i < 3000; i++) {
    const bytes = Buffer.from(good)
    const flips = 1 + random.below(3)
    for (let f = 0; f < flips; f++) {
      const where = random.below(random.chance(0.5) ? 112 : bytes.byteLength)
      bytes[where] = (bytes[where] as number) ^ (1 << random.below(8))
    }
    writeFileSync(at('bad'), random.chance(0.2) ? bytes.subarray(0, random.below(bytes.byteLength)) : bytes)
    try {
      const chain = await openChain([at('bad')], { foreign: true })
      try {
        const piece = Buffer.alloc(4096)
        let pieces = 0
        for (const extent of chain.extents()) {
          if (pieces++ > 500) break
          chain.readSync(extent.blockIndex * 4096, 4096, piece, 0)
        }
      } finally {
        chain.close()
      }
    } catch (error) {
      const code = (error as { code?: string }).code ?? ''
      if (!['BAD_IMAGE', 'UNSUPPORTED_FEATURE', 'UNSUPPORTED_VERSION', 'ENOENT'].includes(code)) throw error
      refused++
    }
  }
  t.ok(refused > 300, `${refused} of 3000 damaged images were refused with a code`)
})
