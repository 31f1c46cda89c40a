// Judges deltas between all points of a random history: base + delta = target, and nothing in the delta
// that need not be. It can be given a fault, to be judged itself.

import { delta } from '../../src/volume/delta.ts'
import type { DeltaExtent, Point } from '../../src/volume/points.ts'
import type { Contents, ModelPoint, VolumeHistory } from './volume-history.ts'

/** What a planted fault does to the walker's base and to its output. */
export interface Fault {
  readonly base?: (from: Point) => Point
  readonly extents?: (extents: DeltaExtent[], fromBookmark: boolean) => DeltaExtent[]
}

export const NO_FAULT: Fault = {}

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
      if (before?.place === after?.place)
        problems.push(`block ${block} is in the delta but was not mapped anew`)
    } else if (!before && !isBookmark) {
      problems.push(`block ${block} is zero in the delta and was before`)
    } else if (isBookmark && !before && !wasDiscarded(history, block, base.epoch, target.epoch)) {
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
export function checkDeltas(history: VolumeHistory, fault: Fault): string[] {
  const problems: string[] = []
  const { volume } = history
  for (const target of history.snapshots) {
    const to = volume.snapshot(target.name)
    for (const base of [EMPTY_BASE, ...history.points.values()]) {
      if (base.kind === 'bookmark' && base.epoch > target.epoch) continue
      const point = base === EMPTY_BASE ? null : volume.point(base.name)
      const from = point && (fault.base?.(point) ?? point)
      const walked = [...delta(volume.nodes, from, to)]
      const extents = fault.extents?.(walked, base.kind === 'bookmark') ?? walked
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
