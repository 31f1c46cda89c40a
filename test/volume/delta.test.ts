// base + delta = target, over random histories at the block layer, for all pairs of points; and the
// delta is exact. The judge is a model that knows nothing of trees (test/support/volume-history.ts).
// The judge itself is judged: with a planted fault in the walker it must turn red.

import test, { type Assertion } from 'brittle'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { delta } from '../../src/volume/delta.ts'
import type { DeltaExtent } from '../../src/volume/points.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { type Contents, type ModelPoint, VolumeHistory } from '../support/volume-history.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const HISTORY_COUNT = isLong ? 3000 : 250
/** brittle's own 30 s are too few on a busy machine. */
const LIMIT = { timeout: isLong ? 3_600_000 : 300_000 }

/** What a planted fault does to the walker's output. */
type Fault = (extents: DeltaExtent[], fromBookmark: boolean) => DeltaExtent[]

const NO_FAULT: Fault = (extents) => extents

const EMPTY_BASE: ModelPoint = { name: 'nothing', kind: 'snapshot', epoch: 0, contents: new Map() }

function expand(extents: readonly DeltaExtent[]): Map<number, DeltaExtent['kind']> {
  const kinds = new Map<number, DeltaExtent['kind']>()
  for (const { kind, blockIndex, blockCount } of extents) {
    for (let i = 0; i < blockCount; i++) kinds.set(blockIndex + i, kind)
  }
  return kinds
}

/** In order, not empty, inside the volume, neighbours merged. */
function checkForm(extents: readonly DeltaExtent[], blockCount: number): string[] {
  let end = -1
  let kind = ''
  for (const extent of extents) {
    const touches = extent.blockIndex === end && extent.kind === kind
    if (extent.blockCount < 1 || extent.blockIndex < end || touches) {
      return [`extent ${extent.kind} ${extent.blockIndex}+${extent.blockCount} after ${kind} up to ${end}`]
    }
    end = extent.blockIndex + extent.blockCount
    kind = extent.kind
  }
  return end > blockCount ? [`extents end at ${end} of ${blockCount}`] : []
}

/** Puts the delta on the base; what comes out must be the target. */
function checkSum(base: Contents, target: Contents, kinds: Map<number, string>): string[] {
  const problems: string[] = []
  for (const block of new Set([...base.keys(), ...target.keys(), ...kinds.keys()])) {
    const wanted = target.get(block)?.sequence ?? 0
    const kind = kinds.get(block)
    const made = kind === 'data' ? wanted : kind === 'zero' ? 0 : (base.get(block)?.sequence ?? 0)
    if (made !== wanted) problems.push(`block ${block}: base + delta gives ${made}, the target has ${wanted}`)
    if (kind === 'data' && wanted === 0) problems.push(`block ${block}: data where the target has none`)
  }
  return problems
}

/** Nothing in the delta but what was mapped anew or lost its mapping. */
function checkExact(
  history: VolumeHistory,
  base: ModelPoint,
  target: ModelPoint,
  kinds: Map<number, string>,
): string[] {
  const problems: string[] = []
  const isBookmark = base.kind === 'bookmark'
  for (const [block, kind] of kinds) {
    const before = base.contents.get(block)
    const after = target.contents.get(block)
    if (kind === 'data') {
      const isNew = isBookmark ? (after?.birth ?? 0) > base.epoch : before?.birth !== after?.birth
      if (!isNew) problems.push(`block ${block} is in the delta but was not mapped anew`)
    } else if (!before && !isBookmark) {
      problems.push(`block ${block} is zero in the delta and was before`)
    } else if (isBookmark && !wasDiscarded(history, block, base.epoch, target.epoch)) {
      problems.push(`block ${block} is zero in the delta but was not discarded since`)
    }
  }
  return problems
}

function wasDiscarded(history: VolumeHistory, block: number, after: number, upTo: number): boolean {
  return history.discards.some(
    ({ first, end, epoch }) => block >= first && block < end && epoch > after && epoch <= upTo,
  )
}

/** All pairs of points of a history, the empty base included. */
function checkDeltas(history: VolumeHistory, fault: Fault): string[] {
  const problems: string[] = []
  const { volume } = history
  for (const target of history.snapshots) {
    const to = volume.snapshot(target.name)
    for (const base of [EMPTY_BASE, ...history.points.values()]) {
      if (base.kind === 'bookmark' && base.epoch > target.epoch) continue
      const from = base === EMPTY_BASE ? null : volume.point(base.name)
      const extents = fault([...delta(volume.nodes, from, to)], base.kind === 'bookmark')
      const kinds = expand(extents)
      const found = [
        ...checkForm(extents, volume.blockCount),
        ...checkSum(base.contents, target.contents, kinds),
        ...checkExact(history, base, target, kinds),
      ]
      problems.push(...found.map((problem) => `${base.kind} ${base.name} to ${target.name}: ${problem}`))
    }
  }
  return problems
}

async function randomHistory(random: Random): Promise<VolumeHistory> {
  const blocks = random.pick([256, 1000, 3000, 70_000])
  const cacheBytes = random.chance(0.3) ? 64 * 1024 : undefined
  const history = await VolumeHistory.begin(new MemoryStorage(), random, {
    sizeBytes: blocks * 4096,
    ...(cacheBytes === undefined ? {} : { cacheBytes }),
  })
  for (let i = random.between(10, 60); i > 0; i--) await history.step()
  await history.volume.commit()
  return history
}

function failFirst(t: Assertion, problems: readonly string[], history: VolumeHistory, round: number): void {
  if (problems.length === 0) return
  for (const line of history.log) t.comment(line)
  t.fail(`history ${round}: ${problems.slice(0, 5).join('; ')} (${problems.length} in all)`)
}

test('base + delta = target, exactly, between all points of random histories', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  let pairs = 0
  for (let round = 0; round < HISTORY_COUNT; round++) {
    const history = await randomHistory(random)
    const problems = [...history.verify(), ...checkDeltas(history, NO_FAULT)]
    pairs += history.snapshots.length * (history.points.size + 1)
    await history.volume.close()
    const report = checkVolume(history.storage)
    problems.push(...report.errors.map((finding) => `${finding.code} ${finding.where}: ${finding.message}`))
    if (report.leaks.blockCount > 0) problems.push(`${report.leaks.blockCount} blocks are leaked`)
    failFirst(t, problems, history, round)
    if (problems.length > 0) return
  }
  t.ok(pairs > HISTORY_COUNT, `${HISTORY_COUNT} histories, ${pairs} pairs of points`)
})

test('a planted fault turns the judge red', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const faults: Record<string, Fault> = {
    'drops one extent': (extents) => extents.slice(1),
    'ignores the births of holes': (extents, fromBookmark) =>
      fromBookmark ? extents.filter((extent) => extent.kind === 'data') : extents,
    'takes one block too many': (extents) =>
      extents.map((extent, i) =>
        i === extents.length - 1 ? { ...extent, blockCount: extent.blockCount + 1 } : extent,
      ),
    'calls a discard data': (extents) => extents.map((extent) => ({ ...extent, kind: 'data' })),
  }
  const red = new Map(Object.keys(faults).map((name) => [name, 0]))
  for (let round = 0; round < 60; round++) {
    const history = await randomHistory(random)
    for (const [name, fault] of Object.entries(faults)) {
      if (checkDeltas(history, fault).length > 0) red.set(name, (red.get(name) as number) + 1)
    }
    await history.volume.close()
  }
  for (const [name, count] of red) t.ok(count > 0, `${name}: seen in ${count} of 60 histories`)
})
