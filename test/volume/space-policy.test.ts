// The space policy: what snapshots may hold, what gives way when they hold that, and what is told of it.
// The rows are those of the checklist of the shadow copy service.

import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { BLOCK_SIZE_BYTES, GIB, MIB } from '../../src/base/units.ts'
import { randomUuid } from '../../src/base/uuid.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { SHADOW_ATTRIBUTES } from '../../src/volume/points.ts'
import { SnapshotDevice } from '../../src/volume/snapshot-device.ts'
import { DEFAULT_POLICY, type SpacePolicy } from '../../src/volume/space-policy.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, difference, fillBlock, heldOnlyBy, randomFrom, referenced } from './support/model.ts'

const SEED = Number(process.env['UMBRA_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
const HISTORIES = process.env['UMBRA_LONG'] ? 60 : 4
const STEPS = 600

function writeTagged(volume: Volume, contents: Contents, first: number, count: number, tag: number): void {
  const bytes = new Uint8Array(count * BLOCK_SIZE_BYTES)
  for (let i = 0; i < count; i++) fillBlock(bytes, i * BLOCK_SIZE_BYTES, first + i, tag)
  volume.writeData(first, count, bytes, 0)
  for (let i = 0; i < count; i++) contents.set(first + i, tag)
}

async function volumeWith(policy: Partial<SpacePolicy>, storage = new MemoryStorage()) {
  const volume = await Volume.create(storage, {
    sizeBytes: 64 * MIB,
    policy: { ...DEFAULT_POLICY, ...policy },
  })
  return { storage, volume, live: new Map() as Contents }
}

/** As the mount does it: room is asked for until there is none to be made. */
async function withRoom(volume: Volume, work: () => void): Promise<void> {
  await volume.spaceKeeper.withRoom(async () => work())
}

function assertSound(t: Assertion, storage: MemoryStorage): void {
  const report = checkVolume(storage.fork())
  t.alike(report.errors, [])
  t.is(report.leaks.blockCount, 0, 'no block is lost')
}

test('row 30: over the limit the oldest snapshots go first, and no write fails', async (t) => {
  const { storage, volume, live } = await volumeWith({ snapshotLimitBytes: 20 * MIB })
  const models = new Map<string, Contents>()
  for (let round = 0; round < 12; round++) {
    writeTagged(volume, live, 0, 1024, round)
    await volume.createSnapshot(`s${round}`)
    models.set(`s${round}`, new Map(live))
    t.ok(volume.space().snapshotBytes <= 20 * MIB, `${volume.space().snapshotBytes} after ${round}`)
  }
  const left = volume.snapshots().map(({ name }) => name)
  t.alike(left, ['s7', 's8', 's9', 's10', 's11'], 'the newest are left')
  for (const name of left) t.absent(difference(volume.openSnapshot(name), models.get(name) as Contents))
  t.alike(
    volume.bookmarks().map(({ name }) => name),
    ['s0', 's1', 's2', 's3', 's4', 's5', 's6'],
    'each that went left a bookmark',
  )
  const { events } = volume.spaceKeeper.log
  t.alike(
    events.filter(({ kind }) => kind === 'evicted').map(({ snapshot }) => snapshot),
    ['s0', 's1', 's2', 's3', 's4', 's5', 's6'],
    'and is told of, oldest first',
  )
  t.is(events[0]?.kind, 'warning', 'after a warning')
  t.ok(events.every(({ atMs, limitBytes }) => atMs > 0 && limitBytes === 20 * MIB))
  t.absent(difference(volume, live))
  await volume.close()
  assertSound(t, storage)
})

test('row 31: protected snapshots stay, writes are refused, and go on when one is deleted', async (t) => {
  const { storage, volume, live } = await volumeWith({ snapshotLimitBytes: 20 * MIB, whenFull: 'protect' })
  const { spaceKeeper } = volume
  writeTagged(volume, live, 0, 8192, 1)
  await volume.createSnapshot('one')
  const one = new Map(live)
  let refusal: unknown
  let written = 0
  try {
    for (; written < 8192; written += 64) {
      await withRoom(volume, () => writeTagged(volume, live, written, 64, 2))
    }
  } catch (error) {
    refusal = error
  }
  t.ok(hasCode(refusal, 'OUT_OF_SPACE'), `refused after ${written} blocks`)
  t.ok(written > 4096 && written < 5120, 'close to the limit')
  t.is(spaceKeeper.fault?.kind, 'area-full')
  t.is(spaceKeeper.fault?.cause, 'limit')
  await volume.commit()
  t.ok(volume.space().snapshotBytes <= 20 * MIB)
  t.absent(difference(volume.openSnapshot('one'), one))
  writeTagged(volume, live, 0, 64, 3)
  t.pass('what needs no new block can be written')
  t.alike(
    spaceKeeper.log.events.map(({ kind }) => kind),
    ['warning', 'area-full'],
  )

  await volume.deleteSnapshot('one')
  t.is(spaceKeeper.fault, null, 'the fault is over')
  t.is(spaceKeeper.log.events.at(-1)?.kind, 'room-again')
  writeTagged(volume, live, 0, 8192, 4)
  await volume.createSnapshot('two')
  const two = new Map(live)
  await t.exception(async () => {
    for (let at = 0; ; at = (at + 64) % 8192)
      await withRoom(volume, () => writeTagged(volume, live, at, 64, 5))
  }, /protected/)
  await volume.spaceKeeper.setPolicy({ snapshotLimitBytes: 48 * MIB })
  t.is(spaceKeeper.fault, null, 'raising the limit ends it as well')
  writeTagged(volume, live, 0, 8192, 6)
  await volume.commit()
  t.absent(difference(volume.openSnapshot('two'), two))
  t.absent(difference(volume, live))
  await volume.close()
  assertSound(t, storage)
})

test('row 31: deleting what a protected snapshot holds is refused too, what it does not hold is not', async (t) => {
  const { volume, live } = await volumeWith({ snapshotLimitBytes: 16 * MIB, whenFull: 'protect' })
  writeTagged(volume, live, 0, 6000, 1)
  await volume.createSnapshot('one')
  writeTagged(volume, live, 8192, 4096, 2)
  t.exception(() => volume.discard(0, 6000), /protected/)
  volume.discard(8192, 4096)
  await volume.commit()
  t.ok(volume.space().snapshotBytes < MIB)
  volume.discard(0, 1000)
  await volume.commit()
  t.ok(volume.space().snapshotBytes >= 1000 * BLOCK_SIZE_BYTES)
})

test('row 29: used stays within the limit, and figures are those of the blocks, in random histories', async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  for (let i = 0; i < HISTORIES; i++) {
    for (const whenFull of ['evict-oldest', 'protect'] as const) await randomHistory(t, SEED + i, whenFull)
  }
})

/** Steps of one volume under a policy, and the contents that its snapshots should have. */
class PolicyHistory {
  readonly problems: string[] = []
  readonly volume: Volume
  readonly #live: Contents
  readonly #models = new Map<string, Contents>()
  readonly #random: () => number
  readonly #evicts: boolean
  refused = 0

  constructor(volume: Volume, live: Contents, random: () => number) {
    this.volume = volume
    this.#live = live
    this.#random = random
    this.#evicts = volume.spaceKeeper.policy.whenFull === 'evict-oldest'
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit)
  }

  async step(step: number): Promise<void> {
    const kind = this.#random()
    if (kind < 0.6) await this.#write(step)
    else if (kind < 0.75) await this.#discard()
    else if (kind < 0.8) await this.#writeMetadata(step)
    else if (kind < 0.9) await this.#snapshot(step)
    else if (kind < 0.93) await this.#delete()
    else await this.volume.commit()
  }

  async #write(step: number): Promise<void> {
    const first = this.#below(8000)
    const count = 1 + this.#below(200)
    await withRoom(this.volume, () => writeTagged(this.volume, this.#live, first, count, step))
  }

  async #discard(): Promise<void> {
    const first = this.#below(8000)
    const count = 1 + this.#below(300)
    await withRoom(this.volume, () => this.volume.discard(first, count))
    for (let block = first; block < first + count; block++) this.#live.delete(block)
  }

  async #writeMetadata(step: number): Promise<void> {
    const at = this.#below(8000)
    await withRoom(this.volume, () => this.volume.requireRoom(1, false))
    const block = new Uint8Array(BLOCK_SIZE_BYTES)
    fillBlock(block, 0, at, step)
    this.volume.writeMetadata(at, block, 0)
    this.#live.set(at, step)
  }

  async #snapshot(step: number): Promise<void> {
    const contents = new Map(this.#live)
    const { name } = await this.volume.createSnapshot(`s${step}`)
    this.#models.set(name, contents)
    if (this.#evicts && this.#random() < 0.15) await this.volume.pin(name)
  }

  async #delete(): Promise<void> {
    const free = this.volume.snapshots().filter(({ pinned }) => !pinned)
    const chosen = free[this.#below(free.length)]
    if (chosen) await this.volume.deleteSnapshot(chosen.id)
  }

  /** A write was refused: it must have been right to, and there is room again afterwards. */
  async relieve(step: number): Promise<void> {
    this.refused++
    const all = this.volume.snapshots()
    const pinned = all.filter((snapshot) => snapshot.pinned)
    const free = all.filter((snapshot) => !snapshot.pinned).map(({ id }) => id)
    const freedBytes = this.volume.freedIfDeleted(free)
    if (this.#evicts && freedBytes > 0) {
      this.problems.push(`step ${step}: refused with ${freedBytes} bytes to evict`)
    }
    for (const { id } of pinned) await this.volume.unpin(id)
    if (!this.#evicts) await this.volume.deleteSnapshot(all[0]?.id as string)
  }

  verify(): void {
    for (const { name } of this.volume.snapshots()) {
      const wrong = difference(this.volume.openSnapshot(name), this.#models.get(name) as Contents)
      if (wrong) this.problems.push(`${name}: ${wrong}`)
    }
    const wrong = difference(this.volume, this.#live)
    if (wrong) this.problems.push(wrong)
  }
}

async function randomHistory(t: Assertion, seed: number, whenFull: SpacePolicy['whenFull']): Promise<void> {
  const limitBytes = 16 * MIB
  const { storage, volume, live } = await volumeWith({ snapshotLimitBytes: limitBytes, whenFull })
  const history = new PolicyHistory(volume, live, randomFrom(seed))
  for (let step = 0; step < STEPS; step++) {
    try {
      await history.step(step)
    } catch (error) {
      if (!hasCode(error, 'OUT_OF_SPACE')) throw error
      await history.relieve(step)
    }
    const { snapshotBytes } = volume.space()
    const isOver = whenFull === 'protect' && snapshotBytes > limitBytes
    if (isOver) history.problems.push(`step ${step}: ${snapshotBytes} held`)
  }
  await volume.commit()
  history.verify()
  history.problems.push(...figureProblems(volume, limitBytes))
  const what = `${whenFull}: ${volume.snapshots().length} snapshots left, ${history.refused} writes refused`
  t.alike(history.problems, [], what)
  await volume.close()
  assertSound(t, storage)
}

/** Against the sets of blocks that the trees refer to. */
function figureProblems(volume: Volume, limitBytes: number): string[] {
  const problems: string[] = []
  const live = referenced(volume.nodes, volume.liveRoot())
  const trees = new Map(volume.snapshots().map(({ name, root }) => [name, referenced(volume.nodes, root)]))
  const used = heldOnlyBy([...trees.values()], [live]) * BLOCK_SIZE_BYTES
  const { snapshotBytes, liveBytes, allocatedBytes } = volume.space()
  if (used !== snapshotBytes) problems.push(`snapshots hold ${used}, not ${snapshotBytes}`)
  if (live.size * BLOCK_SIZE_BYTES !== liveBytes)
    problems.push(`live is ${live.size} blocks, not ${liveBytes}`)
  if (allocatedBytes < liveBytes + snapshotBytes) problems.push('less allocated than used')
  const isPinned = volume.snapshots().every(({ pinned }) => pinned)
  if (snapshotBytes > limitBytes && !isPinned) problems.push(`${snapshotBytes} held of ${limitBytes}`)
  const names = [...trees.keys()].filter((_, i) => i % 2 === 0)
  const chosen = names.map((name) => trees.get(name) as Set<number>)
  const others = [...trees].filter(([name]) => !names.includes(name)).map(([, blocks]) => blocks)
  const freed = heldOnlyBy(chosen, [live, ...others]) * BLOCK_SIZE_BYTES
  if (volume.freedIfDeleted(names) !== freed) problems.push(`freed if deleted: ${freed}`)
  for (const [name, own] of trees) {
    const rest = [...trees].filter(([other]) => other !== name).map(([, blocks]) => blocks)
    const unique = heldOnlyBy([own], [live, ...rest]) * BLOCK_SIZE_BYTES
    const sizes = volume.sizesOf(name)
    if (sizes.uniqueBytes !== unique) problems.push(`${name}: unique ${unique}, not ${sizes.uniqueBytes}`)
    if (sizes.sharedBytes !== own.size * BLOCK_SIZE_BYTES - unique) problems.push(`${name}: shared`)
  }
  return problems
}

test('row 30: what is pinned stays; what is leased goes last, and is told', async (t) => {
  const { storage, volume, live } = await volumeWith({})
  const models = new Map<string, Contents>()
  for (const [i, name] of ['pinned', 'leased', 'plain', 'newest'].entries()) {
    writeTagged(volume, live, 0, 1024, i)
    await volume.createSnapshot(name)
    models.set(name, new Map(live))
  }
  writeTagged(volume, live, 0, 1024, 10)
  await volume.pin('pinned')
  const names = () => volume.snapshots().map(({ name }) => name)
  const lease = volume.lease('leased')
  let told = 0
  lease.onEvicted(() => told++)
  const device = volume.openSnapshot('leased')
  t.alike(await volume.spaceKeeper.setPolicy({ snapshotCountLimit: 3 }), ['plain'], 'an older one is leased')
  t.is(told, 0)
  t.alike(await volume.spaceKeeper.setPolicy({ snapshotCountLimit: 2 }), ['leased'], 'which goes as well')
  t.is(told, 1)
  t.alike(names(), ['pinned', 'newest'])
  const bytes = new Uint8Array(BLOCK_SIZE_BYTES)
  t.exception(() => device.readSync(0, BLOCK_SIZE_BYTES, bytes, 0), /deleted/)

  // A reader in another process, which has not been told yet, reads by the lease's root.
  const { root, epoch, blockCount } = lease
  const guard = { check: () => {}, beginRead: () => 0, endRead: () => {} }
  const asBefore = () =>
    difference(
      new SnapshotDevice(storage, { root, epoch, blockCount, guard }),
      models.get('leased') as Contents,
    )
  const overwrite = async (tag: number) => {
    for (let i = 0; i < 8; i++) {
      volume.discard(2048, 8192)
      writeTagged(volume, live, 2048, 8192, tag + i)
      await volume.commit()
    }
  }
  await volume.drain()
  await overwrite(100)
  t.absent(asBefore(), 'its blocks stay as they are')
  lease.release()
  await volume.drain()
  await overwrite(200)
  let isGone = false
  try {
    isGone = asBefore() !== undefined
  } catch {
    isGone = true
  }
  t.ok(isGone, 'and are used again when it lets go')
  t.absent(difference(volume.openSnapshot('pinned'), models.get('pinned') as Contents))
  t.absent(difference(volume, live))
  await volume.close()
  assertSound(t, storage)
})

test('the policy is durable; a lower limit evicts under evict-oldest and is refused under protect', async (t) => {
  const { storage, volume, live } = await volumeWith({})
  t.alike(volume.spaceKeeper.policy, DEFAULT_POLICY)
  for (let round = 0; round < 10; round++) {
    writeTagged(volume, live, 0, 1024, round)
    await volume.createSnapshot(`s${round}`)
  }
  t.is(volume.snapshots().length, 10)
  const whole = volume.space().snapshotBytes
  t.ok(whole >= 36 * MIB)
  await t.exception(
    () => volume.spaceKeeper.setPolicy({ snapshotLimitBytes: 20 * MIB, whenFull: 'protect' }),
    /Snapshots hold .* more than 20/,
  )
  await t.exception(
    () => volume.spaceKeeper.setPolicy({ snapshotCountLimit: 9, whenFull: 'protect' }),
    /10 snapshots/,
  )
  t.alike(volume.spaceKeeper.policy, DEFAULT_POLICY, 'nothing changed')
  await t.exception(() => volume.spaceKeeper.setPolicy({ snapshotLimitBytes: MIB }), /16M/)
  const evicted = await volume.spaceKeeper.setPolicy({ snapshotLimitBytes: 20 * MIB })
  t.alike(evicted, ['s0', 's1', 's2', 's3', 's4'])
  t.ok(volume.space().snapshotBytes <= 20 * MIB)
  const policy = { snapshotLimitBytes: 20 * MIB, whenFull: 'protect', snapshotCountLimit: 7 } as const
  await volume.spaceKeeper.setPolicy(policy)
  await volume.close()
  const again = await Volume.open(storage)
  t.alike(again.spaceKeeper.policy, policy)
  await again.spaceKeeper.setPolicy({ snapshotLimitBytes: null })
  t.is((await Volume.open(storage.fork(), { readOnly: true })).spaceKeeper.policy.snapshotLimitBytes, null)
  await again.close()
})

test('row 3: a limit for the number of snapshots, none by default', async (t) => {
  const { volume, live } = await volumeWith({ snapshotCountLimit: 4 })
  for (let round = 0; round < 7; round++) {
    writeTagged(volume, live, 0, 8, round)
    await volume.createSnapshot(`s${round}`)
    if (round === 4) await volume.pin('s2')
  }
  const names = () => volume.snapshots().map(({ name }) => name)
  t.alike(names(), ['s2', 's4', 's5', 's6'])
  for (const name of ['s4', 's5', 's6']) await volume.pin(name)
  await t.exception(() => volume.createSnapshot('more'), /all of them are protected/)
  for (const name of ['s4', 's5', 's6']) await volume.unpin(name)
  await volume.spaceKeeper.setPolicy({ whenFull: 'protect' })
  await t.exception(() => volume.createSnapshot('more'), /all of them are protected/)
  t.alike(names(), ['s2', 's4', 's5', 's6'])
  const evicted = await volume.spaceKeeper.setPolicy({ whenFull: 'evict-oldest', snapshotCountLimit: 2 })
  t.alike(evicted, ['s4', 's5'])
  await volume.close()
})

test('row 22: of 65 client-accessible shadow copies the oldest goes, or the last is refused', async (t) => {
  const { storage, volume, live } = await volumeWith({})
  const { CLIENT_ACCESSIBLE, PERSISTENT, NO_AUTO_RELEASE } = SHADOW_ATTRIBUTES
  const attributes = CLIENT_ACCESSIBLE | PERSISTENT | NO_AUTO_RELEASE
  const shadow = (bits: number) => ({ setId: randomUuid(), setCount: 1, attributes: bits })
  const count = () =>
    volume.snapshots().filter(({ shadow }) => (shadow?.attributes ?? 0) & CLIENT_ACCESSIBLE).length
  await volume.createSnapshot('plain')
  await volume.createSnapshot('backup', shadow(NO_AUTO_RELEASE))
  for (let i = 0; i < 64; i++) {
    writeTagged(volume, live, 0, 4, i)
    await volume.createSnapshot(`c${i}`, shadow(attributes))
  }
  t.is(count(), 64)
  await volume.pin('c0')
  await volume.createSnapshot('c64', shadow(attributes))
  t.is(count(), 64)
  t.alike(
    volume.spaceKeeper.log.events.map(({ snapshot }) => snapshot),
    ['c1'],
    'the oldest that is not pinned; no other kind counts',
  )
  await volume.spaceKeeper.setPolicy({ whenFull: 'protect' })
  await t.exception(() => volume.createSnapshot('c65', shadow(attributes)), /64 client-accessible/)
  await volume.createSnapshot('another', shadow(NO_AUTO_RELEASE))
  await volume.close()
  assertSound(t, storage)
})

test('thousands of snapshots over a new limit go in many small steps', async (t) => {
  const { storage, volume, live } = await volumeWith({})
  for (let round = 0; round < 1000; round++) {
    writeTagged(volume, live, round % 512, 1, round)
    await volume.createSnapshot(`s${round}`)
  }
  const evicted = await volume.spaceKeeper.setPolicy({ snapshotCountLimit: 10 })
  t.is(evicted.length, 990)
  t.is(volume.snapshots().length, 10)
  t.is(volume.spaceKeeper.log.events.length, 64, 'the last events are kept')
  t.absent(difference(volume, live))
  await volume.close()
  assertSound(t, storage)
})

test('row 30: a host without room: the oldest go until the write fits; none where that frees nothing', async (t) => {
  t.comment(`UMBRA_SEED=${SEED}`)
  const random = randomFrom(SEED)
  const storage = new MemoryStorage({ capacityBytes: 40 * MIB })
  const { volume, live } = await volumeWith({}, storage)
  for (let i = 0; i < 1500; i++) {
    await withRoom(volume, () =>
      writeTagged(volume, live, Math.floor(random() * 4000), 1 + Math.floor(random() * 16), i),
    )
    if (i % 40 === 39) await volume.createSnapshot(`s${i}`)
  }
  t.ok(volume.snapshots().length > 0, `${volume.snapshots().length} snapshots are left`)
  const evicted = volume.spaceKeeper.log.events.filter(({ kind }) => kind === 'evicted')
  t.ok(evicted.length > 3, `${evicted.length} went`)
  t.is(volume.spaceKeeper.fault, null)
  t.absent(difference(volume, live))
  await t.exception(async () => {
    for (let first = 4000; ; first += 64)
      await withRoom(volume, () => writeTagged(volume, live, first, 64, 1))
  }, /ENOSPC|free block/)
  t.is(
    volume.freedIfDeleted(volume.snapshots().map(({ name }) => name)),
    0,
    'everything that would free some is gone',
  )
  t.absent(volume.failure)
  await volume.close()
  assertSound(t, storage)
})

test('row 31: a host without room under protect: refused, and writable again when a snapshot goes', async (t) => {
  const storage = new MemoryStorage({ capacityBytes: 40 * MIB })
  const { volume, live } = await volumeWith({ whenFull: 'protect' }, storage)
  writeTagged(volume, live, 0, 4096, 1)
  await volume.createSnapshot('one')
  const one = new Map(live)
  await t.exception(async () => {
    for (let first = 0; ; first += 64)
      await withRoom(volume, () => writeTagged(volume, live, first % 12000, 64, 2))
  }, /ENOSPC|free block/)
  t.is(volume.spaceKeeper.fault?.cause, 'host')
  t.absent(difference(volume.openSnapshot('one'), one))
  await volume.deleteSnapshot('one')
  await volume.drain()
  writeTagged(volume, live, 0, 64, 3)
  t.is(volume.spaceKeeper.fault, null)
  t.absent(difference(volume, live))
  await volume.close()
  assertSound(t, storage)
})

test('a policy costs writes nothing while the limit is far', async (t) => {
  const { volume, live } = await volumeWith({ snapshotLimitBytes: GIB, whenFull: 'protect' })
  writeTagged(volume, live, 0, 4096, 1)
  await volume.createSnapshot('one')
  writeTagged(volume, live, 0, 4096, 2)
  volume.discard(0, 4096)
  t.is(volume.spaceKeeper.log.events.length, 0)
  await volume.close()
})
