// Handlers of the requests about files' data and handles.
//
// Always true: a handle is the number 0, because handles have no state (counts belong to nodes), so
// what the kernel guesses as a handle cannot be wrong; READ goes straight into the reply buffer, WRITE
// out of the arena. Body offsets are those of wire-structs.ts.

import { constants } from 'node:fs'
import { posixError } from '../base/errors.ts'
import { S_IFMT, S_IFREG } from '../ext4/inode.ts'
import { openFlags } from './handle-names.ts'
import type { Handler, HandlerContext } from './handler.ts'
import { FSYNC_FDATASYNC, LIMIT, O, OPCODE, OPEN_KILL_SUIDGID, ROOT_NODE_ID } from './protocol.ts'
import { putU64 } from './reply-encoding.ts'
import type { Request, Ticket } from './request.ts'
import {
  CopyFileRangeIn,
  CopyFileRangeOut,
  FallocateIn,
  FsyncIn,
  LseekIn,
  LseekOut,
  OpenIn,
  OpenOut,
  ReadIn,
  ReleaseIn,
  WriteIn,
  WriteOut,
} from './wire-structs.ts'

const SUID_SGID = 0o6000

export const open: Handler = (context, request) => {
  request.need(OpenIn.sizeBytes)
  const { port, operations } = context
  const flags = request.u32(0)
  operations.open(request.nodeId, flags, (request.u32(4) & OPEN_KILL_SUIDGID) !== 0, request)
  putU64(port.view, port.dataAt, 0)
  port.view.setUint32(port.dataAt + 8, openFlags(request.nodeId), true)
  port.view.setUint32(port.dataAt + 12, 0, true)
  if (!port.data(request, OpenOut.sizeBytes)) operations.release(request.nodeId, flags)
}

export const read: Handler = (context, request) => {
  request.need(ReadIn.sizeBytes)
  const { port, operations } = context
  const lengthBytes = request.u32(16)
  if (lengthBytes > LIMIT.MAX_WRITE_BYTES) throw posixError('EINVAL', 'a READ past the limit')
  const buffer = port.borrow()
  let result: number | Promise<number>
  try {
    result = operations.read(
      request.nodeId,
      request.u64(8),
      lengthBytes,
      buffer.bytes,
      buffer.dataOffsetBytes,
    )
  } catch (error) {
    port.giveBack(buffer)
    throw error
  }
  if (countsAsAccess(request.u32(32))) operations.accessed(request.nodeId)
  if (typeof result === 'number') {
    port.send(request, buffer, result)
    port.giveBack(buffer)
    return
  }
  context.later(
    request,
    result,
    (to, count) => port.send(to, buffer, count),
    () => port.giveBack(buffer),
  )
}

/** By the flags of the open file: the kernel reads also what it needs for writing a part of a page. */
export function countsAsAccess(openFlags: number): boolean {
  return (openFlags & O.NOATIME) === 0 && (openFlags & O.ACCMODE) !== O.WRONLY
}

export const write: Handler = (context, request) => {
  request.need(WriteIn.sizeBytes)
  const { port, operations } = context
  const lengthBytes = request.u32(16)
  request.need(WriteIn.sizeBytes + lengthBytes)
  let written: number
  try {
    written = operations.write(
      request.nodeId,
      request.u64(8),
      lengthBytes,
      request.arena,
      request.arenaOffset(WriteIn.sizeBytes),
      request.u32(20),
      request,
    )
  } catch (error) {
    context.lostWrites.refused(error, request.nodeId, request.u32(20), port)
    throw error
  }
  // Of an asynchronous direct write (ASYNC_DIO) the kernel makes EIO if the answer is short.
  if (written < lengthBytes && (request.u32(32) & constants.O_DIRECT) !== 0) throw posixError('ENOSPC')
  port.view.setUint32(port.dataAt, written, true)
  port.view.setUint32(port.dataAt + 4, 0, true)
  port.data(request, WriteOut.sizeBytes)
}

/** Never again: the kernel writes dirty pages back before it would ask, and nothing else is to do. */
export const flush: Handler = (context, request) => context.port.never(request)

export const release: Handler = (context, request) => {
  request.need(ReleaseIn.sizeBytes)
  context.port.ok(request)
  context.operations.release(request.nodeId, request.u32(8))
  context.lostWrites.closed(context.operations, request.nodeId)
}

export const fsync: Handler = (context, request) => {
  request.need(FsyncIn.sizeBytes)
  const { port, operations } = context
  const dataOnly = (request.u32(8) & FSYNC_FDATASYNC) !== 0
  const done =
    request.opcode === OPCODE.FSYNC
      ? operations.fsync(request.nodeId, dataOnly)
      : operations.fsyncdir(request.nodeId, dataOnly)
  if (done === undefined) port.ok(request)
  else context.later(request, done, (to) => port.ok(to))
}

/** syncfs(2), from kernels that send it: a commit, which is what syncing the root is. */
export const syncfs: Handler = (context, request) => {
  const done = context.operations.fsyncdir(ROOT_NODE_ID, false)
  if (done === undefined) context.port.ok(request)
  else context.later(request, done, (to) => context.port.ok(to))
}

export const fallocate: Handler = (context, request) => {
  request.need(FallocateIn.sizeBytes)
  dropSuidSgid(context, request, request.nodeId)
  context.operations.fallocate(request.nodeId, request.u32(24), request.u64(8), request.u64(16))
  context.port.ok(request)
}

/**
 * Before a change of data by one without privilege, where the request has no flag for it: the kernel
 * leaves it to us (HANDLE_KILLPRIV_V2), and root is taken for privileged.
 */
function dropSuidSgid(context: HandlerContext, request: Request, nodeId: number): void {
  if (request.uid === 0) return
  const { operations, attributes } = context
  operations.getattr(nodeId, attributes)
  if ((attributes.mode & S_IFMT) !== S_IFREG || (attributes.mode & SUID_SGID) === 0) return
  operations.setattr(nodeId, { clearSuidSgid: true }, request, attributes)
}

/**
 * The kernel does not write back before it asks where data are. So while somebody holds the file open
 * for writing under write-back, it is made to; where that is impossible the kernel is told to answer
 * by itself for good (everything up to its size is data), which is less exact but never wrong.
 */
export const lseek: Handler = (context, request) => {
  request.need(LseekIn.sizeBytes)
  const { port, operations, flushInode } = context
  const { nodeId } = request
  const offsetBytes = request.u64(8)
  const whence = request.u32(16)
  const answer = (to: Ticket) => {
    putU64(port.view, port.dataAt, operations.lseek(nodeId, offsetBytes, whence))
    port.data(to, LseekOut.sizeBytes)
  }
  if (!context.writeBack || !operations.isOpenForWriting(nodeId)) answer(request)
  else if (flushInode === undefined) port.never(request)
  else context.later(request, flushInode(nodeId), answer)
}

export const copyFileRange: Handler = (context, request) => {
  request.need(CopyFileRangeIn.sizeBytes)
  if (request.u32(48) !== 0 || request.u32(52) !== 0) throw posixError('EINVAL', 'unknown flags')
  const { port, operations } = context
  const isWide = request.opcode === OPCODE.COPY_FILE_RANGE_64
  dropSuidSgid(context, request, request.nodeIdAt(16))
  const copied = operations.copyFileRange(
    request.nodeId,
    request.u64(8),
    request.nodeIdAt(16),
    request.u64(32),
    request.u64(40),
  )
  // After READ the kernel asks for the access time again by itself; of a copy's source it does not.
  if (operations.accessed(request.nodeId)) port.invalidateAttributes(request.nodeId)
  const answer = (to: Ticket, count: number) => {
    // The shorter answer has a u32 and padding where the wider one has a u64: the same bytes.
    putU64(port.view, port.dataAt, count)
    port.data(to, isWide ? CopyFileRangeOut.sizeBytes : WriteOut.sizeBytes)
  }
  if (typeof copied === 'number') answer(request, copied)
  else context.later(request, copied, answer)
}
