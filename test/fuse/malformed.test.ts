import test from 'brittle'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { INIT_LOW, OPCODE } from '../../src/fuse/protocol.ts'
import { MemoryFileSystem } from './memory-file-system.ts'
import { body, entryOf, type OpcodeName, type Part, Session } from './session.ts'

const UNANSWERED: readonly OpcodeName[] = ['FORGET', 'BATCH_FORGET']

/** One well-formed body of each request. */
function bodies(nodeId: number): Record<OpcodeName, Part[]> {
  const id = BigInt(nodeId)
  return {
    LOOKUP: ['file'],
    FORGET: [0n],
    GETATTR: [0, 0, 0n],
    SETATTR: [1, 0, 0n, 0n, 0n, 0n, 0n, 0n, 0, 0, 0, 0o644, 0, 0, 0, 0],
    READLINK: [],
    SYMLINK: ['soft', 'target'],
    MKNOD: [0o10600, 0, 0, 0, 'fifo'],
    MKDIR: [0o755, 0, 'folder'],
    UNLINK: ['absent'],
    RMDIR: ['absent'],
    RENAME: [1n, 'absent', 'new'],
    LINK: [id, 'hard'],
    OPEN: [0, 0],
    READ: [0n, 0n, 4096, 0, 0n, 0, 0],
    WRITE: [0n, 0n, 4, 0, 0n, 0, 0, Buffer.from('data')],
    STATFS: [],
    RELEASE: [0n, 0, 0, 0n],
    FSYNC: [0n, 0, 0],
    SETXATTR: [1, 0, 0, 0, 'user.a', Buffer.of(1)],
    GETXATTR: [0, 0, 'user.a'],
    LISTXATTR: [0, 0],
    REMOVEXATTR: ['user.b'],
    FLUSH: [0n, 0, 0, 0n],
    INIT: [7, 45, 131072, INIT_LOW.SETXATTR_EXT, 0, new Uint8Array(44)],
    OPENDIR: [0, 0],
    READDIR: [0n, 0n, 4096, 0, 0n, 0, 0],
    RELEASEDIR: [0n, 0, 0, 0n],
    FSYNCDIR: [0n, 0, 0],
    GETLK: [new Uint8Array(48)],
    SETLK: [new Uint8Array(48)],
    SETLKW: [new Uint8Array(48)],
    ACCESS: [0, 0],
    CREATE: [2, 0o100644, 0, 0, 'new'],
    INTERRUPT: [4n],
    BMAP: [0n, 4096, 0],
    DESTROY: [],
    IOCTL: [0n, 0, 0x80086601, 0n, 0, 8],
    POLL: [new Uint8Array(24)],
    NOTIFY_REPLY: [new Uint8Array(40)],
    BATCH_FORGET: [2, 0, 0n, 0n, 0n, 0n],
    FALLOCATE: [0n, 0n, 10n, 0, 0],
    READDIRPLUS: [0n, 0n, 4096, 0, 0n, 0, 0],
    RENAME2: [1n, 0, 0, 'absent', 'new'],
    LSEEK: [0n, 0n, 3, 0],
    COPY_FILE_RANGE: [0n, 0n, id, 0n, 0n, 1n, 0n],
    SYNCFS: [0n],
    TMPFILE: [2, 0o100644, 0, 0, 'tmp'],
    STATX: [0, 0, 0n, 0, 0xfff],
    COPY_FILE_RANGE_64: [0n, 0n, id, 0n, 0n, 1n, 0n],
  }
}

const OF_FILES: readonly OpcodeName[] = [
  'OPEN',
  'READ',
  'WRITE',
  'RELEASE',
  'FSYNC',
  'FALLOCATE',
  'LSEEK',
  'COPY_FILE_RANGE',
  'COPY_FILE_RANGE_64',
]

function started() {
  const fileSystem = new MemoryFileSystem()
  const session = new Session({ operations: new LiveTree(fileSystem) })
  session.ask('INIT', {}, 7, 45, 131072, 0xffffffff, 0xffffffff, new Uint8Array(44))
  const file = entryOf(session.ask('CREATE', {}, 2, 0o100644, 0, 0, 'file')).nodeId
  return { fileSystem, session, file }
}

async function expectAnswered(session: Session, name: OpcodeName, unique: bigint): Promise<void> {
  if (UNANSWERED.includes(name)) return
  if (!session.replies.has(unique)) await session.answered(unique)
}

test('every truncation of every request is answered once and harms nothing', async (t) => {
  const names = Object.keys(OPCODE) as OpcodeName[]
  for (const name of names) {
    const { session, file, fileSystem } = started()
    const nodeId = OF_FILES.includes(name) ? file : 1
    const whole = body(...bodies(file)[name])
    let refused = 0
    for (let length = 0; length < whole.length; length++) {
      const unique = session.post(OPCODE[name], { nodeId }, whole.subarray(0, length))
      await expectAnswered(session, name, unique)
      if ((session.replies.get(unique)?.error ?? 0) < 0) refused++
    }
    const last = session.post(OPCODE[name], { nodeId }, whole)
    await expectAnswered(session, name, last)
    t.alike(session.faults, [], name)
    t.is(session.borrowed, 0, `${name}: buffers came back`)
    t.ok(refused >= 0 && fileSystem.has(file), name)
  }
})

test('truncated structures are refused, not read past their end', (t) => {
  const { session, file } = started()
  const sized: [OpcodeName, number][] = [
    ['GETATTR', 16],
    ['SETATTR', 88],
    ['OPEN', 8],
    ['READ', 40],
    ['WRITE', 44],
    ['RELEASE', 24],
    ['FALLOCATE', 32],
    ['LSEEK', 24],
    ['STATX', 24],
    ['IOCTL', 32],
    ['COPY_FILE_RANGE', 56],
    ['FSYNC', 16],
  ]
  for (const [name, sizeBytes] of sized) {
    const whole = body(...bodies(file)[name])
    t.is(whole.length, sizeBytes, `${name} is as long as its structure`)
    for (let length = 0; length < whole.length; length++) {
      const unique = session.post(OPCODE[name], { nodeId: file }, whole.subarray(0, length))
      const error = session.replies.get(unique)?.error
      if (error !== -5) t.fail(`${name} of ${length} bytes: ${error}`)
    }
  }
})

test('names without an end, empty, too long or with a slash are refused', (t) => {
  const { session } = started()
  const INVAL = -22
  const long = 'n'.repeat(256)
  t.is(session.ask('LOOKUP', {}, Buffer.from('noend')).error, INVAL)
  t.is(session.ask('LOOKUP', {}, '').error, INVAL)
  t.is(session.ask('LOOKUP', {}, 'a/b').error, INVAL)
  t.is(session.ask('LOOKUP', {}, long).error, -36, 'ENAMETOOLONG')
  t.is(session.ask('LOOKUP', {}, 'n'.repeat(255)).error, 0)
  t.is(session.ask('RENAME', {}, 1n, 'file').error, INVAL, 'one name of two')
  t.is(session.ask('SYMLINK', {}, 'l', 'x'.repeat(4096)).error, -36)
  t.is(session.ask('MKDIR', {}, 0o755, 0, '').error, INVAL)
  t.is(session.ask('SETXATTR', {}, 0, 0, 0, 0, '').error, INVAL)
  t.alike(session.faults, [])
})

test('contradicting lengths, absurd node ids and stray extensions are answered with errors', (t) => {
  const { session } = started()
  const short = session.post(OPCODE.GETATTR, {}, body(0, 0, 0n), { len: 5000 })
  t.is(session.replies.get(short)?.error, -5)
  const tiny = session.post(OPCODE.GETATTR, {}, body(0, 0, 0n), { len: 8 })
  t.is(session.replies.get(tiny)?.error, -5)
  const negative = session.post(OPCODE.GETATTR, { nodeId: 0 }, body(0, 0, 0n))
  t.is(session.replies.get(negative)?.error, -116)
  const absurd = session.ask('LINK', {}, 0xffffffffffffffffn, 'x')
  t.is(absurd.error, -116)
  session.tell('BATCH_FORGET', {}, 0xffffffff, 0, 1n, 0xffffffffffffffffn)
  session.tell('FORGET', { nodeId: 12345 }, 0xffffffffffffffffn)
  const before = session.errors.length
  session.dispatcher.handle(new Uint8Array(39), 0, 39)
  session.dispatcher.handle(new Uint8Array(100), 90, 40)
  t.is(session.errors.length, before + 2, 'what has no header is reported')
  t.is(session.unansweredCount, 0)
  t.alike(session.faults, [])
})

test('random bytes in every body are answered once', async (t) => {
  const seed = Number(process.env['UMBRA_SEED'] ?? Date.now() % 2 ** 31)
  t.comment(`UMBRA_SEED=${seed}`)
  let state = seed
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const names = (Object.keys(OPCODE) as OpcodeName[]).filter((name) => name !== 'INIT')
  const { session, file } = started()
  for (let round = 0; round < 4000; round++) {
    const name = names[random(names.length)] as OpcodeName
    const content = Buffer.concat([body(...bodies(file)[name]), Buffer.alloc(random(20))])
    // The kernel's sizes are bounded; a fallocate or truncate of terabytes would only fill memory here.
    for (let i = random(4); i > 0 && content.length > 0; i--) content[random(content.length)] = random(256)
    if (name === 'SETATTR' || name === 'FALLOCATE' || name === 'WRITE') content.fill(0, 8, 24)
    const unique = session.post(OPCODE[name], { nodeId: random(2) === 0 ? 1 : file }, content)
    await expectAnswered(session, name, unique)
  }
  t.alike(session.faults, [])
  t.is(session.borrowed, 0)
})
