// Images with random damage that are taken in: what we make of one is sound or it is refused with a
// word of ours; nothing hangs, nothing is thrown that is no UmbraError.

import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { convertedSizeBytes, convertFileSystem } from '../../src/ext4/import/conversion.ts'
import { ReplayedSource } from '../../src/ext4/import/replayed-source.ts'
import { SourceFileSystem } from '../../src/ext4/import/source-file-system.ts'
import type { ByteSource } from '../../src/ext4/import/source-superblock.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const ROUNDS = process.env['UMBRA_LONG'] === '1' ? 1000 : 60

/** What every byte of a file is. */
const FILL = 0x77

function sourceOf(bytes: Uint8Array): ByteSource {
  return {
    blockCount: bytes.length / 4096,
    readSync(offsetBytes, lengthBytes, target, targetOffset) {
      target.set(bytes.subarray(offsetBytes, offsetBytes + lengthBytes), targetOffset)
    },
  }
}

async function takeIn(bytes: Uint8Array): Promise<void> {
  const files = new SourceFileSystem(ReplayedSource.open(sourceOf(bytes)))
  files.hasBlockMaps()
  const sizeBytes = Math.min(convertedSizeBytes(files), 256 * MIB)
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes })
  await convertFileSystem(files, volume)
  await volume.close()
}

/** Where there is something of the file system's own: damage to data or free space cannot be seen. */
function usedBlocks(bytes: Uint8Array): number[] {
  const used: number[] = []
  for (let at = 0; at < bytes.length; at += 1024) {
    const isData = bytes[at] === FILL && bytes[at + 1] === FILL
    if (!isData && bytes.subarray(at, at + 1024).some((byte) => byte !== 0)) used.push(at)
  }
  return used
}

for (const [name, args] of [
  ['ext4 without checksums', ['-t', 'ext4', '-O', '^metadata_csum']],
  ['ext3', ['-t', 'ext3']],
] as const) {
  test(`damaged ${name}`, { ...requires('mke2fs'), timeout: 120_000 }, async (t) => {
    const random = new Random(chosenSeed(t))
    const folder = tempFolder(t)
    const tree = join(folder, 'tree')
    mkdirSync(join(tree, 'a', 'b'), { recursive: true })
    for (let i = 0; i < 40; i++)
      writeFileSync(join(tree, 'a', `file-${i}`), new Uint8Array(random.below(30_000)).fill(FILL))
    writeFileSync(join(tree, 'a', 'b', 'large'), new Uint8Array(400_000).fill(FILL))
    symlinkSync('x'.repeat(200), join(tree, 'link'))
    const image = join(folder, 'image')
    await run('truncate', ['-s', '6M', image])
    await run('mke2fs', ['-q', '-F', '-b', '1024', ...args, '-d', tree, image])
    const sound = readFileSync(image)
    await takeIn(sound)
    const used = usedBlocks(sound)
    let refused = 0
    const problems: string[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const bytes = Buffer.from(sound)
      for (let i = random.between(1, 8); i > 0; i--) {
        const at = random.pick(used) + random.below(1024)
        bytes[at] = random.chance(0.5) ? (bytes[at] as number) ^ (1 << random.below(8)) : random.below(256)
      }
      try {
        await takeIn(bytes)
      } catch (error) {
        refused++
        if (!(error instanceof UmbraError)) problems.push(String((error as Error).stack))
      }
    }
    t.is(problems.length, 0, `${refused} of ${ROUNDS} refused, each with a word of ours`)
    for (const problem of problems.slice(0, 3)) t.comment(problem)
    t.ok(refused > 0, 'damage is seen')
  })
}
