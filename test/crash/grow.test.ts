// A crash while a volume in use grows, file system and all: both have the old size or both the new one,
// every file that was committed is there, and e2fsck finds nothing.

import test, { type Assertion } from 'brittle'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import { growBoth } from '../../src/daemon/resize-volume.ts'
import { Ext4, formatExt4 } from '../../src/ext4/ext4.ts'
import { crashStates } from '../../src/storage/crash-states.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { Volume } from '../../src/volume/volume.ts'
import { ROOT } from '../support/ext4-files.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { ImageJudge } from './image-judge.ts'

const NEEDS = { ...requires('e2fsck'), timeout: 240_000 }
const isLong = process.env['UMBRA_LONG'] === '1'

function addFile(fs: Ext4, name: string, bytes: Uint8Array): void {
  const inode = fs.makeNode(fs.inode(2), name, 0o100644, 0, ROOT)
  fs.write(inode, 0, bytes.length, bytes, 0, false)
}

/** What is wrong with the files of a state; those in `some` may be missing. */
async function wrongFiles(
  fs: Ext4,
  files: ReadonlyMap<string, Uint8Array>,
  some: ReadonlySet<string>,
): Promise<string[]> {
  const wrong: string[] = []
  const root = fs.inode(2)
  for (const [name, bytes] of files) {
    const inode = fs.lookup(root, name)
    if (!inode) {
      if (!some.has(name)) wrong.push(`${name} is missing`)
      continue
    }
    const found = new Uint8Array(bytes.length)
    const count = await fs.read(inode, 0, bytes.length, found, 0)
    if (!some.has(name) && (count !== bytes.length || Buffer.compare(found, bytes) !== 0))
      wrong.push(`${name} is wrong`)
  }
  return wrong
}

async function crashAtGrowth(t: Assertion, random: Random): Promise<void> {
  const oldBytes = BLOCK_SIZE_BYTES * random.between(2000, 60_000)
  const newBytes = oldBytes + BLOCK_SIZE_BYTES * random.between(1, random.chance(0.5) ? 20_000 : 4_000_000)
  const storage = new MemoryStorage()
  const made = await Volume.create(storage, { sizeBytes: oldBytes })
  formatExt4(made)
  await made.close()
  const base = storage.fork()
  const log = new WriteLogStorage(storage)
  const volume = await Volume.open(log)
  const fs = Ext4.open(volume)
  const files = new Map<string, Uint8Array>()
  for (let i = 0; i < 4; i++) {
    files.set(`before-${i}`, random.bytes(random.between(1, 20_000)))
    addFile(fs, `before-${i}`, files.get(`before-${i}`) as Uint8Array)
  }
  await volume.commit()
  const settledAt = log.entries.length
  if (random.chance(0.5)) await volume.createSnapshot('between')
  addFile(fs, 'uncommitted', random.bytes(5000))
  // A cut may be under way: the growth is part of the next one.
  const cut = random.chance(0.5) ? volume.commit() : undefined
  const sizes = growBoth(volume, fs, newBytes)
  t.is(sizes.sizeBytes, newBytes)
  files.set('after', random.bytes(30_000))
  addFile(fs, 'after', files.get('after') as Uint8Array)
  await cut
  await volume.commit()
  const images = new ImageJudge(t)
  const found = new Set<number>()
  let states = 0
  for (const state of crashStates(log.entries, { seed: random.below(2 ** 31), base })) {
    if (state.cutIndex < settledAt) continue
    const { errors } = checkVolume(state.storage)
    const harm = errors.filter(({ code }) => code !== 'SUPERBLOCK_COPY')
    const after = await Volume.open(state.storage)
    const wrong = [...harm.map(({ message }) => message), ...images.judge(after, state.label)]
    const reopened = Ext4.open(after)
    const isNew = after.blockCount * BLOCK_SIZE_BYTES === newBytes
    const fsBytes = reopened.statistics().blockCount * BLOCK_SIZE_BYTES
    if (isNew ? fsBytes !== sizes.fileSystemBytes : fsBytes > oldBytes)
      wrong.push(`a file system of ${fsBytes} bytes in a volume of ${after.blockCount} blocks`)
    wrong.push(...(await wrongFiles(reopened, files, new Set(['after']))))
    if (wrong.length > 0) t.fail(`${state.label}: ${wrong.slice(0, 3).join('; ')}`)
    found.add(after.blockCount * BLOCK_SIZE_BYTES)
    states++
  }
  t.alike([...found].sort(), [oldBytes, newBytes].sort(), `${states} states`)
  t.comment(`${oldBytes / MIB} to ${newBytes / MIB} MiB: ${images.judgedCount} images judged`)
}

test('a crash while a volume in use grows leaves the old size or the new, whole', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  for (let i = 0; i < (isLong ? 40 : 4); i++) await crashAtGrowth(t, random)
})
