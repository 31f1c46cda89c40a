// Every short sequence of operations on a small fixed set of files: what the ACE of CrashMonkey does.
//
// Always true: an operation that cannot be done where it stands answers false and changes nothing.

import { FALLOC } from '../../src/ext4/file-system.ts'
import type { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { CrashStack, type StackOptions } from './stack.ts'
import type { ModelNode } from './tree-model.ts'

export interface Operation {
  readonly name: string
  readonly run: (stack: CrashStack) => boolean
}

/** Bytes that tell where they were meant to be. */
function bytes(lengthBytes: number, first: number): Uint8Array {
  return Uint8Array.from({ length: lengthBytes }, (_, i) => (first + i + (i >> 8)) & 0xff)
}

function onFoo(name: string, act: (stack: CrashStack, foo: ModelNode) => void): Operation {
  return {
    name,
    run: (stack) => {
      const foo = stack.find('foo')
      if (foo?.kind !== 'file') return false
      act(stack, foo)
      return true
    },
  }
}

function writing(at: number, lengthBytes: number, keepTimes = false): Operation {
  return onFoo(`write ${lengthBytes} at ${at}`, (stack, foo) =>
    stack.write(foo, at, bytes(lengthBytes, foo.changeSequence * 17 + at), keepTimes),
  )
}

function allocating(mode: number, at: number, lengthBytes: number): Operation {
  return onFoo(`fallocate ${mode}`, (stack, foo) => stack.allocate(foo, mode, at, lengthBytes))
}

function truncating(sizeBytes: number): Operation {
  return onFoo(`truncate to ${sizeBytes}`, (stack, foo) => stack.truncate(foo, sizeBytes))
}

function split(path: string): [string, string] {
  const at = path.lastIndexOf('/')
  return [path.slice(0, Math.max(at, 0)), path.slice(at + 1)]
}

function folderOf(stack: CrashStack, path: string): ModelNode | undefined {
  const [folder] = split(path)
  const node = folder === '' ? stack.root : stack.find(folder)
  return node?.kind === 'directory' ? node : undefined
}

/** An operation on a name that is not there yet, in a folder that is. */
function making(
  what: string,
  path: string,
  act: (stack: CrashStack, parent: ModelNode, name: string) => void,
) {
  return {
    name: `${what} ${path}`,
    run: (stack: CrashStack) => {
      const parent = folderOf(stack, path)
      if (!parent || stack.find(path)) return false
      act(stack, parent, split(path)[1])
      return true
    },
  }
}

function unlinking(path: string, keepOpen: boolean): Operation {
  return {
    name: `unlink ${path}`,
    run: (stack) => {
      const parent = folderOf(stack, path)
      if (!parent || stack.find(path)?.kind !== 'file') return false
      stack.unlink(parent, split(path)[1], keepOpen)
      return true
    },
  }
}

function renaming(from: string, to: string, exchange = false): Operation {
  return {
    name: `rename ${from} to ${to}`,
    run: (stack) => {
      const [source, target] = [stack.find(from), stack.find(to)]
      const [oldParent, newParent] = [folderOf(stack, from), folderOf(stack, to)]
      if (!source || !oldParent || !newParent || (exchange && !target)) return false
      if (!exchange && target && (target.kind !== source.kind || target.children.size > 0)) return false
      stack.rename(oldParent, split(from)[1], newParent, split(to)[1], exchange)
      return true
    },
  }
}

const { KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE } = FALLOC

export const OPERATIONS: readonly Operation[] = [
  making('create', 'A/new', (stack, parent, name) => stack.create(parent, name)),
  writing(0, 4096),
  writing(4096, 8192, true),
  writing(1000, 5000),
  writing(12_388, 5000),
  writing(40_000, 3000),
  allocating(0, 8192, 20_000),
  allocating(KEEP_SIZE, 8192, 20_000),
  allocating(PUNCH_HOLE | KEEP_SIZE, 4096, 4096),
  allocating(PUNCH_HOLE | KEEP_SIZE, 2000, 7000),
  allocating(ZERO_RANGE, 1000, 8000),
  truncating(5000),
  truncating(30_000),
  truncating(0),
  making('link foo as', 'A/link', (stack, parent, name) => {
    const foo = stack.find('foo')
    if (foo?.kind === 'file') stack.link(foo, parent, name)
  }),
  unlinking('foo', false),
  unlinking('foo', true),
  unlinking('A/bar', false),
  renaming('foo', 'A/foo'),
  renaming('foo', 'A/bar'),
  renaming('A', 'B'),
  renaming('A', 'B/inside'),
  renaming('foo', 'A/bar', true),
  renaming('A', 'foo', true),
  making('mkdir', 'A/D', (stack, parent, name) => stack.makeDirectory(parent, name)),
  {
    name: 'rmdir B',
    run: (stack) => {
      const folder = stack.find('B')
      if (folder?.kind !== 'directory' || folder.children.size > 0) return false
      stack.removeDirectory(stack.root, 'B')
      return true
    },
  },
  making('symlink', 'A/symlink', (stack, parent, name) => stack.makeSymlink(parent, name, 't'.repeat(300))),
  onFoo('set xattr', (stack, foo) => stack.setXattr(foo, 'user.b', bytes(900, 3))),
  onFoo('remove xattr', (stack, foo) => {
    if (foo.xattrs.has('user.a')) stack.removeXattr(foo, 'user.a')
  }),
  making('temporary file linked as', 'A/temporary', (stack, parent, name) => {
    const file = stack.makeTemporary(parent)
    stack.write(file, 0, bytes(9000, 9))
    stack.link(file, parent, name)
  }),
  {
    name: 'snapshot',
    run: (stack) => {
      stack.snapshot(`snapshot ${stack.steps.length}`)
      return true
    },
  },
  {
    name: 'delete the snapshot',
    run: (stack) => {
      if (stack.points.get('first')?.kind !== 'snapshot') return false
      stack.deletePoint('first', true)
      return true
    },
  },
  {
    name: 'bookmark',
    run: (stack) => {
      stack.bookmark(`bookmark ${stack.steps.length}`)
      return true
    },
  },
]

function syncing(path: string, dataOnly: boolean): Operation {
  return {
    name: `${dataOnly ? 'fdatasync' : 'fsync'} ${path}`,
    run: (stack) => {
      const node = stack.find(path)
      if (node) stack.sync(node, dataOnly)
      return node !== undefined
    },
  }
}

/** What ends a sequence. */
export const SYNCS: readonly Operation[] = [
  syncing('foo', false),
  syncing('foo', true),
  syncing('A/bar', false),
  syncing('A', false),
  {
    name: 'commit',
    run: (stack) => {
      stack.commit()
      return true
    },
  },
]

export interface Sequence {
  readonly stack: CrashStack
  /** Contents of the storage when the fixed files were durable. */
  readonly base: MemoryStorage
  readonly fromIndex: number
}

/** The fixed files, durable, with a snapshot of them that is older than what is written next. */
export async function beginSequence(fresh: MemoryStorage, options: StackOptions = {}): Promise<Sequence> {
  const memory = fresh.fork()
  const stack = await CrashStack.open(memory, options)
  const foo = stack.create(stack.root, 'foo')
  stack.write(foo, 0, bytes(8192, 1))
  stack.setXattr(foo, 'user.a', bytes(30, 5))
  const folder = stack.makeDirectory(stack.root, 'A')
  stack.makeDirectory(stack.root, 'B')
  stack.write(stack.create(folder, 'bar'), 0, bytes(6000, 2))
  stack.snapshot('first')
  await stack.settled()
  // Some blocks are the snapshot's too, some are the present's alone.
  stack.write(foo, 8192, bytes(4196, 3))
  stack.write(foo, 0, bytes(4096, 4))
  await stack.reopen()
  return { stack, base: memory.fork(), fromIndex: stack.log.entries.length }
}

/** @returns whether every operation could be done */
export async function runSequence(stack: CrashStack, operations: readonly Operation[]): Promise<boolean> {
  for (const operation of operations) {
    if (!operation.run(stack)) return false
    if (operation.name.includes('snapshot')) await stack.settled()
  }
  await stack.settled()
  return true
}
