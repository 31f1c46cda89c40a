// How a failed system call on a storage becomes an UmbraError: the same way for every device, so
// that a fault planted in a test is indistinguishable from a real one.
//
// Always true: running out of space (or quota) is OUT_OF_SPACE, everything else IO_FAILED; the
// context names the storage, the place and the positive errno.

import { constants } from 'node:os'
import { errnoName, UmbraError } from '../base/errors.ts'

export interface FailedCall {
  /** What was tried, as a verb: read, write, flush, punch... */
  readonly verb: string
  readonly name: string
  readonly offsetBytes: number
  readonly lengthBytes: number
}

/** @param errno positive, as in errno.h */
export function storageError(errno: number, call: FailedCall): UmbraError {
  const full = errno === constants.errno.ENOSPC || errno === constants.errno.EDQUOT
  const where = call.lengthBytes > 0 ? ` (${call.lengthBytes} bytes at ${call.offsetBytes})` : ''
  return new UmbraError(
    full ? 'OUT_OF_SPACE' : 'IO_FAILED',
    `Cannot ${call.verb} ${call.name}${where}: ${errnoName(errno)}`,
    { path: call.name, offsetBytes: call.offsetBytes, lengthBytes: call.lengthBytes, errno },
  )
}

export function readOnlyError(name: string): UmbraError {
  return new UmbraError('READ_ONLY', `${name} was opened read-only`, { path: name })
}

export function closedError(name: string): UmbraError {
  return new UmbraError('CLOSED', `${name} is closed`, { path: name })
}
