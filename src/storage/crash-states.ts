// What a storage may hold after a crash: replays a write log (write-log-storage.ts) into storages.
//
// The model: what was complete before a flush began is there once that flush has ended. Anything
// later may be there or not, in any combination, and of a write any of its 512-byte sectors. A
// write issued while a flush runs is not covered by it. Nothing else happens: sectors are whole, and
// no byte changes that nobody wrote.
// Always true: states come lazily, cheap ones (forks that share memory); the same seed gives the
// same states.

import { assert } from '../base/assert.ts'
import { MemoryStorage } from './memory-storage.ts'
import type { LogEntry } from './write-log-storage.ts'

const SECTOR_BYTES = 512

export interface CrashStateOptions {
  readonly seed: number
  /** Contents before the log's first entry. Default: an empty storage. */
  readonly base?: MemoryStorage
  /** States that hold everything up to some point between two flush ends. Default 4. */
  readonly prefixesPerInterval?: number
  /** States that hold a random part of what no flush had covered. Default 6. */
  readonly subsetsPerInterval?: number
  /** States in which one write is torn at its sectors. Default 3. */
  readonly tornPerInterval?: number
}

export interface CrashState {
  /** How it was made, for messages. */
  readonly label: string
  readonly storage: MemoryStorage
  /** The crash came before this entry of the log. */
  readonly cutIndex: number
  /** Marks noted before the crash, oldest first. */
  readonly marks: readonly string[]
}

type Change =
  | { readonly kind: 'write'; readonly offsetBytes: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly sizeBytes: number }
  | { readonly kind: 'punch'; readonly offsetBytes: number; readonly lengthBytes: number }

interface Pending {
  readonly change: Change
  readonly beginIndex: number
  /** Where the call had ended; Infinity while it runs. */
  endIndex: number
}

/** All crash points of a log: at each end of a flush, and a bounded number of those between. */
export function* crashStates(log: readonly LogEntry[], options: CrashStateOptions): Generator<CrashState> {
  const replay = new Replay(log, options)
  let beginIndex = 0
  for (let index = 0; index <= log.length; index++) {
    const entry = log[index]
    if (entry && entry.kind !== 'flush-end') continue
    yield* replay.between(beginIndex, index)
    if (entry) {
      replay.settle(entry.id, index)
      yield replay.state(`at the end of flush ${entry.id}`, index + 1, [])
    }
    beginIndex = index + 1
  }
}

class Replay {
  readonly #log: readonly LogEntry[]
  readonly #options: CrashStateOptions
  readonly #random: () => number
  readonly #durable: MemoryStorage
  readonly #changes: Pending[]
  #unsettled: Pending[]

  constructor(log: readonly LogEntry[], options: CrashStateOptions) {
    this.#log = log
    this.#options = options
    this.#random = randomNumbers(options.seed)
    this.#durable = options.base ? options.base.fork('crashed') : new MemoryStorage({ name: 'crashed' })
    this.#changes = changesOf(log)
    this.#unsettled = this.#changes
  }

  /** Makes durable what was complete when flush `id`, which ended at `endIndex`, had begun. */
  settle(id: number, endIndex: number): void {
    let begin = endIndex
    for (; begin >= 0; begin--) {
      const entry = this.#log[begin]
      if (entry?.kind === 'flush-begin' && entry.id === id) break
    }
    assert(begin >= 0, `flush ${id} began before it ended`)
    const later: Pending[] = []
    for (const pending of this.#unsettled) {
      if (pending.endIndex < begin) apply(this.#durable, pending.change)
      else later.push(pending)
    }
    this.#unsettled = later
  }

  state(label: string, cutIndex: number, changes: readonly Change[]): CrashState {
    const storage = this.#durable.fork()
    for (const change of changes) apply(storage, change)
    const marks: string[] = []
    for (let i = 0; i < cutIndex; i++) {
      const entry = this.#log[i]
      if (entry?.kind === 'mark') marks.push(entry.label)
    }
    return { label, storage, cutIndex, marks }
  }

  /** Crashes before entry beginIndex, the first since a flush ended, up to before entry endIndex. */
  *between(beginIndex: number, endIndex: number): Generator<CrashState> {
    if (this.#pendingAt(endIndex).length === 0) return
    const { prefixesPerInterval = 4, subsetsPerInterval = 6, tornPerInterval = 3 } = this.#options
    const span = endIndex - beginIndex + 1
    const everyPrefix = span <= prefixesPerInterval
    for (let i = 0; i < Math.min(prefixesPerInterval, span); i++) {
      const cut = everyPrefix ? beginIndex + i : this.#cut(beginIndex, endIndex)
      yield this.state(`with everything up to entry ${cut}`, cut, this.#pendingAt(cut))
    }
    for (let i = 0; i < subsetsPerInterval; i++) {
      const cut = i % 2 === 0 ? endIndex : this.#cut(beginIndex, endIndex)
      const share = 0.1 + 0.8 * this.#random()
      const kept = this.#pendingAt(cut).filter(() => this.#random() < share)
      yield this.state(`with ${kept.length} random changes up to entry ${cut}`, cut, this.#shuffle(kept))
    }
    for (let i = 0; i < tornPerInterval; i++) yield* this.#torn(beginIndex, endIndex)
  }

  *#torn(beginIndex: number, endIndex: number): Generator<CrashState> {
    const cut = this.#cut(beginIndex, endIndex)
    const changes = this.#pendingAt(cut)
    const writes = changes.flatMap((change, at) => (change.kind === 'write' ? [at] : []))
    // The last write is the one under way when the power goes; now and then it is another.
    const at = this.#random() < 0.5 ? writes.at(-1) : writes[Math.floor(this.#random() * writes.length)]
    const write = at === undefined ? undefined : changes[at]
    if (at === undefined || write?.kind !== 'write') return
    const others = changes.filter((_, index) => index < at || (index > at && this.#random() < 0.5))
    const pieces = this.#random() < 0.5 ? this.#prefix(write) : this.#sectors(write)
    const label = `with the write of ${write.bytes.length} at ${write.offsetBytes} torn, up to entry ${cut}`
    yield this.state(label, cut, [...others, ...pieces])
  }

  /** The first sectors of a write, at least one too few. */
  #prefix(write: Change & { kind: 'write' }): Change[] {
    const sectorCount = Math.ceil(write.bytes.length / SECTOR_BYTES)
    const kept = Math.floor(this.#random() * sectorCount) * SECTOR_BYTES
    return [{ ...write, bytes: write.bytes.subarray(0, kept) }]
  }

  #sectors(write: Change & { kind: 'write' }): Change[] {
    const pieces: Change[] = []
    for (let at = 0; at < write.bytes.length; at += SECTOR_BYTES) {
      if (this.#random() < 0.5) continue
      const bytes = write.bytes.subarray(at, at + SECTOR_BYTES)
      pieces.push({ kind: 'write', offsetBytes: write.offsetBytes + at, bytes })
    }
    return pieces
  }

  #pendingAt(cutIndex: number): Change[] {
    const changes: Change[] = []
    for (const pending of this.#unsettled) {
      if (pending.beginIndex < cutIndex) changes.push(pending.change)
    }
    return changes
  }

  #cut(beginIndex: number, endIndex: number): number {
    return beginIndex + Math.floor(this.#random() * (endIndex - beginIndex + 1))
  }

  /** Any order, but around a change of size the host keeps to the order it was given. */
  #shuffle(changes: Change[]): Change[] {
    if (changes.some((change) => change.kind === 'truncate')) return changes
    for (let i = changes.length - 1; i > 0; i--) {
      const j = Math.floor(this.#random() * (i + 1))
      const swapped = changes[i] as Change
      changes[i] = changes[j] as Change
      changes[j] = swapped
    }
    return changes
  }
}

function changesOf(log: readonly LogEntry[]): Pending[] {
  const changes: Pending[] = []
  const punches = new Map<number, Pending>()
  for (const [index, entry] of log.entries()) {
    if (entry.kind === 'write' || entry.kind === 'truncate') {
      changes.push({ change: entry, beginIndex: index, endIndex: index })
    } else if (entry.kind === 'punch-begin') {
      const { offsetBytes, lengthBytes } = entry
      const change: Change = { kind: 'punch', offsetBytes, lengthBytes }
      const pending = { change, beginIndex: index, endIndex: Number.POSITIVE_INFINITY }
      changes.push(pending)
      punches.set(entry.id, pending)
    } else if (entry.kind === 'punch-end') {
      const pending = punches.get(entry.id)
      if (pending) pending.endIndex = index
    }
  }
  return changes
}

function apply(storage: MemoryStorage, change: Change): void {
  if (change.kind === 'write') storage.write(change.offsetBytes, change.bytes.length, change.bytes, 0)
  else if (change.kind === 'punch') storage.punchSync(change.offsetBytes, change.lengthBytes)
  else storage.truncate(change.sizeBytes)
}

/** mulberry32: numbers from 0 up to 1, the same for the same seed. */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
