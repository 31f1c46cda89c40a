// A file system of one file, `echo`, held in memory: just enough of the protocol to prove the device.
// Other names that a lookup knows: `throw` makes the handler throw.
//
// Always true: no state but the file's bytes; READs may be answered late (`delayMs`), all else at once.

import { constants } from 'node:os'
import type { FuseReplies, RequestHandler } from '../../src/fuse/request-handler.ts'

const { ENOENT, ENOSYS } = constants.errno
const S_IFDIR = 0o040000
const S_IFREG = 0o100000
// ASYNC_READ, BIG_WRITES, ASYNC_DIO, PARALLEL_DIROPS, ABORT_ERROR, MAX_PAGES
const INIT_FLAGS = (1 << 0) | (1 << 5) | (1 << 15) | (1 << 18) | (1 << 21) | (1 << 22)
const ROOT = 1
const FILE = 2
const IN_HEADER_BYTES = 40
const OUT_HEADER_BYTES = 16

export interface EchoOptions {
  readonly capacityBytes: number
  /** READs are answered after so long; 0: at once. */
  readonly delayMs: number
  readonly maxWriteBytes: number
  /** How long the kernel may keep attributes; 0: it asks each time. */
  readonly attrSeconds: number
}

export class EchoFileSystem implements RequestHandler {
  readonly #replies: FuseReplies
  readonly #options: EchoOptions
  readonly #content: Uint8Array
  readonly #out = new Uint8Array(4096)
  readonly #view = new DataView(this.#out.buffer)
  readonly #onEnded: (reason: string) => void
  #sizeBytes = 0
  /** How many READs were waiting for their answer at once, at most. */
  mostWaiting = 0
  #waiting = 0
  /** Whether every WRITE payload began on a page boundary of the arena. */
  aligned = true

  constructor(replies: FuseReplies, options: EchoOptions, onEnded: (reason: string) => void) {
    this.#replies = replies
    this.#options = options
    this.#content = new Uint8Array(options.capacityBytes)
    this.#onEnded = onEnded
  }

  ended(reason: 'unmounted' | 'aborted'): void {
    this.#onEnded(reason)
  }

  handle(arena: Uint8Array, offsetBytes: number, lengthBytes: number): void {
    const request = new DataView(arena.buffer, arena.byteOffset + offsetBytes, lengthBytes)
    switch (request.getUint32(4, true)) {
      case 1:
        this.#lookup(request)
        break
      case 2:
      case 36:
      case 42:
        break
      case 3:
        this.#attr(request)
        break
      case 4:
        if (request.getUint32(40, true) & 8) this.#sizeBytes = Number(request.getBigUint64(56, true))
        this.#attr(request)
        break
      case 14:
      case 27:
        this.#answer(request, 0, 16)
        break
      case 15:
        this.#read(request)
        break
      case 16:
        this.#write(request, arena, offsetBytes)
        break
      case 17:
        this.#answer(request, 0, 80)
        break
      case 18:
      case 20:
      case 28:
      case 29:
        this.#answer(request, 0, 0)
        break
      case 26:
        this.#init(request)
        break
      default:
        this.#answer(request, -ENOSYS, 0)
        break
    }
  }

  /** The body, of `lengthBytes`, is at 16 of #out; what was not set is zero. */
  #answer(request: DataView, error: number, lengthBytes: number): void {
    this.#header(this.#view, 0, request, error, lengthBytes)
    this.#replies.send(this.#out, 0, OUT_HEADER_BYTES + lengthBytes)
    this.#out.fill(0)
  }

  #header(view: DataView, at: number, request: DataView, error: number, lengthBytes: number): void {
    view.setUint32(at, OUT_HEADER_BYTES + lengthBytes, true)
    view.setInt32(at + 4, error, true)
    view.setBigUint64(at + 8, request.getBigUint64(8, true), true)
  }

  #init(request: DataView): void {
    const view = this.#view
    view.setUint32(16, 7, true)
    view.setUint32(20, Math.min(31, request.getUint32(44, true)), true)
    view.setUint32(24, request.getUint32(48, true), true)
    view.setUint32(28, INIT_FLAGS, true)
    view.setUint16(32, 64, true)
    view.setUint16(34, 48, true)
    view.setUint32(36, this.#options.maxWriteBytes, true)
    view.setUint32(40, 1, true)
    view.setUint16(44, 256, true)
    this.#answer(request, 0, 64)
  }

  #putAttr(at: number, node: number): void {
    const view = this.#view
    view.setUint32(at, node, true)
    if (node === FILE) view.setBigUint64(at + 8, BigInt(this.#sizeBytes), true)
    view.setUint32(at + 60, node === ROOT ? S_IFDIR | 0o755 : S_IFREG | 0o644, true)
    view.setUint32(at + 64, 1, true)
    view.setUint32(at + 68, process.geteuid?.() ?? 0, true)
    view.setUint32(at + 72, process.getegid?.() ?? 0, true)
    view.setUint32(at + 80, 4096, true)
  }

  #attr(request: DataView): void {
    this.#view.setUint32(OUT_HEADER_BYTES, this.#options.attrSeconds, true)
    this.#putAttr(OUT_HEADER_BYTES + 16, request.getUint32(16, true))
    this.#answer(request, 0, 16 + 88)
  }

  #lookup(request: DataView): void {
    const bytes = new Uint8Array(request.buffer, request.byteOffset + IN_HEADER_BYTES)
    const name = Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString()
    if (name === 'throw') throw new Error('thrown on purpose')
    if (name !== 'echo') {
      this.#answer(request, -ENOENT, 0)
      return
    }
    this.#view.setUint32(OUT_HEADER_BYTES, FILE, true)
    this.#view.setUint32(OUT_HEADER_BYTES + 16, 3600, true)
    this.#putAttr(OUT_HEADER_BYTES + 40, FILE)
    this.#answer(request, 0, 128)
  }

  #read(request: DataView): void {
    const offset = Number(request.getBigUint64(48, true))
    const length = Math.max(0, Math.min(request.getUint32(56, true), this.#sizeBytes - offset))
    const buffer = this.#replies.borrow()
    this.#header(buffer.view, buffer.headerOffsetBytes, request, 0, length)
    const finish = (): void => {
      this.#waiting--
      buffer.bytes.set(this.#content.subarray(offset, offset + length), buffer.dataOffsetBytes)
      this.#replies.send(buffer.bytes, buffer.headerOffsetBytes, OUT_HEADER_BYTES + length)
      this.#replies.giveBack(buffer)
    }
    this.#waiting++
    this.mostWaiting = Math.max(this.mostWaiting, this.#waiting)
    if (this.#options.delayMs > 0) setTimeout(finish, this.#options.delayMs)
    else finish()
  }

  #write(request: DataView, arena: Uint8Array, offsetBytes: number): void {
    const at = Number(request.getBigUint64(48, true))
    const length = request.getUint32(56, true)
    const payloadOffset = offsetBytes + 80
    if ((arena.byteOffset + payloadOffset) % 8 !== 0 || payloadOffset % 4096 !== 0) this.aligned = false
    this.#content.set(arena.subarray(payloadOffset, payloadOffset + length), at)
    this.#sizeBytes = Math.max(this.#sizeBytes, at + length)
    this.#view.setUint32(OUT_HEADER_BYTES, length, true)
    this.#answer(request, 0, 8)
  }
}
