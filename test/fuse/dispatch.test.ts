import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import type { FuseDispatcherOptions } from '../../src/fuse/dispatch.ts'
import { IOCTL } from '../../src/fuse/handle-ioctl.ts'
import { HoldGate } from '../../src/fuse/hold-gate.ts'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { INIT_HIGH, INIT_LOW, OPCODE, WRITE } from '../../src/fuse/protocol.ts'
import { MemoryFileSystem } from './memory-file-system.ts'
import { body, entryOf, type Part, Session } from './session.ts'

const FOREVER = 2 ** 31
const E = { PERM: -1, NOENT: -2, IO: -5, EXIST: -17, NOTDIR: -20, ISDIR: -21, INVAL: -22, NOTTY: -25 }
const ENOSYS = -38
const ERANGE = -34
const ENODATA = -61
const EPROTO = -71
const EROFS = -30

function started(options: Partial<FuseDispatcherOptions> = {}) {
  const fileSystem = new MemoryFileSystem()
  const session = new Session({ operations: new LiveTree(fileSystem), ...options })
  init(session)
  return { fileSystem, session }
}

function init(session: Session, minor = 45, flags = 0xffffffff, flags2 = 0xffffffff) {
  return session.ask('INIT', {}, 7, minor, 131072, flags, flags2, new Uint8Array(44))
}

function create(session: Session, name: string, mode = 0o100644, umask = 0) {
  return entryOf(session.ask('CREATE', {}, 0o2, mode, umask, 0, name))
}

test('INIT answers with what design asks of the kernel, and only what was offered', (t) => {
  const { session } = started()
  const { data, error } = init(session)
  t.is(error, 0)
  t.is(data.length, 64)
  t.is(data.readUInt32LE(0), 7)
  t.is(data.readUInt32LE(4), 45)
  t.is(data.readUInt32LE(8), 131072)
  const flags = data.readUInt32LE(12)
  for (const on of ['ASYNC_READ', 'ATOMIC_O_TRUNC', 'EXPORT_SUPPORT', 'BIG_WRITES', 'DONT_MASK'] as const)
    t.ok((flags & INIT_LOW[on]) !== 0, on)
  for (const on of [
    'WRITEBACK_CACHE',
    'POSIX_ACL',
    'HANDLE_KILLPRIV_V2',
    'SETXATTR_EXT',
    'INIT_EXT',
  ] as const)
    t.ok((flags & INIT_LOW[on]) !== 0, on)
  for (const off of [
    'POSIX_LOCKS',
    'FLOCK_LOCKS',
    'AUTO_INVAL_DATA',
    'HANDLE_KILLPRIV',
    'NO_OPEN_SUPPORT',
  ] as const)
    t.is(flags & INIT_LOW[off], 0, off)
  t.is(data.readUInt16LE(16), 64)
  t.is(data.readUInt32LE(20), 1024 * 1024)
  t.is(data.readUInt32LE(24), 1)
  t.is(data.readUInt16LE(28), 256)
  t.is(
    data.readUInt32LE(32),
    INIT_HIGH.HAS_EXPIRE_ONLY | INIT_HIGH.DIRECT_IO_ALLOW_MMAP | INIT_HIGH.HAS_RESEND,
  )

  const few = init(session, 31, INIT_LOW.BIG_WRITES | INIT_LOW.MAX_PAGES, 0xff)
  t.is(few.data.readUInt32LE(4), 31)
  t.is(few.data.readUInt32LE(12), INIT_LOW.BIG_WRITES | INIT_LOW.MAX_PAGES)
  t.is(few.data.readUInt32LE(32), 0, 'no flags2 without INIT_EXT')
  t.is(session.ask('INIT', {}, 7, 30, 0, 0).error, EPROTO)
  t.is(session.ask('INIT', {}, 6, 45, 0, 0).error, EPROTO)
  t.is(session.ask('INIT', {}, 8, 0, 0, 0).data.readUInt32LE(0), 7, 'a newer kernel is told our version')

  const through = started({ writeBack: false, posixAcl: false })
  const strict = init(through.session).data.readUInt32LE(12)
  t.is(strict & (INIT_LOW.WRITEBACK_CACHE | INIT_LOW.POSIX_ACL), 0)
})

test('names: made, found, linked, renamed, removed; missing names are cached', (t) => {
  const { session, fileSystem } = started()
  const missing = entryOf(session.ask('LOOKUP', {}, 'nope'))
  t.alike([missing.error, missing.nodeId, missing.entrySec], [0, 0, FOREVER])

  const file = create(session, 'file', 0o100666, 0o022)
  t.is(file.mode, 0o100644, 'the umask is applied')
  t.is(file.ino, file.nodeId)
  t.is(file.generation, file.nodeId * 7)
  t.alike([file.entrySec, file.attributesSec], [FOREVER, FOREVER])
  const owned = { uid: 7, gid: 8 }
  const folder = entryOf(session.ask('MKDIR', owned, 0o755, 0, 'folder'))
  t.is(folder.uid, 7)
  t.is(folder.mode, 0o40755)
  const fifo = entryOf(session.ask('MKNOD', {}, 0o10600, 0, 0, 0, 'fifo'))
  t.is(fifo.mode, 0o10600)
  const device = entryOf(session.ask('MKNOD', {}, 0o20600, 0x103, 0, 0, 'null'))
  t.is(session.ask('GETATTR', { nodeId: device.nodeId }, 0, 0, 0n).data.readUInt32LE(16 + 76), 0x103)
  const link = entryOf(session.ask('SYMLINK', {}, 'soft', 'to/here'))
  t.is(session.ask('READLINK', { nodeId: link.nodeId }).data.toString(), 'to/here')
  t.is(session.ask('READLINK', { nodeId: file.nodeId }).error, E.INVAL)
  t.is(session.ask('LOOKUP', { nodeId: file.nodeId }, 'x').error, E.NOTDIR)
  t.is(session.ask('MKDIR', {}, 0o755, 0, 'folder').error, E.EXIST)

  const hard = entryOf(session.ask('LINK', { nodeId: folder.nodeId }, BigInt(file.nodeId), 'hard'))
  t.alike([hard.nodeId, hard.linkCount], [file.nodeId, 2])
  t.is(session.ask('LINK', {}, BigInt(folder.nodeId), 'no').error, E.PERM)
  t.is(session.ask('RENAME', {}, BigInt(folder.nodeId), 'fifo', 'moved').error, 0)
  t.is(session.ask('RENAME2', {}, BigInt(folder.nodeId), 1, 0, 'file', 'moved').error, E.EXIST)
  t.is(entryOf(session.ask('LOOKUP', { nodeId: folder.nodeId }, 'moved')).nodeId, fifo.nodeId)
  t.is(entryOf(session.ask('LOOKUP', { nodeId: folder.nodeId }, '..')).nodeId, 1)
  t.is(entryOf(session.ask('LOOKUP', { nodeId: folder.nodeId }, '.')).nodeId, folder.nodeId)
  t.is(session.ask('RMDIR', {}, 'folder').error, -39)
  t.is(session.ask('UNLINK', {}, 'folder').error, E.ISDIR)
  for (const name of ['hard', 'moved']) t.is(session.ask('UNLINK', { nodeId: folder.nodeId }, name).error, 0)
  t.is(session.ask('RMDIR', {}, 'folder').error, 0)
  t.is(session.ask('UNLINK', {}, 'absent').error, E.NOENT)

  const temporary = session.ask('TMPFILE', {}, 0o2, 0o100600, 0, 0, '#tmp')
  const unnamed = entryOf(temporary)
  t.alike([temporary.data.length, unnamed.linkCount], [144, 0])
  t.is(entryOf(session.ask('LINK', {}, BigInt(unnamed.nodeId), 'named')).linkCount, 1)
  t.ok(fileSystem.has(unnamed.nodeId))
  t.alike(session.faults, [])
  t.alike(session.errors, [])
})

test('names are bytes: what is no UTF-8 comes back as it went', (t) => {
  const { session, fileSystem } = started()
  const name = Buffer.from([0xff, 0xfe, 0x80, 0x41, 0])
  t.is(entryOf(session.ask('MKDIR', {}, 0o755, 0, name)).error, 0)
  t.ok(fileSystem.lookup(fileSystem.inode(2), '\xff\xfe\x80A'))
  t.not(entryOf(session.ask('LOOKUP', {}, name)).nodeId, 0)
})

test('files: written in place, read into the reply, truncated, allocated, sought, copied', (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'file')
  const at = { nodeId }
  const payload = Buffer.alloc(300_000, 'payload ')
  const written = session.ask('WRITE', at, 0n, 100n, payload.length, 0, 0n, 0, 0, payload)
  t.is(written.data.readUInt32LE(0), payload.length)
  const read = session.ask('READ', at, 0n, 90n, 400_000, 0, 0n, 0, 0)
  t.is(read.data.length, 300_010)
  t.ok(read.data.subarray(10).equals(payload))
  t.ok(read.data.subarray(0, 10).every((byte) => byte === 0))
  t.is(session.ask('READ', at, 0n, 1n << 60n, 4096, 0, 0n, 0, 0).data.length, 0)
  t.is(session.ask('READ', at, 0n, 0n, 1024 * 1024 + 1, 0, 0n, 0, 0).error, E.INVAL)
  t.is(session.ask('READ', {}, 0n, 0n, 4096, 0, 0n, 0, 0).error, E.ISDIR)
  t.is(session.ask('WRITE', at, 0n, 1n << 60n, 1, 0, 0n, 0, 0, Buffer.of(1)).error, -27, 'EFBIG')
  t.is(
    session.ask('WRITE', at, 0n, 0n, 5000, 0, 0n, 0, 0, Buffer.of(1)).error,
    E.IO,
    'less payload than said',
  )

  t.is(session.ask('LSEEK', at, 0n, 5n, 4, 0).error, ENOSYS, 'open for writing: dirty pages are unknown')
  t.is(session.ask('FALLOCATE', at, 0n, 0n, 500_000n, 0, 0).error, 0)
  t.is(fileSystem.inode(nodeId).sizeBytes, 500_000)
  t.is(session.ask('FALLOCATE', at, 0n, 0n, 0n, 0, 0).error, E.INVAL)

  const target = create(session, 'target')
  const copy = [0n, 100n, BigInt(target.nodeId), 0n, 0n, 1n << 62n, 0n] as Part[]
  t.is(session.ask('COPY_FILE_RANGE', at, ...copy).data.readUInt32LE(0), 499_900)
  t.is(Number(session.ask('COPY_FILE_RANGE_64', at, ...copy).data.readBigUInt64LE(0)), 499_900)
  const copied = session.ask('READ', { nodeId: target.nodeId }, 0n, 0n, 300_000, 0, 0n, 0, 0)
  t.ok(copied.data.equals(payload))

  t.is(session.ask('OPEN', at, 0o1001, 0).error, 0)
  t.is(fileSystem.inode(nodeId).sizeBytes, 0, 'O_TRUNC travels with OPEN')
  t.is(fileSystem.inode(nodeId).openCount, 2)
  for (const flags of [0o2, 0o1001]) t.is(session.ask('RELEASE', at, 0n, flags, 0, 0n).error, 0)
  t.is(fileSystem.inode(nodeId).openCount, 0)
  session.ask('WRITE', at, 0n, 0n, 10, 0, 0n, 0, 0, payload.subarray(0, 10))
  t.is(Number(session.ask('LSEEK', at, 0n, 5n, 4, 0).data.readBigUInt64LE(0)), 10)
  t.is(session.ask('LSEEK', at, 0n, 11n, 3, 0).error, -6, 'ENXIO')
  t.is(session.ask('LSEEK', at, 0n, 0n, 9, 0).error, E.INVAL)
  t.is(session.borrowed, 0)
  t.alike(session.faults, [])
})

test('SEEK_HOLE on a file open for writing waits until the kernel wrote its pages back', async (t) => {
  let flushed = 0
  const { session } = started({
    flushInode: async () => {
      flushed++
    },
  })
  const at = { nodeId: create(session, 'file').nodeId }
  session.ask('WRITE', at, 0n, 0n, 3, 0, 0n, 0, 0, Buffer.from('abc'))
  const reply = await session.askLater('LSEEK', at, 0n, 0n, 4, 0)
  t.is(Number(reply.data.readBigUInt64LE(0)), 3)
  t.is(flushed, 1)
})

test('a request that runs out of space is handled again as long as room is made', async (t) => {
  const attempts: number[] = []
  const { fileSystem, session } = started({
    makeRoom: (attempt) => {
      attempts.push(attempt)
      return attempt < 3 ? Promise.resolve() : undefined
    },
  })
  const at = { nodeId: create(session, 'file').nodeId }
  const write = fileSystem.write.bind(fileSystem)
  let failures = 1
  fileSystem.write = (...args) => {
    if (failures-- > 0) throw new UmbraError('OUT_OF_SPACE', 'full')
    return write(...args)
  }
  const ask = () => session.askLater('WRITE', at, 0n, 0n, 3, 0, 0n, 0, 0, Buffer.from('abc'))
  t.is((await ask()).error, 0)
  t.alike(attempts.splice(0), [0])
  failures = 3
  t.is((await ask()).error, 0)
  t.alike(attempts.splice(0), [0, 1, 2])
  failures = 4
  t.is((await ask()).error, -28, 'it is the answer when there is no more room to be made')
  t.alike(attempts.splice(0), [0, 1, 2, 3])
  failures = 0
  t.is((await ask()).error, 0)
})

test('reads that wait are answered later, and their buffers come back', async (t) => {
  const { session, fileSystem } = started()
  const at = { nodeId: create(session, 'file').nodeId }
  session.ask('WRITE', at, 0n, 0n, 3, 0, 0n, 0, 0, Buffer.from('abc'))
  let go = () => {}
  fileSystem.readsWait = new Promise((resolve) => {
    go = resolve
  })
  const later = session.askLater('READ', at, 0n, 0n, 4096, 0, 0n, 0, 0)
  t.is(session.borrowed, 1)
  session.ask('GETATTR', at, 0, 0, 0n)
  go()
  t.is((await later).data.toString(), 'abc')
  fileSystem.readsWait = Promise.reject(new Error('planted'))
  t.is((await session.askLater('READ', at, 0n, 0n, 4096, 0, 0n, 0, 0)).error, E.IO)
  await new Promise(setImmediate)
  t.is(session.borrowed, 0)
  t.is(session.errors.length, 1, 'what is no answer is reported')
  t.alike(session.faults, [])
})

test('attributes: set, read back by GETATTR and STATX, times before 1970 too', (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'file')
  const change = (
    valid: number,
    size: bigint,
    times: [bigint, bigint, bigint],
    mode: number,
    ids: [number, number],
  ) => session.ask('SETATTR', { nodeId }, valid, 0, 0n, size, 0n, ...times, 1, 2, 3, mode, 0, ...ids, 0)
  const all = 0b10000111111 & ~0b1000000
  t.is(change(all | 0x400, 77n, [-5n, 1n << 33n, 9n], 0o640, [3, 4]).error, 0)
  const { data } = session.ask('GETATTR', { nodeId }, 0, 0, 0n)
  t.is(data.length, 104)
  t.is(data.readUInt32LE(0), FOREVER)
  const wide = (at: number) => data.readBigInt64LE(16 + at)
  t.alike([wide(8), wide(24), wide(32), wide(40)], [77n, -5n, 1n << 33n, 9n])
  const word = (at: number) => data.readUInt32LE(16 + at)
  t.alike([word(48), word(52), word(56), word(60)], [1, 2, 3, 0o100640])
  t.alike([word(68), word(72), word(80)], [3, 4, 4096])
  const stat = session.ask('STATX', { nodeId }, 0, 0, 0n, 0, 0xfff).data
  t.is(stat.length, 288)
  t.is(stat.readUInt32LE(32), 0xfff, 'basic and birth time')
  t.is(stat.readUInt16LE(32 + 28), 0o100640)
  t.is(stat.readBigInt64LE(32 + 64), -5n)
  t.is(stat.readBigInt64LE(32 + 80), BigInt(fileSystem.inode(nodeId).crtime.sec))
  t.is(stat.readBigInt64LE(32 + 112), 1n << 33n)
  t.is(change(0x8, 1n << 60n, [0n, 0n, 0n], 0, [0, 0]).error, -27, 'EFBIG')
  t.is(session.ask('SETATTR', {}, 8, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 0, 0, 0).error, E.ISDIR)
  t.is(session.ask('GETATTR', { nodeId: 999 }, 0, 0, 0n).error, -116, 'ESTALE')
  const statfs = session.ask('STATFS', {}).data
  t.alike([statfs.length, Number(statfs.readBigUInt64LE(16)), statfs.readUInt32LE(44)], [80, 890, 255])
})

test('suid, sgid and capabilities go with writes as KILLPRIV_V2 demands', (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'tool', 0o106755)
  const inode = fileSystem.inode(nodeId)
  const set = () => {
    fileSystem.setAttributes(inode, { mode: 0o6755 }, { uid: 0, gid: 0, pid: 0 })
    t.is(session.ask('SETXATTR', { nodeId }, 2, 0, 0, 0, 'security.capability', Buffer.of(1, 2)).error, 0)
  }
  const capability = () => fileSystem.getXattr(inode, 'security.capability')
  set()
  session.ask('WRITE', { nodeId }, 0n, 0n, 1, 1, 0n, 0, 0, Buffer.of(1))
  t.is(inode.mode & 0o7777, 0o6755, 'a write from the cache keeps the bits')
  t.absent(capability())
  set()
  session.ask('WRITE', { nodeId }, 0n, 0n, 1, 4, 0n, 0, 0, Buffer.of(1))
  t.alike([inode.mode & 0o7777, capability()], [0o755, undefined])
  set()
  session.ask('OPEN', { nodeId }, 0o1001, 1)
  t.alike([inode.mode & 0o7777, capability()], [0o755, undefined])
  set()
  const chown = (1 << 1) | (1 << 11)
  session.ask('SETATTR', { nodeId }, chown, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0, 0, 5, 0, 0)
  t.alike([inode.uid, inode.mode & 0o7777, capability()], [5, 0o755, undefined])
  set()
  session.ask('SETXATTR', { nodeId }, 1, 0, 1, 0, 'system.posix_acl_access', Buffer.of(1))
  t.is(inode.mode & 0o7777, 0o4755, 'ACL_KILL_SGID')
})

test("times of writes: the kernel's where it keeps a write-back cache, else ours, of mapped pages too", (t) => {
  for (const timesFromKernel of [true, false]) {
    const fileSystem = new MemoryFileSystem()
    const session = new Session({ operations: new LiveTree(fileSystem, { timesFromKernel }) })
    init(session)
    const { nodeId } = create(session, 'file')
    for (const flags of [WRITE.CACHE, 0]) {
      const before = fileSystem.inode(nodeId).mtime
      session.ask('WRITE', { nodeId }, 0n, 0n, 1, flags, 0n, 0, 0, Buffer.of(1))
      const comment = `flags ${flags}, ${timesFromKernel ? 'write-back' : 'write-through'}`
      if (timesFromKernel) t.alike(fileSystem.inode(nodeId).mtime, before, comment)
      else t.unlike(fileSystem.inode(nodeId).mtime, before, comment)
    }
  }
})

test('a default ACL takes the place of the umask', (t) => {
  const { session, fileSystem } = started()
  fileSystem.setXattr(fileSystem.inode(2), 'system.posix_acl_default', Buffer.of(2), 0)
  t.is(create(session, 'file', 0o100666, 0o077).mode, 0o100666)
})

test('xattrs: sizes, contents, lists, ranges, both forms of SETXATTR', (t) => {
  const { session } = started()
  t.is(session.ask('SETXATTR', {}, 3, 0, 0, 0, 'user.a', Buffer.from('xyz')).error, 0)
  t.is(session.ask('GETXATTR', {}, 0, 0, 'user.a').data.readUInt32LE(0), 3)
  t.is(session.ask('GETXATTR', {}, 3, 0, 'user.a').data.toString(), 'xyz')
  t.is(session.ask('GETXATTR', {}, 2, 0, 'user.a').error, ERANGE)
  t.is(session.ask('GETXATTR', {}, 0, 0, 'user.none').error, ENODATA)
  t.is(session.ask('SETXATTR', {}, 3, 1, 0, 0, 'user.a', Buffer.from('xyz')).error, E.EXIST)
  t.is(session.ask('SETXATTR', {}, 9, 0, 0, 0, 'user.a', Buffer.from('xyz')).error, E.IO)
  t.is(session.ask('LISTXATTR', {}, 0, 0).data.readUInt32LE(0), 7)
  t.is(session.ask('LISTXATTR', {}, 100, 0).data.toString(), 'user.a\0')
  t.is(session.ask('REMOVEXATTR', {}, 'user.a').error, 0)
  t.is(session.ask('REMOVEXATTR', {}, 'user.a').error, ENODATA)
  const big = Buffer.alloc(65536, 'v')
  t.is(session.ask('SETXATTR', {}, big.length, 0, 0, 0, 'user.big', big).error, 0)
  t.ok(session.ask('GETXATTR', {}, 65536, 0, 'user.big').data.equals(big))
  t.is(session.ask('SETXATTR', {}, 65537, 0, 0, 0, 'user.big', big).error, -7, 'E2BIG')
  init(session, 31, INIT_LOW.BIG_WRITES, 0)
  t.is(session.ask('SETXATTR', {}, 3, 0, 'user.short', Buffer.from('abc')).error, 0)
  t.is(session.ask('GETXATTR', {}, 3, 0, 'user.short').data.toString(), 'abc')
})

test('ioctls: flags are read, set and obeyed; FITRIM has nothing to do; others are ENOTTY', (t) => {
  const { session } = started()
  const { nodeId } = create(session, 'file')
  const at = { nodeId }
  const ioctl = (cmd: number, input: Part[], outBytes: number) =>
    session.ask('IOCTL', at, 0n, 0, cmd, 0n, body(...input).length, outBytes, ...input)
  t.is(ioctl(IOCTL.GETFLAGS, [], 4).data.length, 20)
  t.is(ioctl(IOCTL.SETFLAGS, [0x10], 0).error, 0)
  t.is(ioctl(IOCTL.GETFLAGS, [], 4).data.readUInt32LE(16), 0x10)
  t.is(
    session.notifications.at(-1)?.data.readUInt32LE(0),
    nodeId,
    'the kernel asks for the change time again',
  )
  t.is(ioctl(IOCTL.FSGETXATTR, [], 28).data.readUInt32LE(16), 0x8)
  t.is(session.ask('OPEN', at, 1, 0).error, E.PERM)
  t.is(session.ask('UNLINK', {}, 'file').error, E.PERM)
  t.is(session.ask('LINK', {}, BigInt(nodeId), 'l').error, E.PERM)
  t.is(session.ask('SETATTR', at, 1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o600, 0, 0, 0, 0).error, E.PERM)
  t.is(ioctl(IOCTL.FSSETXATTR, [0x10, 0, 0, 0, 0, 0n], 0).error, 0)
  t.is(session.ask('OPEN', at, 1, 0).error, E.PERM, 'append only')
  t.is(session.ask('OPEN', at, 0o2001, 0).error, 0)
  t.is(ioctl(IOCTL.SETFLAGS, [0], 0).error, 0)
  t.is(ioctl(IOCTL.SETFLAGS, [0x800], 0).error, 0, 'a flag of the file system’s own')
  t.is(ioctl(IOCTL.SETFLAGS, [0x4000], 0).error, -95, 'EOPNOTSUPP')
  const generation = ioctl(IOCTL.GETVERSION, [], 8).data
  t.alike(
    [generation.length, generation.readUInt32LE(16)],
    [20, nodeId * 7],
    'an int, whatever its size says',
  )
  const trimmed = ioctl(IOCTL.FITRIM, [0n, 1n << 40n, 4096n], 24).data
  t.is(trimmed.readBigUInt64LE(16 + 8), 0n)
  for (const range of [
    [0n, 100n, 0n],
    [1n << 62n, 1n << 40n, 0n],
    [0n, 1n << 40n, 1n << 40n],
  ])
    t.is(ioctl(IOCTL.FITRIM, range, 24).error, E.INVAL)
  t.is(ioctl(0x1234, [], 0).error, E.NOTTY)
  t.is(ioctl(IOCTL.GETFLAGS, [], 2).error, E.INVAL)
})

test('ioctls: the label is told and set, by root, up to 16 bytes', (t) => {
  const { session, fileSystem } = started()
  const set = (label: Buffer, uid = 0) =>
    session.ask('IOCTL', { uid }, 0n, 0, IOCTL.SETFSLABEL, 0n, 256, 0, Buffer.concat([label], 256))
  const get = () => session.ask('IOCTL', {}, 0n, 0, IOCTL.GETFSLABEL, 0n, 0, 256).data.subarray(16)
  t.alike([get().length, get().toString('latin1').replace(/\0+$/, '')], [256, 'memory'])
  t.is(set(Buffer.from('mine'), 1000).error, E.PERM)
  t.is(set(Buffer.alloc(17, 'x')).error, E.INVAL)
  const full = Buffer.from('sixteen bytes \xe4!', 'latin1')
  t.is(set(full).error, 0)
  t.is(fileSystem.label, full.toString('latin1'))
  t.ok(
    get()
      .subarray(0, 17)
      .equals(Buffer.concat([full], 17)),
  )
})

test('reading counts as access where access times are kept, but not with O_NOATIME or for a writer', (t) => {
  const O_NOATIME = 0o1000000
  for (const accessTimes of [true, false]) {
    const fileSystem = new MemoryFileSystem()
    const gate = new HoldGate()
    const session = new Session({ operations: new LiveTree(fileSystem, { accessTimes, gate }) })
    init(session)
    const { nodeId } = create(session, 'file')
    const moves = (what: Parameters<Session['ask']>[0], at: { nodeId?: number }, ...parts: Part[]) => {
      const inode = fileSystem.inode(at.nodeId ?? 2)
      const before = inode.atime
      t.is(session.ask(what, at, ...parts).error, 0)
      return inode.atime !== before
    }
    const read = (flags: number) => moves('READ', { nodeId }, 0n, 0n, 10, 0, 0n, flags, 0)
    const list = (flags: number) => moves('READDIR', {}, 0n, 0n, 4096, 0, 0n, flags, 0)
    t.alike([read(0), read(2), read(1), read(O_NOATIME)], [accessTimes, accessTimes, false, false])
    t.alike([list(0), list(O_NOATIME)], [accessTimes, false])
    const link = entryOf(session.ask('SYMLINK', {}, 'link', 'target')).nodeId
    t.is(moves('READLINK', { nodeId: link }), accessTimes)
    void gate.hold()
    t.absent(read(0) || list(0), 'not while changes are held')
  }
})

test('session: what stays unserved is ENOSYS, DESTROY is told, RESENT and odd uniques come back', (t) => {
  let destroyed = 0
  const { session } = started({ onDestroy: () => destroyed++ })
  for (const name of ['FLUSH', 'OPENDIR', 'POLL', 'ACCESS', 'BMAP', 'GETLK'] as const)
    t.is(session.ask(name, {}, new Uint8Array(64)).error, ENOSYS, name)
  t.is(session.ask('INTERRUPT', {}, 5n).error, ENOSYS)
  t.is(session.ask('RELEASEDIR', {}, new Uint8Array(24)).error, 0)
  t.is(session.ask('DESTROY', {}).error, 0)
  t.is(destroyed, 1)
  const unknown = session.post(4000, {}, new Uint8Array(8))
  t.is(session.replies.get(unknown)?.error, ENOSYS)
  for (const unique of [(1n << 63n) | 12n, 0xfffffffffffffffen, 0x1234567800000001n]) {
    session.post(OPCODE.STATFS, {}, new Uint8Array(0), { unique })
    t.is(session.replies.get(unique)?.error, 0)
  }
  init(session, 31, 0, 0)
  t.is(session.ask('OPENDIR', {}, 0, 0).data.length, 16, 'a kernel without NO_OPENDIR_SUPPORT')
  t.alike(session.faults, [])
})

test('FSYNC, FSYNCDIR and SYNCFS wait for the file system', async (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'file')
  t.is((await session.askLater('FSYNC', { nodeId }, 0n, 1, 0)).error, 0)
  t.is((await session.askLater('FSYNCDIR', {}, 0n, 0, 0)).error, 0)
  t.is((await session.askLater('SYNCFS', {}, 0n)).error, 0)
  t.is(fileSystem.syncCount, 3)
})

test('a read-only file system refuses every change with EROFS', (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'file')
  fileSystem.readOnly = true
  const at = { nodeId }
  const errors = [
    session.ask('MKDIR', {}, 0o755, 0, 'd'),
    session.ask('CREATE', {}, 2, 0o100644, 0, 0, 'c'),
    session.ask('MKNOD', {}, 0o10600, 0, 0, 0, 'f'),
    session.ask('SYMLINK', {}, 's', 't'),
    session.ask('LINK', {}, BigInt(nodeId), 'l'),
    session.ask('UNLINK', {}, 'file'),
    session.ask('RMDIR', {}, 'file'),
    session.ask('RENAME', {}, 1n, 'file', 'x'),
    session.ask('TMPFILE', {}, 2, 0o100644, 0, 0, 'c'),
    session.ask('OPEN', at, 1, 0),
    session.ask('WRITE', at, 0n, 0n, 1, 0, 0n, 0, 0, Buffer.of(1)),
    session.ask('SETATTR', at, 1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o600, 0, 0, 0, 0),
    session.ask('SETXATTR', at, 1, 0, 0, 0, 'user.a', Buffer.of(1)),
    session.ask('REMOVEXATTR', at, 'user.a'),
    session.ask('FALLOCATE', at, 0n, 0n, 1n, 0, 0),
  ]
  for (const { error } of errors) t.is(error, EROFS)
  t.is(session.ask('OPEN', at, 0, 0).error, 0)
})

test('a request that a test delays is answered later, and a RELEASE waits behind it', async (t) => {
  let go = () => {}
  const gate = new Promise<void>((resolve) => {
    go = resolve
  })
  const { session, fileSystem } = started({
    onRequest: (opcode) => (opcode === OPCODE.WRITE ? gate : undefined),
  })
  const at = { nodeId: create(session, 'file').nodeId }
  const write = session.askLater('WRITE', at, 0n, 0n, 4, 0, 0n, 0, 0, Buffer.from('late'))
  const release = session.askLater('RELEASE', at, 0n, 2, 0, 0n)
  t.is(session.ask('GETATTR', at, 0, 0, 0n).error, 0, 'others go on')
  t.is(fileSystem.inode(at.nodeId).openCount, 1)
  go()
  t.is((await write).error, 0)
  t.is((await release).error, 0)
  await session.dispatcher.settled()
  const data = new Uint8Array(4)
  fileSystem.read(fileSystem.inode(at.nodeId), 0, 4, data, 0)
  t.is(Buffer.from(data).toString(), 'late')
  t.alike(session.faults, [])
})

test('a file handle is opened by LOOKUP "." of its node, whatever it is', (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'file')
  const again = entryOf(session.ask('LOOKUP', { nodeId }, '.'))
  t.alike([again.nodeId, again.generation], [nodeId, nodeId * 7])
  t.is(fileSystem.inode(nodeId).lookupCount, 2)
  t.is(session.ask('LOOKUP', { nodeId: 4711 }, '.').error, -116, 'ESTALE')
})

test('a reply that the kernel did not take leaves no count behind', (t) => {
  const { session, fileSystem } = started()
  const { nodeId } = create(session, 'file')
  const inode = fileSystem.inode(nodeId)
  const counts = () => [inode.lookupCount, inode.openCount]
  t.alike(counts(), [1, 1])
  session.sendResult = -2
  session.post(OPCODE.LOOKUP, {}, body('file'))
  session.post(OPCODE.OPEN, { nodeId }, body(0, 0))
  session.post(OPCODE.READDIRPLUS, {}, body(0n, 0n, 4096, 0, 0n, 0, 0))
  t.alike(counts(), [1, 1])
  session.post(OPCODE.CREATE, {}, body(2, 0o100644, 0, 0, 'lost'))
  session.sendResult = 0
  const lost = fileSystem.lookup(fileSystem.inode(2), 'lost')
  t.alike([lost?.lookupCount, lost?.openCount], [0, 0])
  t.is(session.borrowed, 0)
  t.alike(session.faults, [])
})
