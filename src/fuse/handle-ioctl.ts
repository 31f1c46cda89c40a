// Handler of ioctls: chattr's and lsattr's, the generation, and FITRIM.
//
// Always true: what is not known is ENOTTY; an answer has exactly the length that the kernel asked for.
// FITRIM has nothing to do: every block that the file system frees is discarded at once, so it answers
// that it trimmed 0 bytes. Numbers are those of linux/fs.h for 64-bit hosts, and the 32-bit twins.

import { posixError } from '../base/errors.ts'
import { INODE_FLAG } from '../ext4/inode.ts'
import type { Handler, HandlerContext } from './handler.ts'
import { putU64, putZeros } from './reply-encoding.ts'
import type { Request } from './request.ts'
import { IoctlIn, IoctlOut } from './wire-structs.ts'

export const IOCTL = {
  GETFLAGS: 0x80086601,
  SETFLAGS: 0x40086602,
  GETFLAGS_32: 0x80046601,
  SETFLAGS_32: 0x40046602,
  GETVERSION: 0x80087601,
  GETVERSION_32: 0x80047601,
  FSGETXATTR: 0x801c581f,
  FSSETXATTR: 0x401c5820,
  FITRIM: 0xc0185879,
} as const

/** Bits of fsxattr.fsx_xflags beside those of i_flags that mean the same. */
const XFLAG_OF = [
  [0x8, INODE_FLAG.IMMUTABLE],
  [0x10, INODE_FLAG.APPEND],
  [0x20, INODE_FLAG.SYNC],
  [0x40, INODE_FLAG.NOATIME],
  [0x80, INODE_FLAG.NODUMP],
] as const

const FSXATTR_BYTES = 28
const FSTRIM_RANGE_BYTES = 24

export const ioctl: Handler = (context, request) => {
  request.need(IoctlIn.sizeBytes)
  const { port, operations } = context
  const { nodeId } = request
  const at = port.dataAt + IoctlOut.sizeBytes
  switch (request.u32(12)) {
    case IOCTL.GETFLAGS:
    case IOCTL.GETFLAGS_32:
      answerNumber(context, request, operations.inodeFlags(nodeId))
      return
    case IOCTL.GETVERSION:
    case IOCTL.GETVERSION_32:
      operations.getattr(nodeId, context.attributes)
      answerNumber(context, request, context.attributes.generation)
      return
    case IOCTL.SETFLAGS:
    case IOCTL.SETFLAGS_32:
      request.need(IoctlIn.sizeBytes + 4)
      operations.setInodeFlags(nodeId, request.u32(IoctlIn.sizeBytes), request)
      answer(context, request, 0)
      return
    case IOCTL.FSGETXATTR:
      putZeros(port.view, at, FSXATTR_BYTES)
      port.view.setUint32(at, xflagsOf(operations.inodeFlags(nodeId)), true)
      answer(context, request, FSXATTR_BYTES)
      return
    case IOCTL.FSSETXATTR:
      setXflags(context, request)
      return
    case IOCTL.FITRIM:
      // The kernel leaves the check of CAP_SYS_ADMIN to file systems.
      if (request.uid !== 0) throw posixError('EPERM')
      request.need(IoctlIn.sizeBytes + FSTRIM_RANGE_BYTES)
      putU64(port.view, at, request.u64(IoctlIn.sizeBytes))
      putU64(port.view, at + 8, 0)
      putU64(port.view, at + 16, request.u64(IoctlIn.sizeBytes + 16))
      answer(context, request, FSTRIM_RANGE_BYTES)
      return
    default:
      throw posixError('ENOTTY')
  }
}

function setXflags(context: HandlerContext, request: Request): void {
  request.need(IoctlIn.sizeBytes + FSXATTR_BYTES)
  const xflags = request.u32(IoctlIn.sizeBytes)
  const known = XFLAG_OF.reduce((mask, [xflag]) => mask | xflag, 0)
  const hasProject = request.u32(IoctlIn.sizeBytes + 12) !== 0
  if ((xflags & ~known) !== 0 || hasProject) throw posixError('EOPNOTSUPP')
  let flags = context.operations.inodeFlags(request.nodeId)
  for (const [xflag, flag] of XFLAG_OF) flags = (xflags & xflag) !== 0 ? flags | flag : flags & ~flag
  context.operations.setInodeFlags(request.nodeId, flags >>> 0, request)
  answer(context, request, 0)
}

function xflagsOf(flags: number): number {
  let xflags = 0
  for (const [xflag, flag] of XFLAG_OF) if ((flags & flag) !== 0) xflags |= xflag
  return xflags
}

/** A number as an int or a long, as the kernel has room. */
function answerNumber(context: HandlerContext, request: Request, value: number): void {
  putU64(context.port.view, context.port.dataAt + IoctlOut.sizeBytes, value)
  answer(context, request, request.u32(28) >= 8 ? 8 : 4)
}

function answer(context: HandlerContext, request: Request, outBytes: number): void {
  if (outBytes > request.u32(28)) throw posixError('EINVAL', 'no room for the answer')
  const { port } = context
  putZeros(port.view, port.dataAt, IoctlOut.sizeBytes)
  port.data(request, IoctlOut.sizeBytes + outBytes)
}
