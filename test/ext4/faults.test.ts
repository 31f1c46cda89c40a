// When the device has no room, or a write fails: the operation says so, nothing is half done, no file
// shows foreign bytes, and the image stays clean.

import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { FileData } from '../../src/ext4/file-data.ts'
import { FALLOC } from '../../src/ext4/file-system.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { Ext4Structure } from '../../src/ext4/structure.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { makeFile, makeImage, unlinkFromRoot } from '../support/ext4-image.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'

/** Answers OUT_OF_SPACE to data, to discards and to claims of room, with a chance set from outside. */
class FullDevice extends PlainDevice {
  random: Random | undefined
  chance = 0

  #maybeFail(): void {
    if (this.random?.chance(this.chance)) throw new UmbraError('OUT_OF_SPACE', 'No room, as told')
  }
  override writeData(
    blockIndex: number,
    blockCount: number,
    source: Uint8Array,
    sourceOffset: number,
  ): boolean {
    this.#maybeFail()
    return super.writeData(blockIndex, blockCount, source, sourceOffset)
  }
  override discard(blockIndex: number, blockCount: number): void {
    this.#maybeFail()
    super.discard(blockIndex, blockCount)
  }
  override requireRoom(): void {
    this.#maybeFail()
    super.requireRoom()
  }
}

const FILE_BYTES = 400_000
/** Each file's bytes are its own letter or zero: anything else is foreign. */
const letter = (index: number): number => 0x61 + index

function operate(data: FileData, inode: Inode, index: number, random: Random): void {
  const at = random.below(FILE_BYTES)
  const length = random.between(1, 40_000)
  const choice = random.below(10)
  if (choice < 6) data.write(inode, at, length, new Uint8Array(length).fill(letter(index)), 0, false)
  else if (choice === 6) data.truncate(inode, at)
  else if (choice === 7) data.allocate(inode, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, at, length)
  else if (choice === 8) data.allocate(inode, random.pick([0, 1]), at, length)
  else data.allocate(inode, FALLOC.ZERO_RANGE, at, length)
}

async function foreignBytes(data: FileData, inode: Inode, index: number): Promise<number> {
  const bytes = new Uint8Array(inode.sizeBytes)
  await data.read(inode, 0, bytes.length, bytes, 0)
  return bytes.reduce((count, byte) => (byte === 0 || byte === letter(index) ? count : count + 1), 0)
}

test('a device without room never leaves anything half done', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const image = await makeImage(t, 8 * MIB)
  await image.close()
  const storage = await FileStorage.open(image.path, { lock: 'none' })
  const device = new FullDevice(storage)
  const core = Ext4Structure.open(device)
  const data = new FileData(core)
  const empty = core.allocator.freeCount
  const files = Array.from({ length: 5 }, (_, i) => makeFile(core, `file${i}`))
  device.random = random
  let failures = 0
  for (let round = 0; round < 8; round++) {
    device.chance = random.pick([0.05, 0.3])
    for (let i = 0; i < 120; i++) {
      const index = random.below(files.length)
      try {
        operate(data, files[index] as Inode, index, random)
      } catch (error) {
        if (!(error instanceof UmbraError) || error.errno !== 28) throw error
        failures++
      }
    }
    device.chance = 0
    await device.commit()
    const verdict = e2fsck(image.path)
    t.ok(verdict.clean, `round ${round} is clean`)
    if (!verdict.clean) t.comment(verdict.output.slice(0, 2000))
    for (const [index, inode] of files.entries())
      t.is(await foreignBytes(data, inode, index), 0, `file ${index} has no foreign byte`)
  }
  t.ok(failures > 50, `${failures} operations failed`)
  for (const inode of files) unlinkFromRoot(core, inode)
  core.begin(1)
  t.is(core.allocator.freeCount, empty, 'every block came back')
  await device.commit()
  t.ok(e2fsck(image.path).clean, 'clean when emptied')
  await storage.close()
})
