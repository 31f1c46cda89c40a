// The crash replay is only worth something if it can fail: each of these faults, planted in the storage,
// under the file system or in what a crash left, must turn it red. Without any it stays green.
// deadline 300

import test from 'brittle'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import type { MemoryStorage } from '../../src/storage/memory-storage.ts'
import type { LogEntry } from '../../src/storage/write-log-storage.ts'
import { SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import type { Volume } from '../../src/volume/volume.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { freshStorage, RandomHistory } from './history.ts'
import { replay } from './replay.ts'
import { beginSequence, type Sequence } from './sequences.ts'
import type { CrashStack } from './stack.ts'

const HISTORIES_MAX = 25
const LIMIT = { timeout: 300_000 }
const HOMES = SUPERBLOCK_HOMES.flat().map((block) => block * 4096)

/** Anything that a crash may not leave; what only the model itself could get wrong is not in it. */
const DAMAGE =
  /promised operation|^check after|damaged|none of their versions| is .*, not |names are|differ|is no block|from after|e2fsck of|do not make|checksum is/

interface Fault {
  /** What the judge must say of it: not just anything. */
  readonly expected: RegExp
  /** What shows it soon; random histories do in time. */
  readonly history?: (stack: CrashStack) => Promise<void>
  readonly wrapDevice?: (volume: Volume) => BlockDevice
  readonly changeLog?: (log: readonly LogEntry[]) => LogEntry[]
}

/** The volume with some of its methods replaced. */
function replacing(volume: Volume, methods: Partial<BlockDevice>): BlockDevice {
  return new Proxy<BlockDevice>(volume, {
    get(_, key) {
      const replaced = Reflect.get(methods, key)
      const found = replaced ?? Reflect.get(volume, key, volume)
      return typeof found === 'function' && replaced === undefined ? found.bind(volume) : found
    },
  })
}

function isSuperblock(entry: LogEntry | undefined): boolean {
  return entry?.kind === 'write' && HOMES.includes(entry.offsetBytes)
}

/** The log of a volume that forgets to flush before its superblock, or after it. */
function withoutFlushes(log: readonly LogEntry[], which: 'before' | 'after'): LogEntry[] {
  const dropped = new Set<number>()
  for (const [i, entry] of log.entries()) {
    const isBefore = entry.kind === 'flush-end' && isSuperblock(log[i + 1])
    const isAfter = entry.kind === 'flush-begin' && isSuperblock(log[i - 1])
    if (which === 'before' ? isBefore : isAfter) dropped.add((entry as { id: number }).id)
  }
  return log.filter((entry) => !('id' in entry && dropped.has(entry.id)))
}

/** The log of a volume that writes its superblock with the rest and flushes then. */
function withEarlySuperblocks(log: readonly LogEntry[]): LogEntry[] {
  const changed: LogEntry[] = []
  for (const entry of log) {
    if (!isSuperblock(entry)) changed.push(entry)
    else {
      const flush = changed.findLastIndex((earlier) => earlier.kind === 'flush-begin')
      changed.splice(Math.max(flush, 0), 0, entry)
    }
  }
  return changed
}

/** A file gives its blocks up and another takes them, in the epoch that bore them, before a crash. */
async function reuseBlocks(stack: CrashStack): Promise<void> {
  const one = stack.create(stack.root, 'one')
  stack.write(one, 0, new Uint8Array(40_960).fill(1))
  stack.commit()
  await stack.settled()
  stack.unlink(stack.root, 'one', false)
  const other = stack.create(stack.root, 'other')
  stack.write(other, 0, new Uint8Array(40_960).fill(2))
  stack.commit()
  await stack.settled()
}

/** What a database does. */
async function overwriteInPlace(stack: CrashStack): Promise<void> {
  const file = stack.create(stack.root, 'file')
  for (let i = 0; i < 4; i++) {
    stack.write(file, 0, new Uint8Array(8192).fill(i + 1), i > 0)
    stack.sync(file, true)
    await stack.settled()
  }
}

async function historyFor(fresh: MemoryStorage, fault: Fault, seed: number): Promise<Sequence> {
  const options = fault.wrapDevice ? { wrapDevice: fault.wrapDevice } : {}
  if (fault.history) {
    const sequence = await beginSequence(fresh, options)
    await fault.history(sequence.stack)
    return sequence
  }
  const history = await RandomHistory.begin(fresh, new Random(seed), options)
  await history.run(14)
  return { stack: history.stack, base: fresh, fromIndex: 0 }
}

/** Which history turned red, from 1; 0: none. */
async function firstRed(
  fresh: MemoryStorage,
  random: Random,
  fault: Fault,
  historiesMax = HISTORIES_MAX,
): Promise<[number, string]> {
  for (let round = 1; round <= historiesMax; round++) {
    const seed = random.below(2 ** 32)
    const { stack, base, fromIndex } = await historyFor(fresh, fault, seed)
    const log = fault.changeLog ? { log: fault.changeLog(stack.log.entries) } : {}
    const outcome = await replay(stack, { seed, base, fromIndex, useEvery: 1000, ...log })
    if (typeof outcome !== 'number') return [round, outcome.problems[0] ?? '']
  }
  return [0, '']
}

const FAULTS: Readonly<Record<string, Fault>> = {
  'a commit that forgets the flush before its superblock': {
    expected: DAMAGE,
    changeLog: (log) => withoutFlushes(log, 'before'),
  },
  'a commit that forgets the flush after its superblock': {
    expected: DAMAGE,
    changeLog: (log) => withoutFlushes(log, 'after'),
  },
  'a superblock that is written before the first flush': {
    expected: DAMAGE,
    changeLog: withEarlySuperblocks,
  },
  'a flush of data in place that does nothing': {
    expected: /none of their versions/,
    history: overwriteInPlace,
    wrapDevice: (volume) => replacing(volume, { flush: async () => undefined }),
  },
  'a commit that answers before it is durable': {
    expected: /promised operation/,
    wrapDevice: (volume) =>
      replacing(volume, {
        commit: async () => {
          volume.commit().catch(() => undefined)
        },
      }),
  },
  'freed blocks that are not discarded': {
    expected: /none of their versions/,
    history: reuseBlocks,
    wrapDevice: (volume) => replacing(volume, { discard: () => undefined }),
  },
  'metadata that is written in place': {
    expected: DAMAGE,
    wrapDevice: (volume) =>
      replacing(volume, {
        writeMetadata: (block, source, at) => {
          volume.writeData(block, 1, source, at)
        },
      }),
  },
}

for (const [name, fault] of Object.entries(FAULTS)) {
  test(`${name} turns the replay red`, LIMIT, async (t) => {
    const random = new Random(chosenSeed(t))
    const [round, problem] = await firstRed(await freshStorage(), random, fault)
    t.ok(round > 0 && fault.expected.test(problem), `seen in history ${round}: ${problem.slice(0, 200)}`)
  })
}

test('the same histories without a fault stay green', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const [round, problem] = await firstRed(await freshStorage(), random, { expected: /^$/ }, 8)
  t.is(problem, '')
  t.is(round, 0)
  for (const make of [reuseBlocks, overwriteInPlace]) {
    const fault = { expected: /^$/, history: make }
    t.alike(await firstRed(await freshStorage(), random, fault, 2), [0, ''], make.name)
  }
})
