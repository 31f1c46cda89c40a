// The exit codes of `umbra`: one table, printed in the documentation and by `umbra help exit-codes`.
//
// Always true: a code once given keeps its meaning; every ErrorCode has one; 0 means that all that was
// asked for is done.

import { type ErrorCode, UmbraError } from '../base/errors.ts'

export interface ExitCode {
  readonly code: number
  readonly meaning: string
  readonly errors: readonly ErrorCode[]
}

/** What a command sets that has done part of its work. */
export const EXIT_PARTIAL = 16

export const EXIT_CODES: readonly ExitCode[] = [
  { code: 0, meaning: 'done', errors: [] },
  {
    code: 1,
    meaning: 'failed for a reason not listed here, an I/O error for example',
    errors: ['IO_FAILED', 'CLOSED', 'EIO'],
  },
  {
    code: 2,
    meaning: 'the command line is wrong: an unknown option, a malformed size or name',
    errors: [
      'INVALID_ARGUMENT',
      'INVALID_NAME',
      'LIMIT_EXCEEDED',
      'EINVAL',
      'ENAMETOOLONG',
      'E2BIG',
      'ERANGE',
    ],
  },
  {
    code: 3,
    meaning: 'not found: the volume, mount point, snapshot, bookmark or file is not there',
    errors: ['NOT_FOUND', 'ENOENT', 'ENOTDIR', 'ENODATA', 'ENXIO', 'ESTALE'],
  },
  { code: 4, meaning: 'it exists already', errors: ['ALREADY_EXISTS', 'EEXIST', 'ENOTEMPTY'] },
  {
    code: 5,
    meaning: 'busy: served by another process, in use, pinned or leased',
    errors: ['BUSY', 'PINNED', 'LEASED', 'EBUSY'],
  },
  {
    code: 6,
    meaning: 'not a volume, or one of a version or with features that this program does not know',
    errors: ['NOT_A_VOLUME', 'UNSUPPORTED_VERSION', 'UNSUPPORTED_FEATURE'],
  },
  {
    code: 7,
    meaning: 'damaged: the volume or file is truncated or fails its checks',
    errors: ['CORRUPT', 'CHECKSUM_MISMATCH', 'TRUNCATED'],
  },
  { code: 8, meaning: 'no space left', errors: ['OUT_OF_SPACE', 'ENOSPC', 'EFBIG', 'EMLINK'] },
  { code: 9, meaning: 'the image does not follow on its base', errors: ['WRONG_BASE'] },
  {
    code: 10,
    meaning: 'the image or document is malformed or damaged',
    errors: ['BAD_IMAGE', 'INVALID_DOCUMENT'],
  },
  {
    code: 11,
    meaning: 'not possible on this machine or just now: a part is missing, a daemon does not answer',
    errors: ['UNAVAILABLE', 'TIMED_OUT', 'VOLUME_NOT_SUPPORTED', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY'],
  },
  {
    code: 12,
    meaning: 'not permitted, or read-only',
    errors: ['NOT_PERMITTED', 'READ_ONLY', 'EACCES', 'EPERM', 'EROFS', 'EBADF', 'EISDIR', 'ELOOP', 'EXDEV'],
  },
  { code: 13, meaning: 'the snapshot was dropped to make room while it was read', errors: ['EVICTED'] },
  {
    code: 14,
    meaning:
      'there is no complete backup to build on, or its chain is broken (--or-full takes a full instead)',
    errors: ['NO_BASE', 'BROKEN_CHAIN'],
  },
  {
    code: 15,
    meaning:
      'the shadow copy was not made: a writer refused or failed, or took too long; nothing is left of it',
    errors: ['WRITER_FAILED', 'FREEZE_TIMED_OUT', 'HOLD_TIMED_OUT', 'BAD_STATE', 'SET_IN_PROGRESS'],
  },
  { code: EXIT_PARTIAL, meaning: 'done in part: what failed is listed', errors: [] },
  {
    code: 17,
    meaning: 'the restore was refused before anything was written: a target is in use or cannot be replaced',
    errors: ['RESTORE_REFUSED'],
  },
  { code: 130, meaning: 'interrupted (Ctrl-C); what was half made is gone', errors: ['ABORTED'] },
]

/** The exit code for anything thrown. */
export function exitCodeOf(thrown: unknown): number {
  if (!(thrown instanceof UmbraError)) return 1
  return EXIT_CODES.find((entry) => entry.errors.includes(thrown.code))?.code ?? 1
}
