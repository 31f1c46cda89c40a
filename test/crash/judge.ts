// Judges one state after a crash: what the stack makes of it, and whether every promise was kept.
//
// Always true: what is judged first is what the crash left (check, then the committed image as e2fsck
// sees it), then what opening makes of it, then whether work goes on from there.

import { BLOCK_SIZE_BYTES } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import type { CrashState } from '../../src/storage/crash-states.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { delta } from '../../src/volume/delta.ts'
import type { DeltaExtent } from '../../src/volume/points.ts'
import { Volume } from '../../src/volume/volume.ts'
import { type Contents, readContents } from './contents.ts'
import type { ImageJudge } from './image-judge.ts'
import { attributesOf, CALLER, type Committed, type Note, type PointModel } from './stack.ts'
import { type FrozenBlock, type FrozenNode, type Placement, SECTOR_BYTES } from './tree-model.ts'

export interface Promises {
  readonly committed: ReadonlyMap<number, Committed>
  readonly notes: readonly Note[]
}

const ZERO_BLOCK = new Uint8Array(BLOCK_SIZE_BYTES)

/**
 * Everything that is wrong with a state; empty: nothing.
 * @param images where e2fsck is to judge too; @param isUsed whether to work on from the state
 */
export async function judge(
  promises: Promises,
  state: CrashState,
  images: ImageJudge | undefined,
  isUsed = true,
): Promise<string[]> {
  const problems = judgeStructure(state.storage, 'after the crash', 1)
  const volume = await Volume.open(state.storage)
  const { transaction } = volume.openReport
  const committed = promises.committed.get(transaction)
  if (!committed) return [...problems, `nobody knows transaction ${transaction}`]
  if (committed.logIndex > state.cutIndex) problems.push(`transaction ${transaction} is from after the crash`)
  const floors = judgeNotes(promises.notes, transaction, committed, state, problems)
  problems.push(...judgePoints(volume, committed))
  if (images) problems.push(...images.judge(volume, 'the present'))
  const fs = Ext4.open(volume)
  problems.push(...(await judgeTree(fs, committed.tree, floors, state.cutIndex)))
  if (problems.length > 0 || !isUsed) return problems
  return await judgeUse(volume, fs, committed, images)
}

function judgeStructure(storage: BlockStorage, when: string, copiesMax: number): string[] {
  const report = checkVolume(storage)
  const copies = report.errors.filter(({ code }) => code === 'SUPERBLOCK_COPY')
  const problems = report.errors
    .filter(({ code }) => code !== 'SUPERBLOCK_COPY')
    .map(({ code, where, message }) => `check ${when}: ${code} ${where}: ${message}`)
  if (copies.length > copiesMax) problems.push(`check ${when}: ${copies.length} bad superblock copies`)
  if (report.leaks.blockCount > 0)
    problems.push(`check ${when}: ${report.leaks.blockCount} blocks are leaked`)
  return problems
}

/** @returns the oldest version of each placement that may be there */
function judgeNotes(
  notes: readonly Note[],
  transaction: number,
  committed: Committed,
  state: CrashState,
  problems: string[],
): Map<Placement, number> {
  const floors = new Map<Placement, number>()
  for (const note of notes) {
    if (note.logIndex > state.cutIndex) continue
    if (committed.sequence < note.sequence)
      problems.push(
        `${note.label} promised operation ${note.sequence}, transaction ${transaction} ends with ${committed.sequence}`,
      )
    for (const [placement, version] of note.floors)
      floors.set(placement, Math.max(version, floors.get(placement) ?? 0))
  }
  return floors
}

// -- snapshots and deltas

function judgePoints(volume: Volume, committed: Committed): string[] {
  const there = [...volume.snapshots(), ...volume.bookmarks()].map(({ name, kind }) => `${kind} ${name}`)
  const expected = [...committed.points].map(([name, { kind }]) => `${kind} ${name}`)
  const isOpen = (point: string) => point.endsWith(` ${committed.maybePoint}`)
  const differing = [
    ...there.filter((point) => !expected.includes(point)),
    ...expected.filter((point) => !there.includes(point) && !isOpen(point)),
  ]
  if (differing.length > 0) return [`points differ: ${differing}; there are ${there}`]
  const problems: string[] = []
  for (const snapshot of volume.snapshots()) {
    const point = committed.points.get(snapshot.name) as PointModel
    const mapped = blocksOf(delta(volume.nodes, null, snapshot), 'data')
    problems.push(
      ...differences(`snapshot ${snapshot.name}`, volume.openSnapshot(snapshot.name), point.contents, mapped),
    )
  }
  return [...problems, ...judgeDeltas(volume, committed.points)]
}

function blocksOf(extents: Iterable<DeltaExtent>, kind: 'data' | 'zero'): Set<number> {
  const blocks = new Set<number>()
  for (const extent of extents) {
    for (let i = 0; extent.kind === kind && i < extent.blockCount; i++) blocks.add(extent.blockIndex + i)
  }
  return blocks
}

/** Compares where the model or the map has something; all else reads as zeros because nothing is mapped. */
function differences(name: string, device: BlockDevice, contents: Contents, mapped: Set<number>): string[] {
  const bytes = new Uint8Array(BLOCK_SIZE_BYTES)
  const wrong: number[] = []
  for (const block of new Set([...contents.keys(), ...mapped])) {
    device.readSync(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, bytes, 0)
    if (Buffer.compare(bytes, contents.get(block) ?? ZERO_BLOCK) !== 0) wrong.push(block)
  }
  return wrong.length === 0 ? [] : [`${name} differs in blocks ${wrong.slice(0, 10)} (${wrong.length})`]
}

/** base + delta = target for every pair of points that has a delta. */
function judgeDeltas(volume: Volume, points: ReadonlyMap<string, PointModel>): string[] {
  const problems: string[] = []
  const snapshots = volume.snapshots()
  for (const target of snapshots) {
    for (const base of [...snapshots, ...volume.bookmarks()]) {
      if (base.id === target.id || (base.kind === 'bookmark' && base.epoch > target.epoch)) continue
      const from = (points.get(base.name) as PointModel).contents
      const to = (points.get(target.name) as PointModel).contents
      const wrong = wrongBlocks(from, to, [...delta(volume.nodes, base, target)])
      if (wrong.length > 0)
        problems.push(`${base.name} and its delta do not make ${target.name}: blocks ${wrong}`)
    }
  }
  return problems
}

/** What is in the delta as data is the snapshot's own, which is compared by itself. */
function wrongBlocks(from: Contents, to: Contents, extents: readonly DeltaExtent[]): number[] {
  const data = blocksOf(extents, 'data')
  const zero = blocksOf(extents, 'zero')
  return [...new Set([...from.keys(), ...to.keys(), ...zero])].filter((block) => {
    if (data.has(block)) return false
    const got = zero.has(block) ? ZERO_BLOCK : (from.get(block) ?? ZERO_BLOCK)
    return Buffer.compare(got, to.get(block) ?? ZERO_BLOCK) !== 0
  })
}

// -- the file system

/** @param floors versions below these are lost; @param logIndex what was written from there on cannot be there */
export async function judgeTree(
  fs: Ext4,
  root: FrozenNode,
  floors: ReadonlyMap<Placement, number>,
  logIndex: number,
): Promise<string[]> {
  const problems: string[] = []
  const visit = async (frozen: FrozenNode, inode: Inode, path: string): Promise<void> => {
    problems.push(...describe(fs, frozen, inode).map((problem) => `${path}: ${problem}`))
    if (frozen.kind === 'file')
      problems.push(...(await judgeData(fs, frozen, inode, floors, logIndex)).map((p) => `${path}: ${p}`))
    if (!inode.isDirectory || frozen.kind !== 'directory') return
    const names = namesIn(fs, inode)
    if (names.join('/') !== [...frozen.children.keys()].sort().join('/'))
      problems.push(`${path}: names are ${names}, not ${[...frozen.children.keys()].sort()}`)
    for (const [name, child] of frozen.children) {
      const below = fs.lookup(inode, name)
      if (below) await visit(child, below, `${path}/${name}`)
      if (below?.isDirectory && fs.parentOf(below).ino !== frozen.ino) problems.push(`${path}/${name}: ..`)
    }
  }
  await visit(root, fs.inode(2), '')
  return problems
}

function namesIn(fs: Ext4, directory: Inode): string[] {
  const names: string[] = []
  fs.readDirectory(directory, 0, ({ name }) => {
    if (name !== '.' && name !== '..') names.push(name)
    return true
  })
  return names.sort()
}

function describe(fs: Ext4, frozen: FrozenNode, inode: Inode): string[] {
  const problems: string[] = []
  const differ = (what: string, got: unknown, wanted: unknown) => {
    if (got !== wanted) problems.push(`${what} is ${got}, not ${wanted}`)
  }
  differ('inode', inode.ino, frozen.ino)
  differ('kind', inode.isDirectory ? 'directory' : inode.isSymlink ? 'symlink' : 'file', frozen.kind)
  differ('link count', inode.linkCount, frozen.linkCount)
  differ('stat', attributesOf(inode), frozen.attributes)
  if (frozen.kind !== 'directory') differ('size', inode.sizeBytes, frozen.sizeBytes)
  if (inode.isSymlink) differ('target', Buffer.from(fs.readSymlink(inode)).toString(), frozen.target)
  const names = fs.listXattrs(inode).sort()
  differ('list of xattrs', names.join(), [...frozen.xattrs.keys()].sort().join())
  for (const name of names)
    differ(
      `xattr ${name}`,
      Buffer.from(fs.getXattr(inode, name) ?? []).toString('hex'),
      frozen.xattrs.get(name),
    )
  return problems
}

async function judgeData(
  fs: Ext4,
  frozen: FrozenNode,
  inode: Inode,
  floors: ReadonlyMap<Placement, number>,
  logIndex: number,
): Promise<string[]> {
  const bytes = new Uint8Array(inode.sizeBytes)
  const count = await fs.read(inode, 0, bytes.length, bytes, 0)
  if (count !== bytes.length) return [`${count} bytes of ${bytes.length} were read`]
  const wrong: number[] = []
  for (let base = 0; base < bytes.length; base += BLOCK_SIZE_BYTES) {
    const allowed = allowedVersions(frozen.blocks.get(base / BLOCK_SIZE_BYTES), floors, logIndex)
    const end = Math.min(base + BLOCK_SIZE_BYTES, bytes.length)
    for (let at = base; at < end; at += SECTOR_BYTES) {
      const sector = bytes.subarray(at, Math.min(at + SECTOR_BYTES, end))
      const within = at - base
      const isThere = allowed.some(
        (version) => Buffer.compare(version.subarray(within, within + sector.length), sector) === 0,
      )
      if (!isThere) wrong.push(at / SECTOR_BYTES)
    }
  }
  return wrong.length === 0
    ? []
    : [`sectors ${wrong.slice(0, 12)} are none of their versions (${wrong.length})`]
}

/** What each sector of a block may hold: what was frozen or promised since, or anything later. */
function allowedVersions(
  there: FrozenBlock | undefined,
  floors: ReadonlyMap<Placement, number>,
  logIndex: number,
): Uint8Array[] {
  if (!there) return [ZERO_BLOCK]
  const least = Math.max(there.version, floors.get(there.placement) ?? 0)
  return there.placement.versions
    .filter((version, i) => i === least || (i > least && version.logIndex < logIndex))
    .map(({ bytes }) => bytes)
}

// -- going on

/** Works on, snapshots, deletes, closes: everything stays right. */
async function judgeUse(
  volume: Volume,
  fs: Ext4,
  committed: Committed,
  images: ImageJudge | undefined,
): Promise<string[]> {
  const problems: string[] = []
  const root = fs.inode(2)
  const before = volume.snapshots()
  const made = fs.makeNode(root, 'made after the crash', 0o100644, 0, CALLER)
  const bytes = new Uint8Array(20_000).fill(0x5a)
  fs.write(made, 3000, bytes.length, bytes, 0, false)
  const found = firstFile(committed.tree)
  const grown = found ? fs.inode(found.ino) : made
  const oldSize = grown.sizeBytes
  fs.setAttributes(grown, { sizeBytes: oldSize + 10_000 }, CALLER)
  const directory = fs.makeDirectory(root, 'directory made after the crash', 0o755, CALLER)
  if (found) fs.link(grown, directory, 'link')
  await fs.sync(made, false)
  const added = new Uint8Array(10_000)
  await fs.read(grown, oldSize, added.length, added, 0)
  if (added.some((byte) => byte !== 0)) problems.push('what a file grew by after the crash is not zeros')
  await volume.createSnapshot('after the crash')
  const contents = readContents(volume.openSnapshot('after the crash'))
  const last = before.at(-1)
  const base = last ? committed.points.get(last.name) : undefined
  const points = new Map<string, PointModel>()
  if (last && base) points.set(last.name, base)
  points.set('after the crash', { kind: 'snapshot', contents, tree: committed.tree })
  for (const snapshot of before.slice(0, -1)) await volume.deleteSnapshot(snapshot.name)
  for (const bookmark of volume.bookmarks()) await volume.deleteBookmark(bookmark.name)
  problems.push(...judgeDeltas(volume, points))
  fs.unlink(root, 'made after the crash')
  await volume.commit()
  if (last && base) {
    const device = volume.openSnapshot(last.name)
    problems.push(...differences(`later ${last.name}`, device, base.contents, new Set()))
  }
  if (images) problems.push(...images.judge(volume, 'the present, later'))
  await volume.close()
  return [...problems, ...judgeStructure(volume.storage, 'later', 0)]
}

function firstFile(node: FrozenNode): FrozenNode | undefined {
  for (const child of node.children.values()) {
    const found = child.kind === 'file' ? child : firstFile(child)
    if (found) return found
  }
  return undefined
}
