// Random histories of writes, discards, snapshots, shadow copies and deletes in any order against a brute-force
// model: contents of the present and of every snapshot, sizes, space, across reopening.

import test, { type Assertion } from 'brittle'
import { BLOCK_SIZE_BYTES, MIB } from '../../src/base/units.ts'
import { randomUuid } from '../../src/base/uuid.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, difference, fillBlock, heldOnlyBy, randomFrom, referenced } from './support/model.ts'

const SEED = Number(process.env['UMBRA_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const HISTORIES = process.env['UMBRA_LONG'] ? 200 : 8
const STEPS = 120

class History {
  readonly random: () => number
  readonly storage = new MemoryStorage()
  readonly live: Contents = new Map()
  readonly snapshots = new Map<string, Contents>()
  /** Of a shadow copy that its window changed, what it referred to when it was cut: it keeps that too. */
  readonly #cutTrees = new Map<string, Set<number>>()
  readonly #buffer = new Uint8Array(64 * BLOCK_SIZE_BYTES)
  #tag = 1
  #names = 0
  volume: Volume

  constructor(volume: Volume, storage: MemoryStorage, random: () => number) {
    this.volume = volume
    this.storage = storage
    this.random = random
  }

  static async begin(seed: number): Promise<History> {
    const random = randomFrom(seed)
    const storage = new MemoryStorage()
    const sizeBytes = [2 * MIB, 40 * MIB, 300 * MIB][Math.floor(random() * 3)] as number
    const volume = await Volume.create(storage, { sizeBytes, cacheBytes: 128 * 1024 })
    return new History(volume, storage, random)
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit)
  }

  range(): { first: number; count: number } {
    const { blockCount } = this.volume
    const count = 1 + this.below(this.random() < 0.7 ? 4 : 64)
    // Most of the life of a volume is in a few places.
    const span = this.random() < 0.7 ? Math.min(600, blockCount) : blockCount
    return { first: this.below(span - count), count }
  }

  write(device: BlockDevice = this.volume, contents = this.live): void {
    const { first, count } = this.range()
    for (let i = 0; i < count; i++) {
      fillBlock(this.#buffer, i * BLOCK_SIZE_BYTES, first + i, this.#tag)
      contents.set(first + i, this.#tag)
    }
    this.#tag++
    if (this.random() < 0.75) {
      device.writeData(first, count, this.#buffer, 0)
      return
    }
    device.requireRoom(count, false)
    for (let i = 0; i < count; i++) device.writeMetadata(first + i, this.#buffer, i * BLOCK_SIZE_BYTES)
  }

  discard(device: BlockDevice = this.volume, contents = this.live): void {
    let { first, count } = this.range()
    if (this.random() < 0.1) {
      first = this.below(300)
      count = Math.min(this.volume.blockCount - first, 256 * (1 + this.below(5)))
    }
    if (this.random() < 0.02) {
      first = 0
      count = this.volume.blockCount
    }
    for (let i = 0; i < count; i++) contents.delete(first + i)
    device.discard(first, count)
  }

  /** A shadow copy with a window in which as much happens as beside it. */
  async shadow(): Promise<void> {
    const name = `s${this.#names++}`
    const contents = new Map(this.live)
    const properties = { setId: randomUuid(), setCount: 1, attributes: 9 }
    const unsealed = await this.volume.cutUnsealed(name, properties)
    const { device, snapshot } = unsealed
    for (let i = this.below(12); i > 0; i--) {
      const dice = this.random()
      if (dice < 0.4) this.write(device, contents)
      else if (dice < 0.55) this.discard(device, contents)
      else if (dice < 0.8) this.write()
      else if (dice < 0.9) this.discard()
      else if (dice < 0.95) await this.volume.commit()
      else await this.deleteOne()
    }
    const fault = difference(device, contents)
    if (fault) throw new Error(`in the window of ${name}: ${fault}`)
    this.#cutTrees.set(name, referenced(this.volume.nodes, snapshot.root))
    await unsealed.seal()
    this.snapshots.set(name, contents)
  }

  async snapshot(): Promise<void> {
    const name = `s${this.#names++}`
    await this.volume.createSnapshot(name)
    this.snapshots.set(name, new Map(this.live))
  }

  async deleteOne(): Promise<void> {
    const names = [...this.snapshots.keys()]
    const name = names[this.below(names.length)]
    if (name === undefined) return
    const expected = this.volume.sizesOf(name).uniqueBytes
    const before = this.volume.space()
    await this.volume.deleteSnapshot(name, { keepBookmark: this.random() < 0.3 })
    this.snapshots.delete(name)
    const after = this.volume.space()
    if (before.snapshotBytes - after.snapshotBytes !== expected) {
      throw new Error(`deleting ${name} freed ${before.snapshotBytes - after.snapshotBytes}, not ${expected}`)
    }
  }

  async reopen(): Promise<void> {
    await this.volume.close()
    this.volume = await Volume.open(this.storage, { cacheBytes: 128 * 1024 })
  }

  async step(): Promise<void> {
    const dice = this.random()
    if (dice < 0.55) this.write()
    else if (dice < 0.7) this.discard()
    else if (dice < 0.8) await this.volume.commit()
    else if (dice < 0.85) await this.snapshot()
    else if (dice < 0.88) await this.shadow()
    else if (dice < 0.95) await this.deleteOne()
    else if (dice < 0.96) await this.volume.createBookmark(`b${this.#names++}`)
    else if (dice < 0.97 && this.volume.bookmarks()[0])
      await this.volume.deleteBookmark(this.volume.bookmarks()[0]?.id ?? '')
    else if (dice < 0.98) await this.volume.drain()
    else await this.reopen()
  }

  /** What is wrong, or undefined. */
  contentsFault(): string | undefined {
    const live = difference(this.volume, this.live)
    if (live) return `present: ${live}`
    for (const [name, contents] of this.snapshots) {
      const fault = difference(this.volume.openSnapshot(name), contents)
      if (fault) return `${name}: ${fault}`
    }
    return undefined
  }

  async sizesFault(): Promise<string | undefined> {
    await this.volume.commit()
    const report = checkVolume(this.storage)
    const [finding] = report.errors
    if (finding) return `check: ${finding.code} ${finding.where}: ${finding.message}`
    if (report.leaks.blockCount > 0) return `${report.leaks.blockCount} blocks are leaked`
    const { volume } = this
    const trees = new Map<string, Set<number>>()
    for (const { name, root } of volume.snapshots()) {
      const blocks = referenced(volume.nodes, root)
      for (const block of this.#cutTrees.get(name) ?? []) blocks.add(block)
      trees.set(name, blocks)
    }
    const live = referenced(volume.nodes, volume.liveRoot())
    const space = volume.space()
    if (space.liveBytes !== live.size * BLOCK_SIZE_BYTES)
      return `live: ${space.liveBytes / 4096}, not ${live.size}`
    const dead = heldOnlyBy([...trees.values()], [live])
    if (space.snapshotBytes !== dead * BLOCK_SIZE_BYTES)
      return `dead: ${space.snapshotBytes / 4096}, not ${dead}`
    for (const snapshot of volume.snapshots()) {
      const own = trees.get(snapshot.name) as Set<number>
      const others = [...trees].filter(([name]) => name !== snapshot.name).map(([, blocks]) => blocks)
      const unique = heldOnlyBy([own], [live, ...others]) * BLOCK_SIZE_BYTES
      const sizes = volume.sizesOf(snapshot.name)
      if (snapshot.referencedBytes !== own.size * BLOCK_SIZE_BYTES)
        return `${snapshot.name} refers to ${own.size}`
      if (sizes.uniqueBytes !== unique) return `${snapshot.name}: unique ${sizes.uniqueBytes}, not ${unique}`
    }
    for (let i = 0; i < 4; i++) {
      const names = [...trees.keys()].filter(() => this.random() < 0.5)
      const chosen = names.map((name) => trees.get(name) as Set<number>)
      const others = [...trees].filter(([name]) => !names.includes(name)).map(([, blocks]) => blocks)
      const freed = heldOnlyBy(chosen, [live, ...others]) * BLOCK_SIZE_BYTES
      const said = volume.freedIfDeleted(names)
      if (said !== freed) return `deleting ${names.join()} frees ${freed}, not ${said}`
    }
    return undefined
  }
}

async function runHistory(t: Assertion, seed: number): Promise<void> {
  const history = await History.begin(seed)
  for (let step = 0; step < STEPS; step++) {
    try {
      await history.step()
    } catch (error) {
      t.fail(`seed ${seed}, step ${step}: ${(error as Error).stack}`)
      return
    }
    const fault = step % 10 === 9 ? (history.contentsFault() ?? (await history.sizesFault())) : undefined
    if (fault === undefined) continue
    t.fail(`seed ${seed}, step ${step}: ${fault}`)
    return
  }
  await emptyAll(t, history, seed)
}

/** When everything is deleted, everything is free again. */
async function emptyAll(t: Assertion, history: History, seed: number): Promise<void> {
  const { volume } = history
  for (const name of history.snapshots.keys()) await volume.deleteSnapshot(name)
  for (const { id } of volume.bookmarks()) await volume.deleteBookmark(id)
  volume.discard(0, volume.blockCount)
  await volume.commit()
  await volume.drain()
  const space = volume.space()
  t.alike([space.snapshotBytes, space.pendingFreeBytes], [0, 0], `seed ${seed}: nothing is held or pending`)
  t.ok(space.liveBytes <= BLOCK_SIZE_BYTES, 'the present refers to its root at most')
  await volume.close()
  const fixed = 1032 + 2 + 3 * (history.storage.sizeBytes / (128 * MIB) - 1)
  // The root of the map, the catalog's root, leaf and blocks, the empty directory of the dead list.
  const few = space.allocatedBytes / BLOCK_SIZE_BYTES - fixed
  t.ok(few >= 0 && few <= 20, `seed ${seed}: ${few} blocks are still allocated`)
}

test('Volume keeps every snapshot and size right in random histories', { timeout: 900_000 }, async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  for (let i = 0; i < HISTORIES; i++) await runHistory(t, SEED + i)
})
