// A file that appears whole or not at all: written under a temporary name in its folder, made durable,
// then given its name.
//
// Always true: until complete() is about to return, nothing under the final name was touched; after
// discard(), or a complete() that threw, the temporary is gone. Without `force` an existing file is
// never replaced, even one that appeared meanwhile (link(2) decides); a volume is not even with it.

import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  unlinkSync,
  write,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { hasCode, UmbraError } from '../base/errors.ts'
import { hostCall, hostError, writeFully } from './host-file.ts'
import { isVolumeFile } from './volume-file.ts'

const flushFile = promisify(fsync)
const writeOnThread = promisify(write)

export interface OutputOptions {
  /** Replace a file that exists. Default: refuse. */
  readonly force?: boolean | undefined
}

export class OutputFile {
  /** Where the file will be. */
  readonly path: string
  readonly fd: number
  readonly #temporary: string
  readonly #force: boolean
  #open = true

  /**
   * @throws UmbraError ALREADY_EXISTS, INVALID_ARGUMENT for what is there and no regular file, ENOENT,
   *   EACCES, OUT_OF_SPACE
   */
  constructor(path: string, options: OutputOptions = {}) {
    this.#force = options.force ?? false
    this.path = placeFor(path, this.#force)
    const suffix = randomBytes(6).toString('hex')
    this.#temporary = join(dirname(this.path), `.${basename(this.path).slice(0, 200)}.${suffix}.partial`)
    this.fd = hostCall(`Cannot create ${path}`, () => openSync(this.#temporary, 'wx+', 0o600))
  }

  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): void {
    writeFully(this.fd, this.path, offsetBytes, lengthBytes, source, sourceOffset)
  }

  /** Like write() on a thread; the source must stay as it is until it settles. */
  async writeLater(
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
  ): Promise<void> {
    for (let done = 0; done < lengthBytes; ) {
      try {
        const at = offsetBytes + done
        done += (await writeOnThread(this.fd, source, sourceOffset + done, lengthBytes - done, at))
          .bytesWritten
      } catch (error) {
        throw hostError(error, `Cannot write ${this.path}`)
      }
    }
  }

  /** Sets the size; what was not written reads as zeros. */
  truncate(sizeBytes: number): void {
    hostCall(`Cannot resize ${this.path}`, () => ftruncateSync(this.fd, sizeBytes))
  }

  /** Makes the file durable and gives it its name. On failure the temporary is gone. */
  async complete(): Promise<void> {
    try {
      await flushFile(this.fd)
      this.#close()
      this.#publish()
      syncFolder(dirname(this.path))
    } catch (error) {
      this.discard()
      throw hostError(error, `Cannot complete ${this.path}`)
    }
  }

  /** Closes and removes the temporary. Never throws; may be called at any time. */
  discard(): void {
    try {
      this.#close()
    } catch {
      // A descriptor that fails to close is closed all the same.
    }
    rmSync(this.#temporary, { force: true })
  }

  #close(): void {
    if (!this.#open) return
    this.#open = false
    closeSync(this.fd)
  }

  #publish(): void {
    if (this.#force || !this.#link()) renameSync(this.#temporary, this.path)
    else unlinkSync(this.#temporary)
  }

  /** Gives the file its second name unless that exists; false: this file system has no hard links. */
  #link(): boolean {
    try {
      linkSync(this.#temporary, this.path)
      return true
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code === 'EEXIST') throw alreadyExists(this.path)
      // File systems without hard links: the check and the rename are then two steps.
      if (code !== 'EPERM' && code !== 'EOPNOTSUPP' && code !== 'ENOSYS' && code !== 'EMLINK') throw error
      if (existingAt(this.path)) throw alreadyExists(this.path)
      return false
    }
  }
}

/** Runs `fill` on a new file; completes it when that returns, removes it when that throws. */
export async function writeOutput<T>(
  path: string,
  options: OutputOptions,
  fill: (output: OutputFile) => Promise<T>,
): Promise<T> {
  const output = new OutputFile(path, options)
  let result: T
  try {
    result = await fill(output)
  } catch (error) {
    output.discard()
    throw error
  }
  await output.complete()
  return result
}

/** Writes a small file durably, replacing what is there, all or nothing. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  await writeOutput(path, { force: true }, async (output) => output.write(0, bytes.byteLength, bytes, 0))
}

/** Makes names in a folder durable. */
export function syncFolder(folder: string): void {
  hostCall(`Cannot flush folder ${folder}`, () => {
    const fd = openSync(folder, 'r')
    try {
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  })
}

/** The final path: what a link leads to, so that force replaces the file and not the link. */
function placeFor(path: string, force: boolean): string {
  const existing = existingAt(path)
  if (!existing) return path
  if (!force) throw alreadyExists(path)
  const place = hostCall(`Cannot open ${path}`, () => realpathSync(path))
  if (!lstatSync(place).isFile())
    throw new UmbraError('INVALID_ARGUMENT', `Not a regular file, and not replaced: ${path}`)
  if (isVolumeFile(place)) throw new UmbraError('INVALID_ARGUMENT', `${path} is a volume, and not replaced`)
  return place
}

function existingAt(path: string): boolean {
  try {
    hostCall(`Cannot look at ${path}`, () => lstatSync(path))
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

function alreadyExists(path: string): UmbraError {
  return new UmbraError('ALREADY_EXISTS', `${path} exists and is not replaced without --force`, { path })
}
