// Which files differ between two points and in which bytes, against a full comparison of both trees
// after random histories; the work against a count of blocks read.

import test, { type Assertion } from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import type { FileChange } from '../../src/shadow/changed-files/file-change.ts'
import { changedRanges, FileComparison } from '../../src/shadow/changed-files/file-comparison.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { delta } from '../../src/volume/delta.ts'
import type { DeltaExtent, Snapshot } from '../../src/volume/points.ts'
import { Volume } from '../../src/volume/volume.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { FileHistory, identityOf, type Recorded, recordPoint } from './file-history.ts'

const BLOCK = 4096
const isLong = process.env['UMBRA_LONG'] === '1'

async function makeVolume(sizeBytes = 256 * MIB, storage = new MemoryStorage()): Promise<Volume> {
  const volume = await Volume.create(storage, { sizeBytes })
  formatExt4(volume)
  await volume.commit()
  return volume
}

function compare(
  volume: Volume,
  from: Snapshot,
  to: Snapshot,
  extents?: Iterable<DeltaExtent>,
): FileComparison {
  return new FileComparison({
    before: volume.openSnapshot(from.name),
    after: volume.openSnapshot(to.name),
    delta: extents ?? delta(volume.nodes, from, to),
  })
}

/** Every way in which what was told is not what a full comparison finds. */
function judge(
  changes: readonly FileChange[],
  before: ReadonlyMap<string, Recorded>,
  after: ReadonlyMap<string, Recorded>,
  written: ReadonlyMap<string, ReadonlySet<number>>,
): string[] {
  const problems: string[] = []
  const told = new Map<string, FileChange>()
  for (const change of changes) {
    const key = `${change.ino}:${change.generation}`
    if (told.has(key)) problems.push(`${key} is told twice`)
    told.set(key, change)
  }
  for (const [key, old] of before) {
    if (after.has(key)) continue
    const change = told.get(key)
    if (change?.kind !== 'deleted') problems.push(`${key} ${old.paths} was deleted, told: ${change?.kind}`)
    else if (String(change.paths) !== String(old.paths))
      problems.push(`${key}: paths ${change.paths}, not ${old.paths}`)
    told.delete(key)
  }
  for (const [key, now] of after) {
    const change = told.get(key)
    told.delete(key)
    problems.push(...judgeOne(key, before.get(key), now, change, written.get(key) ?? new Set()))
  }
  for (const [key, change] of told) problems.push(`${key} is told as ${change.kind} and is nowhere`)
  return problems
}

function judgeOne(
  key: string,
  old: Recorded | undefined,
  now: Recorded,
  change: FileChange | undefined,
  written: ReadonlySet<number>,
): string[] {
  const expected = expectedKind(old, now)
  if (!change) return isOwnChange(old, now) ? [`${key} ${now.paths} was ${expected} and is not told`] : []
  const problems: string[] = []
  // What was written again with the same bytes is told, too.
  const isRewritten = expected === undefined && written.size > 0
  if (change.kind !== (isRewritten ? 'changed' : expected)) {
    problems.push(`${key} ${now.paths} is told as ${change.kind}, not ${expected}`)
  }
  if (String(change.paths) !== String(now.paths)) {
    problems.push(`${key}: paths ${change.paths}, not ${now.paths}`)
  }
  const oldPaths = expected === 'renamed' ? old?.paths : []
  if (String(change.oldPaths) !== String(oldPaths)) {
    problems.push(`${key}: old paths ${change.oldPaths}, not ${oldPaths}`)
  }
  if (old) problems.push(...judgeMetadata(key, old, now, change))
  if (!now.inode.isRegular) return problems
  if (change.sizeBytes !== now.bytes.length) problems.push(`${key}: size ${change.sizeBytes}`)
  return [...problems, ...judgeRanges(key, old?.bytes, now.bytes, change, written)]
}

function isDifferent(old: Recorded, now: Recorded): boolean {
  const isDataChanged = Buffer.compare(old.bytes, now.bytes) !== 0
  return isDataChanged || old.attributes !== now.attributes || old.mtime !== now.mtime
}

function expectedKind(old: Recorded | undefined, now: Recorded): FileChange['kind'] | undefined {
  if (!old) return 'created'
  if (String(old.paths) !== String(now.paths)) return 'renamed'
  return isDifferent(old, now) ? 'changed' : undefined
}

/** Whether it has to be told: not when nothing differs but the path of a directory above it. */
function isOwnChange(old: Recorded | undefined, now: Recorded): boolean {
  if (!old || isDifferent(old, now)) return true
  return String(old.entries) !== String(now.entries) && String(old.paths) !== String(now.paths)
}

function judgeMetadata(key: string, old: Recorded, now: Recorded, change: FileChange): string[] {
  const problems: string[] = []
  const isOther = old.attributes !== now.attributes
  if (isOther && !change.metadata) problems.push(`${key}: metadata not told`)
  if (change.metadata && !isOther && old.mtime === now.mtime) {
    problems.push(`${key}: metadata told and nothing differs`)
  }
  if (now.inode.isRegular && change.oldSizeBytes !== old.bytes.length) {
    problems.push(`${key}: old size ${change.oldSizeBytes}`)
  }
  return problems
}

function judgeRanges(
  key: string,
  before: Uint8Array | undefined,
  now: Uint8Array,
  change: FileChange,
  written: ReadonlySet<number>,
): string[] {
  const problems: string[] = []
  const isCreated = before === undefined
  const old = before ?? new Uint8Array(0)
  let end = -1
  for (const { offsetBytes, lengthBytes } of change.ranges) {
    if (offsetBytes < end || lengthBytes <= 0 || offsetBytes + lengthBytes > now.length) {
      problems.push(`${key}: a range at ${offsetBytes} of ${lengthBytes} in ${now.length} bytes`)
    }
    end = offsetBytes + lengthBytes
    for (let block = Math.floor(offsetBytes / BLOCK); block * BLOCK < end; block++) {
      const isGrown = (block + 1) * BLOCK > old.length
      if (!isCreated && !written.has(block) && !isGrown)
        problems.push(`${key}: block ${block} was not written to`)
    }
  }
  if (Buffer.compare(applied(before, now, change), now) !== 0)
    problems.push(`${key} ${change.paths}: bytes differ outside the ranges`)
  // And without that the size says it: every byte that is other than before or new lies in a range.
  for (let at = 0; !isCreated && at < now.length; at++) {
    if (at < old.length && old[at] === now[at]) continue
    if (change.ranges.some((r) => at >= r.offsetBytes && at < r.offsetBytes + r.lengthBytes)) continue
    problems.push(`${key}: byte ${at} is in no range`)
    break
  }
  return problems
}

function say(t: Assertion, problems: readonly string[], comment: string): void {
  t.is(problems.length, 0, comment)
  for (const problem of problems.slice(0, 5)) t.comment(JSON.stringify(problem))
}

test('random histories: what is told is what a full comparison of both trees finds', {
  timeout: 600_000,
}, async (t) => {
  const seed = chosenSeed(t)
  for (let round = 0; round < (isLong ? 40 : 4); round++) {
    const random = new Random(seed + round)
    const volume = await makeVolume()
    // With a clock that stands still nothing can lean on times.
    const now = round % 2 === 1 ? () => ({ sec: 1_700_000_000, nsec: 0 }) : undefined
    const history = new FileHistory(volume, random, now)
    history.run(300)
    const points = [await volume.createSnapshot('p0')]
    const trees = [recordPoint(volume.openSnapshot('p0'))]
    for (let step = 1; step <= 5; step++) {
      history.forget()
      history.run(random.between(1, step % 2 === 0 ? 8 : 120))
      const point = await volume.createSnapshot(`p${step}`)
      points.push(point)
      trees.push(recordPoint(volume.openSnapshot(point.name)))
      const [from, to] = points.slice(-2) as [Snapshot, Snapshot]
      const [before, after] = trees.slice(-2) as [Map<string, Recorded>, Map<string, Recorded>]
      const changes = [...compare(volume, from, to).changes()]
      const problems = judge(changes, before, after, history.written)
      say(t, problems, `round ${round}, step ${step}: ${changes.length} changes of ${after.size} files`)
    }
    const all: ReadonlySet<number> = new Set(Array.from({ length: 1000 }, (_, i) => i))
    const anywhere = { get: () => all } as unknown as ReadonlyMap<string, ReadonlySet<number>>
    const ends = [points[0], points.at(-1)] as [Snapshot, Snapshot]
    const endTrees = [trees[0], trees.at(-1)] as [Map<string, Recorded>, Map<string, Recorded>]
    say(
      t,
      judge([...compare(volume, ...ends).changes()], ...endTrees, anywhere),
      `round ${round}: the whole way`,
    )
    const back = [...compare(volume, ends[1], ends[0]).changes()]
    say(t, judge(back, endTrees[1], endTrees[0], anywhere), `round ${round}: backwards`)
    judgeSingle(t, volume, ends, endTrees)
    await volume.close()
  }
})

/** One file asked for by its path: the same answer as among all, and no pass over directories. */
function judgeSingle(
  t: Assertion,
  volume: Volume,
  [from, to]: readonly [Snapshot, Snapshot],
  [, after]: readonly [Map<string, Recorded>, Map<string, Recorded>],
): void {
  const told = new Map(
    [...compare(volume, from, to).changes()].map((change) => [`${change.ino}:${change.generation}`, change]),
  )
  const comparison = compare(volume, from, to)
  const problems: string[] = []
  for (const [key, { inode, paths }] of after) {
    if (!inode.isRegular) continue
    const single = comparison.changedFile(Buffer.from(paths[0] as string, 'latin1'))
    const ranges = told.get(key)?.ranges ?? []
    if (JSON.stringify(single?.ranges ?? []) !== JSON.stringify(ranges)) problems.push(`${key}: ${paths}`)
  }
  say(t, problems, 'each file by its path has the same ranges')
  t.is(comparison.cost.directories, 0, 'without a pass over directories')
}

test('a planted fault turns the comparison red', { timeout: 120_000 }, async (t) => {
  const random = new Random(7)
  const volume = await makeVolume()
  const history = new FileHistory(volume, random)
  history.run(400)
  const from = await volume.createSnapshot('from')
  history.run(100)
  const to = await volume.createSnapshot('to')
  const before = recordPoint(volume.openSnapshot('from'))
  const after = recordPoint(volume.openSnapshot('to'))
  const extents = [...delta(volume.nodes, from, to)]
  const found = (of: Iterable<DeltaExtent>): number => {
    try {
      return judge([...compare(volume, from, to, of).changes()], before, after, history.written).length
    } catch {
      return 1
    }
  }
  t.is(found(extents), 0, 'right as it is')
  let red = 0
  let blocks = 0
  for (const [at, extent] of extents.entries()) {
    // Blocks that only an allocation needs (bitmaps, descriptors) say nothing of files.
    const missing = extents.filter((_, i) => i !== at)
    blocks += extent.blockCount
    if (found(missing) > 0) red++
  }
  t.comment(`${red} of ${extents.length} runs (${blocks} blocks), left out one by one, are noticed`)
  t.ok(red > extents.length / 4, 'a delta that lacks a run is noticed')
  await volume.close()
})

test('since a bookmark: nothing that changed is missed, and what is not known is said', {
  timeout: 120_000,
}, async (t) => {
  const seed = chosenSeed(t)
  const volume = await makeVolume()
  const history = new FileHistory(volume, new Random(seed))
  history.run(400)
  await volume.createSnapshot('from')
  const before = recordPoint(volume.openSnapshot('from'))
  const from = await volume.createBookmark('mark')
  history.run(120)
  const to = await volume.createSnapshot('to')
  const after = recordPoint(volume.openSnapshot('to'))
  const comparison = new FileComparison({
    before: { createdAtMs: from.createdAtMs },
    after: volume.openSnapshot('to'),
    delta: delta(volume.nodes, from, to),
  })
  const told = new Map(
    [...comparison.changes()].map((change) => [`${change.ino}:${change.generation}`, change]),
  )
  const problems: string[] = []
  for (const [key, now] of after) problems.push(...judgeTouched(key, before.get(key), now, told.get(key)))
  say(t, problems, `${told.size} told of ${after.size}`)
  await volume.close()
})

function judgeTouched(
  key: string,
  old: Recorded | undefined,
  now: Recorded,
  change: FileChange | undefined,
): string[] {
  const isSame = old !== undefined && !isDifferent(old, now)
  if (!change) {
    return isSame && String(old.entries) === String(now.entries) ? [] : [`${key} ${now.paths} is missed`]
  }
  const problems: string[] = []
  if (change.kind !== 'touched') problems.push(`${key} is told as ${change.kind}`)
  if (String(change.paths) !== String(now.paths)) {
    problems.push(`${key}: paths ${change.paths}, not ${now.paths}`)
  }
  if (!isSame && !change.certain) problems.push(`${key} changed and is called uncertain`)
  if (now.inode.isRegular && Buffer.compare(applied(old?.bytes, now.bytes, change), now.bytes) !== 0) {
    problems.push(`${key}: bytes outside the ranges`)
  }
  return problems
}

/** A copy of the older bytes, cut or grown, with the ranges put into it. */
function applied(old: Uint8Array | undefined, now: Uint8Array, change: FileChange): Buffer {
  const copy = Buffer.alloc(now.length)
  if (old) copy.set(old.subarray(0, now.length))
  for (const { kind, offsetBytes, lengthBytes } of change.ranges) {
    const end = offsetBytes + lengthBytes
    if (kind === 'zero') copy.fill(0, offsetBytes, end)
    else copy.set(now.subarray(offsetBytes, end), offsetBytes)
  }
  return copy
}

test('the work is that of the change, counted in blocks read', { timeout: 120_000 }, async (t) => {
  const volume = await makeVolume(1024 * MIB)
  const history = new FileHistory(volume, new Random(3))
  history.run(150)
  const { fs } = history
  const big = fs.makeDirectory(fs.inode(2), 'big', 0o755, { uid: 0, gid: 0, pid: 1 })
  for (let i = 0; i < 20_000; i++)
    fs.makeNode(big, `some-file-with-a-name-${i}`, 0o100644, 0, { uid: 0, gid: 0, pid: 1 })
  const file = fs.makeNode(fs.inode(2), 'one', 0o100644, 0, { uid: 0, gid: 0, pid: 1 })
  for (let i = 0; i < 1000; i++) fs.write(file, i * 8192, 4096, new Uint8Array(4096).fill(i), 0, false)
  const from = await volume.createSnapshot('from')
  fs.write(file, 8192 * 500 + 10, 20, new Uint8Array(20).fill(1), 0, false)
  const to = await volume.createSnapshot('to')

  const alone = compare(volume, from, to)
  const opened = alone.cost.blocksRead
  const single = alone.changedFile('one')
  t.alike(single?.ranges, [{ kind: 'data', offsetBytes: 8192 * 500, lengthBytes: 4096 }], 'the one block')
  const singleBlocks = alone.cost.blocksRead - opened
  t.comment(`one file by its path: ${singleBlocks} blocks read, and ${opened} to open both points`)
  t.ok(singleBlocks < 40, 'one file by its path')

  const unnamed = compare(volume, from, to)
  t.is([...unnamed.changes({ names: false })].length, 1, 'one change')
  t.comment(`all files, without names: ${unnamed.cost.blocksRead - opened} blocks read`)
  t.ok(unnamed.cost.blocksRead - opened < 40, 'all files without names')
  t.is(unnamed.cost.directoryBlocks, 0, 'no directory pass')

  const named = compare(volume, from, to)
  t.alike(
    [...named.changes()].map((change) => change.paths),
    [['one']],
    'its path',
  )
  t.ok(named.cost.directoryBlocks > 0 && named.cost.directories > 0, 'the pass is in the cost')

  const third = await renamedBig(volume, fs)
  const renamed = compare(volume, to, third)
  const changes = [...renamed.changes()].filter((change) => change.kind === 'renamed')
  t.alike(
    changes.map((change) => [change.oldPaths, change.paths]),
    [[['big'], ['other']]],
    'a directory moved is one change',
  )
  t.ok(
    renamed.cost.blocksRead - opened < 60,
    `and is found without its 20,000 names (${renamed.cost.blocksRead - opened} blocks)`,
  )
  await volume.close()
})

async function renamedBig(volume: Volume, fs: FileHistory['fs']): Promise<Snapshot> {
  fs.rename(fs.inode(2), 'big', fs.inode(2), 'other', 0)
  return volume.createSnapshot('third')
}

test('a file is asked for by text, bytes or number', async (t) => {
  const volume = await makeVolume(64 * MIB)
  const history = new FileHistory(volume, new Random(1))
  const { fs } = history
  const caller = { uid: 0, gid: 0, pid: 1 }
  const text = 'ä/ö'
  const [folder, name] = Buffer.from(text).toString('latin1').split('/') as [string, string]
  const from = await volume.createSnapshot('from')
  const directory = fs.makeDirectory(fs.inode(2), folder, 0o755, caller)
  const file = fs.makeNode(directory, name, 0o100644, 0, caller)
  fs.write(file, 0, 3, new Uint8Array([1, 2, 3]), 0, false)
  const to = await volume.createSnapshot('to')
  const points = {
    before: volume.openSnapshot('from'),
    after: volume.openSnapshot('to'),
    delta: delta(volume.nodes, from, to),
  }
  const ranges = [{ kind: 'data', offsetBytes: 0, lengthBytes: 3 }]
  t.alike(changedRanges(points, text), ranges, 'text is UTF-8')
  const comparison = compare(volume, from, to)
  t.alike(comparison.changedFile(Buffer.from(`/${text}`))?.ranges, ranges, 'bytes, and a slash before')
  t.alike(comparison.changedFile(file.ino)?.ranges, ranges, 'an inode number')
  t.is(comparison.changedFile(file.ino)?.kind, 'created')
  t.exception(() => comparison.changedFile('nothing'), /No such file/)
  t.is(identityOf(file), `${file.ino}:${file.generation}`)
  await volume.close()
})

test('over a rollback: records that became equal again do not hide other data', async (t) => {
  const storage = new MemoryStorage()
  let volume = await makeVolume(64 * MIB, storage)
  // A clock that stands still: inode records of both histories are the same, byte for byte.
  const now = (): { sec: number; nsec: number } => ({ sec: 1_700_000_000, nsec: 0 })
  const caller = { uid: 0, gid: 0, pid: 1 }
  const write = (byte: number): void => {
    const fs = Ext4.open(volume, { now })
    fs.write(fs.lookup(fs.inode(2), 'file') as Inode, 5000, 100, new Uint8Array(100).fill(byte), 0, false)
  }
  const first = Ext4.open(volume, { now })
  const made = first.makeNode(first.inode(2), 'file', 0o100644, 0, caller)
  first.write(made, 0, 20_000, new Uint8Array(20_000).fill(1), 0, false)
  first.makeNode(first.inode(2), 'neighbour', 0o100644, 0, caller)
  const start = await volume.createSnapshot('start')
  await volume.close()
  volume = await Volume.open(storage)
  write(2)
  await volume.commit()
  await volume.close()
  volume = await Volume.open(storage)
  const one = await volume.rollback('start', { keepAs: 'one' })
  write(3)
  const other = await volume.createSnapshot('other')
  const ranges = [{ kind: 'data', offsetBytes: 4096, lengthBytes: 4096 }]
  for (const [from, to] of [
    [one, other],
    [start, other],
    [other, one],
  ] as const) {
    const changes = [...compare(volume, from, to).changes()]
    const told = changes.map(({ kind, paths, ranges: of }) => ({ kind, paths, ranges: of }))
    t.alike(told, [{ kind: 'changed', paths: ['file'], ranges }], `${from.name} to ${to.name}`)
  }
  await volume.close()
})
