// One request as it lies in the device's arena: header decoded, body read by offset, every bound checked.
//
// Always true: no read reaches outside the request (a body that is too short throws EIO); a name handed
// out has 1 to 255 bytes without "/" or NUL. Numbers that a client may choose freely (offsets, lengths)
// saturate at 2^53 - 1, where every operation refuses them; node ids must fit. The object is reused:
// whoever answers later keeps a Ticket or a copy.

import { posixError } from '../base/errors.ts'
import type { Requester } from './operations.ts'
import { LIMIT } from './protocol.ts'
import { InHeader } from './wire-structs.ts'

/** What an answer needs to know of its request. */
export interface Ticket {
  /** The 64 bits of unique, copied back as they came (bit 63 marks a request sent again). */
  readonly uniqueLow: number
  readonly uniqueHigh: number
  readonly opcode: number
  readonly nodeId: number
}

const HEADER_BYTES = InHeader.sizeBytes
const WORD = 2 ** 32
const HIGH_MAX = 2 ** 21 - 1

interface LatinBuffer extends Buffer {
  latin1Slice(start: number, end: number): string
}

export class Request implements Requester, Ticket {
  uniqueLow = 0
  uniqueHigh = 0
  opcode = 0
  nodeId = 0
  uid = 0
  gid = 0
  pid = 0
  /** Set by the handler from the body. */
  umask = 0
  /** Where the last name() ended: just past its NUL, as an offset into the body. */
  nameEndOffset = 0
  #bytes = Buffer.alloc(0) as unknown as LatinBuffer
  #view: DataView = new DataView(new ArrayBuffer(0))
  #arena: Uint8Array | undefined
  #at = 0
  #bodyAt = 0
  #bodyEnd = 0
  #lengthBytes = 0

  /**
   * Takes the request at `offsetBytes` of `arena`.
   * @returns false when there is not even a whole header: such a thing cannot be answered
   * @throws EIO when its lengths contradict each other (the header can be answered)
   */
  open(arena: Uint8Array, offsetBytes: number, lengthBytes: number): boolean {
    if (lengthBytes < HEADER_BYTES || offsetBytes < 0 || offsetBytes + lengthBytes > arena.byteLength) {
      return false
    }
    if (arena !== this.#arena) this.#adopt(arena)
    const view = this.#view
    const at = offsetBytes
    this.#at = at
    this.opcode = view.getUint32(at + 4, true)
    this.uniqueLow = view.getUint32(at + 8, true)
    this.uniqueHigh = view.getUint32(at + 12, true)
    this.uid = view.getUint32(at + 24, true)
    this.gid = view.getUint32(at + 28, true)
    this.pid = view.getUint32(at + 32, true)
    this.umask = 0
    this.#bodyAt = at + HEADER_BYTES
    const lengthStated = view.getUint32(at, true)
    this.#lengthBytes = lengthStated
    const end = lengthStated - view.getUint16(at + 36, true) * 8
    this.#bodyEnd = this.#bodyAt
    this.nodeId = 0
    if (lengthStated > lengthBytes || end < HEADER_BYTES) throw posixError('EIO', 'a request of wrong length')
    this.#bodyEnd = at + end
    const nodeHigh = view.getUint32(at + 20, true)
    if (nodeHigh > HIGH_MAX) throw posixError('ESTALE', 'a node id past 2^53')
    this.nodeId = nodeHigh * WORD + view.getUint32(at + 16, true)
    return true
  }

  #adopt(arena: Uint8Array): void {
    this.#arena = arena
    this.#bytes = Buffer.from(arena.buffer, arena.byteOffset, arena.byteLength) as unknown as LatinBuffer
    this.#view = new DataView(arena.buffer, arena.byteOffset, arena.byteLength)
  }

  get bodyBytes(): number {
    return this.#bodyEnd - this.#bodyAt
  }

  /** The request's own copy, header and all, for when it has to wait. */
  copy(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.#bytes, this.#at, this.#at + this.#lengthBytes)
  }

  /** @throws EIO unless the body has at least `sizeBytes` */
  need(sizeBytes: number): void {
    if (this.#bodyAt + sizeBytes > this.#bodyEnd) throw posixError('EIO', 'a request body is too short')
  }

  /** A word of a structure that need() has admitted. */
  u32(offset: number): number {
    return this.#view.getUint32(this.#bodyAt + offset, true)
  }

  /** Saturates at 2^53 - 1. */
  u64(offset: number): number {
    const high = this.#view.getUint32(this.#bodyAt + offset + 4, true)
    if (high > HIGH_MAX) return Number.MAX_SAFE_INTEGER
    return high * WORD + this.#view.getUint32(this.#bodyAt + offset, true)
  }

  /** Signed, for times; exact within 2^53. */
  i64(offset: number): number {
    const at = this.#bodyAt + offset
    return this.#view.getInt32(at + 4, true) * WORD + this.#view.getUint32(at, true)
  }

  /** @throws ESTALE past 2^53 */
  nodeIdAt(offset: number): number {
    const nodeId = this.u64(offset)
    if (nodeId === Number.MAX_SAFE_INTEGER) throw posixError('ESTALE', 'a node id past 2^53')
    return nodeId
  }

  /** A name of a directory entry. @throws EINVAL, ENAMETOOLONG */
  name(offset: number): string {
    const name = this.text(offset, LIMIT.NAME_BYTES)
    if (name.length === 0 || name.includes('/')) throw posixError('EINVAL', 'not a name')
    return name
  }

  /** Bytes up to a NUL, one char a byte. @throws EINVAL without NUL, ENAMETOOLONG past `limitBytes` */
  text(offset: number, limitBytes: number): string {
    const start = this.#bodyAt + offset
    const end = this.#terminator(start, limitBytes)
    this.nameEndOffset = end + 1 - this.#bodyAt
    return this.#bytes.latin1Slice(start, end)
  }

  #terminator(start: number, limitBytes: number): number {
    const bytes = this.#bytes
    const end = Math.min(this.#bodyEnd, start + limitBytes + 1)
    for (let at = start; at < end; at++) if (bytes[at] === 0) return at
    throw posixError(end < this.#bodyEnd ? 'ENAMETOOLONG' : 'EINVAL', 'a string without an end')
  }

  /** The arena and where in it `offset` of the body is: for payload used in place. */
  get arena(): Uint8Array {
    return this.#bytes
  }
  arenaOffset(offset: number): number {
    return this.#bodyAt + offset
  }

  /** Bytes of the body, copied. @throws EIO */
  bytesAt(offset: number, lengthBytes: number): Uint8Array {
    this.need(offset + lengthBytes)
    const start = this.#bodyAt + offset
    return Uint8Array.prototype.slice.call(this.#bytes, start, start + lengthBytes)
  }

  ticket(): Ticket {
    const { uniqueLow, uniqueHigh, opcode, nodeId } = this
    return { uniqueLow, uniqueHigh, opcode, nodeId }
  }
}
