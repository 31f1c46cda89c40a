// Handlers of the requests about names: lookup, making, linking, renaming, removing, and forgetting.
//
// Always true: each entry answered is one lookup counted by the operation; FORGET and BATCH_FORGET are
// never answered. Body offsets are those of wire-structs.ts.

import { answerEntry, type Handler, type HandlerContext } from './handler.ts'
import { isRecoveryNode } from './node-ids.ts'
import { FOPEN, LIMIT } from './protocol.ts'
import { putEntry, putU64 } from './reply-encoding.ts'
import type { Request } from './request.ts'
import {
  BatchForgetIn,
  CreateIn,
  ENTRY_OUT_BYTES,
  ForgetIn,
  ForgetOne,
  LinkIn,
  MkdirIn,
  MknodIn,
  OpenOut,
  Rename2In,
  RenameIn,
} from './wire-structs.ts'

/**
 * Every file keeps its page cache between opens (nobody else changes it), and direct writes need no
 * lock of the kernel's, for a write here is done before the next request is looked at.
 */
const OPEN_FLAGS = FOPEN.KEEP_CACHE | FOPEN.NOFLUSH | FOPEN.PARALLEL_DIRECT_WRITES
/** A write to an unsealed snapshot is here when it returns, so that one after the sealing is refused at once. */
const RECOVERY_FLAGS = FOPEN.DIRECT_IO | FOPEN.NOFLUSH

/** open_out.open_flags for a node. */
export function openFlags(nodeId: number): number {
  return isRecoveryNode(nodeId) ? RECOVERY_FLAGS : OPEN_FLAGS
}

export const lookup: Handler = (context, request) => {
  context.operations.lookup(request.nodeId, request.name(0), context.attributes)
  answerEntry(context, request, context.attributes)
}

export const forget: Handler = (context, request) => {
  request.need(ForgetIn.sizeBytes)
  context.operations.forget(request.nodeId, request.u64(0))
}

export const batchForget: Handler = (context, request) => {
  request.need(BatchForgetIn.sizeBytes)
  const room = Math.floor((request.bodyBytes - BatchForgetIn.sizeBytes) / ForgetOne.sizeBytes)
  const count = Math.min(request.u32(0), room)
  for (let i = 0; i < count; i++) {
    const at = BatchForgetIn.sizeBytes + i * ForgetOne.sizeBytes
    context.operations.forget(request.u64(at), request.u64(at + 8))
  }
}

export const mknod: Handler = (context, request) => {
  request.need(MknodIn.sizeBytes)
  request.umask = request.u32(8)
  const name = request.name(MknodIn.sizeBytes)
  const { operations, attributes } = context
  operations.mknod(request.nodeId, name, request.u32(0), request.u32(4), request, attributes)
  answerEntry(context, request, attributes)
}

export const mkdir: Handler = (context, request) => {
  request.need(MkdirIn.sizeBytes)
  request.umask = request.u32(4)
  const name = request.name(MkdirIn.sizeBytes)
  const { operations, attributes } = context
  const made = operations.mkdir(request.nodeId, name, request.u32(0), request, attributes)
  if (made === undefined) answerEntry(context, request, attributes)
  else context.later(request, made, (to, entry) => answerEntry(context, to, entry))
}

export const symlink: Handler = (context, request) => {
  const name = request.name(0)
  const start = request.nameEndOffset
  request.text(start, LIMIT.SYMLINK_BYTES)
  const target = request.bytesAt(start, request.nameEndOffset - 1 - start)
  context.operations.symlink(request.nodeId, name, target, request, context.attributes)
  answerEntry(context, request, context.attributes)
}

export const link: Handler = (context, request) => {
  request.need(LinkIn.sizeBytes)
  const name = request.name(LinkIn.sizeBytes)
  context.operations.link(request.nodeIdAt(0), request.nodeId, name, context.attributes)
  answerEntry(context, request, context.attributes)
}

export const unlink: Handler = (context, request) => {
  context.operations.unlink(request.nodeId, request.name(0))
  context.port.ok(request)
}

export const rmdir: Handler = (context, request) => {
  const removed = context.operations.rmdir(request.nodeId, request.name(0))
  if (removed === undefined) context.port.ok(request)
  else context.later(request, removed, (to) => context.port.ok(to))
}

export const rename: Handler = (context, request) => {
  request.need(RenameIn.sizeBytes)
  renameWith(context, request, RenameIn.sizeBytes, 0)
}

export const rename2: Handler = (context, request) => {
  request.need(Rename2In.sizeBytes)
  renameWith(context, request, Rename2In.sizeBytes, request.u32(8))
}

function renameWith(context: HandlerContext, request: Request, namesAt: number, flags: number): void {
  const name = request.name(namesAt)
  const newName = request.name(request.nameEndOffset)
  context.operations.rename(request.nodeId, name, request.nodeIdAt(0), newName, flags)
  context.port.ok(request)
}

export const create: Handler = (context, request) => {
  request.need(CreateIn.sizeBytes)
  request.umask = request.u32(8)
  const name = request.name(CreateIn.sizeBytes)
  const { operations, attributes } = context
  const flags = request.u32(0)
  operations.create(request.nodeId, name, request.u32(4), flags, request, attributes)
  answerCreated(context, request, flags)
}

/** The name in a TMPFILE request is a placeholder. */
export const tmpfile: Handler = (context, request) => {
  request.need(CreateIn.sizeBytes)
  request.umask = request.u32(8)
  const flags = request.u32(0)
  context.operations.tmpfile(request.nodeId, request.u32(4), flags, request, context.attributes)
  answerCreated(context, request, flags)
}

function answerCreated(context: HandlerContext, request: Request, flags: number): void {
  const { port, attributes, operations } = context
  putEntry(port.view, port.dataAt, attributes)
  const at = port.dataAt + ENTRY_OUT_BYTES
  putU64(port.view, at, 0)
  port.view.setUint32(at + 8, openFlags(attributes.nodeId), true)
  port.view.setUint32(at + 12, 0, true)
  if (port.data(request, ENTRY_OUT_BYTES + OpenOut.sizeBytes)) return
  operations.release(attributes.nodeId, flags)
  operations.forget(attributes.nodeId, 1)
}
