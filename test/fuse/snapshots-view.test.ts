import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { FlushMarker } from '../../src/fuse/flush-marker.ts'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { SLOT_SPAN, slotOf } from '../../src/fuse/node-ids.ts'
import type { SnapshotEntry, SnapshotProvider } from '../../src/fuse/snapshot-provider.ts'
import { SnapshotsView } from '../../src/fuse/snapshots-view.ts'
import { MemoryFileSystem } from './memory-file-system.ts'
import { entryOf, listingOf, Session } from './session.ts'

const caller = { uid: 0, gid: 0, pid: 0 }
const E = { PERM: -1, NOENT: -2, BUSY: -16, EXIST: -17, XDEV: -18, ROFS: -30, STALE: -116 }

function fileSystemWith(text: string): MemoryFileSystem {
  const fileSystem = new MemoryFileSystem()
  const folder = fileSystem.makeDirectory(fileSystem.inode(2), 'folder', 0o755, caller)
  const file = fileSystem.makeNode(folder, 'file', 0o100644, 0, caller)
  fileSystem.write(file, 0, text.length, Buffer.from(text), 0, false)
  return fileSystem
}

/** Snapshots that are made of nothing but a text each; may answer at once or later. */
class FakeProvider implements SnapshotProvider {
  entries: SnapshotEntry[] = []
  opened = 0
  closed = 0
  isLater = true
  failOpen = false
  failRemove = false
  readonly fileSystems = new Map<string, MemoryFileSystem>()
  #epoch = 0

  add(name: string, epoch = ++this.#epoch): void {
    this.entries.push({ name, epoch, createdAtMs: 0 })
    this.fileSystems.set(name, fileSystemWith(`text of ${name}`))
  }
  list() {
    return this.entries
  }
  open(name: string): Promise<MemoryFileSystem> | MemoryFileSystem {
    this.opened++
    const fileSystem = this.fileSystems.get(name)
    if (this.failOpen || fileSystem === undefined) throw new UmbraError('NOT_FOUND', name)
    fileSystem.readOnly = true
    return this.isLater ? new Promise((resolve) => setImmediate(() => resolve(fileSystem))) : fileSystem
  }
  close(): void {
    this.closed++
  }
  async create(name: string): Promise<void> {
    await new Promise(setImmediate)
    if (name === 'bad') throw new UmbraError('INVALID_NAME', name)
    this.add(name)
  }
  async remove(name: string): Promise<void> {
    await new Promise(setImmediate)
    if (this.failRemove) throw new UmbraError('PINNED', name)
    this.entries = this.entries.filter((entry) => entry.name !== name)
  }
}

function started(openLimit = 8) {
  const fileSystem = fileSystemWith('live text')
  const provider = new FakeProvider()
  const marker = new FlushMarker()
  const live = new LiveTree(fileSystem)
  const view = new SnapshotsView({ live, provider, marker, control: '/run/umbra/socket', openLimit })
  const session = new Session({ operations: view })
  session.ask('INIT', {}, 7, 45, 131072, 0xffffffff, 0xffffffff, new Uint8Array(44))
  const folder = entryOf(session.ask('LOOKUP', {}, '.snapshots'))
  return { fileSystem, provider, marker, view, session, folder, inside: { nodeId: folder.nodeId } }
}

async function path(session: Session, from: number, ...names: string[]): Promise<number> {
  let nodeId = from
  for (const name of names) nodeId = entryOf(await session.askLater('LOOKUP', { nodeId }, name)).nodeId
  return nodeId
}

const readOf = (session: Session, nodeId: number) =>
  session.askLater('READ', { nodeId }, 0n, 0n, 4096, 0, 0n, 0, 0)

test('.snapshots is not listed at the root, but entered by name, and lists the snapshots', async (t) => {
  const { session, provider, folder, inside } = started()
  provider.add('monday')
  provider.add('tuesday')
  const atRoot = session.ask('READDIRPLUS', {}, 0n, 0n, 4096, 0, 0n, 0, 0)
  t.alike(
    listingOf(atRoot.data, true).map((entry) => entry.name),
    ['.', '..', 'folder'],
  )
  t.alike([folder.mode, folder.entrySec, folder.attributesSec], [0o40755, 0, 0])
  for (const opcode of ['READDIR', 'READDIRPLUS'] as const) {
    const isPlus = opcode === 'READDIRPLUS'
    const listed = listingOf(session.ask(opcode, inside, 0n, 0n, 4096, 0, 0n, 0, 0).data, isPlus)
    t.alike(
      listed.map((entry) => entry.name),
      ['.', '..', 'monday', 'tuesday'],
    )
    const cookie = BigInt(listed[2]?.cookie ?? 0)
    const rest = session.ask(opcode, inside, 0n, cookie, 4096, 0, 0n, 0, 0)
    t.alike(
      listingOf(rest.data, isPlus).map((entry) => entry.name),
      ['tuesday'],
    )
    if (isPlus)
      t.ok(
        listed.every((entry) => entry.nodeId === 0),
        'listing opens nothing',
      )
  }
  t.is(provider.opened, 0)
  const missing = entryOf(session.ask('LOOKUP', inside, 'sunday'))
  t.alike([missing.nodeId, missing.entrySec], [0, 0], 'and is not remembered')
  const mtime = () =>
    session
      .ask('GETATTR', inside, 0, 0, 0n)
      .data.subarray(16 + 32, 16 + 56)
      .toString('hex')
  const before = mtime()
  t.is(mtime(), before)
  provider.add('wednesday')
  t.not(mtime(), before, 'its time moves with the list')
})

test('nodes below a snapshot have ids and inode numbers of their own, stable while mounted', async (t) => {
  const { session, provider, folder } = started(1)
  provider.add('monday')
  provider.add('tuesday')
  const root = entryOf(await session.askLater('LOOKUP', { nodeId: folder.nodeId }, 'monday'))
  t.is(root.entrySec, 0)
  const file = await path(session, folder.nodeId, 'monday', 'folder', 'file')
  const other = await path(session, folder.nodeId, 'tuesday', 'folder', 'file')
  const live = await path(session, 1, 'folder', 'file')
  t.is(new Set([file, other, live]).size, 3)
  t.is(file % SLOT_SPAN, live, 'the inode number is in it')
  t.is(Number(session.ask('GETATTR', { nodeId: other }, 0, 0, 0n).data.readBigUInt64LE(16)), other, 'st_ino')
  t.is((await readOf(session, file)).data.toString(), 'text of monday')
  t.is((await readOf(session, other)).data.toString(), 'text of tuesday')
  t.is((await readOf(session, live)).data.toString(), 'live text')
  t.is(await path(session, folder.nodeId, 'monday', 'folder', 'file'), file)
  t.ok(provider.opened >= 4 && provider.closed >= 3, 'one was open at a time')
  t.is(await path(session, folder.nodeId, 'monday', '..'), folder.nodeId)
  t.is(await path(session, folder.nodeId, '..'), 1)
  t.alike(session.faults, [])
})

test('epochs that would share a slot get different ones', async (t) => {
  const { session, provider, folder } = started()
  provider.add('one', 5)
  provider.add('two', 5 + 2 ** 21 - 2)
  const one = await path(session, folder.nodeId, 'one')
  const two = await path(session, folder.nodeId, 'two')
  t.not(slotOf(one), slotOf(two))
  const file = await path(session, two, 'folder', 'file')
  t.is((await readOf(session, file)).data.toString(), 'text of two')
})

test('mkdir takes a snapshot, rmdir deletes it; others go on meanwhile', async (t) => {
  const { session, provider, inside } = started()
  const made = session.askLater('MKDIR', inside, 0o755, 0, 'new')
  t.is(session.ask('STATFS', {}).error, 0)
  const entry = entryOf(await made)
  t.is(entry.mode, 0o40755)
  t.alike(
    provider.list().map(({ name }) => name),
    ['new'],
  )
  t.is(session.ask('MKDIR', inside, 0o755, 0, 'new').error, E.EXIST)
  t.is((await session.askLater('MKDIR', inside, 0o755, 0, 'bad')).error, -22)
  t.is((await session.askLater('RMDIR', inside, 'new')).error, 0)
  t.is(provider.list().length, 0)
  t.is(session.ask('RMDIR', inside, 'new').error, E.NOENT)
  t.is((await session.askLater('GETATTR', { nodeId: entry.nodeId }, 0, 0, 0n)).error, E.STALE)
  session.tell('FORGET', { nodeId: entry.nodeId }, 1n)
  t.alike(session.faults, [])
})

test('a deleted snapshot: busy while files are open, ESTALE afterwards, back if the deletion failed', async (t) => {
  const { session, provider, inside, view } = started()
  provider.add('monday')
  const file = await path(session, inside.nodeId, 'monday', 'folder', 'file')
  t.is((await session.askLater('OPEN', { nodeId: file }, 0, 0)).error, 0)
  t.ok(view.isSnapshotInUse(1))
  t.is(session.ask('RMDIR', inside, 'monday').error, E.BUSY)
  session.ask('RELEASE', { nodeId: file }, 0n, 0, 0, 0n)
  provider.failRemove = true
  t.is((await session.askLater('RMDIR', inside, 'monday')).error, E.BUSY, 'pinned')
  t.is((await readOf(session, file)).data.toString(), 'text of monday')
  // Deleted by other means than rmdir, with a read under way.
  const fileSystem = provider.fileSystems.get('monday') as MemoryFileSystem
  let go = () => {}
  fileSystem.readsWait = new Promise((resolve) => {
    go = resolve
  })
  const reading = readOf(session, file)
  let isSettled = false
  const removed = view.snapshotRemoved(1).then(() => {
    isSettled = true
  })
  await new Promise(setImmediate)
  t.absent(isSettled, 'it waits for the read')
  t.is((await readOf(session, file)).error, E.STALE)
  go()
  t.is((await reading).data.toString(), 'text of monday')
  await removed
  provider.entries = []
  t.is((await session.askLater('GETATTR', { nodeId: file }, 0, 0, 0n)).error, E.STALE)
  t.is(session.ask('RELEASE', { nodeId: file }, 0n, 0, 0, 0n).error, 0)
  t.is(session.borrowed, 0)
})

test('snapshots are read-only, and nothing goes across', async (t) => {
  const { session, provider, inside } = started()
  provider.add('monday')
  const root = await path(session, inside.nodeId, 'monday')
  const folder = await path(session, root, 'folder')
  const file = await path(session, folder, 'file')
  const live = await path(session, 1, 'folder', 'file')
  const errors = [
    session.ask('MKDIR', { nodeId: folder }, 0o755, 0, 'd'),
    session.ask('CREATE', { nodeId: folder }, 2, 0o100644, 0, 0, 'c'),
    session.ask('UNLINK', { nodeId: folder }, 'file'),
    session.ask('OPEN', { nodeId: file }, 1, 0),
    session.ask('OPEN', { nodeId: file }, 0o1000, 0),
    session.ask('WRITE', { nodeId: file }, 0n, 0n, 1, 0, 0n, 0, 0, Buffer.of(1)),
    session.ask('SETATTR', { nodeId: file }, 1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 0, 0, 0),
    session.ask('SETXATTR', { nodeId: file }, 1, 0, 0, 0, 'user.a', Buffer.of(1)),
    session.ask('RENAME', { nodeId: folder }, BigInt(root), 'file', 'x'),
    session.ask('LINK', { nodeId: folder }, BigInt(file), 'x'),
  ]
  for (const { error } of errors) t.is(error, E.ROFS)
  t.is(session.ask('LINK', {}, BigInt(file), 'x').error, E.XDEV)
  t.is(session.ask('LINK', { nodeId: folder }, BigInt(live), 'x').error, E.XDEV)
  t.is(session.ask('RENAME', { nodeId: folder }, 1n, 'file', 'x').error, E.XDEV)
  t.is(session.ask('RENAME', {}, BigInt(inside.nodeId), 'folder', 'x').error, E.XDEV)
  t.is(session.ask('COPY_FILE_RANGE', { nodeId: file }, 0n, 0n, BigInt(live), 0n, 0n, 1n, 0n).error, E.XDEV)
  t.is(session.ask('RENAME', inside, BigInt(inside.nodeId), 'monday', 'x').error, E.PERM)
  t.is(session.ask('CREATE', inside, 2, 0o100644, 0, 0, 'x').error, E.PERM)
  t.is(session.ask('MKDIR', {}, 0o755, 0, '.snapshots').error, E.EXIST)
  t.is(session.ask('RMDIR', {}, '.snapshots').error, E.PERM)
  t.is(session.ask('RENAME', {}, 1n, 'folder', '.snapshots').error, E.PERM)
})

test('opening that fails fails the lookup, once', async (t) => {
  const { session, provider, inside } = started()
  provider.add('monday')
  provider.failOpen = true
  t.is(session.ask('LOOKUP', inside, 'monday').error, E.NOENT)
  provider.failOpen = false
  provider.open = () =>
    new Promise((_, reject) => setImmediate(() => reject(new UmbraError('CORRUPT', 'planted'))))
  t.is((await session.askLater('LOOKUP', inside, 'monday')).error, -5)
})

test('open snapshots are bounded; one with an open file is not closed', async (t) => {
  const { session, provider, inside } = started(2)
  for (let i = 0; i < 12; i++) provider.add(`s${i}`)
  const held = await path(session, inside.nodeId, 's0', 'folder', 'file')
  await session.askLater('OPEN', { nodeId: held }, 0, 0)
  for (let i = 1; i < 12; i++) {
    const file = await path(session, inside.nodeId, `s${i}`, 'folder', 'file')
    t.is((await readOf(session, file)).data.toString(), `text of s${i}`)
    t.ok(provider.opened - provider.closed <= 2)
  }
  const opened = provider.opened
  t.is((await readOf(session, held)).data.toString(), 'text of s0')
  t.is(provider.opened, opened)
})

test('the control xattr answers at the root and is not listed', (t) => {
  const { session } = started()
  t.is(session.ask('GETXATTR', {}, 100, 0, 'user.umbra.control').data.toString(), '/run/umbra/socket')
  t.is(session.ask('LISTXATTR', {}, 100, 0).data.length, 0)
  t.is(session.ask('SETXATTR', {}, 1, 0, 0, 0, 'user.umbra.control', Buffer.of(1)).error, E.PERM)
  t.is(session.ask('REMOVEXATTR', {}, 'user.umbra.control').error, E.PERM)
})

test('the flush marker exists while armed and calls back when its RELEASE arrives', (t) => {
  const { session, marker } = started()
  const released: string[] = []
  const armed = marker.arm((nonce) => released.push(nonce))
  const other = marker.arm(() => t.fail('another marker'))
  const entry = entryOf(session.ask('LOOKUP', {}, armed.name))
  t.alike([entry.mode, entry.entrySec, entry.attributesSec, entry.sizeBytes], [0o100444, 0, 0, 0])
  const at = { nodeId: entry.nodeId }
  t.is(session.ask('OPEN', at, 1, 0).error, E.PERM)
  t.is(session.ask('OPEN', at, 0, 0).error, 0)
  t.alike(released, [])
  t.is(session.ask('RELEASE', at, 0n, 0, 0, 0n).error, 0)
  t.alike(released, [armed.nonce])
  session.ask('RELEASE', at, 0n, 0, 0, 0n)
  t.is(released.length, 1)
  session.tell('FORGET', at, 1n)
  t.is(entryOf(session.ask('LOOKUP', {}, armed.name)).nodeId, 0)
  other.disarm()
  t.is(entryOf(session.ask('LOOKUP', {}, other.name)).nodeId, 0)
  const listed = listingOf(session.ask('READDIR', {}, 0n, 0n, 4096, 0, 0n, 0, 0).data, false)
  t.absent(listed.some((entry) => entry.name.startsWith('.umbra')))
  t.is(session.ask('CREATE', {}, 2, 0o100644, 0, 0, '.umbra-flush-x').error, E.EXIST)
  t.alike(session.faults, [])
})

test('rmdir does not delete a new snapshot that has got the name meanwhile', async (t) => {
  const { provider, view, folder } = started()
  provider.add('daily')
  const removed = view.rmdir(folder.nodeId, 'daily')
  provider.entries = []
  provider.add('daily')
  const code = await Promise.resolve(removed).catch((error) => error.code)
  t.is(code, 'ENOENT')
  t.alike(
    provider.entries.map(({ name, epoch }) => [name, epoch]),
    [['daily', 2]],
  )
})
