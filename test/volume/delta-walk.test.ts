// The two walks over trees built by hand: every kind of entry at every level, trees that have grown,
// exactness, and how few nodes are read. (delta.test.ts does the same over whole histories.)

import test, { type Assertion } from 'brittle'
import { delta, walkDelta, walkDeltaSince } from '../../src/volume/delta.ts'
import {
  blockChecksum,
  blocksPerEntry,
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryBirth,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
  type NodeReader,
  type NodeWords,
  nodeBytes,
  setEntry,
  WORDS_PER_NODE,
} from '../../src/volume/map-node.ts'
import type { Bookmark, DeltaExtent, Snapshot, TreeRoot } from '../../src/volume/points.ts'
import { codeOf } from '../contract/block-storage.ts'
import { chosenSeed, Random } from '../support/random.ts'

const NOTHING: TreeRoot = { physicalBlock: 0, birthEpoch: 0, checksum: 0, levels: 1 }

/** Trees that never change: each change copies the path to what it touches. */
class Forest implements NodeReader {
  readonly nodes = new Map<number, NodeWords>()
  reads = 0
  #nextBlock = 1

  node(physicalBlock: number, checksum: number): NodeWords {
    this.reads++
    const words = this.nodes.get(physicalBlock)
    if (!words || blockChecksum(nodeBytes(words)) !== checksum) throw new Error(`no node ${physicalBlock}`)
    return words
  }

  /** The tree with entries [first, +count) at `level` made DATA, HOLE or EMPTY in `epoch`. */
  change(root: TreeRoot, level: number, first: number, count: number, kind: number, epoch: number): TreeRoot {
    let { physicalBlock, checksum } = root
    const span = blocksPerEntry(level)
    for (let i = 0; i < count; i++) {
      const set = (words: NodeWords, index: number) =>
        setEntry(
          words,
          index,
          kind,
          kind === ENTRY_DATA ? this.#nextBlock++ : 0,
          kind === ENTRY_EMPTY ? 0 : epoch,
          0,
        )
      const path = { level, block: (first + i) * span, set, epoch }
      ;[physicalBlock, checksum] = this.#rewrite(root.levels - 1, physicalBlock, checksum, 0, path)
    }
    return { physicalBlock, checksum, birthEpoch: epoch, levels: root.levels }
  }

  #rewrite(
    at: number,
    physicalBlock: number,
    checksum: number,
    holeBirth: number,
    path: { level: number; block: number; set: (words: NodeWords, index: number) => void; epoch: number },
  ): [physicalBlock: number, checksum: number] {
    const words =
      physicalBlock === 0 ? new Uint32Array(WORDS_PER_NODE) : this.node(physicalBlock, checksum).slice()
    if (holeBirth) for (let i = 0; i < ENTRIES_PER_NODE; i++) setEntry(words, i, ENTRY_HOLE, 0, holeBirth, 0)
    const index = Math.floor(path.block / blocksPerEntry(at)) % ENTRIES_PER_NODE
    if (at === path.level) {
      path.set(words, index)
    } else {
      const isNode = entryKind(words, index) === ENTRY_NODE
      const birth = entryKind(words, index) === ENTRY_HOLE ? entryBirth(words, index) : 0
      const child = this.#rewrite(
        at - 1,
        isNode ? entryPhysicalBlock(words, index) : 0,
        entryChecksum(words, index),
        birth,
        path,
      )
      setEntry(words, index, ENTRY_NODE, child[0], path.epoch, child[1])
    }
    const block = this.#nextBlock++
    this.nodes.set(block, words)
    return [block, blockChecksum(nodeBytes(words))]
  }

  /** Every block with data, and every hole, of a tree: block to birth. */
  flat(root: TreeRoot): { data: Map<number, number>; holes: Map<number, number> } {
    const found = { data: new Map<number, number>(), holes: new Map<number, number>() }
    if (root.physicalBlock !== 0) this.#flatten(root.levels - 1, this.#plain(root.physicalBlock), 0, found)
    return found
  }

  #plain(physicalBlock: number): NodeWords {
    return this.nodes.get(physicalBlock) as NodeWords
  }

  #flatten(
    level: number,
    words: NodeWords,
    first: number,
    found: { data: Map<number, number>; holes: Map<number, number> },
  ): void {
    const span = blocksPerEntry(level)
    for (let i = 0; i < ENTRIES_PER_NODE; i++) {
      const kind = entryKind(words, i)
      const at = first + i * span
      if (kind === ENTRY_NODE) this.#flatten(level - 1, this.#plain(entryPhysicalBlock(words, i)), at, found)
      else if (kind === ENTRY_DATA) found.data.set(at, entryBirth(words, i))
      else if (kind === ENTRY_HOLE)
        for (let j = 0; j < span; j++) found.holes.set(at + j, entryBirth(words, i))
    }
  }
}

function expectedBetween(
  forest: Forest,
  base: TreeRoot | null,
  target: TreeRoot,
  blockCount: number,
): string[] {
  const before = base ? forest.flat(base).data : new Map<number, number>()
  const after = forest.flat(target).data
  const kinds = new Map<number, string>()
  for (const [block, birth] of after) if (before.get(block) !== birth) kinds.set(block, 'data')
  for (const block of before.keys()) if (!after.has(block)) kinds.set(block, 'zero')
  return asRuns(kinds, blockCount)
}

function expectedSince(forest: Forest, epoch: number, target: TreeRoot, blockCount: number): string[] {
  const { data, holes } = forest.flat(target)
  const kinds = new Map<number, string>()
  for (const [block, birth] of data) if (birth > epoch) kinds.set(block, 'data')
  for (const [block, birth] of holes) if (birth > epoch) kinds.set(block, 'zero')
  return asRuns(kinds, blockCount)
}

function asRuns(kinds: Map<number, string>, blockCount: number): string[] {
  const runs: { kind: string; first: number; count: number }[] = []
  for (const [block, kind] of [...kinds].sort((a, b) => a[0] - b[0])) {
    if (block >= blockCount) continue
    const last = runs.at(-1)
    if (last && last.kind === kind && last.first + last.count === block) last.count++
    else runs.push({ kind, first: block, count: 1 })
  }
  return runs.map((run) => `${run.kind} ${run.first}+${run.count}`)
}

function shown(extents: Iterable<DeltaExtent>): string[] {
  return Array.from(extents, (extent) => `${extent.kind} ${extent.blockIndex}+${extent.blockCount}`)
}

/** One epoch's changes at random: runs of data and holes in leaves, and holes for whole subtrees. */
function changeRandomly(forest: Forest, random: Random, root: TreeRoot, epoch: number): TreeRoot {
  let tree = root
  for (let i = random.below(6); i > 0; i--) {
    if (tree.levels > 1 && random.chance(0.25)) {
      const kind = random.chance(0.8) ? ENTRY_HOLE : ENTRY_EMPTY
      tree = forest.change(tree, 1, random.below(4), random.between(1, 2), kind, epoch)
    } else {
      const limit = tree.levels > 1 ? 1024 : ENTRIES_PER_NODE
      const first = random.below(limit)
      const count = random.between(1, Math.min(30, limit - first))
      tree = forest.change(tree, 0, first, count, random.chance(0.7) ? ENTRY_DATA : ENTRY_HOLE, epoch)
    }
  }
  return tree
}

function grow(forest: Forest, root: TreeRoot, levels: number): TreeRoot {
  if (root.physicalBlock === 0) return { ...root, levels }
  let tree = root
  while (tree.levels < levels) {
    const words = new Uint32Array(WORDS_PER_NODE)
    setEntry(words, 0, ENTRY_NODE, tree.physicalBlock, tree.birthEpoch, tree.checksum)
    const physicalBlock = 1_000_000 + forest.nodes.size
    forest.nodes.set(physicalBlock, words)
    tree = {
      ...tree,
      physicalBlock,
      checksum: blockChecksum(nodeBytes(words)),
      levels: tree.levels + 1,
    }
  }
  return tree
}

test('walkDelta() and walkDeltaSince() give exactly what changed, between all pairs of trees', async (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 25; round++) {
    const forest = new Forest()
    const trees: TreeRoot[] = [{ ...NOTHING, levels: random.between(1, 3) }]
    for (let epoch = 1; epoch <= 8; epoch++) {
      const last = trees.at(-1) as TreeRoot
      const levels = random.chance(0.15) ? random.between(last.levels, 4) : last.levels
      trees.push(changeRandomly(forest, random, grow(forest, last, levels), epoch))
    }
    comparePairs(t, forest, trees, random.chance(0.5) ? 700 : 2000)
  }
  t.pass()
})

function comparePairs(t: Assertion, forest: Forest, trees: TreeRoot[], blockCount: number): void {
  for (const [epoch, base] of [null, ...trees].entries()) {
    for (const target of trees) {
      const seen = shown(walkDelta(forest, base, target, blockCount))
      const expected = expectedBetween(forest, base, target, blockCount)
      if (seen.join() !== expected.join()) t.alike(seen, expected, `from tree ${epoch - 1}`)
    }
  }
  for (const target of trees) {
    for (let epoch = 0; epoch <= trees.length; epoch++) {
      const seen = shown(walkDeltaSince(forest, epoch, target, blockCount))
      const expected = expectedSince(forest, epoch, target, blockCount)
      if (seen.join() !== expected.join()) t.alike(seen, expected, `since epoch ${epoch}`)
    }
  }
}

test('walkDelta() of far-apart levels puts the lower tree under the higher', (t) => {
  const forest = new Forest()
  const small = forest.change(NOTHING, 0, 3, 4, ENTRY_DATA, 1)
  const large = forest.change(grow(forest, small, 4), 0, 200_000, 2, ENTRY_DATA, 2)
  t.alike(shown(walkDelta(forest, small, large, 2 ** 32)), ['data 200000+2'])
  t.alike(shown(walkDelta(forest, large, small, 256)), [], 'what the base has past the target is left out')
  t.alike(shown(walkDelta(forest, large, small, 2 ** 32)), ['zero 200000+2'])
  t.alike(shown(walkDelta(forest, null, large, 5)), ['data 3+2'])
})

test('walkDelta() reads only nodes on paths that differ, and only as far as it is asked', (t) => {
  const forest = new Forest()
  let base: TreeRoot = { ...NOTHING, levels: 3 }
  for (let leaf = 0; leaf < 64; leaf++) base = forest.change(base, 0, leaf * 256, 1, ENTRY_DATA, 1)
  const target = forest.change(
    forest.change(base, 0, 5 * 256, 1, ENTRY_DATA, 2),
    0,
    60 * 256,
    1,
    ENTRY_DATA,
    2,
  )
  forest.reads = 0
  t.alike(shown(walkDelta(forest, base, target, 2 ** 24)), ['data 1280+1', 'data 15360+1'])
  t.is(forest.reads, 2 * (1 + 1 + 2), 'root, middle, two leaves, of each side')
  forest.reads = 0
  t.alike(shown(walkDelta(forest, target, target, 2 ** 24)), [])
  t.is(forest.reads, 0)
  t.alike(shown(walkDeltaSince(forest, 1, target, 2 ** 24)), ['data 1280+1', 'data 15360+1'])
  t.is(forest.reads, 4)
  forest.reads = 0
  walkDelta(forest, null, target, 2 ** 24)
    [Symbol.iterator]()
    .next()
  t.ok(forest.reads < 6, `${forest.reads} nodes for the first extent`)
})

test('delta() chooses by the kind of its base', async (t) => {
  const forest = new Forest()
  const one = forest.change(NOTHING, 0, 1, 1, ENTRY_DATA, 1)
  const two = forest.change(one, 0, 2, 1, ENTRY_DATA, 2)
  const common = { name: 'x', id: 'x', createdAtMs: 0, blockCount: 256 }
  const snapshot = (epoch: number, root: TreeRoot): Snapshot => ({
    ...common,
    kind: 'snapshot',
    epoch,
    pinned: false,
    root,
    referencedBytes: 0,
    shadow: null,
  })
  const bookmark = (epoch: number): Bookmark => ({ ...common, kind: 'bookmark', epoch, window: null })
  t.alike(shown(delta(forest, null, snapshot(2, two))), ['data 1+2'])
  t.alike(shown(delta(forest, snapshot(1, one), snapshot(2, two))), ['data 2+1'])
  t.alike(shown(delta(forest, snapshot(2, two), snapshot(1, one))), ['zero 2+1'])
  t.alike(shown(delta(forest, bookmark(1), snapshot(2, two))), ['data 2+1'])
  t.is(await codeOf(() => delta(forest, bookmark(2), snapshot(1, one))), 'WRONG_BASE')
})

test('walkDelta() reports entries that make no sense at their level as CORRUPT', async (t) => {
  const forest = new Forest()
  const good = forest.change({ ...NOTHING, levels: 2 }, 0, 1, 1, ENTRY_DATA, 1)
  for (const [level, kind] of [[0, ENTRY_NODE] as const, [1, ENTRY_DATA] as const, [1, 7] as const]) {
    const bad = forest.change(good, level, 1, 1, kind, 2)
    t.is(await codeOf(() => [...walkDelta(forest, good, bad, 65_536)]), 'CORRUPT')
    t.is(await codeOf(() => [...walkDeltaSince(forest, 1, bad, 65_536)]), 'CORRUPT')
  }
  t.is(await codeOf(() => walkDelta(forest, null, { ...good, levels: 5 }, 10)), 'CORRUPT')
})
