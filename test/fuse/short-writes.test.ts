// When space runs out within one request, the answer says exactly what has been written: what a program
// is told of a file, its size and its bytes are the same, now and at the next mount.

import { constants } from 'node:fs'
import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { ROOT } from '../support/ext4-files.ts'
import { entryOf, Session } from './session.ts'

const ENOSPC = -28
const FROM_CACHE = 1
const SPARE_BLOCKS = 40

/** A file system with room for SPARE_BLOCKS more blocks of data, and an empty file in it. */
async function almostFull() {
  const device = new PlainDevice(MemoryStorage.from(new Uint8Array(32 * MIB)))
  formatExt4(device)
  await device.commit()
  const fs = Ext4.open(device)
  const ballast = fs.makeNode(fs.inode(2), 'ballast', 0o100644, 0, ROOT)
  const spare = fs.statistics().freeBlockCount - SPARE_BLOCKS
  fs.allocate(ballast, 0, 0, spare * 4096)
  const session = new Session({ operations: new LiveTree(fs) })
  session.ask('INIT', {}, 7, 45, 131072, 0xffffffff, 0xffffffff, new Uint8Array(44))
  const { nodeId } = entryOf(session.ask('CREATE', {}, 2, 0o100644, 0, 0, 'file'))
  const write = (offset: number, bytes: Uint8Array, flags: number, openFlags = 0) =>
    session.ask('WRITE', { nodeId }, 0n, BigInt(offset), bytes.length, flags, 0n, openFlags, 0, bytes)
  return { fs, session, nodeId, write, file: fs.inode(nodeId) }
}

test('a write that finds no more room is answered with what was written', async (t) => {
  const { fs, file, write } = await almostFull()
  const free = fs.statistics().freeBlockCount
  const answer = write(0, new Uint8Array(MIB).fill(3), 0)
  t.is(answer.error, 0)
  const written = answer.data.readUInt32LE(0)
  t.is(written, free * 4096, 'all the room there was')
  t.is(file.sizeBytes, written, 'the file is as long as the program was told')
  t.is(write(written, new Uint8Array(4096), 0).error, ENOSPC, 'then nothing more')
  t.is(file.sizeBytes, written)
  t.is(write(100, new Uint8Array(8192).fill(4), 0).error, 0, 'what is there can be overwritten')
})

test('a direct write that finds no more room fails, for of a short answer the kernel makes EIO', async (t) => {
  const { file, write } = await almostFull()
  t.is(write(0, new Uint8Array(MIB).fill(3), 0, constants.O_DIRECT).error, ENOSPC)
  t.ok(file.sizeBytes <= SPARE_BLOCKS * 4096)
})

test('a write from the cache that finds no more room fails whole', async (t) => {
  const { write, file } = await almostFull()
  t.is(write(0, new Uint8Array(MIB).fill(3), FROM_CACHE).error, ENOSPC)
  t.ok(file.sizeBytes <= SPARE_BLOCKS * 4096)
})

test('who writes on into a full volume is told by the attributes that write(2) asks for', async (t) => {
  const { session, fs, nodeId, write } = await almostFull()
  const [byPath, byHandle] = [0, 1]
  const getattr = (flags: number) => session.ask('GETATTR', { nodeId }, flags, 0, 0n).error
  t.is(getattr(byHandle), 0)
  // Beyond what is created, as a program holds it.
  session.ask('OPEN', { nodeId }, constants.O_RDWR, 0)
  t.is(write(0, new Uint8Array(MIB).fill(3), FROM_CACHE).error, ENOSPC)
  const [told] = session.notifications
  t.alike(
    [told?.error, told?.data.readBigUInt64LE(0), told?.data.readBigInt64LE(8)],
    [2, BigInt(nodeId), -1n],
  )
  t.is(getattr(byHandle), ENOSPC, 'before a write(2)')
  t.is(getattr(byPath), 0, 'stat(2) is answered')
  write(0, new Uint8Array(MIB).fill(3), FROM_CACHE)
  t.is(session.notifications.length, 1, 'told once')
  fs.unlink(fs.inode(2), 'ballast')
  t.is(getattr(byHandle), 0, 'there is room again')
  t.is(write(0, new Uint8Array(MIB).fill(3), FROM_CACHE).error, 0)
})

test('copy_file_range that finds no more room answers with what was copied', async (t) => {
  const { session, nodeId, fs, file } = await almostFull()
  const ballast = entryOf(session.ask('LOOKUP', {}, 'ballast'))
  const answer = session.ask(
    'COPY_FILE_RANGE',
    { nodeId: ballast.nodeId },
    0n,
    0n,
    BigInt(nodeId),
    0n,
    0n,
    BigInt(MIB),
    0n,
  )
  t.is(answer.error, 0)
  t.is(answer.data.readUInt32LE(0), file.sizeBytes, 'the target is as long as was answered')
  t.ok(file.sizeBytes > 0)
  t.is(fs.statistics().freeBlockCount, 0)
})
