// The FUSE device as a stream of requests and a way to answer: hands each request of a batch to the
// handler, owns the reply buffers, and says when the mount has ended.
//
// Always true here: one batch at a time, on the event loop; a handler that throws gets its request
// answered with EIO and the error becomes an uncaught exception once the batch is through; no more
// than `replyBufferLimit` + `slotCount` reply buffers are ever out, because receiving pauses at the
// limit; `ended` is told exactly once, and not after close().

import { constants } from 'node:os'
import { type Addon, type FuseHandle, requireAddon } from '../../base/addon.ts'
import { assert } from '../../base/assert.ts'
import { systemError } from '../../base/errors.ts'
import type { FuseReplies, ReplyBuffer, RequestHandler, RequestHandlerFactory } from '../request-handler.ts'

export interface FuseChannelOptions {
  /** Largest WRITE payload, as INIT will say; a multiple of 4096. */
  readonly maxWriteBytes?: number
  /** Largest READ answer; a multiple of 4096. */
  readonly maxReadBytes?: number
  /** Requests in one batch; each slot takes maxWriteBytes of address space, touched only when used. */
  readonly slotCount?: number
  /** How long to spin, yielding, for the next request before sleeping; 0 never spins. */
  readonly spinUs?: number
  /** Reply buffers out at once before receiving pauses. */
  readonly replyBufferLimit?: number
}

const DEFAULTS = {
  maxWriteBytes: 1 << 20,
  maxReadBytes: 1 << 20,
  slotCount: 16,
  spinUs: 50,
  replyBufferLimit: 64,
} as const satisfies FuseChannelOptions

const DATA_OFFSET_BYTES = 4096
const OUT_HEADER_BYTES = 16
const HEADER_OFFSET_BYTES = DATA_OFFSET_BYTES - OUT_HEADER_BYTES

/** Requests that take no answer: FORGET, INTERRUPT, BATCH_FORGET. */
const UNANSWERED_OPCODES: ReadonlySet<number> = new Set([2, 36, 42])

export class FuseChannel implements FuseReplies {
  readonly #addon: Addon
  readonly #handle: FuseHandle
  readonly #handler: RequestHandler
  readonly #maxReadBytes: number
  readonly #replyBufferLimit: number
  readonly #arenaView: DataView
  readonly #free: ReplyBuffer[] = []
  readonly #errorReply = new Uint8Array(OUT_HEADER_BYTES)
  #outCount = 0
  #paused = false
  #closed = false

  private constructor(
    addon: Addon,
    fd: number,
    options: Required<FuseChannelOptions>,
    makeHandler: RequestHandlerFactory,
  ) {
    this.#addon = addon
    this.#maxReadBytes = options.maxReadBytes
    this.#replyBufferLimit = options.replyBufferLimit
    const handle = addon.fuseOpen({
      fd,
      maxWriteBytes: options.maxWriteBytes,
      slotCount: options.slotCount,
      spinUs: options.spinUs,
      onBatch: (countOrErrno) => this.#onBatch(countOrErrno),
    })
    if (typeof handle === 'number') throw systemError(-handle, 'Cannot receive from the FUSE device')
    this.#handle = handle
    const { arena } = handle
    this.#arenaView = new DataView(arena.buffer, arena.byteOffset, arena.byteLength)
    this.#handler = makeHandler(this)
  }

  /**
   * Starts receiving from a mounted /dev/fuse descriptor, which the channel owns from here on.
   * @param makeHandler called once, at once; requests arrive in later turns of the loop
   * @throws UmbraError UNAVAILABLE without the addon, or the errno's code if polling cannot begin
   */
  static open(fd: number, options: FuseChannelOptions, makeHandler: RequestHandlerFactory): FuseChannel {
    return new FuseChannel(requireAddon(), fd, { ...DEFAULTS, ...options }, makeHandler)
  }

  send(bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number {
    return this.#handle.reply(bytes, offsetBytes, lengthBytes)
  }

  borrow(): ReplyBuffer {
    this.#outCount++
    if (this.#outCount >= this.#replyBufferLimit && !this.#paused) {
      this.#paused = true
      this.#handle.pause()
    }
    return this.#free.pop() ?? this.#newBuffer()
  }

  giveBack(buffer: ReplyBuffer): void {
    assert(this.#outCount > 0, 'a reply buffer is given back once')
    this.#outCount--
    if (this.#free.length < this.#replyBufferLimit) this.#free.push(buffer)
    if (this.#paused && this.#outCount < this.#replyBufferLimit) {
      this.#paused = false
      this.#handle.resume()
    }
  }

  /** Closes the device: the kernel aborts what is unanswered. `ended` is not told. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#handle.close()
  }

  #newBuffer(): ReplyBuffer {
    const bytes = this.#addon.alignedBytes(DATA_OFFSET_BYTES + this.#maxReadBytes)
    if (typeof bytes === 'number') throw systemError(-bytes, 'Cannot allocate a reply buffer')
    return {
      bytes,
      view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      headerOffsetBytes: HEADER_OFFSET_BYTES,
      dataOffsetBytes: DATA_OFFSET_BYTES,
    }
  }

  #onBatch(countOrErrno: number): void {
    if (countOrErrno < 0) {
      this.#end(countOrErrno)
      return
    }
    const { arena, slotStrideBytes, requestOffsetBytes, lengths } = this.#handle
    let failed = false
    let failure: unknown
    for (let i = 0; i < countOrErrno && !this.#closed; i++) {
      const offsetBytes = i * slotStrideBytes + requestOffsetBytes
      try {
        this.#handler.handle(arena, offsetBytes, lengths[i] as number)
      } catch (error) {
        this.#refuse(offsetBytes)
        if (!failed) failure = error
        failed = true
      }
    }
    if (failed) throw failure
  }

  /** Answers the request at `offsetBytes` of the arena with EIO, so that nobody waits for it forever. */
  #refuse(offsetBytes: number): void {
    const view = this.#arenaView
    if (UNANSWERED_OPCODES.has(view.getUint32(offsetBytes + 4, true))) return
    const out = new DataView(this.#errorReply.buffer)
    out.setUint32(0, OUT_HEADER_BYTES, true)
    out.setInt32(4, -constants.errno.EIO, true)
    out.setUint32(8, view.getUint32(offsetBytes + 8, true), true)
    out.setUint32(12, view.getUint32(offsetBytes + 12, true), true)
    // Refused if the handler had answered before it threw: then all is well.
    this.#handle.reply(this.#errorReply, 0, OUT_HEADER_BYTES)
  }

  #end(errno: number): void {
    if (this.#closed) return
    this.close()
    this.#handler.ended(errno === -constants.errno.ENODEV ? 'unmounted' : 'aborted')
  }
}
