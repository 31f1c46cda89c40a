// Crash replay at the block layer: random histories on a storage that logs writes, cut at every flush
// and at many places between, with lost, reordered and torn writes. Each state must open at the last
// commit that was promised or at the one under way, whole: check finds nothing, every snapshot is
// bit-identical, and the present differs from its commit only by data overwritten in place since.

import test, { type Assertion } from 'brittle'
import { type CrashState, crashStates } from '../../src/storage/crash-states.ts'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { type LogEntry, WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import { Volume } from '../../src/volume/volume.ts'
import { describeBlock, patternBlocks } from '../support/block-pattern.ts'
import { chosenSeed, Random } from '../support/random.ts'
import {
  type Contents,
  type ModelPoint,
  type Step,
  VolumeHistory,
  verifyDevice,
  type Written,
} from '../support/volume-history.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const HISTORY_COUNT = isLong ? 400 : 10
/** brittle's own 30 s are too few on a busy machine. */
const LIMIT = { timeout: isLong ? 3_600_000 : 300_000 }

/** What a transaction made durable. */
interface Committed {
  readonly live: ReadonlyMap<number, Written>
  readonly points: ReadonlyMap<string, ModelPoint>
  /** Writes in place to what this transaction maps, made since its cut: block to sequences. */
  readonly overwritten: Map<number, number[]>
}

/** A history whose every cut is remembered, and whose promises are marks in the write log. */
class CrashHistory {
  readonly committed = new Map<number, Committed>()
  readonly log: WriteLogStorage
  readonly base: MemoryStorage
  readonly history: VolumeHistory
  readonly #random: Random
  /** Newest transaction whose cut was noticed. */
  #lastCut: number

  private constructor(log: WriteLogStorage, base: MemoryStorage, history: VolumeHistory, random: Random) {
    this.log = log
    this.base = base
    this.history = history
    this.#random = random
    this.#lastCut = history.volume.durableTransaction
    this.#remember(this.#lastCut, history.live)
    log.mark(`durable ${this.#lastCut}`)
  }

  static async begin(random: Random, steps?: readonly Step[]): Promise<CrashHistory> {
    const memory = new MemoryStorage()
    const sizeBytes = random.pick([256, 3000, 70_000]) * 4096
    await (await Volume.create(memory, { sizeBytes })).close()
    const base = memory.fork()
    // Slow flushes, so that writes come while they run.
    const slow = new FaultStorage(memory, [
      { operation: 'flush', times: Number.POSITIVE_INFINITY, delayMs: 1, matches: () => random.chance(0.3) },
      { operation: 'punch', times: Number.POSITIVE_INFINITY, delayMs: 1, matches: () => random.chance(0.3) },
    ])
    const log = new WriteLogStorage(slow)
    const options = steps === undefined ? { sizeBytes } : { sizeBytes, steps }
    const history = VolumeHistory.resume(log, await Volume.open(log), random, options)
    return new CrashHistory(log, base, history, random)
  }

  async step(): Promise<void> {
    const { history } = this
    const before = new Map(history.live)
    const { sequence } = history
    if (this.#random.chance(0.25)) {
      await this.#commitAndWrite()
    } else {
      const step = await history.step()
      this.#noteOverwrites(before, sequence)
      this.#noticeCuts(before, step)
      if (step === 'flush') this.log.mark(`flushed ${history.sequence}`)
    }
    this.log.mark(`durable ${history.volume.durableTransaction}`)
  }

  async end(): Promise<void> {
    await this.history.volume.close()
    this.#noticeCuts(this.history.live, 'commit')
  }

  /** Writes that meet a commit under way: before its cut, or while its flushes run. */
  async #commitAndWrite(): Promise<void> {
    const { history } = this
    const committing = history.volume.commit()
    for (let i = this.#random.below(5); i > 0; i--) {
      if (this.#random.chance(0.5)) {
        await Promise.resolve()
      } else {
        const before = new Map(history.live)
        const { sequence } = history
        await history.take('write')
        this.#noteOverwrites(before, sequence)
      }
      this.#noticeCuts(history.live, 'commit')
    }
    await committing
    this.#noticeCuts(history.live, 'commit')
  }

  /** A cut comes between two changes of the present; a rollback makes one before and one after its own. */
  #noticeCuts(before: Contents, step: Step): void {
    const newest = this.history.volume.transaction - 1
    while (this.#lastCut < newest) {
      this.#lastCut++
      const isBefore = step === 'rollback' && this.#lastCut < newest
      this.#remember(this.#lastCut, isBefore ? before : this.history.live)
    }
  }

  #remember(transaction: number, live: Contents): void {
    const points = new Map(this.history.points)
    this.committed.set(transaction, { live: new Map(live), points, overwritten: new Map() })
  }

  /** Which commits map a block that was overwritten where it is. */
  #noteOverwrites(before: Contents, sequenceBefore: number): void {
    for (const [block, written] of this.history.live) {
      if (written.sequence <= sequenceBefore) continue
      const was = before.get(block)
      for (const state of this.committed.values()) {
        const mapped = state.live.get(block)
        // The same entry of the map: born in the same epoch at the same place, so never moved since.
        const isInPlace = was !== undefined && mapped !== undefined && was.place === mapped.place
        if (!isInPlace || written.place !== mapped.place) continue
        const sequences = state.overwritten.get(block) ?? []
        sequences.push(written.sequence)
        state.overwritten.set(block, sequences)
      }
    }
  }
}

/** The largest number that marks of this kind name; 0: none. */
function newest(marks: readonly string[], kind: string): number {
  let most = 0
  for (const mark of marks) {
    const [word, number] = mark.split(' ')
    if (word === kind) most = Math.max(most, Number(number))
  }
  return most
}

/** Everything wrong with one state after a crash. */
async function judge(crash: CrashHistory, state: CrashState, random: Random): Promise<string[]> {
  const raw = checkVolume(state.storage)
  const unmended = raw.errors.filter((finding) => finding.code === 'SUPERBLOCK_COPY')
  const problems = raw.errors
    .filter((finding) => finding.code !== 'SUPERBLOCK_COPY')
    .map((finding) => `${finding.code} ${finding.where}: ${finding.message}`)
  if (unmended.length > 1) problems.push('both copies of a slot are bad, and it was chosen')
  if (raw.leaks.blockCount > 0) problems.push(`${raw.leaks.blockCount} blocks are leaked`)

  const volume = await Volume.open(state.storage)
  const { transaction } = volume.openReport
  const promised = newest(state.marks, 'durable')
  const committed = crash.committed.get(transaction)
  if (transaction < promised) problems.push(`transaction ${promised} was promised, ${transaction} is there`)
  // A rollback makes most commits in one step: the snapshot, its twin, the way back.
  if (transaction > promised + 3) problems.push(`${transaction} is there, only ${promised} was promised`)
  if (!committed) return [...problems, `nobody knows transaction ${transaction}`]
  problems.push(...judgeContents(volume, committed, newest(state.marks, 'flushed'), random))
  problems.push(...(await judgeUse(volume, state)))
  return problems
}

function judgeContents(volume: Volume, committed: Committed, flushed: number, random: Random): string[] {
  const problems: string[] = []
  const points = [...committed.points.values()]
  const names = (kind: string) => points.flatMap((point) => (point.kind === kind ? [point.name] : [])).sort()
  const there = volume.snapshots().map((snapshot) => snapshot.name)
  if (there.sort().join() !== names('snapshot').join()) problems.push(`snapshots are ${there}`)
  const bookmarks = volume.bookmarks().map((bookmark) => bookmark.name)
  if (bookmarks.sort().join() !== names('bookmark').join()) problems.push(`bookmarks are ${bookmarks}`)
  if (problems.length > 0) return problems
  for (const point of points) {
    if (point.kind !== 'snapshot') continue
    problems.push(...verifyDevice(point.name, volume.openSnapshot(point.name), point.contents, random))
  }
  const untouched = new Map([...committed.live].filter(([block]) => !committed.overwritten.has(block)))
  const probe = { blockCount: volume.blockCount, readSync: volume.readSync.bind(volume) }
  problems.push(...verifyDevice('the present', exceptFor(probe, committed), untouched, random))
  for (const [block, sequences] of committed.overwritten) {
    problems.push(...judgeOverwritten(volume, block, committed.live.get(block)?.sequence, sequences, flushed))
  }
  return problems
}

/** Reads zeros for blocks that are judged on their own. */
function exceptFor(device: Pick<Volume, 'readSync' | 'blockCount'>, committed: Committed) {
  return {
    blockCount: device.blockCount,
    readSync(offset: number, length: number, target: Uint8Array, at: number): void {
      if (committed.overwritten.has(offset / 4096)) target.fill(0, at, at + length)
      else device.readSync(offset, length, target, at)
    },
  }
}

/** Each sector holds the committed write or a later one; what a flush covered is not undone. */
function judgeOverwritten(
  volume: Volume,
  block: number,
  committed: number | undefined,
  sequences: readonly number[],
  flushed: number,
): string[] {
  const bytes = new Uint8Array(4096)
  volume.readSync(block * 4096, 4096, bytes, 0)
  const least = Math.max(committed ?? 0, ...sequences.filter((sequence) => sequence <= flushed))
  const allowed = [committed ?? 0, ...sequences].filter((sequence) => sequence >= least)
  const seen = describeBlock(bytes, 0).split(', ')
  const isSound = seen.every((sector) => allowed.some((sequence) => sector === `${sequence}@${block}`))
  return isSound ? [] : [`the present, block ${block}: ${seen} instead of one of ${allowed}`]
}

/** The volume goes on: what is written now is there, and everything stays sound. */
async function judgeUse(volume: Volume, state: CrashState): Promise<string[]> {
  const problems: string[] = []
  volume.writeData(3, 5, patternBlocks(3, 5, 999_999), 0)
  await volume.createSnapshot('after the crash')
  volume.discard(0, volume.blockCount)
  await volume.commit()
  const contents = new Map([3, 4, 5, 6, 7].map((block) => [block, { sequence: 999_999 }] as const))
  const bytes = new Uint8Array(4096)
  const snapshot = volume.openSnapshot('after the crash')
  for (const [block, { sequence }] of contents) {
    snapshot.readSync(block * 4096, 4096, bytes, 0)
    if (describeBlock(bytes, 0) !== `${sequence}@${block}`) problems.push(`a write after the crash is lost`)
  }
  await volume.close()
  const report = checkVolume(state.storage)
  problems.push(
    ...report.errors.map((finding) => `later ${finding.code} ${finding.where}: ${finding.message}`),
  )
  if (report.leaks.blockCount > 0) problems.push(`later ${report.leaks.blockCount} blocks are leaked`)
  return problems
}

interface Red {
  readonly state: CrashState
  readonly problems: readonly string[]
}

/** @returns the first state that is wrong, or how many there were */
async function replay(crash: CrashHistory, log: readonly LogEntry[], seed: number): Promise<Red | number> {
  const random = new Random(seed)
  let count = 0
  const options = {
    seed,
    base: crash.base,
    prefixesPerInterval: 2,
    subsetsPerInterval: 3,
    tornPerInterval: 2,
  }
  for (const state of crashStates(log, options)) {
    count++
    const problems = await judge(crash, state, random).catch((error: Error) => [error.stack ?? error.message])
    if (problems.length > 0) return { state, problems }
  }
  return count
}

function report(t: Assertion, crash: CrashHistory, { state, problems }: Red): void {
  for (const line of crash.history.log) t.comment(line)
  t.fail(`crash ${state.label}: ${problems.slice(0, 5).join('; ')} (${problems.length} in all)`)
}

async function randomCrash(random: Random, steps?: readonly Step[]): Promise<CrashHistory> {
  const crash = await CrashHistory.begin(random, steps)
  for (let i = random.between(6, 24); i > 0; i--) await crash.step()
  await crash.end()
  return crash
}

test('after any crash the volume opens at its last commit, whole', LIMIT, async (t) => {
  const seed = chosenSeed(t)
  const random = new Random(seed)
  let count = 0
  for (let round = 0; round < HISTORY_COUNT; round++) {
    const crash = await randomCrash(random)
    const outcome = await replay(crash, crash.log.entries, random.below(2 ** 32))
    if (typeof outcome !== 'number') {
      report(t, crash, outcome)
      return
    }
    count += outcome
  }
  t.ok(count > HISTORY_COUNT * 20, `${HISTORY_COUNT} histories, ${count} crashes`)
})

/** Cut, writes in the window and beside it, seal, drop and deletion, one after the other. */
const WINDOW_STEPS: readonly Step[] = [
  ...(['cut', 'cut', 'windowWrite', 'windowMetadata', 'windowDiscard', 'windowCommit', 'seal'] as const),
  ...(['drop', 'write', 'commit', 'snapshot', 'delete', 'delete'] as const),
]

test('a crash at any moment of a window leaves no shadow copy, or the sealed one', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  let count = 0
  for (let round = 0; round < HISTORY_COUNT; round++) {
    const crash = await randomCrash(random, WINDOW_STEPS)
    const outcome = await replay(crash, crash.log.entries, random.below(2 ** 32))
    if (typeof outcome !== 'number') {
      report(t, crash, outcome)
      return
    }
    count += outcome
  }
  t.ok(count > HISTORY_COUNT * 20, `${HISTORY_COUNT} histories, ${count} crashes`)
})

/** The log of a volume that forgets to flush before its superblock, or after it. */
function withoutFlushes(log: readonly LogEntry[], which: 'before' | 'after'): LogEntry[] {
  const homes = SUPERBLOCK_HOMES.flat().map((block) => block * 4096)
  const isSuperblock = (entry?: LogEntry) => entry?.kind === 'write' && homes.includes(entry.offsetBytes)
  const dropped = new Set<number>()
  for (const [i, entry] of log.entries()) {
    const isBefore = entry.kind === 'flush-end' && isSuperblock(log[i + 1])
    const isAfter = entry.kind === 'flush-begin' && isSuperblock(log[i - 1])
    if (which === 'before' ? isBefore : isAfter) dropped.add((entry as { id: number }).id)
  }
  return log.filter((entry) => !('id' in entry && dropped.has(entry.id)))
}

test('a commit that forgets a flush turns the judge red', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const red = { before: 0, after: 0 }
  for (let round = 0; round < 8; round++) {
    const crash = await randomCrash(random, round % 2 === 0 ? undefined : WINDOW_STEPS)
    for (const which of ['before', 'after'] as const) {
      const log = withoutFlushes(crash.log.entries, which)
      if (typeof (await replay(crash, log, random.below(2 ** 32))) !== 'number') red[which]++
    }
  }
  t.ok(red.before > 0, `the flush before the superblock: seen in ${red.before} of 8 histories`)
  t.ok(red.after > 0, `the flush after the superblock: seen in ${red.after} of 8 histories`)
})

test('a crash while a volume is made leaves no volume, or an empty one', LIMIT, async (t) => {
  const seed = chosenSeed(t)
  const log = new WriteLogStorage(new MemoryStorage())
  await (await Volume.create(log, { sizeBytes: 2 ** 20 })).close()
  const codes = new Map<string, number>()
  for (const state of crashStates(log.entries, { seed, subsetsPerInterval: 30, tornPerInterval: 30 })) {
    let outcome = 'opened'
    try {
      const volume = await Volume.open(state.storage)
      outcome =
        volume.snapshots().length === 0 && checkVolume(state.storage).errorCount === 0 ? 'opened' : 'bad'
      await volume.close()
    } catch (error) {
      outcome = (error as { code?: string }).code ?? String(error)
    }
    codes.set(outcome, (codes.get(outcome) ?? 0) + 1)
  }
  t.comment([...codes].map(([code, count]) => `${code}: ${count}`).join(', '))
  const known = ['opened', 'NOT_A_VOLUME', 'CHECKSUM_MISMATCH', 'TRUNCATED']
  t.alike(
    [...codes.keys()].filter((code) => !known.includes(code)),
    [],
  )
  t.ok((codes.get('opened') ?? 0) > 0)
})
