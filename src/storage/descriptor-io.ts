// Input and output on a plain descriptor: the addon's functions, or their twin made of node:fs
// where the addon is absent.
//
// Always true: both have the same shape (a result below zero is a negated errno, nothing throws), so
// the file device has one code path. The twin has no fallocate, no non-blocking read and no locks,
// and says so with an errno.

import * as fs from 'node:fs'
import { constants } from 'node:os'
import { type Addon, loadAddon } from '../base/addon.ts'

export type DescriptorIo = Pick<
  Addon,
  | 'pread'
  | 'preadNoWait'
  | 'preadLater'
  | 'pwrite'
  | 'fdatasync'
  | 'fdatasyncLater'
  | 'fallocate'
  | 'fallocateLater'
  | 'lock'
  | 'setMark'
  | 'clearMark'
  | 'hasMark'
>

const { EAGAIN, EIO, EOPNOTSUPP } = constants.errno

/** Linux's negated errno of anything node:fs throws or passes to a callback. */
function negated(error: unknown): number {
  const errno = (error as NodeJS.ErrnoException | null)?.errno
  return typeof errno === 'number' && errno !== 0 ? -Math.abs(errno) : -EIO
}

function attempt(call: () => number): number {
  try {
    return call()
  } catch (error) {
    return negated(error)
  }
}

export const NODE_DESCRIPTOR_IO: DescriptorIo = {
  pread: (fd, target, at, length, offset) => attempt(() => fs.readSync(fd, target, at, length, offset)),
  preadNoWait: () => -EAGAIN,
  preadLater(fd, target, at, length, offset, done) {
    fs.read(fd, target, at, length, offset, (error, count) => done(error ? negated(error) : count))
  },
  pwrite: (fd, source, at, length, offset) => attempt(() => fs.writeSync(fd, source, at, length, offset)),
  fdatasync(fd) {
    return attempt(() => {
      fs.fdatasyncSync(fd)
      return 0
    })
  },
  fdatasyncLater(fd, done) {
    fs.fdatasync(fd, (error) => done(error ? negated(error) : 0))
  },
  fallocate: () => -EOPNOTSUPP,
  fallocateLater(_fd, _mode, _offset, _length, done) {
    setImmediate(done, -EOPNOTSUPP)
  },
  lock: () => -EOPNOTSUPP,
  setMark: () => -EOPNOTSUPP,
  clearMark: () => -EOPNOTSUPP,
  hasMark: () => -EOPNOTSUPP,
}

/** The addon where it can be loaded, else the twin. */
export function chooseDescriptorIo(): DescriptorIo {
  return loadAddon() ?? NODE_DESCRIPTOR_IO
}
