// The whole stack on a storage that fails: one fixed history, again and again, each time with the next
// write, flush, punch or read failing, and on hosts that are full at each size. What was promised stays,
// the rest is refused with a reason, and opening afterwards finds everything right.
// deadline 400

import { constants } from 'node:os'
import test, { type Assertion } from 'brittle'
import { errnoFrom, UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { FALLOC } from '../../src/ext4/file-system.ts'
import { type Fault, type FaultOperation, FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { type LogEntry, WriteLogStorage } from '../../src/storage/write-log-storage.ts'
import { codeOf } from '../support/ext4-files.ts'
import { requires } from '../support/requires.ts'
import { freshStorage, makeFresh } from './history.ts'
import { ImageJudge } from './image-judge.ts'
import { judge } from './judge.ts'
import { replay, report } from './replay.ts'
import { CrashStack } from './stack.ts'
import type { ModelNode } from './tree-model.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const LIMIT = { ...requires('e2fsck'), timeout: isLong ? 3_600_000 : 380_000 }
const { ENOSPC, EIO } = constants.errno

type Step = (stack: CrashStack) => void

const filled = (lengthBytes: number, byte: number) => new Uint8Array(lengthBytes).fill(byte)

/** A step on a file that a failure may have kept from being made. */
function on(path: string, act: (stack: CrashStack, node: ModelNode) => void): Step {
  return (stack) => {
    const node = stack.find(path)
    if (node) act(stack, node)
  }
}

const HISTORY: readonly Step[] = [
  (stack) => stack.create(stack.root, 'one'),
  on('one', (stack, one) => stack.write(one, 0, filled(20_000, 1))),
  (stack) => stack.makeDirectory(stack.root, 'folder'),
  on('folder', (stack, folder) => stack.create(folder, 'two')),
  on('folder/two', (stack, two) => stack.write(two, 100, filled(5000, 2))),
  on('one', (stack, one) => stack.sync(one, false)),
  (stack) => stack.snapshot('first'),
  on('one', (stack, one) => stack.write(one, 0, filled(8192, 3))),
  on('one', (stack, one) => stack.sync(one, true)),
  on('one', (stack, one) => stack.write(one, 4096, filled(4096, 4), true)),
  on('one', (stack, one) => stack.sync(one, true)),
  on('folder/two', (stack, two) => stack.setXattr(two, 'user.large', filled(1000, 5))),
  on('folder/two', (stack, two) => stack.allocate(two, FALLOC.KEEP_SIZE, 8192, 30_000)),
  on('folder/two', (stack, two) => stack.write(two, 12_288, filled(4096, 6))),
  on('folder', (stack, folder) => stack.rename(stack.root, 'one', folder, 'moved', false)),
  (stack) => stack.commit(),
  on('folder', (stack, folder) => stack.makeSymlink(folder, 'symlink', 't'.repeat(300))),
  on('folder/two', (stack, two) => stack.link(two, stack.root, 'link')),
  on('link', (stack) => stack.unlink(stack.root, 'link', true)),
  on('folder/moved', (stack) => stack.unlink(stack.find('folder') as ModelNode, 'moved', true)),
  (stack) => stack.bookmark('between'),
  (stack) => stack.create(stack.root, 'three'),
  on('three', (stack, three) => stack.write(three, 0, filled(40_000, 7))),
  on('three', (stack, three) => stack.sync(three, false)),
  (stack) => stack.snapshot('second'),
  on('three', (stack, three) => stack.truncate(three, 10_000)),
  on('three', (stack, three) => stack.write(three, 9000, filled(9000, 8))),
  (stack) => {
    if (stack.points.has('first')) stack.deletePoint('first', true)
  },
  on('three', (stack, three) => stack.sync(three, false)),
  (stack) => {
    if (stack.orphans.length > 0) stack.closeOrphan(0)
  },
  (stack) => stack.commit(),
]

/** @returns what the first step that failed threw */
async function runUntilFailure(stack: CrashStack): Promise<unknown> {
  for (const step of HISTORY) {
    try {
      step(stack)
      await stack.settled()
    } catch (error) {
      return error
    }
  }
  try {
    await stack.close()
  } catch (error) {
    return error
  }
  return undefined
}

/** A failed write or flush has ended all writing, with a reason; what was there can be read. */
function judgeFailure(stack: CrashStack, operation: FaultOperation): string[] {
  const { volume, fs } = stack
  const problems: string[] = []
  if (operation === 'write' || operation === 'flush') {
    if (!volume.readOnly) problems.push('the volume is still writable')
    if (!volume.failure?.message) problems.push('the volume does not say why it is read-only')
  }
  if (volume.readOnly) {
    const code = codeOf(() => fs.makeNode(fs.inode(2), 'later', 0o100644, 0, { uid: 0, gid: 0, pid: 1 }))
    if (code !== 'READ_ONLY' && code !== 'CLOSED') problems.push(`a change answers ${code || 'nothing'}`)
  }
  return problems
}

interface Failing {
  readonly t: Assertion
  readonly fresh: MemoryStorage
  readonly images: ImageJudge
}

/** @returns whether the fault was met; undefined: something was wrong, and is reported */
async function failOnce(failing: Failing, fault: Fault): Promise<boolean | undefined> {
  const { t, fresh, images } = failing
  const memory = fresh.fork()
  const storage = new FaultStorage(memory)
  const stack = await CrashStack.open(storage)
  storage.plant(fault)
  const error = await runUntilFailure(stack)
  const isHit = storage.hitCount > 0
  storage.heal()
  const problems = error === undefined ? [] : judgeFailure(stack, fault.operation)
  if (error !== undefined && !isHit) problems.push(`failed without a fault: ${String(error)}`)
  if (error !== undefined && !(error instanceof UmbraError)) problems.push(`thrown: ${String(error)}`)
  const nth = fault.nth ?? 1
  const state = {
    label: 'of a failure',
    storage: memory.fork(),
    cutIndex: Number.MAX_SAFE_INTEGER,
    marks: [],
  }
  const judging = judge(stack, state, images)
  problems.push(...(await judging.catch((thrown: Error) => [thrown.stack ?? thrown.message])))
  if (problems.length > 0) {
    report(t, stack, nth, { state, problems })
    t.comment(`${fault.operation} ${nth} failed with ${fault.errno}; thrown: ${(error as Error)?.stack}`)
    return undefined
  }
  if (nth % (isLong ? 1 : 12) !== 0) return isHit
  // The power may go at any time before or after the failure as well.
  const bounds = { prefixesPerInterval: 0, subsetsPerInterval: 1, tornPerInterval: 0, useEvery: 5 }
  const outcome = await replay(stack, { seed: nth, base: fresh, ...bounds })
  if (typeof outcome === 'number') return isHit
  report(t, stack, nth, outcome)
  return undefined
}

async function failEach(t: Assertion, fault: Fault, least: number): Promise<void> {
  const failing = { t, fresh: await freshStorage(), images: new ImageJudge(t) }
  let count = 0
  for (let nth = 1; ; nth++) {
    const isHit = await failOnce(failing, { ...fault, nth })
    if (isHit === undefined) return
    if (!isHit) break
    count++
  }
  t.ok(count >= least, `each of ${count} calls failed once, ${failing.images.judgedCount} images`)
}

test('each write fails: nothing promised is lost, the volume says why it ended', LIMIT, async (t) => {
  await failEach(t, { operation: 'write', errno: EIO }, 50)
})

test('each write is torn and fails', LIMIT, async (t) => {
  await failEach(t, { operation: 'write', errno: EIO, tornBytes: 1536 }, 50)
})

test('each flush fails: nothing promised is lost, the volume says why it ended', LIMIT, async (t) => {
  await failEach(t, { operation: 'flush', errno: EIO }, 20)
})

test('each punch fails', LIMIT, async (t) => {
  await failEach(t, { operation: 'punch', errno: EIO }, 1)
})

test('each read fails', LIMIT, async (t) => {
  await failEach(t, { operation: 'read', errno: EIO }, 1)
})

/** Goes on after what was refused; @returns how many steps were */
async function runThroughRefusals(stack: CrashStack): Promise<number> {
  let refused = 0
  for (const step of HISTORY) {
    try {
      step(stack)
      await stack.settled()
    } catch (error) {
      if (errnoFrom(error) !== ENOSPC) throw error
      refused++
    }
  }
  stack.commit()
  await stack.settled()
  return refused
}

/** What the stack wrote, in a storage without a limit. */
function replayed(fresh: MemoryStorage, log: readonly LogEntry[]): MemoryStorage {
  const storage = fresh.fork()
  for (const entry of log) {
    if (entry.kind === 'write') storage.write(entry.offsetBytes, entry.bytes.length, entry.bytes, 0)
    else if (entry.kind === 'punch-begin') storage.punchSync(entry.offsetBytes, entry.lengthBytes)
    else if (entry.kind === 'truncate') storage.truncate(entry.sizeBytes)
  }
  return storage
}

/** A stack on a host with so much room and no more, and what was there before it; undefined: too little. */
async function tightStack(spareBytes: number): Promise<[CrashStack, MemoryStorage] | undefined> {
  const storage = new WriteLogStorage(new MemoryStorage({ capacityBytes: spareBytes }))
  try {
    await makeFresh(storage)
    const fresh = replayed(new MemoryStorage(), storage.entries)
    return [await CrashStack.open(storage), fresh]
  } catch (error) {
    if (errnoFrom(error) !== ENOSPC) throw error
    return undefined
  }
}

test('a host that is full at any size refuses steps and no commit', LIMIT, async (t) => {
  const images = new ImageJudge(t)
  let refusals = 0
  let sizes = 0
  for (let spareBytes = 0; spareBytes < 64 * MIB; spareBytes += 16 * 1024) {
    const tight = await tightStack(spareBytes)
    if (!tight) continue
    const [stack, fresh] = tight
    sizes++
    const refused = await runThroughRefusals(stack)
    refusals += refused
    const state = {
      label: `with room for ${spareBytes} bytes`,
      storage: replayed(fresh, stack.log.entries),
      cutIndex: Number.MAX_SAFE_INTEGER,
      marks: [],
    }
    const problems = await judge(stack, state, images)
    if (stack.volume.failure) problems.push(`a commit failed: ${stack.volume.failure.message}`)
    if (problems.length > 0) {
      report(t, stack, spareBytes, { state, problems })
      return
    }
    if (refused === 0) break
  }
  t.ok(sizes > 2 && refusals > 5, `${refusals} steps were refused at ${sizes} sizes`)
})
