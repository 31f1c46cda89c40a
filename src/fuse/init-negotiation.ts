// INIT: which of the kernel's offers are taken, and with which limits.
//
// Always true: a flag is answered only if the kernel offered it. Locks (POSIX and flock) stay in the
// kernel, which is right for one mount and costs no request; the caches are never invalidated by the
// kernel on its own (EXPLICIT_INVAL_DATA without AUTO_INVAL_DATA), for nobody else writes.

import { INIT_HIGH, INIT_LOW, KERNEL_MINOR_VERSION, KERNEL_VERSION, LIMIT } from './protocol.ts'

export interface InitOffer {
  readonly major: number
  readonly minor: number
  readonly maxReadaheadBytes: number
  readonly flags: number
  readonly flags2: number
}

export interface InitChoices {
  /** The kernel collects writes in its page cache and owns size and times of open files. */
  readonly writeBack: boolean
  /** The kernel caches and enforces ACLs; the file system keeps mode and ACL in step. */
  readonly posixAcl: boolean
}

/** What holds for the rest of the session. */
export interface Negotiated {
  readonly minor: number
  readonly maxReadaheadBytes: number
  readonly flags: number
  readonly flags2: number
}

const ALWAYS =
  INIT_LOW.ASYNC_READ |
  INIT_LOW.ATOMIC_O_TRUNC |
  INIT_LOW.EXPORT_SUPPORT |
  INIT_LOW.BIG_WRITES |
  INIT_LOW.DONT_MASK |
  INIT_LOW.HAS_IOCTL_DIR |
  INIT_LOW.EXPLICIT_INVAL_DATA |
  INIT_LOW.DO_READDIRPLUS |
  INIT_LOW.READDIRPLUS_AUTO |
  INIT_LOW.ASYNC_DIO |
  INIT_LOW.NO_OPENDIR_SUPPORT |
  INIT_LOW.PARALLEL_DIROPS |
  INIT_LOW.HANDLE_KILLPRIV_V2 |
  INIT_LOW.ABORT_ERROR |
  INIT_LOW.MAX_PAGES |
  INIT_LOW.CACHE_SYMLINKS |
  INIT_LOW.SETXATTR_EXT |
  INIT_LOW.INIT_EXT

const ALWAYS_HIGH = INIT_HIGH.HAS_EXPIRE_ONLY | INIT_HIGH.DIRECT_IO_ALLOW_MMAP | INIT_HIGH.HAS_RESEND

export function negotiate(offer: InitOffer, choices: InitChoices): Negotiated {
  let wanted = ALWAYS
  if (choices.writeBack) wanted |= INIT_LOW.WRITEBACK_CACHE
  if (choices.posixAcl) wanted |= INIT_LOW.POSIX_ACL
  const flags = (offer.flags & wanted) >>> 0
  const isExtended = (flags & INIT_LOW.INIT_EXT) !== 0
  return {
    minor: Math.min(offer.minor, KERNEL_MINOR_VERSION),
    maxReadaheadBytes: offer.maxReadaheadBytes,
    flags,
    flags2: isExtended ? (offer.flags2 & ALWAYS_HIGH) >>> 0 : 0,
  }
}

/** fuse_init_out for a negotiated session, to be encoded with InitOut. */
export function initReply(negotiated: Negotiated) {
  return {
    major: KERNEL_VERSION,
    minor: negotiated.minor,
    max_readahead: negotiated.maxReadaheadBytes,
    flags: negotiated.flags,
    max_background: LIMIT.MAX_BACKGROUND,
    congestion_threshold: LIMIT.CONGESTION_THRESHOLD,
    max_write: LIMIT.MAX_WRITE_BYTES,
    /** Times have nanoseconds. */
    time_gran: 1,
    max_pages: LIMIT.MAX_PAGES,
    map_alignment: 0,
    flags2: negotiated.flags2,
  }
}
