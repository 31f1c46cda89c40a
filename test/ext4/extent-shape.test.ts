// The shape of extent trees: whatever is done to a file of up to some 20,000 extents, its tree is one that
// e2fsck would not rebuild, and maps what it should. The rule is computed here, so that it can be asked
// after every few steps; e2fsck itself judges at the ends, and has to object where the rule does.

import test from 'brittle'
import { BLOCK_ENTRIES, childBlock, entryCount, entryMax, nodeDepth } from '../../src/ext4/extent-node.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { type Ext4Image, makeFile, makeImage } from '../support/ext4-image.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'

const TIMEOUT = { timeout: 170_000 }
const FILE_BLOCKS = 60_000
const LEAVES_MAX = 60
const isLong = process.env['UMBRA_LONG'] === '1'

interface Level {
  max: number
  count: number
  nodes: number
}

/** Visits the nodes of a tree from the root down, by level. */
function levelsOf(image: Ext4Image, inode: Inode): Level[] {
  const levels: Level[] = []
  const visit = (bytes: Uint8Array, level: number): void => {
    levels[level] ??= { max: 0, count: 0, nodes: 0 }
    const here = levels[level]
    const count = entryCount(bytes)
    here.nodes++
    here.count += count
    here.max += entryMax(bytes)
    // As e2fsck counts: one entry less in a node that has a block and is not full.
    if (level > 0 && count < entryMax(bytes)) here.max--
    for (let i = 0; nodeDepth(bytes) > 0 && i < count; i++)
      visit(node(image, childBlock(bytes, i)), level + 1)
  }
  visit(inode.blockArea, 0)
  return levels
}

function node(image: Ext4Image, block: number): Uint8Array {
  return image.core.metadata(block, () => undefined).bytes
}

/** What e2fsck (e2fsck_should_rebuild_extents) has against a tree; empty: nothing. */
function objection(levels: readonly Level[]): string {
  for (const [i, level] of levels.entries()) {
    if (level.max - level.count > BLOCK_ENTRIES)
      return `level ${i} could be narrower: ${level.count} of ${level.max} in ${level.nodes}`
    for (const above of levels.slice(0, i))
      if (level.count < above.max) return `level ${i} could be shorter: ${level.count} in ${level.nodes}`
  }
  return ''
}

/** A file whose every block is an extent of its own, mapped without data. */
class ShapedFile {
  readonly image: Ext4Image
  readonly inode: Inode
  /** 0: a hole; else the device block, negative while unwritten. */
  readonly mapped: Int32Array

  constructor(image: Ext4Image, blocks = FILE_BLOCKS) {
    this.image = image
    this.inode = makeFile(image.core, 'shaped')
    this.inode.sizeBytes = blocks * 4096
    this.mapped = new Int32Array(blocks)
  }

  insert(block: number, unwritten: boolean): void {
    if (block >= this.mapped.length || this.mapped[block] !== 0) return
    const { core } = this.image
    core.begin(16)
    const goal = 2 + ((block * 7919) % (core.blockCount - 2))
    const target = core.allocator.allocate(goal, 1, false)
    core.extents.insert(this.inode, block, 1, target, unwritten)
    this.inode.sectorCount += 8
    this.mapped[block] = unwritten ? -target : target
  }

  remove(from: number, to: number): void {
    const { core } = this.image
    core.begin(16)
    core.extents.remove(this.inode, from, to, (block, count) => {
      this.inode.sectorCount -= 8 * count
      core.allocator.free(block, count, false, false)
    })
    this.mapped.fill(0, from, to)
  }

  write(from: number, to: number): void {
    this.image.core.begin(16)
    this.image.core.extents.setWritten(this.inode, from, to)
    for (let i = from; i < to; i++) this.mapped[i] = Math.abs(this.mapped[i] as number)
  }

  /** Leaves, or the root where it is the only one. */
  get leaves(): number {
    return levelsOf(this.image, this.inode).at(-1)?.nodes ?? 0
  }

  /** How the tree differs from what was mapped; empty: it does not. */
  get wrong(): string {
    const found = new Int32Array(this.mapped.length)
    let blocks = 0
    this.image.core.extents.forEach(this.inode, (at, count, device, unwritten) => {
      for (let i = 0; i < count; i++) found[at + i] = unwritten ? -(device + i) : device + i
      blocks += count
    })
    this.image.core.extents.forEachNode(this.inode, () => blocks++)
    if (this.inode.sectorCount !== blocks * 8) return `${this.inode.sectorCount} sectors, not ${blocks * 8}`
    const at = found.findIndex((target, i) => target !== this.mapped[i])
    return at < 0 ? '' : `block ${at} is at ${found[at]}, not ${this.mapped[at]}`
  }
}

type Step = (file: ShapedFile, random: Random) => void

const place = (random: Random): number => random.below(FILE_BLOCKS)

/** Each is done a while before the next is chosen: single steps at random never reach the edges. */
const STEPS: Readonly<Record<string, Step>> = {
  scatter: (file, random) => file.insert(place(random), random.chance(0.3)),
  append: (file, random) => {
    const last = file.mapped.findLastIndex((target) => target !== 0)
    for (let i = 1; i < 20; i++) file.insert(last + i * random.between(1, 3), false)
  },
  'fill one place': (file, random) => {
    const at = place(random)
    for (let i = 0; i < 400; i += random.between(1, 3)) file.insert(at + i, random.chance(0.3))
  },
  'punch anywhere': (file, random) => {
    const at = place(random)
    file.remove(at, Math.min(FILE_BLOCKS, at + random.between(1, 4)))
  },
  'thin one end': (file, random) => {
    const at = random.chance(0.5) ? random.below(4000) : FILE_BLOCKS - 1 - random.below(4000)
    file.remove(at, Math.min(FILE_BLOCKS, at + 2))
  },
  'punch much': (file, random) => {
    const at = place(random)
    file.remove(at, Math.min(FILE_BLOCKS, at + random.between(100, 3000)))
  },
  cut: (file, random) => file.remove(FILE_BLOCKS - random.between(1, 6000), FILE_BLOCKS),
  write: (file, random) => {
    const at = place(random)
    file.write(at, Math.min(FILE_BLOCKS, at + random.between(1, 50)))
  },
}
const GROWING = ['scatter', 'append', 'fill one place', 'write']
const TIMES: Readonly<Record<string, number>> = { append: 20, 'punch much': 3, cut: 2, 'fill one place': 6 }

/** Extents to begin with, in order or not. */
function fill(file: ShapedFile, random: Random): void {
  const extents = random.between(1000, LEAVES_MAX * BLOCK_ENTRIES)
  const inOrder = random.chance(0.5)
  for (let i = 0; i < extents; i++) file.insert(inOrder ? i * 3 : place(random), false)
}

interface Outcome {
  readonly problem: string
  readonly mostLeaves: number
}

/** Does steps of random kinds and looks after every few. */
function history(file: ShapedFile, random: Random, rounds: number): Outcome {
  let mostLeaves = 0
  const outcome = (problem: string): Outcome => ({ problem, mostLeaves })
  fill(file, random)
  for (let round = 0; round < rounds; round++) {
    const kinds = Object.keys(STEPS).filter((kind) => file.leaves < LEAVES_MAX || !GROWING.includes(kind))
    const kind = random.pick(kinds)
    const times = random.between(1, TIMES[kind] ?? 1200)
    for (let i = 0; i < times && file.leaves <= LEAVES_MAX + 3; i++) {
      STEPS[kind]?.(file, random)
      if (i % 8 !== 0 && i !== times - 1) continue
      const levels = levelsOf(file.image, file.inode)
      mostLeaves = Math.max(mostLeaves, levels.at(-1)?.nodes ?? 0)
      const found = objection(levels)
      if (found !== '') return outcome(`round ${round}, ${kind} ${i}: ${found}`)
    }
    const wrong = file.wrong
    if (wrong !== '') return outcome(`round ${round}, ${kind}: ${wrong}`)
  }
  return outcome('')
}

test('no history leaves a tree that e2fsck would rebuild', {
  ...requires('e2fsck'),
  ...TIMEOUT,
}, async (t) => {
  const random = new Random(chosenSeed(t))
  for (let i = 0; i < (isLong ? 40 : 3); i++) {
    const file = new ShapedFile(await makeImage(t, 512 * 2 ** 20))
    const { problem, mostLeaves } = history(file, random, 40)
    t.is(problem, '', `history ${i}, up to ${mostLeaves} leaves`)
    file.image.core.markInodeDirty(file.inode)
    await file.image.check(t, `history ${i}`)
    await file.image.close()
  }
})

test('entries lost at both ends of a large tree are seen together', requires('e2fsck'), async (t) => {
  const file = new ShapedFile(await makeImage(t, 512 * 2 ** 20))
  const extents = 50 * BLOCK_ENTRIES
  for (let i = 0; i < extents; i++) file.insert(i * 3, false)
  for (let i = 0; i < 250; i++) {
    file.remove(i * 3, i * 3 + 1)
    file.remove((extents - 1 - i) * 3, (extents - i) * 3)
  }
  t.is(objection(levelsOf(file.image, file.inode)), '')
  t.is(file.wrong, '')
  await file.image.check(t, 'less than a leaf at each end, more together')
  await file.image.close()
})

test('a tree that was of two index nodes becomes one of a few leaves', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const extents = 380 * BLOCK_ENTRIES
  const file = new ShapedFile(await makeImage(t, 1024 * 2 ** 20), extents)
  for (let i = 0; i < extents; i++) file.insert(i, false)
  t.ok((levelsOf(file.image, file.inode)[1]?.nodes ?? 0) > 1, 'two index nodes')
  t.is(file.wrong, '')
  const order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].sort(() => random.next() - 0.5)
  for (const digit of order.slice(0, 9)) {
    for (let i = digit; i < extents; i += 10) file.remove(i, i + 1)
  }
  t.ok(file.leaves < LEAVES_MAX, `${file.leaves} leaves`)
  t.is(objection(levelsOf(file.image, file.inode)), '')
  t.is(file.wrong, '')
  await file.image.check(t, 'nine of ten removed')
  file.remove(0, extents)
  t.is(file.inode.sectorCount, 0, 'every block came back')
  await file.image.close()
})

test(
  'planted: without room for tidying the tree is right, but both judges object',
  requires('e2fsck'),
  async (t) => {
    const random = new Random(chosenSeed(t))
    const file = new ShapedFile(await makeImage(t, 512 * 2 ** 20))
    file.image.core.mayDirty = () => false
    for (let i = 0; i < 6000; i++) file.insert(place(random), false)
    t.ok(
      /narrower/.test(objection(levelsOf(file.image, file.inode))),
      objection(levelsOf(file.image, file.inode)),
    )
    t.is(file.wrong, '')
    await file.image.device.commit()
    const { output } = e2fsck(file.image.path)
    t.ok(/could be narrower/.test(output), 'e2fsck proposes to rebuild it')
    await file.image.close()
  },
)
