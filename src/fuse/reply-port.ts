// Where handlers send their answers: headers are put before the data and errors become errno here.
//
// Always true: between begin() and the handler's return at most one answer is sent for a request (a
// second attempt is a bug and is reported, not sent); an answer that comes later goes by its Ticket.
// What is sent carries 0 or -1 to -511, and ENOSYS only where a handler means it: the kernel remembers
// ENOSYS for the mount's life.

import { constants } from 'node:os'
import { assert } from '../base/assert.ts'
import { errnoFrom, UmbraError } from '../base/errors.ts'
import { LIMIT, NOTIFY } from './protocol.ts'
import { putU64 } from './reply-encoding.ts'
import type { Ticket } from './request.ts'
import type { FuseReplies, ReplyBuffer } from './request-handler.ts'
import { NotifyInvalInodeOut, OutHeader } from './wire-structs.ts'

const { EIO, ENOENT, ENOSYS, EOPNOTSUPP } = constants.errno
const HEADER_BYTES = OutHeader.sizeBytes
const DATA_OFFSET_BYTES = 4096
/** Room for the largest answer that is not file data or a listing: an xattr's value. */
const SCRATCH_BYTES = DATA_OFFSET_BYTES + LIMIT.XATTR_VALUE_BYTES

/** Told of failures that are not answers: bugs, damage, replies that the kernel refused. */
export type ErrorReport = (error: unknown, request: Ticket) => void

export class ReplyPort {
  /** For answers that are sent before the handler returns. */
  readonly scratch: ReplyBuffer
  readonly view: DataView
  /** Where an answer's data begin in `scratch`. */
  readonly dataAt = DATA_OFFSET_BYTES
  readonly #replies: FuseReplies
  readonly #report: ErrorReport
  #isAnswered = false
  #isEnded = false

  constructor(replies: FuseReplies, report: ErrorReport) {
    this.#replies = replies
    this.#report = report
    const bytes = new Uint8Array(SCRATCH_BYTES)
    this.view = new DataView(bytes.buffer)
    this.scratch = {
      bytes,
      view: this.view,
      headerOffsetBytes: DATA_OFFSET_BYTES - HEADER_BYTES,
      dataOffsetBytes: DATA_OFFSET_BYTES,
    }
  }

  begin(): void {
    this.#isAnswered = false
  }

  get isAnswered(): boolean {
    return this.#isAnswered
  }

  /** Answers that come after this go nowhere. */
  end(): void {
    this.#isEnded = true
  }

  borrow(): ReplyBuffer {
    return this.#replies.borrow()
  }

  giveBack(buffer: ReplyBuffer): void {
    this.#replies.giveBack(buffer)
  }

  /** An answer without data. */
  ok(to: Ticket): void {
    this.send(to, this.scratch, 0)
  }

  /** The first `lengthBytes` of scratch's data. @returns false when the kernel did not take it */
  data(to: Ticket, lengthBytes: number): boolean {
    return this.send(to, this.scratch, lengthBytes)
  }

  /** @returns false when the kernel did not take it: interrupted, so nothing in it counts */
  send(to: Ticket, buffer: ReplyBuffer, lengthBytes: number): boolean {
    return this.#write(to, buffer, lengthBytes, 0)
  }

  /** An answer whose sticky ENOSYS is wanted: the kernel never asks again. */
  never(to: Ticket): void {
    this.#write(to, this.scratch, 0, -ENOSYS)
  }

  errno(to: Ticket, errno: number): void {
    this.#write(to, this.scratch, 0, -errno)
  }

  /** Anything thrown, as an answer; what is a bug or damage is reported as well. */
  failure(to: Ticket, thrown: unknown): void {
    const stated = errnoFrom(thrown)
    const errno = stated === ENOSYS ? EOPNOTSUPP : stated < 1 || stated > LIMIT.ERRNO ? EIO : stated
    if (!(thrown instanceof UmbraError) || errno === EIO) this.#report(thrown, to)
    this.errno(to, errno)
  }

  /**
   * Makes the kernel ask for a node's attributes before it uses them again; its pages stay. Only before
   * an answer is put into scratch.
   */
  invalidateAttributes(nodeId: number): void {
    if (this.#isEnded) return
    const { bytes, headerOffsetBytes: at } = this.scratch
    const totalBytes = HEADER_BYTES + NotifyInvalInodeOut.sizeBytes
    this.view.setUint32(at, totalBytes, true)
    this.view.setInt32(at + 4, NOTIFY.INVAL_INODE, true)
    putU64(this.view, at + 8, 0)
    putU64(this.view, this.dataAt, nodeId)
    // Offset -1: attributes alone.
    bytes.fill(0xff, this.dataAt + 8, this.dataAt + 16)
    putU64(this.view, this.dataAt + 16, 0)
    // Refused when the kernel does not know the node (any more): then it has nothing to forget.
    this.#replies.send(bytes, at, totalBytes)
  }

  /** A failure that no answer can carry any more. */
  report(thrown: unknown, about: Ticket): void {
    this.#report(thrown, about)
  }

  #write(to: Ticket, buffer: ReplyBuffer, lengthBytes: number, error: number): boolean {
    if (this.#isEnded) return false
    const { view, headerOffsetBytes: at } = buffer
    const totalBytes = HEADER_BYTES + lengthBytes
    assert(at + totalBytes <= buffer.bytes.byteLength, 'a reply fits its buffer')
    view.setUint32(at, totalBytes, true)
    view.setInt32(at + 4, error, true)
    view.setUint32(at + 8, to.uniqueLow, true)
    view.setUint32(at + 12, to.uniqueHigh, true)
    this.#isAnswered = true
    const result = this.#replies.send(buffer.bytes, at, totalBytes)
    if (result === 0) return true
    if (result !== -ENOENT) this.#report(new UmbraError('IO_FAILED', `A reply was refused: ${result}`), to)
    return false
  }
}
