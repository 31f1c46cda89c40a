// The two times of utimens. fuse-native hands on the access time twice, where the second should be the
// modification time; its native code has both, in the record of the request that it passes first, so
// the second is read there.
//
// Always true: a record that does not look as expected (another size, or another access time where
// it should be) is refused, so that no file ever gets a modification time that nobody asked for.
//
// Source: fuse_thread_locals_t in fuse-native.c 2.2.6, 64 bits.

import { posixError } from '../../base/errors.ts'
import type { Time } from '../../ext4/inode.ts'

const ATIME_OFFSET = 104
const MTIME_OFFSET = 112

export interface RequestedTimes {
  readonly atime: Time
  readonly mtime: Time
}

/**
 * @param locals the native record, whose utimens is being handled
 * @param atimeMs as it was handed on: 64 bits without a sign
 * @throws EOPNOTSUPP
 */
export function requestedTimes(locals: Uint8Array | undefined, atimeMs: number): RequestedTimes {
  if (locals === undefined || locals.byteLength < MTIME_OFFSET + 8) throw posixError('EOPNOTSUPP')
  const view = new DataView(locals.buffer, locals.byteOffset, locals.byteLength)
  if (Number(view.getBigUint64(ATIME_OFFSET, true)) !== atimeMs) throw posixError('EOPNOTSUPP')
  return {
    atime: timeOf(Number(view.getBigInt64(ATIME_OFFSET, true))),
    mtime: timeOf(Number(view.getBigInt64(MTIME_OFFSET, true))),
  }
}

function timeOf(ms: number): Time {
  const sec = Math.floor(ms / 1000)
  return { sec, nsec: (ms - sec * 1000) * 1_000_000 }
}
