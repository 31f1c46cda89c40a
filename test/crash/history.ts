// Short random histories of everything a program and an administrator may do, on a fresh file system.
//
// Always true: a step that cannot be done is not chosen; the same numbers give the same history but for
// how long flushes take, which the storage under it decides from the same numbers.

import { MIB } from '../../src/base/units.ts'
import { Ext4, formatExt4 } from '../../src/ext4/ext4.ts'
import { FALLOC } from '../../src/ext4/file-system.ts'
import type { BlockStorage } from '../../src/storage/block-storage.ts'
import { FaultStorage } from '../../src/storage/fault-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import type { Random } from '../support/random.ts'
import { allNodes, CrashStack, type StackOptions } from './stack.ts'
import type { ModelNode } from './tree-model.ts'

export const SIZE_BYTES = 4 * MIB
const FILE_BYTES = 60_000

/** Makes a volume with an empty file system in an empty storage: what every history begins with. */
export async function makeFresh(storage: BlockStorage): Promise<void> {
  const volume = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  formatExt4(volume, { inodeRatioBytes: 65_536 })
  await volume.commit()
  // The first open for writing leaves nothing that later ones would still have to do.
  Ext4.open(volume)
  await volume.close()
}

export async function freshStorage(): Promise<MemoryStorage> {
  const storage = new MemoryStorage()
  await makeFresh(storage)
  return storage
}

/** A storage whose flushes and punches sometimes take long enough for work to come between. */
export function slowStorage(storage: MemoryStorage, random: Random): FaultStorage {
  const times = Number.POSITIVE_INFINITY
  return new FaultStorage(storage, [
    { operation: 'flush', times, delayMs: 1, matches: () => random.chance(0.3) },
    { operation: 'punch', times, delayMs: 1, matches: () => random.chance(0.3) },
  ])
}

interface Place {
  readonly parent: ModelNode
  readonly name: string
  readonly node: ModelNode
}

type Step = (history: RandomHistory) => boolean | Promise<boolean>

export class RandomHistory {
  readonly stack: CrashStack
  readonly random: Random
  #named = 0

  constructor(stack: CrashStack, random: Random) {
    this.stack = stack
    this.random = random
  }

  static async begin(
    base: MemoryStorage,
    random: Random,
    options: StackOptions = {},
  ): Promise<RandomHistory> {
    return new RandomHistory(await CrashStack.open(slowStorage(base.fork(), random), options), random)
  }

  /** Does `count` steps, then ends everything that was begun, and the volume in half of all cases. */
  async run(count: number): Promise<void> {
    for (let done = 0; done < count; ) {
      if (!(await this.#step())) continue
      done++
      if (this.random.chance(0.5)) await this.stack.settled()
      // Some microtasks further a commit that was begun has made its cut.
      else for (let i = this.random.below(4); i > 0; i--) await Promise.resolve()
    }
    await this.stack.settled()
    if (this.random.chance(0.5)) await this.stack.close()
  }

  #step(): boolean | Promise<boolean> {
    const kind = this.random.below(100)
    if (kind < 30) return this.random.pick(DATA_STEPS)(this)
    if (kind < 60) return this.random.pick(NAME_STEPS)(this)
    if (kind < 88) return this.random.pick(SYNC_STEPS)(this)
    return this.random.pick(POINT_STEPS)(this)
  }

  freshName(): string {
    return `${this.random.pick(['a', 'long-name-'.repeat(9), '\xe4\xf6'])}${this.#named++}`
  }

  places(kind?: ModelNode['kind']): Place[] {
    const places: Place[] = []
    for (const parent of allNodes(this.stack.root)) {
      for (const [name, node] of parent.children) {
        if (name !== 'lost+found' && (!kind || node.kind === kind)) places.push({ parent, name, node })
      }
    }
    return places
  }

  directory(): ModelNode {
    const below = this.places('directory').map(({ node }) => node)
    return this.random.pick([this.stack.root, ...below])
  }

  /** A file to work on: now and then one without a name. */
  file(): ModelNode | undefined {
    const { orphans } = this.stack
    if (orphans.length > 0 && this.random.chance(0.25)) return this.random.pick(orphans).node
    const files = this.places('file')
    return files.length > 0 ? this.random.pick(files).node : undefined
  }

  place(kind?: ModelNode['kind']): Place | undefined {
    const places = this.places(kind)
    return places.length > 0 ? this.random.pick(places) : undefined
  }

  range(): { at: number; length: number } {
    const { random } = this
    if (random.chance(0.4)) return { at: random.below(14) * 4096, length: random.between(1, 4) * 4096 }
    return { at: random.below(FILE_BYTES), length: random.between(1, 12_000) }
  }
}

// -- contents

function write(history: RandomHistory): boolean {
  const { stack, random } = history
  const file = history.file() ?? stack.create(history.directory(), history.freshName())
  const { at, length } = history.range()
  stack.write(file, at, random.bytes(length), random.chance(0.2))
  return true
}

/** Whole blocks that are mapped already: the path without a change of mapping. */
function overwrite(history: RandomHistory): boolean {
  const { stack, random } = history
  const file = history.file()
  const blocks = file ? [...file.blocks.keys()].filter((block) => (block + 1) * 4096 <= file.sizeBytes) : []
  if (!file || blocks.length === 0) return false
  const isWhole = random.chance(0.6)
  const at = random.pick(blocks) * 4096 + (isWhole ? 0 : random.below(2000))
  stack.write(file, at, random.bytes(isWhole ? 4096 : random.between(1, 2000)), random.chance(0.3))
  return true
}

function truncate(history: RandomHistory): boolean {
  const { stack, random } = history
  const file = history.file()
  if (!file) return false
  stack.truncate(file, random.pick([0, random.below(FILE_BYTES), Math.floor(file.sizeBytes / 2)]))
  return true
}

function allocate(history: RandomHistory): boolean {
  const { stack, random } = history
  const file = history.file()
  if (!file) return false
  const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FALLOC
  const mode = random.pick([0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE])
  const { at, length } = history.range()
  stack.allocate(file, mode, at, length)
  return true
}

function xattr(history: RandomHistory): boolean {
  const { stack, random } = history
  const node = history.place()?.node
  if (!node || node.kind === 'symlink') return false
  const name = `user.${random.below(3)}`
  if (node.xattrs.has(name) && random.chance(0.4)) stack.removeXattr(node, name)
  else stack.setXattr(node, name, random.bytes(random.pick([0, 10, 40, 900])))
  return true
}

// -- names

function create(history: RandomHistory): boolean {
  const { stack } = history
  stack.create(history.directory(), history.freshName())
  return true
}

function makeDirectory(history: RandomHistory): boolean {
  const { stack } = history
  stack.makeDirectory(history.directory(), history.freshName())
  return true
}

function makeSymlink(history: RandomHistory): boolean {
  const { stack, random } = history
  stack.makeSymlink(history.directory(), history.freshName(), 't'.repeat(random.pick([5, 59, 60, 300])))
  return true
}

function link(history: RandomHistory): boolean {
  const { stack, random } = history
  const temporary = stack.orphans.find(({ isTemporary }) => isTemporary)
  const node = temporary && random.chance(0.7) ? temporary.node : history.place('file')?.node
  if (!node) return false
  stack.link(node, history.directory(), history.freshName())
  return true
}

function unlink(history: RandomHistory): boolean {
  const { stack, random } = history
  const place = history.place(random.chance(0.8) ? 'file' : 'symlink')
  if (!place) return false
  stack.unlink(place.parent, place.name, place.node.kind === 'file' && random.chance(0.5))
  return true
}

function removeDirectory(history: RandomHistory): boolean {
  const { stack, random } = history
  const empty = history.places('directory').filter(({ node }) => node.children.size === 0)
  if (empty.length === 0) return false
  const { parent, name } = random.pick(empty)
  stack.removeDirectory(parent, name)
  return true
}

function rename(history: RandomHistory): boolean {
  const { stack, random } = history
  const from = history.place()
  if (!from) return false
  const over = random.chance(0.5) ? history.place() : undefined
  const to = over?.parent ?? history.directory()
  const exchange = over !== undefined && random.chance(0.3)
  const below = allNodes(from.node)
  if (below.has(to) || over?.node === from.node) return false
  if (over && exchange && allNodes(over.node).has(from.parent)) return false
  if (over && !exchange) {
    const isDirectory = from.node.kind === 'directory'
    if (isDirectory !== (over.node.kind === 'directory') || over.node.children.size > 0) return false
    if (allNodes(over.node).has(from.parent)) return false
  }
  stack.rename(from.parent, from.name, to, over?.name ?? history.freshName(), exchange)
  return true
}

function temporary(history: RandomHistory): boolean {
  const { stack } = history
  stack.makeTemporary(history.directory())
  return true
}

function closeOrphan(history: RandomHistory): boolean {
  const { stack, random } = history
  if (stack.orphans.length === 0) return false
  stack.closeOrphan(random.below(stack.orphans.length))
  return true
}

// -- durability

function syncFile(history: RandomHistory): boolean {
  const { stack, random } = history
  const file = history.file()
  if (!file) return false
  stack.sync(file, random.chance(0.5))
  return true
}

function syncDirectory(history: RandomHistory): boolean {
  const { stack } = history
  stack.sync(history.directory(), false)
  return true
}

async function reopen(history: RandomHistory): Promise<boolean> {
  await history.stack.reopen()
  return true
}

function commit(history: RandomHistory): boolean {
  const { stack } = history
  stack.commit()
  return true
}

/** A write in place and its fdatasync: the path of databases. */
async function overwriteAndSync(history: RandomHistory): Promise<boolean> {
  const { stack, random } = history
  await stack.settled()
  const file = history.place('file')?.node
  const block = file ? [...file.blocks.keys()][0] : undefined
  if (!file || block === undefined) return false
  stack.write(file, block * 4096, random.bytes(4096), true)
  stack.sync(file, true)
  return true
}

// -- points

function snapshot(history: RandomHistory): boolean {
  const { stack } = history
  stack.snapshot(history.freshName())
  return true
}

function bookmark(history: RandomHistory): boolean {
  const { stack } = history
  stack.bookmark(history.freshName())
  return true
}

async function deletePoint(history: RandomHistory): Promise<boolean> {
  const { stack, random } = history
  await stack.settled()
  const names = [...stack.points.keys()]
  if (names.length === 0) return false
  stack.deletePoint(random.pick(names), random.chance(0.4))
  return true
}

async function rollback(history: RandomHistory): Promise<boolean> {
  const { stack, random } = history
  await stack.settled()
  const names = [...stack.points].flatMap(([name, { kind }]) => (kind === 'snapshot' ? [name] : []))
  if (names.length === 0) return false
  await stack.rollback(random.pick(names), history.freshName())
  return true
}

const DATA_STEPS: readonly Step[] = [write, write, overwrite, overwrite, truncate, allocate, xattr]
const NAME_STEPS: readonly Step[] = [
  create,
  makeDirectory,
  makeSymlink,
  link,
  unlink,
  removeDirectory,
  rename,
  rename,
  temporary,
  closeOrphan,
]
const SYNC_STEPS: readonly Step[] = [
  syncFile,
  syncFile,
  syncFile,
  syncDirectory,
  commit,
  commit,
  overwriteAndSync,
  overwriteAndSync,
  reopen,
]
const POINT_STEPS: readonly Step[] = [snapshot, snapshot, bookmark, deletePoint, rollback]
