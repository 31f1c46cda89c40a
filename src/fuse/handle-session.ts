// Handlers of the requests about the session itself: INIT, DESTROY, INTERRUPT, and what stays unserved.
//
// Always true: a kernel older than 7.31 is refused at INIT, with EPROTO and nothing else; ENOSYS here
// is meant: the kernel then never asks again.

import { constants } from 'node:os'
import type { Handler } from './handler.ts'
import { initReply, negotiate } from './init-negotiation.ts'
import { KERNEL_MINOR_VERSION, KERNEL_MINOR_VERSION_MIN, KERNEL_VERSION } from './protocol.ts'
import { INIT_IN_SHORT_BYTES, InitOut } from './wire-structs.ts'

export const init: Handler = (context, request) => {
  request.need(INIT_IN_SHORT_BYTES)
  const { port } = context
  const major = request.u32(0)
  const minor = request.u32(4)
  if (major > KERNEL_VERSION) {
    // The kernel asks again with the version that is answered here.
    const offered = { ...initReply(context.negotiated), minor: KERNEL_MINOR_VERSION, flags: 0, flags2: 0 }
    InitOut.encode(offered, port.scratch.bytes, port.dataAt)
    port.data(request, InitOut.sizeBytes)
    return
  }
  if (major < KERNEL_VERSION || minor < KERNEL_MINOR_VERSION_MIN) {
    port.errno(request, constants.errno.EPROTO)
    return
  }
  const isExtended = request.bodyBytes >= INIT_IN_SHORT_BYTES + 4
  context.negotiated = negotiate(
    {
      major,
      minor,
      maxReadaheadBytes: request.u32(8),
      flags: request.u32(12),
      flags2: isExtended ? request.u32(16) : 0,
    },
    context,
  )
  InitOut.encode(initReply(context.negotiated), port.scratch.bytes, port.dataAt)
  port.data(request, InitOut.sizeBytes)
}

export const destroy: Handler = (context, request) => {
  context.port.ok(request)
  context.onDestroy()
}

/**
 * Nothing here waits for long, so nothing is interrupted (locks, which would, stay in the kernel). The
 * answer goes to the interrupt's own unique and stops further ones.
 */
export const interrupt: Handler = (context, request) => context.port.never(request)

/** POLL, BMAP, ACCESS (the mount has default_permissions) and whatever a later kernel may ask. */
export const unserved: Handler = (context, request) => context.port.never(request)
