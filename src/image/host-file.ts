// Plain files of the host, read and written in full by offset: short transfers are continued, system
// errors become UmbraErrors with the file's name.

import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { systemError, UmbraError } from '../base/errors.ts'

/** Runs a system call; what it throws becomes an UmbraError (ENOSPC: OUT_OF_SPACE). */
export function hostCall<T>(what: string, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw hostError(error, what)
  }
}

/** The UmbraError for what a call of node:fs threw. */
export function hostError(error: unknown, what: string): unknown {
  if (error instanceof UmbraError) return error
  const errno = (error as { errno?: unknown } | null)?.errno
  return typeof errno === 'number' ? systemError(Math.abs(errno), what, {}) : error
}

export class HostFile {
  readonly path: string
  readonly fd: number
  readonly sizeBytes: number
  #closed = false

  /** Opens for reading. @throws UmbraError ENOENT, EACCES, INVALID_ARGUMENT for what is no regular file */
  constructor(path: string) {
    this.path = path
    this.fd = hostCall(`Cannot open ${path}`, () => openSync(path, 'r'))
    const stat = fstatSync(this.fd)
    if (!stat.isFile()) {
      closeSync(this.fd)
      throw new UmbraError('INVALID_ARGUMENT', `Not a regular file: ${path}`)
    }
    this.sizeBytes = stat.size
  }

  /** Fills the target; what lies past the end of the file reads as zeros. @throws UmbraError IO_FAILED */
  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    const got = readFully(this.fd, this.path, offsetBytes, lengthBytes, target, targetOffset)
    if (got < lengthBytes) target.fill(0, targetOffset + got, targetOffset + lengthBytes)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.fd)
  }
}

/** @returns bytes read: fewer than asked only at the end of the file */
export function readFully(
  fd: number,
  name: string,
  offsetBytes: number,
  lengthBytes: number,
  target: Uint8Array,
  targetOffset: number,
): number {
  let done = 0
  while (done < lengthBytes) {
    const got = hostCall(`Cannot read ${name} at ${offsetBytes + done}`, () =>
      readSync(fd, target, targetOffset + done, lengthBytes - done, offsetBytes + done),
    )
    if (got === 0) break
    done += got
  }
  return done
}

/** @param offsetBytes null: at the descriptor's own position, for pipes */
export function writeFully(
  fd: number,
  name: string,
  offsetBytes: number | null,
  lengthBytes: number,
  source: Uint8Array,
  sourceOffset: number,
): void {
  let done = 0
  while (done < lengthBytes) {
    const at = offsetBytes === null ? null : offsetBytes + done
    done += hostCall(`Cannot write ${name}`, () =>
      writeSync(fd, source, sourceOffset + done, lengthBytes - done, at),
    )
  }
}
