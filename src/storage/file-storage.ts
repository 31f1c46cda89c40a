// A block storage in a regular file of the host: what volumes are kept in.
//
// random-access-file opens, measures and closes the file; its descriptor serves the hot path, which
// goes straight to the kernel without a request object. (It has no synchronous truncate, so sizing
// is ftruncate on the same descriptor.)
// Always true: a writable file that was opened with a lock has no second writer, in this process or
// another; a flush that failed once fails for ever, because the kernel forgets which pages it lost;
// close() waits for every call still under way.

import * as fs from 'node:fs'
import { constants } from 'node:os'
import { dirname } from 'node:path'
import RandomAccessFile from 'random-access-file'
import { errnoName, UmbraError } from '../base/errors.ts'
import type { BlockStorage, BlockStorageSupport } from './block-storage.ts'
import { chooseDescriptorIo, type DescriptorIo } from './descriptor-io.ts'
import { closedError, readOnlyError, storageError } from './storage-error.ts'

export type FileLock = 'exclusive' | 'shared' | 'none'

export interface FileStorageOptions {
  /** Makes a new, empty file; one that exists is refused with ALREADY_EXISTS. Default false. */
  readonly create?: boolean
  readonly readOnly?: boolean
  /** Default: exclusive for a writable file, shared for a read-only one. */
  readonly lock?: FileLock
  /** Default: the addon, or its twin in TypeScript where there is none. */
  readonly io?: DescriptorIo
}

const FALLOC_KEEP_SIZE = 0x01
const FALLOC_PUNCH = 0x02 | FALLOC_KEEP_SIZE
/** Where punching is tried at open, to learn whether the host can: past any file that we meet. */
const PROBE_OFFSET_BYTES = 2 ** 43
const ZEROS = new Uint8Array(256 * 1024)
/** A flush of at most so much is done at once, without another thread, while such flushes are quick. */
const INLINE_FLUSH_BYTES = 256 * 1024
const INLINE_FLUSH_MS = 1
/** The kernel moves at most about 2 GiB a call. */
const CALL_LIMIT_BYTES = 1 << 30

const { EACCES, EAGAIN, EEXIST, EINTR, ENOENT, ENOSYS, EOPNOTSUPP, EPERM, EROFS } = constants.errno

export class FileStorage implements BlockStorage {
  readonly name: string
  readonly readOnly: boolean
  readonly supports: BlockStorageSupport
  readonly #file: RandomAccessFile
  readonly #fd: number
  readonly #io: DescriptorIo
  #sizeBytes: number
  #closed = false
  #underWay = 0
  #whenIdle: (() => void) | null = null
  #lostFlush: UmbraError | null = null
  /** Bytes written that no flush that has begun covers. */
  #unflushedBytes = 0
  #flushesUnderWay = 0
  /** What a small flush takes here of late, smoothed. */
  #flushMs = 0

  private constructor(file: RandomAccessFile, path: string, sizeBytes: number, options: FileStorageOptions) {
    this.#file = file
    this.#fd = file.fd
    this.#io = options.io ?? chooseDescriptorIo()
    this.#sizeBytes = sizeBytes
    this.name = path
    this.readOnly = options.readOnly ?? false
    const fallocates = !this.readOnly && this.#canFallocate()
    this.supports = { punch: fallocates, reserve: fallocates }
  }

  /**
   * Opens a regular file.
   * @throws UmbraError NOT_FOUND, ALREADY_EXISTS, NOT_PERMITTED, READ_ONLY, INVALID_ARGUMENT (no
   *   regular file), BUSY (another process has it open), UNAVAILABLE (a lock was asked for and there
   *   is no addon to take it), IO_FAILED
   */
  static async open(path: string, options: FileStorageOptions = {}): Promise<FileStorage> {
    const readOnly = options.readOnly ?? false
    if (readOnly && (options.create || options.lock === 'exclusive')) {
      throw new UmbraError('INVALID_ARGUMENT', 'A read-only file is neither created nor locked exclusively')
    }
    if (options.create) createFile(path)
    const file = new RandomAccessFile(path, { readable: true, writable: !readOnly })
    await openFile(file, path)
    try {
      const stats = fs.fstatSync(file.fd)
      if (!stats.isFile()) throw new UmbraError('INVALID_ARGUMENT', `${path} is not a regular file`, { path })
      const storage = new FileStorage(file, path, stats.size, options)
      storage.#lock(options.lock ?? (readOnly ? 'shared' : 'exclusive'))
      // Whoever held the lock until now may have changed the size after it was read above.
      storage.#sizeBytes = fs.fstatSync(file.fd).size
      return storage
    } catch (error) {
      await new Promise<void>((resolve) => file.close(() => resolve()))
      throw error
    }
  }

  /** For callers that hand the file to another process or to the addon. */
  get descriptor(): number {
    this.#checkOpen()
    return this.#fd
  }

  get isClosed(): boolean {
    return this.#closed
  }

  get sizeBytes(): number {
    // A reader beside a writer of another process sees the file grow.
    if (this.readOnly && !this.#closed) this.#sizeBytes = fs.fstatSync(this.#fd).size
    return this.#sizeBytes
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#checkOpen()
    let done = 0
    while (done < lengthBytes) {
      const wanted = Math.min(lengthBytes - done, CALL_LIMIT_BYTES)
      const count = this.#io.pread(this.#fd, target, targetOffset + done, wanted, offsetBytes + done)
      if (count === -EINTR) continue
      if (count < 0) throw this.#failure(count, 'read', offsetBytes, lengthBytes)
      if (count === 0) break
      done += count
    }
    if (done < lengthBytes) target.fill(0, targetOffset + done, targetOffset + lengthBytes)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.#checkOpen()
    const count = this.#io.preadNoWait(this.#fd, target, targetOffset, lengthBytes, offsetBytes)
    if (count === lengthBytes) return true
    // Errors too are left to read(), which reports them; a short count is either the end or the edge of
    // what the cache holds.
    if (count < 0 || offsetBytes + count < this.sizeBytes) return false
    target.fill(0, targetOffset + count, targetOffset + lengthBytes)
    return true
  }

  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): Promise<void> {
    return this.#inBackground((resolve, reject) => {
      let done = 0
      const step = (count: number): void => {
        if (count < 0 && count !== -EINTR) {
          reject(this.#failure(count, 'read', offsetBytes, lengthBytes))
          return
        }
        if (count > 0) done += count
        if (count === 0) target.fill(0, targetOffset + done, targetOffset + lengthBytes)
        if (count === 0 || done === lengthBytes) resolve()
        else next()
      }
      const next = (): void => {
        const wanted = Math.min(lengthBytes - done, CALL_LIMIT_BYTES)
        this.#io.preadLater(this.#fd, target, targetOffset + done, wanted, offsetBytes + done, step)
      }
      if (lengthBytes === 0) resolve()
      else next()
    })
  }

  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): void {
    this.#checkWritable()
    let done = 0
    while (done < lengthBytes) {
      const wanted = Math.min(lengthBytes - done, CALL_LIMIT_BYTES)
      const count = this.#io.pwrite(this.#fd, source, sourceOffset + done, wanted, offsetBytes + done)
      if (count === -EINTR) continue
      if (count <= 0) {
        // A prefix may have been written, and the file be longer.
        this.#sizeBytes = fs.fstatSync(this.#fd).size
        throw this.#failure(count, 'write', offsetBytes, lengthBytes)
      }
      done += count
      this.#unflushedBytes += count
      if (offsetBytes + done > this.#sizeBytes) this.#sizeBytes = offsetBytes + done
    }
  }

  flushSync(): void {
    this.#checkWritable()
    if (this.#lostFlush) throw this.#lostFlush
    const result = this.#io.fdatasync(this.#fd)
    if (result < 0) throw this.#loseFlush(result)
  }

  flush(): Promise<void> {
    if (this.readOnly) return Promise.reject(readOnlyError(this.name))
    if (this.#closed) return Promise.reject(closedError(this.name))
    if (this.#lostFlush) return Promise.reject(this.#lostFlush)
    const isSmall = this.#unflushedBytes <= INLINE_FLUSH_BYTES
    this.#unflushedBytes = 0
    if (isSmall && this.#flushesUnderWay === 0 && this.#flushMs < INLINE_FLUSH_MS) return this.#flushInline()
    return this.#flushLater(isSmall)
  }

  /** A small flush takes less time than handing it to another thread and back. */
  #flushInline(): Promise<void> {
    const startMs = performance.now()
    const result = this.#io.fdatasync(this.#fd)
    this.#noteFlush(performance.now() - startMs)
    return result < 0 ? Promise.reject(this.#loseFlush(result)) : Promise.resolve()
  }

  #flushLater(isSmall: boolean): Promise<void> {
    return this.#inBackground((resolve, reject) => {
      const startMs = performance.now()
      this.#flushesUnderWay++
      this.#io.fdatasyncLater(this.#fd, (result) => {
        this.#flushesUnderWay--
        if (isSmall) this.#noteFlush(performance.now() - startMs)
        if (result < 0) reject(this.#loseFlush(result))
        else if (this.#lostFlush) reject(this.#lostFlush)
        else resolve()
      })
    })
  }

  #noteFlush(tookMs: number): void {
    this.#flushMs += (tookMs - this.#flushMs) / 8
  }

  async punch(offsetBytes: number, lengthBytes: number): Promise<void> {
    if (this.readOnly) throw readOnlyError(this.name)
    if (lengthBytes === 0) return
    if (!this.supports.punch) {
      this.punchSync(offsetBytes, lengthBytes)
      return
    }
    await this.#inBackground((resolve, reject) => {
      const step = (result: number): void => {
        if (result === -EINTR) next()
        else if (result < 0) reject(this.#failure(result, 'punch', offsetBytes, lengthBytes))
        else resolve()
      }
      const next = (): void => {
        this.#io.fallocateLater(this.#fd, FALLOC_PUNCH, offsetBytes, lengthBytes, step)
      }
      next()
    })
  }

  punchSync(offsetBytes: number, lengthBytes: number): void {
    this.#checkWritable()
    if (lengthBytes === 0) return
    if (this.supports.punch) this.#fallocate(FALLOC_PUNCH, 'punch', offsetBytes, lengthBytes)
    else this.#writeZeros(offsetBytes, lengthBytes)
  }

  reserve(offsetBytes: number, lengthBytes: number): void {
    this.#checkWritable()
    if (lengthBytes === 0 || !this.supports.reserve) return
    this.#fallocate(FALLOC_KEEP_SIZE, 'reserve space in', offsetBytes, lengthBytes)
  }

  truncate(sizeBytes: number): void {
    this.#checkWritable()
    try {
      fs.ftruncateSync(this.#fd, sizeBytes)
    } catch (error) {
      throw this.#failure((error as NodeJS.ErrnoException).errno ?? 0, 'truncate', sizeBytes, 0)
    }
    this.#sizeBytes = sizeBytes
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve
      })
    }
    await new Promise<void>((resolve, reject) => {
      this.#file.close((error) => {
        if (error) reject(this.#failure(error.errno ?? 0, 'close', 0, 0))
        else resolve()
      })
    })
  }

  #writeZeros(offsetBytes: number, lengthBytes: number): void {
    const endBytes = Math.min(offsetBytes + lengthBytes, this.#sizeBytes)
    for (let at = offsetBytes; at < endBytes; at += ZEROS.length) {
      this.write(at, Math.min(ZEROS.length, endBytes - at), ZEROS, 0)
    }
  }

  #fallocate(mode: number, verb: string, offsetBytes: number, lengthBytes: number): void {
    let result: number
    do result = this.#io.fallocate(this.#fd, mode, offsetBytes, lengthBytes)
    while (result === -EINTR)
    if (result < 0) throw this.#failure(result, verb, offsetBytes, lengthBytes)
  }

  /** Asked once, by punching where there is nothing. */
  #canFallocate(): boolean {
    const at = this.#sizeBytes < PROBE_OFFSET_BYTES ? PROBE_OFFSET_BYTES : this.#sizeBytes + 2 ** 20
    const result = this.#io.fallocate(this.#fd, FALLOC_PUNCH, at, 4096)
    return result !== -EOPNOTSUPP && result !== -ENOSYS
  }

  #lock(lock: FileLock): void {
    if (lock === 'none') return
    const result = this.#io.lock(this.#fd, lock === 'exclusive')
    if (result >= 0) return
    if (result === -EAGAIN || result === -EACCES) {
      const message = `${this.name} is in use by another process (or opened twice in this one)`
      throw new UmbraError('BUSY', message, { path: this.name })
    }
    if (result === -EOPNOTSUPP || result === -ENOSYS) {
      // Node.js has no file locks. A lock file would survive a crash and then shut its owner out, and
      // going on without a lock would let two writers destroy the file.
      const message = `Cannot lock ${this.name}: the native addon is not there, or the host's file system has no locks. Run "npm run build"`
      throw new UmbraError('UNAVAILABLE', message, { path: this.name })
    }
    throw this.#failure(result, 'lock', 0, 0)
  }

  #inBackground(start: (resolve: () => void, reject: (error: Error) => void) => void): Promise<void> {
    if (this.#closed) return Promise.reject(closedError(this.name))
    this.#underWay++
    return new Promise<void>(start).finally(() => {
      this.#underWay--
      if (this.#underWay === 0) this.#whenIdle?.()
    })
  }

  #loseFlush(result: number): UmbraError {
    this.#lostFlush ??= this.#failure(result, 'flush', 0, 0)
    return this.#lostFlush
  }

  /** @param result an errno, negated or not; 0 (a write of nothing) counts as EIO */
  #failure(result: number, verb: string, offsetBytes: number, lengthBytes: number): UmbraError {
    const errno = result === 0 ? constants.errno.EIO : Math.abs(result)
    return storageError(errno, { verb, name: this.name, offsetBytes, lengthBytes })
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError(this.name)
  }

  #checkWritable(): void {
    if (this.readOnly) throw readOnlyError(this.name)
    if (this.#closed) throw closedError(this.name)
  }
}

function openFile(file: RandomAccessFile, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    file.open((error) => {
      if (error) reject(openError(error, path))
      else resolve()
    })
  })
}

/** A new file whose name survives a crash: its folder is synced too. */
function createFile(path: string): void {
  try {
    fs.closeSync(fs.openSync(path, 'wx', 0o600))
    const folder = fs.openSync(dirname(path), 'r')
    try {
      fs.fsyncSync(folder)
    } finally {
      fs.closeSync(folder)
    }
  } catch (error) {
    throw openError(error as NodeJS.ErrnoException, path)
  }
}

function openError(error: NodeJS.ErrnoException, path: string): UmbraError {
  const errno = Math.abs(error.errno ?? constants.errno.EIO)
  const context = { path, errno }
  switch (errno) {
    case ENOENT:
      return new UmbraError('NOT_FOUND', `There is no ${path}`, context, error)
    case EEXIST:
      return new UmbraError('ALREADY_EXISTS', `${path} exists already`, context, error)
    case EACCES:
    case EPERM:
      return new UmbraError('NOT_PERMITTED', `Not permitted to open ${path}`, context, error)
    case EROFS:
      return new UmbraError('READ_ONLY', `${path} lies on a read-only file system`, context, error)
    case constants.errno.EISDIR:
      return new UmbraError('INVALID_ARGUMENT', `${path} is a directory`, context, error)
    case constants.errno.ENOSPC:
      return storageError(errno, { verb: 'create', name: path, offsetBytes: 0, lengthBytes: 0 })
    default:
      return new UmbraError('IO_FAILED', `Cannot open ${path}: ${errnoName(errno)}`, context, error)
  }
}
