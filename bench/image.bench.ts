// How fast images are written, verified and read back, from a volume in a file and from memory alone,
// beside qemu-img convert on the same bytes. `npm run bench -- image [MiB] [FOLDER]`; figures, no verdict.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BLOCK_SIZE_BYTES, MIB } from '../src/base/units.ts'
import type { ImageSource } from '../src/image/image-source.ts'
import { importToRaw } from '../src/image/import.ts'
import { writeQcow2 } from '../src/image/qcow2-writer.ts'
import { writeRaw } from '../src/image/raw-writer.ts'
import { verifyImage } from '../src/image/verify.ts'
import { volumeSource } from '../src/image/volume-source.ts'
import { FileStorage } from '../src/storage/file-storage.ts'
import { Volume } from '../src/volume/volume.ts'

const ROUNDS = 3
const SIZE_MIB = Number(process.argv[2] ?? 512)
const folder = mkdtempSync(join(process.argv[3] ?? tmpdir(), 'umbra-bench-'))
const at = (name: string) => join(folder, name)

/** A megabyte that no two blocks of are alike. */
function pattern(): Buffer {
  const bytes = Buffer.alloc(MIB)
  let state = 1
  for (let i = 0; i < bytes.byteLength; i += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes.writeUInt32LE(state, i)
  }
  return bytes
}

/** The same megabyte again and again, at the price of a copy: what the writers cost by themselves. */
function memorySource(bytes: Buffer): ImageSource {
  const blockCount = (SIZE_MIB * MIB) / BLOCK_SIZE_BYTES
  const readSync = (_offset: number, lengthBytes: number, target: Uint8Array, targetOffset: number) =>
    target.set(bytes.subarray(0, lengthBytes), targetOffset)
  const tryRead = (offset: number, lengthBytes: number, target: Uint8Array, targetOffset: number) => {
    readSync(offset, lengthBytes, target, targetOffset)
    return true
  }
  const id = '00000000-0000-4000-8000-000000000000'
  return {
    volumeUuid: id,
    point: { id, epoch: 1, name: 'memory', createdAtMs: 0 },
    base: null,
    device: { blockCount, readSync, tryRead, read: async () => {} },
    blockCount,
    extents: () => [{ kind: 'data', blockIndex: 0, blockCount }],
  }
}

async function measure(what: string, mebibytes: number, work: () => Promise<unknown>): Promise<void> {
  const rates: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const beginMs = performance.now()
    await work()
    rates.push((mebibytes * 1000) / (performance.now() - beginMs))
  }
  rates.sort((a, b) => a - b)
  const [least, middle, most] = rates.map((rate) => rate.toFixed(0))
  console.log(`${what.padEnd(44)} ${String(middle).padStart(6)} MiB/s   (${least} to ${most})`)
}

function qemuConvert(format: string, from: string, to: string): Promise<void> {
  const options = format === 'qcow2' ? ['-o', 'cluster_size=4096'] : []
  const done = spawnSync('qemu-img', ['convert', '-O', format, ...options, from, to], { stdio: 'ignore' })
  if (done.status !== 0) throw new Error('qemu-img convert failed')
  return Promise.resolve()
}

async function fromVolume(bytes: Buffer): Promise<void> {
  const storage = await FileStorage.open(at('volume'), { create: true })
  const volume = await Volume.create(storage, { sizeBytes: SIZE_MIB * MIB })
  for (let i = 0; i < SIZE_MIB; i++) volume.writeData(i * 256, 256, bytes, 0)
  await volume.createSnapshot('before')
  // 10 MiB in 160 places.
  for (let i = 0; i < 160; i++)
    volume.writeData(Math.floor(((i + 0.5) * SIZE_MIB * 256) / 160) - 16, 16, bytes, 0)
  await volume.createSnapshot('after')
  const force = true
  await measure('export of a volume, qcow2', SIZE_MIB, () =>
    writeQcow2(volumeSource(volume, 'after', null), at('volume.qcow2'), { force }),
  )
  await measure('export of a volume, raw', SIZE_MIB, () =>
    writeRaw(volumeSource(volume, 'after', null), at('volume.raw'), { force }),
  )
  const beginMs = performance.now()
  const delta = await writeQcow2(volumeSource(volume, 'after', 'before'), at('delta.qcow2'))
  const tookMs = performance.now() - beginMs
  console.log(
    `incremental of 10 MiB in ${SIZE_MIB} MiB`.padEnd(44),
    `${tookMs.toFixed(0).padStart(6)} ms      (${(delta.fileBytes / MIB).toFixed(2)} MiB)`,
  )
  await volume.close()
  await storage.close()
}

try {
  const bytes = pattern()
  const source = memorySource(bytes)
  const force = true
  await measure('export from memory, qcow2', SIZE_MIB, () =>
    writeQcow2(source, at('memory.qcow2'), { force }),
  )
  await measure('export from memory, raw', SIZE_MIB, () => writeRaw(source, at('memory.raw'), { force }))
  await fromVolume(bytes)
  await measure('verify a qcow2 image', SIZE_MIB, () => verifyImage(at('volume.qcow2')))
  await measure('import qcow2 as raw (verifies first)', SIZE_MIB, () =>
    importToRaw([at('volume.qcow2')], at('imported.raw'), { force }),
  )
  await measure('qemu-img convert raw to qcow2, no fsync', SIZE_MIB, () =>
    qemuConvert('qcow2', at('volume.raw'), at('qemu.qcow2')),
  )
  await measure('qemu-img convert qcow2 to raw, no fsync', SIZE_MIB, () =>
    qemuConvert('raw', at('volume.qcow2'), at('qemu.raw')),
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}
