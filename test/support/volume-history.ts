// A random history of a volume at the block layer, beside a model of what every point must hold.
//
// The model keeps, for each block with contents, which write put it there and the epoch it was born
// in. Always true: the model is brute force and knows nothing of trees; contents are compared byte
// for byte with self-describing blocks.

import { randomUuid } from '../../src/base/uuid.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import type { UnsealedSnapshot } from '../../src/volume/unsealed-snapshot.ts'
import { Volume } from '../../src/volume/volume.ts'
import { describeBlock, isBlock, patternBlocks } from './block-pattern.ts'
import type { Random } from './random.ts'

export interface Written {
  readonly sequence: number
  readonly birth: number
  /** Stays the same as long as the block is overwritten where it is. */
  readonly place: number
  readonly isMetadata: boolean
}

/** Blocks with contents; what is not there reads as zeros. */
export type Contents = ReadonlyMap<number, Written>

export interface ModelPoint {
  readonly name: string
  readonly kind: 'snapshot' | 'bookmark'
  readonly epoch: number
  /** What the volume held at this point, also for a bookmark. */
  readonly contents: Contents
}

/** An auto-recovery window that is open. */
interface ModelWindow {
  readonly shadow: UnsealedSnapshot
  readonly epoch: number
  readonly contents: Map<number, Written>
}

interface Discarded {
  readonly first: number
  readonly end: number
  readonly epoch: number
}

export interface HistoryOptions {
  readonly sizeBytes: number
  readonly cacheBytes?: number
  /** Default: all steps. */
  readonly steps?: readonly Step[]
}

export type Step =
  | 'write'
  | 'metadata'
  | 'discard'
  | 'commit'
  | 'flush'
  | 'snapshot'
  | 'delete'
  | 'bookmark'
  | 'deleteBookmark'
  | 'rollback'
  | 'reopen'
  | 'cut'
  | 'windowWrite'
  | 'windowMetadata'
  | 'windowDiscard'
  | 'windowCommit'
  | 'seal'
  | 'drop'

const WEIGHTS: Readonly<Record<Step, number>> = {
  write: 12,
  metadata: 4,
  discard: 5,
  commit: 4,
  flush: 1,
  snapshot: 4,
  delete: 2,
  bookmark: 1,
  deleteBookmark: 1,
  rollback: 1,
  reopen: 1,
  cut: 3,
  windowWrite: 5,
  windowMetadata: 2,
  windowDiscard: 2,
  windowCommit: 1,
  seal: 4,
  drop: 1,
}

export class VolumeHistory {
  readonly storage: BlockStorage
  readonly points = new Map<string, ModelPoint>()
  readonly discards: Discarded[] = []
  readonly log: string[] = []
  readonly live = new Map<number, Written>()
  volume: Volume
  window: ModelWindow | undefined
  readonly #random: Random
  readonly #steps: readonly Step[]
  readonly #openOptions: { cacheBytes?: number }
  #sequence = 0
  #nextName = 1

  private constructor(storage: BlockStorage, volume: Volume, random: Random, options: HistoryOptions) {
    this.storage = storage
    this.volume = volume
    this.#random = random
    this.#openOptions = options.cacheBytes === undefined ? {} : { cacheBytes: options.cacheBytes }
    const steps = options.steps ?? (Object.keys(WEIGHTS) as Step[])
    this.#steps = steps.flatMap((step) => new Array<Step>(WEIGHTS[step]).fill(step))
  }

  static async begin(storage: BlockStorage, random: Random, options: HistoryOptions): Promise<VolumeHistory> {
    return new VolumeHistory(storage, await Volume.create(storage, options), random, options)
  }

  /** Goes on with an open volume that holds nothing yet. */
  static resume(
    storage: BlockStorage,
    volume: Volume,
    random: Random,
    options: HistoryOptions,
  ): VolumeHistory {
    return new VolumeHistory(storage, volume, random, options)
  }

  /** Number of the newest write. */
  get sequence(): number {
    return this.#sequence
  }

  get snapshots(): ModelPoint[] {
    return [...this.points.values()].filter((point) => point.kind === 'snapshot')
  }

  async step(): Promise<Step> {
    const step = this.#random.pick(this.#steps)
    await this.take(step)
    return step
  }

  async take(step: Step): Promise<void> {
    switch (step) {
      case 'write':
        return this.#write()
      case 'metadata':
        return this.#writeMetadata()
      case 'discard':
        return this.#discard()
      case 'commit':
        return this.volume.commit()
      case 'flush':
        return this.volume.flush()
      case 'snapshot':
        return this.#snapshot()
      case 'delete':
        return this.#delete()
      case 'bookmark':
        return this.#bookmark()
      case 'deleteBookmark':
        return this.#deleteBookmark()
      case 'rollback':
        return this.#rollback()
      case 'reopen':
        return this.reopen()
      case 'cut':
        return this.#cut()
      case 'windowWrite':
        return this.#windowWrite(false)
      case 'windowMetadata':
        return this.#windowWrite(true)
      case 'windowDiscard':
        return this.#windowDiscard()
      case 'windowCommit':
        return this.window?.shadow.device.commit()
      case 'seal':
        return this.#seal()
      case 'drop':
        return this.#drop()
    }
  }

  async reopen(): Promise<void> {
    this.log.push('reopen')
    await this.volume.close()
    this.window = undefined
    this.volume = await Volume.open(this.storage, this.#openOptions)
  }

  /** A place where things happen: near the start, near the end, or in one of a few far regions. */
  #place(): number {
    const { blockCount } = this.volume
    const region = this.#random.below(4)
    if (region === 0) return this.#random.below(Math.min(40, blockCount))
    if (region === 1) return blockCount - 1 - this.#random.below(Math.min(40, blockCount))
    return Math.min(
      blockCount - 1,
      Math.floor((blockCount / 8) * this.#random.below(8)) + this.#random.below(64),
    )
  }

  #write(): void {
    const first = this.#place()
    const most = this.#random.chance(0.1) ? 300 : 12
    const count = Math.min(this.#random.between(1, most), this.volume.blockCount - first)
    const sequence = ++this.#sequence
    this.log.push(`write ${sequence}: ${first}+${count}`)
    this.volume.writeData(first, count, patternBlocks(first, count, sequence), 0)
    const birth = this.volume.epoch
    for (let block = first; block < first + count; block++) {
      const before = this.live.get(block)
      const isInPlace = before?.birth === birth && !before.isMetadata
      const place = isInPlace ? before.place : sequence
      this.live.set(block, { sequence, birth, place, isMetadata: false })
    }
  }

  #writeMetadata(): void {
    const block = this.#place()
    const sequence = ++this.#sequence
    this.log.push(`metadata ${sequence}: ${block}`)
    this.volume.requireRoom(1, false)
    this.volume.writeMetadata(block, patternBlocks(block, 1, sequence), 0)
    this.live.set(block, { sequence, birth: this.volume.epoch, place: sequence, isMetadata: true })
  }

  #discard(): void {
    const { blockCount } = this.volume
    const isHuge = this.#random.chance(0.2)
    const first = isHuge ? this.#random.below(blockCount) : this.#place()
    const most = isHuge ? blockCount - first : Math.min(40, blockCount - first)
    const count = this.#random.between(1, most)
    this.log.push(`discard ${first}+${count}`)
    this.volume.discard(first, count)
    this.discards.push({ first, end: first + count, epoch: this.volume.epoch })
    for (const block of [...this.live.keys()]) {
      if (block >= first && block < first + count) this.live.delete(block)
    }
  }

  // -- the auto-recovery window

  async #cut(): Promise<void> {
    if (this.window) return
    const name = `w${this.#nextName++}`
    const contents = new Map(this.live)
    const properties = { setId: randomUuid(), setCount: 1, attributes: 9 }
    const shadow = await this.volume.cutUnsealed(name, properties)
    this.log.push(`cut ${name} of epoch ${shadow.snapshot.epoch}`)
    this.window = { shadow, epoch: shadow.snapshot.epoch, contents }
  }

  #windowWrite(isMetadata: boolean): void {
    if (!this.window) return
    const { shadow, epoch, contents } = this.window
    const first = this.#place()
    const most = isMetadata ? 1 : this.#random.chance(0.1) ? 300 : 12
    const count = Math.min(this.#random.between(1, most), this.volume.blockCount - first)
    const sequence = ++this.#sequence
    this.log.push(
      `${shadow.snapshot.name}: write ${sequence}: ${first}+${count}${isMetadata ? ' metadata' : ''}`,
    )
    if (isMetadata) {
      shadow.device.requireRoom(1, false)
      shadow.device.writeMetadata(first, patternBlocks(first, 1, sequence), 0)
    } else {
      shadow.device.writeData(first, count, patternBlocks(first, count, sequence), 0)
    }
    for (let block = first; block < first + count; block++) {
      contents.set(block, { sequence, birth: epoch, place: sequence, isMetadata })
    }
  }

  #windowDiscard(): void {
    if (!this.window) return
    const { shadow, epoch, contents } = this.window
    const { blockCount } = this.volume
    const isHuge = this.#random.chance(0.2)
    const first = isHuge ? this.#random.below(blockCount) : this.#place()
    const count = this.#random.between(1, isHuge ? blockCount - first : Math.min(40, blockCount - first))
    this.log.push(`${shadow.snapshot.name}: discard ${first}+${count}`)
    shadow.device.discard(first, count)
    this.discards.push({ first, end: first + count, epoch })
    for (const block of [...contents.keys()]) {
      if (block >= first && block < first + count) contents.delete(block)
    }
  }

  async #seal(): Promise<void> {
    if (!this.window) return
    const { shadow, epoch, contents } = this.window
    const { name } = await shadow.seal()
    this.log.push(`seal ${name}`)
    this.points.set(name, { name, kind: 'snapshot', epoch, contents })
    this.window = undefined
  }

  async #drop(): Promise<void> {
    if (!this.window) return
    this.log.push(`drop ${this.window.shadow.snapshot.name}`)
    await this.window.shadow.drop()
    this.window = undefined
  }

  /** Nothing is kept beside a window: what must be refused meanwhile. */
  async #refusedByWindow(act: () => Promise<unknown>): Promise<boolean> {
    if (!this.window) return false
    const code = await act().then(
      () => 'done',
      (error) => error.code,
    )
    if (code !== 'BUSY') throw new Error(`while a window is open: ${code}, not BUSY`)
    return true
  }

  async #snapshot(): Promise<void> {
    if (await this.#refusedByWindow(() => this.volume.createSnapshot('refused'))) return
    const name = `s${this.#nextName++}`
    const contents = new Map(this.live)
    const { epoch } = await this.volume.createSnapshot(name)
    this.log.push(`snapshot ${name} of epoch ${epoch}`)
    this.points.set(name, { name, kind: 'snapshot', epoch, contents })
  }

  async #delete(): Promise<void> {
    if (this.snapshots.length === 0) return
    const point = this.#random.pick(this.snapshots)
    const keepBookmark = this.#random.chance(0.5)
    this.log.push(`delete ${point.name}${keepBookmark ? ', leaving a bookmark' : ''}`)
    await this.volume.deleteSnapshot(point.name, { keepBookmark })
    if (keepBookmark) this.points.set(point.name, { ...point, kind: 'bookmark' })
    else this.points.delete(point.name)
  }

  async #bookmark(): Promise<void> {
    if (await this.#refusedByWindow(() => this.volume.createBookmark('refused'))) return
    const name = `b${this.#nextName++}`
    const contents = new Map(this.live)
    const { epoch } = await this.volume.createBookmark(name)
    this.log.push(`bookmark ${name} of epoch ${epoch}`)
    this.points.set(name, { name, kind: 'bookmark', epoch, contents })
  }

  async #deleteBookmark(): Promise<void> {
    const bookmarks = [...this.points.values()].filter((point) => point.kind === 'bookmark')
    if (bookmarks.length === 0) return
    const { name } = this.#random.pick(bookmarks)
    this.log.push(`delete bookmark ${name}`)
    await this.volume.deleteBookmark(name)
    this.points.delete(name)
  }

  /** Rolls back to a random snapshot: the present is kept as one, and what differs is born anew. */
  async #rollback(): Promise<void> {
    if (this.snapshots.length === 0) return
    const target = this.#random.pick(this.snapshots)
    if (await this.#refusedByWindow(() => this.volume.rollback(target.name))) return
    const name = `r${this.#nextName++}`
    const kept = new Map(this.live)
    const { epoch } = await this.volume.rollback(target.name, { keepAs: name })
    this.log.push(`roll back to ${target.name}, keeping ${name} of epoch ${epoch}`)
    this.points.set(name, { name, kind: 'snapshot', epoch, contents: kept })
    this.#becomes(target.contents, this.volume.epoch)
  }

  #becomes(target: Contents, birth: number): void {
    for (const [block] of this.live) {
      if (target.has(block)) continue
      this.live.delete(block)
      this.discards.push({ first: block, end: block + 1, epoch: birth })
    }
    for (const [block, { sequence, place: wasPlaced }] of target) {
      if (this.live.get(block)?.place === wasPlaced) continue
      this.live.set(block, { sequence, birth, place: ++this.#sequence, isMetadata: false })
    }
  }

  // -- comparing

  /** Every difference between the volume and the model, of the present and of each snapshot. */
  verify(): string[] {
    const problems = verifyDevice('the present', this.volume, this.live, this.#random)
    if (this.window) {
      const { shadow, contents } = this.window
      problems.push(...verifyDevice('the window', shadow.device, contents, this.#random))
    }
    const names = this.volume.snapshots().map((snapshot) => snapshot.name)
    const expected = this.snapshots.sort((a, b) => a.epoch - b.epoch).map((point) => point.name)
    if (names.join() !== expected.join()) problems.push(`snapshots are ${names}, not ${expected}`)
    for (const point of this.snapshots) {
      const device = this.volume.openSnapshot(point.name)
      problems.push(...verifyDevice(point.name, device, point.contents, this.#random))
    }
    return problems
  }
}

/** Every block that should have contents, and some that should not. */
export function verifyDevice(
  name: string,
  device: Pick<BlockDevice, 'readSync' | 'blockCount'>,
  contents: ReadonlyMap<number, { readonly sequence: number }>,
  random: Random,
): string[] {
  const problems: string[] = []
  const bytes = new Uint8Array(4096)
  const blocks = new Set(contents.keys())
  for (let i = 0; i < 40; i++) blocks.add(random.below(device.blockCount))
  for (const block of [...contents.keys()].slice(0, 20)) {
    if (block + 1 < device.blockCount) blocks.add(block + 1)
  }
  for (const block of blocks) {
    const sequence = contents.get(block)?.sequence ?? 0
    device.readSync(block * 4096, 4096, bytes, 0)
    if (isBlock(bytes, 0, block, sequence)) continue
    const expected = sequence === 0 ? 'zeros' : `${sequence}@${block}`
    problems.push(`${name}, block ${block}: ${describeBlock(bytes, 0)} instead of ${expected}`)
  }
  return problems
}
