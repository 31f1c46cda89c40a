// Image layers stacked, the newest on top: what the stack says of a byte is what the topmost layer that
// says anything says.
//
// Always true: past the end of a layer everything below it is hidden and reads as zeros, as in qemu, so a volume
// that shrank and grew again shows no old bytes. Where no layer says anything the answer is
// `unallocated`: zeros for a chain that begins with a full image, the target's own content in an apply.

import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { DeltaExtent } from '../volume/points.ts'
import type { ImageLayer, LayerKind } from './layer.ts'

interface StackRun {
  readonly kind: LayerKind
  readonly lengthBytes: number
  /** The layer that holds it, if it is data. */
  readonly layer: ImageLayer | null
}

/** How far a layer is asked ahead: enough for a read, and enough for a walk not to ask often. */
const LOOK_AHEAD_MIN_BYTES = 2 * MIB
const LOOK_AHEAD_MAX_BYTES = 64 * MIB

interface KnownRun {
  readonly kind: LayerKind
  readonly beginBytes: number
  readonly endBytes: number
}

export class LayerStack {
  /** Oldest first. */
  readonly layers: readonly ImageLayer[]
  readonly sizeBytes: number
  /** Per layer the run asked for last, so that a walk asks each layer for each of its runs once. */
  readonly #known: (KnownRun | undefined)[] = []

  constructor(layers: readonly ImageLayer[]) {
    this.layers = layers
    this.sizeBytes = layers.at(-1)?.sizeBytes ?? 0
  }

  /** The run at an offset below sizeBytes, at most maxLengthBytes long. */
  mapAt(offsetBytes: number, maxLengthBytes: number): StackRun {
    let lengthBytes = Math.min(maxLengthBytes, this.sizeBytes - offsetBytes)
    for (let i = this.layers.length - 1; i >= 0; i--) {
      const layer = this.layers[i] as ImageLayer
      if (offsetBytes >= layer.sizeBytes) return { kind: 'zero', lengthBytes, layer: null }
      const run = this.#knownRun(i, layer, offsetBytes, lengthBytes)
      lengthBytes = Math.min(lengthBytes, run.endBytes - offsetBytes)
      if (run.kind === 'data') return { kind: 'data', lengthBytes, layer }
      if (run.kind === 'zero') return { kind: 'zero', lengthBytes, layer: null }
    }
    return { kind: 'unallocated', lengthBytes, layer: null }
  }

  #knownRun(i: number, layer: ImageLayer, offsetBytes: number, wantedBytes: number): KnownRun {
    const known = this.#known[i]
    if (known && offsetBytes >= known.beginBytes && offsetBytes < known.endBytes) return known
    const aheadBytes = Math.min(LOOK_AHEAD_MAX_BYTES, Math.max(LOOK_AHEAD_MIN_BYTES, wantedBytes))
    const run = layer.mapAt(offsetBytes, Math.min(aheadBytes, layer.sizeBytes - offsetBytes))
    const fresh = { kind: run.kind, beginBytes: offsetBytes, endBytes: offsetBytes + run.lengthBytes }
    this.#known[i] = fresh
    return fresh
  }

  /** Reads a range; what is unallocated or past the end reads as zeros. */
  read(offsetBytes: number, lengthBytes: number, target: Buffer, targetOffset: number): void {
    const endBytes = Math.min(offsetBytes + lengthBytes, this.sizeBytes)
    let at = offsetBytes
    while (at < endBytes) {
      const run = this.mapAt(at, endBytes - at)
      const to = targetOffset + (at - offsetBytes)
      if (run.layer) run.layer.readData(at, run.lengthBytes, target, to)
      else target.fill(0, to, to + run.lengthBytes)
      at += run.lengthBytes
    }
    const done = Math.max(0, at - offsetBytes)
    target.fill(0, targetOffset + done, targetOffset + lengthBytes)
  }

  /**
   * What the stack says, in blocks, merged: a block of which any byte is data is data; one that is part
   * zero and part unallocated is data too (so that a reader takes its bytes).
   */
  *extents(): Generator<DeltaExtent> {
    let pending: { kind: 'data' | 'zero'; first: number; end: number } | null = null
    for (const run of this.#blockRuns()) {
      if (pending && pending.kind === run.kind && run.first <= pending.end)
        pending.end = Math.max(pending.end, run.end)
      else {
        const first: number = pending ? Math.max(run.first, pending.end) : run.first
        if (run.end <= first) continue
        if (pending) yield toExtent(pending)
        pending = { kind: run.kind, first, end: run.end }
      }
    }
    if (pending) yield toExtent(pending)
  }

  *#blockRuns(): Generator<{ kind: 'data' | 'zero'; first: number; end: number }> {
    let at = 0
    while (at < this.sizeBytes) {
      const run = this.mapAt(at, this.sizeBytes - at)
      const end = at + run.lengthBytes
      if (at % BLOCK_SIZE_BYTES !== 0 || (end % BLOCK_SIZE_BYTES !== 0 && end < this.sizeBytes)) {
        // Clusters smaller than a block: take this block's bytes whole and go on behind it.
        const first = Math.floor(at / BLOCK_SIZE_BYTES)
        const wholeEnd = Math.floor(end / BLOCK_SIZE_BYTES)
        if (wholeEnd > first && at % BLOCK_SIZE_BYTES === 0) {
          if (run.kind !== 'unallocated') yield { kind: run.kind, first, end: wholeEnd }
          at = wholeEnd * BLOCK_SIZE_BYTES
        } else {
          if (this.#saysAnything(first)) yield { kind: 'data', first, end: first + 1 }
          at = (first + 1) * BLOCK_SIZE_BYTES
        }
        continue
      }
      if (run.kind !== 'unallocated')
        yield {
          kind: run.kind,
          first: at / BLOCK_SIZE_BYTES,
          end: Math.ceil(end / BLOCK_SIZE_BYTES),
        }
      at = end
    }
  }

  #saysAnything(blockIndex: number): boolean {
    const endBytes = Math.min(this.sizeBytes, (blockIndex + 1) * BLOCK_SIZE_BYTES)
    for (let at = blockIndex * BLOCK_SIZE_BYTES; at < endBytes; ) {
      const run = this.mapAt(at, endBytes - at)
      if (run.kind !== 'unallocated') return true
      at += run.lengthBytes
    }
    return false
  }
}

function toExtent(run: { kind: 'data' | 'zero'; first: number; end: number }): DeltaExtent {
  return { kind: run.kind, blockIndex: run.first, blockCount: run.end - run.first }
}
