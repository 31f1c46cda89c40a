// Handlers of the requests that list directories.
//
// Always true: there is nothing to open, for cookies carry all the state; the kernel is told so once
// (ENOSYS, where it understands that) and then caches listings by itself until it changes them.

import { DirectoryFiller } from './directory-filler.ts'
import { countsAsAccess } from './handle-files.ts'
import type { Handler, HandlerContext } from './handler.ts'
import { FOPEN, INIT_LOW, LIMIT } from './protocol.ts'
import { putU64 } from './reply-encoding.ts'
import type { Request } from './request.ts'
import { OpenOut, ReadIn } from './wire-structs.ts'

export const opendir: Handler = (context, request) => {
  const { port } = context
  if ((context.negotiated.flags & INIT_LOW.NO_OPENDIR_SUPPORT) !== 0) {
    port.never(request)
    return
  }
  putU64(port.view, port.dataAt, 0)
  port.view.setUint32(port.dataAt + 8, FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR, true)
  port.view.setUint32(port.dataAt + 12, 0, true)
  port.data(request, OpenOut.sizeBytes)
}

export const releasedir: Handler = (context, request) => context.port.ok(request)

export const readdir: Handler = (context, request) => list(context, request, false)
export const readdirplus: Handler = (context, request) => list(context, request, true)

function list(context: HandlerContext, request: Request, isPlus: boolean): void {
  request.need(ReadIn.sizeBytes)
  const { port, operations, filler } = context
  const sizeBytes = Math.min(request.u32(16), LIMIT.MAX_WRITE_BYTES)
  const buffer = port.borrow()
  try {
    const filled = filler.fill(operations, request.nodeId, request.u64(8), sizeBytes, buffer, isPlus)
    if (countsAsAccess(request.u32(32))) operations.accessed(request.nodeId)
    const isTaken = port.send(request, buffer, filled)
    if (!isTaken && isPlus) DirectoryFiller.forgetAll(operations, buffer, filled)
  } finally {
    port.giveBack(buffer)
  }
}
