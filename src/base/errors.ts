// The one error class of the project and the one table from its codes to errno.
//
// Always true here: every failure that a caller may act on is an UmbraError with a code from
// ERRNO_OF; a code that is itself an errno name maps to itself. Anything else that reaches
// errnoFrom() is a bug or a system error: system errors keep their own errno, the rest is EIO.

import { constants } from 'node:os'

type ErrnoName = keyof typeof constants.errno

const ERRNO_OF = {
  // what the volume, the images and the daemon report
  CORRUPT: 'EIO',
  CHECKSUM_MISMATCH: 'EIO',
  NOT_A_VOLUME: 'EINVAL',
  UNSUPPORTED_VERSION: 'EOPNOTSUPP',
  UNSUPPORTED_FEATURE: 'EOPNOTSUPP',
  TRUNCATED: 'EIO',
  IO_FAILED: 'EIO',
  OUT_OF_SPACE: 'ENOSPC',
  READ_ONLY: 'EROFS',
  BUSY: 'EBUSY',
  PINNED: 'EBUSY',
  LEASED: 'EBUSY',
  EVICTED: 'ESTALE',
  NOT_FOUND: 'ENOENT',
  ALREADY_EXISTS: 'EEXIST',
  INVALID_ARGUMENT: 'EINVAL',
  INVALID_NAME: 'EINVAL',
  LIMIT_EXCEEDED: 'E2BIG',
  CLOSED: 'EBADF',
  ABORTED: 'EINTR',
  TIMED_OUT: 'ETIMEDOUT',
  UNAVAILABLE: 'EOPNOTSUPP',
  NOT_PERMITTED: 'EPERM',
  WRONG_BASE: 'EINVAL',
  BAD_IMAGE: 'EINVAL',
  // what the shadow copy service reports
  BAD_STATE: 'EINVAL',
  SET_IN_PROGRESS: 'EBUSY',
  VOLUME_NOT_SUPPORTED: 'EOPNOTSUPP',
  WRITER_FAILED: 'EIO',
  FREEZE_TIMED_OUT: 'ETIMEDOUT',
  HOLD_TIMED_OUT: 'ETIMEDOUT',
  INVALID_DOCUMENT: 'EINVAL',
  NO_BASE: 'ENOENT',
  BROKEN_CHAIN: 'EIO',
  RESTORE_REFUSED: 'EBUSY',
  // what the file system reports: the code is the errno name
  E2BIG: 'E2BIG',
  EACCES: 'EACCES',
  EBADF: 'EBADF',
  EBUSY: 'EBUSY',
  EEXIST: 'EEXIST',
  EFBIG: 'EFBIG',
  EINVAL: 'EINVAL',
  EIO: 'EIO',
  EISDIR: 'EISDIR',
  ELOOP: 'ELOOP',
  EMLINK: 'EMLINK',
  ENAMETOOLONG: 'ENAMETOOLONG',
  ENODATA: 'ENODATA',
  ENOENT: 'ENOENT',
  ENOSPC: 'ENOSPC',
  ENOSYS: 'ENOSYS',
  ENOTDIR: 'ENOTDIR',
  ENOTEMPTY: 'ENOTEMPTY',
  ENOTTY: 'ENOTTY',
  ENXIO: 'ENXIO',
  EOPNOTSUPP: 'EOPNOTSUPP',
  EPERM: 'EPERM',
  ERANGE: 'ERANGE',
  EROFS: 'EROFS',
  ESTALE: 'ESTALE',
  EXDEV: 'EXDEV',
} as const satisfies Record<string, ErrnoName>

export type ErrorCode = keyof typeof ERRNO_OF

export type ErrorContext = Readonly<Record<string, string | number | bigint | boolean>>

/** A failure that a caller can act on: `code` says which, the message says what, where, and what to do. */
export class UmbraError extends Error {
  readonly code: ErrorCode
  readonly context: ErrorContext

  constructor(code: ErrorCode, message: string, context: ErrorContext = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'UmbraError'
    this.code = code
    this.context = context
  }

  /** The positive errno number that the kernel is told. */
  get errno(): number {
    return constants.errno[ERRNO_OF[this.code]]
  }
}

/** Every code with the errno name it maps to, for documentation and its test. */
export const ERROR_CODES: Readonly<Record<ErrorCode, ErrnoName>> = ERRNO_OF

/**
 * A file-system error without a stack trace: these are answers, not failures, and a lookup that
 * finds nothing must not cost a stack walk.
 */
export function posixError(code: ErrorCode, message: string = code): UmbraError {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  const error = new UmbraError(code, message)
  Error.stackTraceLimit = limit
  return error
}

/** An UmbraError for a failed system call; `errno` is positive, as in errno.h. */
export function systemError(errno: number, what: string, context: ErrorContext = {}): UmbraError {
  const name = errnoName(errno)
  const code: ErrorCode =
    name === 'ENOSPC' || name === 'EDQUOT' ? 'OUT_OF_SPACE' : isCode(name) ? name : 'IO_FAILED'
  return new UmbraError(code, `${what}: ${name}`, { ...context, errno })
}

/** The positive errno for anything thrown: the one place where an unknown failure becomes EIO. */
export function errnoFrom(thrown: unknown): number {
  if (thrown instanceof UmbraError) return thrown.errno
  const errno = (thrown as { errno?: unknown } | null)?.errno
  if (typeof errno === 'number' && Number.isInteger(errno) && errno !== 0) return Math.abs(errno)
  return constants.errno.EIO
}

/** Whether `thrown` is an UmbraError with this code. */
export function hasCode(thrown: unknown, code: ErrorCode): thrown is UmbraError {
  return thrown instanceof UmbraError && thrown.code === code
}

export function errnoName(errno: number): string {
  for (const [name, number] of Object.entries(constants.errno)) if (number === errno) return name
  return `errno ${errno}`
}

function isCode(name: string): name is ErrorCode {
  return Object.hasOwn(ERRNO_OF, name)
}
