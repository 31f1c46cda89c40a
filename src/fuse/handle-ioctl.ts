// Handler of ioctls: chattr's and lsattr's, the generation, the label, and FITRIM.
//
// Always true: what is not known is ENOTTY; an answer is never longer than what the program has room for.
// FITRIM has nothing to do: every block that the file system frees is discarded at once, so it answers
// that it trimmed 0 bytes. Numbers are those of linux/fs.h for 64-bit hosts, and the 32-bit twins.

import { posixError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
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
  /** ext4's own number for the same. */
  EXT4_GETVERSION: 0x80086603,
  FSGETXATTR: 0x801c581f,
  FSSETXATTR: 0x401c5820,
  FITRIM: 0xc0185879,
  GETFSLABEL: 0x81009431,
  SETFSLABEL: 0x41009432,
} as const

/** Bits of fsxattr.fsx_xflags beside those of i_flags that mean the same. */
const XFLAG_OF = [
  [0x8, INODE_FLAG.IMMUTABLE],
  [0x10, INODE_FLAG.APPEND],
  [0x20, INODE_FLAG.SYNC],
  [0x40, INODE_FLAG.NOATIME],
  [0x80, INODE_FLAG.NODUMP],
  [0x200, INODE_FLAG.PROJINHERIT],
  [0x8000, INODE_FLAG.DAX],
] as const

const FSXATTR_BYTES = 28
const FSTRIM_RANGE_BYTES = 24
const FSLABEL_BYTES = 256
/** A group. */
const TRIM_LEAST_BYTES_MAX = 8 * BLOCK_SIZE_BYTES * BLOCK_SIZE_BYTES

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
    case IOCTL.EXT4_GETVERSION:
      operations.getattr(nodeId, context.attributes)
      answerNumber(context, request, context.attributes.generation)
      return
    case IOCTL.SETFLAGS:
    case IOCTL.SETFLAGS_32:
      request.need(IoctlIn.sizeBytes + 4)
      operations.setInodeFlags(nodeId, request.u32(IoctlIn.sizeBytes), request)
      answerChanged(context, request)
      return
    case IOCTL.FSGETXATTR:
      operations.getattr(nodeId, context.attributes)
      putZeros(port.view, at, FSXATTR_BYTES)
      port.view.setUint32(at, xflagsOf(operations.inodeFlags(nodeId)), true)
      port.view.setUint32(at + 12, context.attributes.projectId, true)
      answer(context, request, FSXATTR_BYTES)
      return
    case IOCTL.FSSETXATTR:
      setXflags(context, request)
      return
    case IOCTL.GETFSLABEL:
      putZeros(port.view, at, FSLABEL_BYTES)
      port.scratch.bytes.set(Buffer.from(operations.label(nodeId), 'latin1'), at)
      answer(context, request, FSLABEL_BYTES)
      return
    case IOCTL.SETFSLABEL:
      setLabel(context, request)
      return
    case IOCTL.FITRIM:
      trim(context, request, at)
      answer(context, request, FSTRIM_RANGE_BYTES)
      return
    default:
      throw posixError('ENOTTY')
  }
}

function setLabel(context: HandlerContext, request: Request): void {
  // As with FITRIM, the check of CAP_SYS_ADMIN is ours.
  if (request.uid !== 0) throw posixError('EPERM')
  request.need(IoctlIn.sizeBytes + FSLABEL_BYTES)
  const bytes = Buffer.from(request.bytesAt(IoctlIn.sizeBytes, FSLABEL_BYTES))
  const end = bytes.indexOf(0)
  context.operations.setLabel(request.nodeId, bytes.toString('latin1', 0, end < 0 ? FSLABEL_BYTES : end))
  answer(context, request, 0)
}

function trim({ port, operations }: HandlerContext, request: Request, at: number): void {
  // The kernel leaves the check of CAP_SYS_ADMIN to file systems.
  if (request.uid !== 0) throw posixError('EPERM')
  request.need(IoctlIn.sizeBytes + FSTRIM_RANGE_BYTES)
  const startBytes = request.u64(IoctlIn.sizeBytes)
  const lengthBytes = request.u64(IoctlIn.sizeBytes + 8)
  const leastBytes = request.u64(IoctlIn.sizeBytes + 16)
  // As ext4_trim_fs() has it.
  const { blockCount } = operations.statfs(request.nodeId)
  const isInside = startBytes < blockCount * BLOCK_SIZE_BYTES
  if (!isInside || lengthBytes < BLOCK_SIZE_BYTES || leastBytes > TRIM_LEAST_BYTES_MAX)
    throw posixError('EINVAL')
  putU64(port.view, at, startBytes)
  putU64(port.view, at + 8, 0)
  putU64(port.view, at + 16, leastBytes)
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
  answerChanged(context, request)
}

function xflagsOf(flags: number): number {
  let xflags = 0
  for (const [xflag, flag] of XFLAG_OF) if ((flags & flag) !== 0) xflags |= xflag
  return xflags
}

/** What the kernel knows of the inode is out of date, its change time for one: it asks again when it has to. */
function answerChanged(context: HandlerContext, request: Request): void {
  context.port.invalidateAttributes(request.nodeId)
  answer(context, request, 0)
}

/** A number as an int: those that say "long" mean that too, and programs have room for no more. */
function answerNumber(context: HandlerContext, request: Request, value: number): void {
  context.port.view.setUint32(context.port.dataAt + IoctlOut.sizeBytes, value >>> 0, true)
  answer(context, request, 4)
}

function answer(context: HandlerContext, request: Request, outBytes: number): void {
  if (outBytes > request.u32(28)) throw posixError('EINVAL', 'no room for the answer')
  const { port } = context
  putZeros(port.view, port.dataAt, IoctlOut.sizeBytes)
  port.data(request, IoctlOut.sizeBytes + outBytes)
}
