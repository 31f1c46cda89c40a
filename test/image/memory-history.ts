// A volume's history in memory: blocks that are written, discarded and cut into points, each point an
// ImageSource. The model that the image tests export from, independent of the real volume.

import { BLOCK_SIZE_BYTES } from '../../src/base/units.ts'
import { randomUuid } from '../../src/base/uuid.ts'
import type { BlockReader, ImagePoint, ImageSource } from '../../src/image/image-source.ts'
import type { DeltaExtent } from '../../src/volume/points.ts'
import type { Random } from '../support/random.ts'

class MapDevice implements BlockReader {
  readonly blockCount: number
  readonly blocks: ReadonlyMap<number, Buffer>

  constructor(blocks: ReadonlyMap<number, Buffer>, blockCount: number) {
    this.blocks = blocks
    this.blockCount = blockCount
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    for (let done = 0; done < lengthBytes; ) {
      const at = offsetBytes + done
      const within = at % BLOCK_SIZE_BYTES
      const take = Math.min(lengthBytes - done, BLOCK_SIZE_BYTES - within)
      const block = this.blocks.get(Math.floor(at / BLOCK_SIZE_BYTES))
      if (block) target.set(block.subarray(within, within + take), targetOffset + done)
      else target.fill(0, targetOffset + done, targetOffset + done + take)
      done += take
    }
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    if (offsetBytes % 3 === 0) return false
    this.readSync(offsetBytes, lengthBytes, target, targetOffset)
    return true
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }
}

interface Cut {
  readonly point: ImagePoint
  readonly blocks: Map<number, Buffer>
  readonly blockCount: number
}

export class MemoryHistory {
  readonly volumeUuid = randomUuid()
  blockCount: number
  readonly cuts: Cut[] = []
  readonly #live = new Map<number, Buffer>()
  /** Blocks touched since the last cut: what a delta must carry. */
  #touched = new Set<number>()
  readonly #touchedAt: Set<number>[] = []

  constructor(blockCount: number) {
    this.blockCount = blockCount
  }

  write(blockIndex: number, bytes: Buffer): void {
    this.#live.set(blockIndex, bytes)
    this.#touched.add(blockIndex)
  }

  discard(blockIndex: number, blockCount: number): void {
    for (let i = blockIndex; i < blockIndex + blockCount; i++) {
      if (this.#live.delete(i)) this.#touched.add(i)
    }
  }

  /** Random writes (some of zeros), overwrites and discards, in runs. */
  churn(random: Random, steps: number): void {
    for (let step = 0; step < steps; step++) {
      const first = random.below(this.blockCount)
      const count = Math.min(1 + random.below(random.below(8) === 0 ? 300 : 12), this.blockCount - first)
      const action = random.below(4)
      if (action === 0) this.discard(first, count)
      else
        for (let i = first; i < first + count; i++) {
          const isZero = action === 1 && random.below(6) === 0
          this.write(i, isZero ? Buffer.alloc(BLOCK_SIZE_BYTES) : randomBlock(random))
        }
    }
  }

  cut(name = `point ${this.cuts.length}`): number {
    this.cuts.push({
      point: {
        id: randomUuid(),
        epoch: this.cuts.length + 1,
        name,
        createdAtMs: 1_700_000_000_000 + this.cuts.length,
      },
      blocks: new Map(this.#live),
      blockCount: this.blockCount,
    })
    this.#touchedAt.push(this.#touched)
    this.#touched = new Set()
    return this.cuts.length - 1
  }

  full(index: number): ImageSource {
    const { point, blocks, blockCount } = this.#cut(index)
    const indexes = [...blocks.keys()].sort((a, b) => a - b)
    const extents = merge(indexes.map((i) => [i, 'data'] as const))
    return this.#source(point, null, blocks, blockCount, extents)
  }

  delta(from: number, to: number): ImageSource {
    const { point, blocks, blockCount } = this.#cut(to)
    const touched = new Set<number>()
    for (let i = from + 1; i <= to; i++) for (const block of this.#touchedAt[i] ?? []) touched.add(block)
    const indexes = [...touched].sort((a, b) => a - b)
    const extents = merge(indexes.map((i) => [i, blocks.has(i) ? 'data' : 'zero'] as const))
    const base = this.#cut(from).point
    return this.#source(
      point,
      { id: base.id, epoch: base.epoch, name: base.name },
      blocks,
      blockCount,
      extents,
    )
  }

  /** The volume's bytes at a cut. */
  content(index: number): Buffer {
    const { blocks, blockCount } = this.#cut(index)
    const bytes = Buffer.alloc(blockCount * BLOCK_SIZE_BYTES)
    for (const [i, block] of blocks) block.copy(bytes, i * BLOCK_SIZE_BYTES)
    return bytes
  }

  #cut(index: number): Cut {
    const cut = this.cuts[index]
    if (!cut) throw new RangeError(`No cut ${index}`)
    return cut
  }

  #source(
    point: ImagePoint,
    base: ImageSource['base'],
    blocks: Map<number, Buffer>,
    blockCount: number,
    extents: DeltaExtent[],
  ): ImageSource {
    const device = new MapDevice(blocks, blockCount)
    return { volumeUuid: this.volumeUuid, point, base, device, blockCount, extents: () => extents }
  }
}

export function randomBlock(random: Random): Buffer {
  const block = Buffer.alloc(BLOCK_SIZE_BYTES)
  // Words here and there are enough to tell blocks apart, and leave room for compression.
  for (let at = 0; at < BLOCK_SIZE_BYTES; at += 64) block.writeUInt32LE(random.below(2 ** 32), at)
  return block
}

function merge(blocks: readonly (readonly [number, 'data' | 'zero'])[]): DeltaExtent[] {
  const extents: { kind: 'data' | 'zero'; blockIndex: number; blockCount: number }[] = []
  for (const [blockIndex, kind] of blocks) {
    const last = extents.at(-1)
    if (last && last.kind === kind && last.blockIndex + last.blockCount === blockIndex) last.blockCount++
    else extents.push({ kind, blockIndex, blockCount: 1 })
  }
  return extents
}
