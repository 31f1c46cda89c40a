// Handlers of the requests about attributes: stat, setattr, symlink targets, xattrs, statfs, access.
//
// Always true: a request for a size (size 0) is answered with the size alone; a value that does not fit
// is ERANGE, never cut. Body offsets are those of wire-structs.ts.

import { posixError } from '../base/errors.ts'
import type { AttributeChange } from '../ext4/file-system.ts'
import type { Handler, HandlerContext } from './handler.ts'
import { FATTR, INIT_LOW, LIMIT, SETXATTR_ACL_KILL_SGID } from './protocol.ts'
import { putAttrOut, putStatfs, putStatxOut } from './reply-encoding.ts'
import type { Request } from './request.ts'
import {
  ATTR_OUT_BYTES,
  GetattrIn,
  GetxattrIn,
  GetxattrOut,
  SETXATTR_IN_SHORT_BYTES,
  SetattrIn,
  SetxattrIn,
  STATX_OUT_BYTES,
  StatfsOut,
  StatxIn,
} from './wire-structs.ts'

export const getattr: Handler = (context, request) => {
  request.need(GetattrIn.sizeBytes)
  const { port, attributes, lostWrites } = context
  lostWrites.check(context.operations, request.nodeId, request.u32(0))
  context.operations.getattr(request.nodeId, attributes)
  putAttrOut(port.view, port.dataAt, attributes)
  port.data(request, ATTR_OUT_BYTES)
}

export const statx: Handler = (context, request) => {
  request.need(StatxIn.sizeBytes)
  const { port, attributes } = context
  context.operations.getattr(request.nodeId, attributes)
  putStatxOut(port.view, port.dataAt, attributes)
  port.data(request, STATX_OUT_BYTES)
}

export const setattr: Handler = (context, request) => {
  request.need(SetattrIn.sizeBytes)
  const { port, attributes } = context
  context.operations.setattr(request.nodeId, changeOf(request), request, attributes)
  putAttrOut(port.view, port.dataAt, attributes)
  port.data(request, ATTR_OUT_BYTES)
}

function changeOf(request: Request): AttributeChange {
  const valid = request.u32(0)
  const change: AttributeChange = {}
  if ((valid & FATTR.MODE) !== 0) change.mode = request.u32(68)
  if ((valid & FATTR.UID) !== 0) change.uid = request.u32(76)
  if ((valid & FATTR.GID) !== 0) change.gid = request.u32(80)
  if ((valid & FATTR.SIZE) !== 0) change.sizeBytes = request.u64(16)
  if ((valid & FATTR.ATIME_NOW) !== 0) change.atime = 'now'
  else if ((valid & FATTR.ATIME) !== 0) change.atime = { sec: request.i64(32), nsec: nsecAt(request, 56) }
  if ((valid & FATTR.MTIME_NOW) !== 0) change.mtime = 'now'
  else if ((valid & FATTR.MTIME) !== 0) change.mtime = { sec: request.i64(40), nsec: nsecAt(request, 60) }
  if ((valid & FATTR.CTIME) !== 0) change.ctime = { sec: request.i64(48), nsec: nsecAt(request, 64) }
  if ((valid & FATTR.KILL_SUIDGID) !== 0) change.clearSuidSgid = true
  return change
}

function nsecAt(request: Request, offset: number): number {
  const nsec = request.u32(offset)
  if (nsec > 999_999_999) throw posixError('EINVAL', 'nanoseconds past a second')
  return nsec
}

export const readlink: Handler = (context, request) => {
  const target = context.operations.readlink(request.nodeId)
  context.operations.accessed(request.nodeId)
  answerBytes(context, request, target)
}

export const statfs: Handler = (context, request) => {
  const { port } = context
  putStatfs(port.view, port.dataAt, context.operations.statfs(request.nodeId))
  port.data(request, StatfsOut.sizeBytes)
}

export const setxattr: Handler = (context, request) => {
  const isExtended = (context.negotiated.flags & INIT_LOW.SETXATTR_EXT) !== 0
  const nameAt = isExtended ? SetxattrIn.sizeBytes : SETXATTR_IN_SHORT_BYTES
  request.need(nameAt)
  const sizeBytes = request.u32(0)
  if (sizeBytes > LIMIT.XATTR_VALUE_BYTES) throw posixError('E2BIG', 'an xattr value past 64 KiB')
  const name = xattrName(request, nameAt)
  const value = request.bytesAt(request.nameEndOffset, sizeBytes)
  const killSgid = isExtended && (request.u32(8) & SETXATTR_ACL_KILL_SGID) !== 0
  context.operations.setxattr(request.nodeId, name, value, request.u32(4), killSgid)
  context.port.ok(request)
}

export const getxattr: Handler = (context, request) => {
  request.need(GetxattrIn.sizeBytes)
  const name = xattrName(request, GetxattrIn.sizeBytes)
  answerSized(context, request, context.operations.getxattr(request.nodeId, name))
}

export const listxattr: Handler = (context, request) => {
  request.need(GetxattrIn.sizeBytes)
  const names = context.operations.listxattr(request.nodeId)
  // The kernel asks for privilege to read or write these, and leaves it to file systems not to list them.
  const seen = request.uid === 0 ? names : names.filter((name) => !name.startsWith('trusted.'))
  const list = Buffer.from(seen.map((name) => `${name}\0`).join(''), 'latin1')
  answerSized(context, request, list)
}

export const removexattr: Handler = (context, request) => {
  context.operations.removexattr(request.nodeId, xattrName(request, 0))
  context.port.ok(request)
}

function xattrName(request: Request, offset: number): string {
  const name = request.text(offset, LIMIT.XATTR_NAME_BYTES)
  if (name.length === 0) throw posixError('EINVAL', 'an xattr without a name')
  return name
}

function answerSized(context: HandlerContext, request: Request, value: Uint8Array): void {
  const room = request.u32(0)
  if (room === 0) {
    const { port } = context
    port.view.setUint32(port.dataAt, value.length, true)
    port.view.setUint32(port.dataAt + 4, 0, true)
    port.data(request, GetxattrOut.sizeBytes)
  } else if (value.length > room) throw posixError('ERANGE')
  else answerBytes(context, request, value)
}

function answerBytes(context: HandlerContext, request: Request, value: Uint8Array): void {
  const { port } = context
  if (value.length > LIMIT.XATTR_VALUE_BYTES) throw posixError('E2BIG', 'an answer past 64 KiB')
  port.scratch.bytes.set(value, port.dataAt)
  port.data(request, value.length)
}
