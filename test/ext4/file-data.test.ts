// File data against a model: whatever is done to a file, its bytes are those of a byte array, and
// e2fsck finds nothing.

import test, { type Assertion } from 'brittle'
import { FALLOC } from '../../src/ext4/file-system.ts'
import { type Inode, ROOT_INO } from '../../src/ext4/inode.ts'
import { type Ext4Image, makeFile, makeImage, readAll, unlinkFromRoot } from '../support/ext4-image.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'

const MODEL_BYTES = 900_000

class Model {
  bytes = new Uint8Array(0)
  resize(sizeBytes: number): void {
    const grown = new Uint8Array(sizeBytes)
    grown.set(this.bytes.subarray(0, sizeBytes))
    this.bytes = grown
  }
  write(at: number, bytes: Uint8Array): void {
    if (at + bytes.length > this.bytes.length) this.resize(at + bytes.length)
    this.bytes.set(bytes, at)
  }
  zero(from: number, to: number): void {
    this.bytes.fill(0, Math.min(from, this.bytes.length), Math.min(to, this.bytes.length))
  }
}

function range(random: Random): [number, number] {
  const at = random.chance(0.4) ? random.below(MODEL_BYTES / 4096) * 4096 : random.below(MODEL_BYTES)
  const length = random.chance(0.4) ? 4096 * random.between(1, 12) : random.between(1, 30_000)
  return [at, length]
}

function step(image: Ext4Image, inode: Inode, model: Model, random: Random): void {
  const [at, length] = range(random)
  const { data } = image
  const choice = random.below(100)
  if (choice < 50) {
    const bytes = random.bytes(Math.min(length, 9000))
    data.write(inode, at, bytes.length, bytes, 0, false)
    model.write(at, bytes)
  } else if (choice < 60) {
    data.truncate(inode, at)
    model.resize(at)
  } else if (choice < 75) {
    data.allocate(inode, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, at, length)
    model.zero(at, at + length)
  } else if (choice < 83) {
    const keep = random.chance(0.5)
    data.allocate(inode, keep ? FALLOC.KEEP_SIZE : 0, at, length)
    if (!keep && at + length > model.bytes.length) model.resize(at + length)
  } else if (choice < 92) {
    const keep = random.chance(0.5)
    data.allocate(inode, FALLOC.ZERO_RANGE | (keep ? FALLOC.KEEP_SIZE : 0), at, length)
    model.zero(at, at + length)
    if (!keep && at + length > model.bytes.length) model.resize(at + length)
  } else {
    image.core.inode(ROOT_INO)
  }
}

test('a file under random operations is its model', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  let image = await makeImage(t, 64 * 2 ** 20)
  const names = ['a', 'b', 'c']
  const inos = names.map((name) => makeFile(image.core, name).ino)
  const models = names.map(() => new Model())
  const rounds = process.env['UMBRA_LONG'] ? 60 : 8
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < 150; i++) {
      const which = random.below(names.length)
      step(image, image.core.inode(inos[which] as number), models[which] as Model, random)
    }
    if (random.chance(0.5)) image = await image.reopen()
    for (const [i, ino] of inos.entries()) {
      const inode = image.core.inode(ino)
      const bytes = await readAll(image, inode)
      const same = Buffer.compare(bytes, (models[i] as Model).bytes) === 0
      if (!same) t.fail(`round ${round}: file ${names[i]} differs`)
    }
    await image.check(t, `round ${round}`)
  }
  const before = image.core.allocator.freeCount
  for (const ino of inos) unlinkFromRoot(image.core, image.core.inode(ino))
  t.ok(image.core.allocator.freeCount > before, 'unlinking gave blocks back')
  await image.check(t, 'all files removed')
  await image.close()
})

const FRAGMENT_BLOCKS = 6000

/** A file whose blocks each say which they are, and which of them are there. */
class StampedFile {
  image: Ext4Image
  readonly ino: number
  readonly present = new Set<number>()
  readonly #random: Random

  constructor(image: Ext4Image, random: Random) {
    this.image = image
    this.#random = random
    this.ino = makeFile(image.core, 'fragmented').ino
  }

  get inode(): Inode {
    return this.image.core.inode(this.ino)
  }

  write(block: number): void {
    const bytes = new Uint8Array(4096)
    new DataView(bytes.buffer).setUint32(0, block + 1, true)
    this.image.data.write(this.inode, block * 4096, 4096, bytes, 0, false)
    this.present.add(block)
  }

  punch(block: number, count: number): void {
    this.image.data.allocate(this.inode, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, block * 4096, count * 4096)
    for (let p = block; p < block + count; p++) this.present.delete(p)
  }

  cut(block: number): void {
    this.image.data.truncate(this.inode, block * 4096)
    for (const p of [...this.present]) if (p >= block) this.present.delete(p)
  }

  /** Every other block, in random order. */
  writeEveryOther(): void {
    const order = Array.from({ length: FRAGMENT_BLOCKS / 2 }, (_, i) => i * 2)
    for (let i = order.length - 1; i > 0; i--) {
      const j = this.#random.below(i + 1)
      const other = order[j] as number
      order[j] = order[i] as number
      order[i] = other
    }
    for (const block of order) this.write(block)
  }

  async verify(t: Assertion, what: string): Promise<void> {
    this.image = await this.image.reopen()
    const bytes = await readAll(this.image, this.inode)
    const view = new DataView(bytes.buffer)
    let wrong = 0
    for (let block = 0; block * 4096 < bytes.length; block++) {
      if (view.getUint32(block * 4096, true) !== (this.present.has(block) ? block + 1 : 0)) wrong++
    }
    t.is(wrong, 0, `${what}: every block holds its own bytes`)
    await this.image.check(t, what)
  }
}

test('a badly fragmented file grows, splits, heals and shrinks its tree', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const image = await makeImage(t, 256 * 2 ** 20)
  const empty = image.core.allocator.freeCount
  const file = new StampedFile(image, random)
  file.writeEveryOther()
  await file.verify(t, 'every other block')
  for (let i = 0; i < 2500; i++) {
    if (random.chance(0.4)) file.punch(random.below(FRAGMENT_BLOCKS), random.between(1, 6))
    else file.write(random.below(FRAGMENT_BLOCKS))
  }
  await file.verify(t, 'holes punched and filled')
  for (let i = 0; i < 2500; i++) {
    if (random.chance(0.8)) file.punch(random.below(FRAGMENT_BLOCKS), random.between(1, 6))
    else file.write(random.below(FRAGMENT_BLOCKS))
  }
  await file.verify(t, 'mostly punched')
  file.image.data.allocate(file.inode, 0, 0, FRAGMENT_BLOCKS * 4096)
  await file.verify(t, 'holes allocated')
  for (let block = 0; block < FRAGMENT_BLOCKS; block += random.between(1, 3)) file.write(block)
  await file.verify(t, 'unwritten blocks written')
  while (file.inode.sizeBytes > 0) {
    file.cut(Math.max(0, Math.floor(file.inode.sizeBytes / 4096) - random.between(200, 1200)))
    await file.verify(t, `cut to ${file.inode.sizeBytes / 4096} blocks`)
  }
  t.is(file.inode.sectorCount, 0, 'an empty file has no blocks')
  t.is(file.image.core.allocator.freeCount, empty, 'every block came back')
  await file.image.close()
})

test('appending uses the room a split left before it makes a new leaf', requires('e2fsck'), async (t) => {
  const image = await makeImage(t, 256 * 2 ** 20)
  const file = new StampedFile(image, new Random(1))
  // Thirty full leaves of 340 extents: further apart than one leaf and its nearest neighbours.
  const extents = 30 * 340
  for (let i = 0; i < extents; i++) file.write(i * 3)
  file.write(1)
  await file.verify(t, 'a leaf was split in front')
  for (let i = extents; i < extents + 60; i++) file.write(i * 3)
  await file.verify(t, 'appended to the last leaf')
  await file.image.close()
})
