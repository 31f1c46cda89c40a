// Drives a dispatcher as the kernel does: builds request bytes, takes reply bytes, counts answers.
//
// Always true: every reply's header is checked (len equals the bytes sent, the unique is that of an
// unanswered request, an error reply has 16 bytes); requests lie at an odd place in a larger arena, as
// in the device, and the arena is wiped after handle() returns, as it may be reused then.

import { FuseDispatcher, type FuseDispatcherOptions } from '../../src/fuse/dispatch.ts'
import { OPCODE } from '../../src/fuse/protocol.ts'
import type { FuseReplies, ReplyBuffer } from '../../src/fuse/request-handler.ts'

export type OpcodeName = keyof typeof OPCODE

export interface Reply {
  readonly error: number
  readonly data: Buffer
}

export interface Sender {
  readonly nodeId?: number
  readonly uid?: number
  readonly gid?: number
  readonly pid?: number
}

/** u32, u64 (wrapped), text with its NUL, raw bytes: parts of a body. */
export type Part = number | bigint | string | Uint8Array

export function body(...parts: Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') {
        const bytes = Buffer.alloc(4)
        bytes.writeUInt32LE(part >>> 0)
        return bytes
      }
      if (typeof part === 'bigint') {
        const bytes = Buffer.alloc(8)
        bytes.writeBigUInt64LE(BigInt.asUintN(64, part))
        return bytes
      }
      return typeof part === 'string' ? Buffer.from(`${part}\0`, 'latin1') : Buffer.from(part)
    }),
  )
}

const ARENA_OFFSET = 1024 - 80

export class Session implements FuseReplies {
  readonly dispatcher: FuseDispatcher
  readonly errors: unknown[] = []
  readonly replies = new Map<bigint, Reply>()
  readonly faults: string[] = []
  borrowed = 0
  /** What send() returns; a negated errno plays a kernel that does not take the reply. */
  sendResult = 0
  /** Messages that answer nothing; `error` is their code. */
  readonly notifications: Reply[] = []
  readonly #expected = new Set<bigint>()
  readonly #free: ReplyBuffer[] = []
  readonly #waiting = new Map<bigint, (reply: Reply) => void>()
  readonly #arena = new Uint8Array(2 * 1024 * 1024)
  #unique = 2n

  constructor(options: FuseDispatcherOptions) {
    this.dispatcher = new FuseDispatcher(this, {
      onError: (error) => this.errors.push(error),
      ...options,
    })
  }

  send(bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number {
    const message = Buffer.from(bytes.slice(offsetBytes, offsetBytes + lengthBytes))
    const unique = message.readBigUInt64LE(8)
    const error = message.readInt32LE(4)
    if (message.readUInt32LE(0) !== lengthBytes) this.faults.push('len is not the bytes sent')
    if (unique === 0n && error > 0) {
      this.notifications.push({ error, data: message.subarray(16) })
      return 0
    }
    if (error !== 0 && lengthBytes !== 16) this.faults.push('an error reply with data')
    if (error > 0 || error < -511) this.faults.push(`error ${error}`)
    if (!this.#expected.delete(unique)) this.faults.push(`unique ${unique} answered twice or never asked`)
    if (this.sendResult < 0) return this.sendResult
    const reply = { error, data: message.subarray(16) }
    this.replies.set(unique, reply)
    this.#waiting.get(unique)?.(reply)
    return 0
  }

  borrow(): ReplyBuffer {
    this.borrowed++
    const made = () => {
      const bytes = new Uint8Array(4096 + 1024 * 1024).fill(0xaa)
      return { bytes, view: new DataView(bytes.buffer), headerOffsetBytes: 4080, dataOffsetBytes: 4096 }
    }
    return this.#free.pop() ?? made()
  }

  giveBack(buffer: ReplyBuffer): void {
    this.borrowed--
    this.#free.push(buffer)
  }

  /** Sends one request; its unique. */
  post(opcode: number, from: Sender, content: Uint8Array, options: { unique?: bigint; len?: number } = {}) {
    const unique = options.unique ?? this.#unique
    this.#unique += 2n
    const message = Buffer.alloc(40 + content.length)
    message.writeUInt32LE(options.len ?? message.length, 0)
    message.writeUInt32LE(opcode, 4)
    message.writeBigUInt64LE(unique, 8)
    message.writeBigUInt64LE(BigInt(from.nodeId ?? 1), 16)
    message.writeUInt32LE(from.uid ?? 0, 24)
    message.writeUInt32LE(from.gid ?? 0, 28)
    message.writeUInt32LE(from.pid ?? 1, 32)
    message.set(content, 40)
    this.#expected.add(unique)
    this.#arena.set(message, ARENA_OFFSET)
    this.dispatcher.handle(this.#arena, ARENA_OFFSET, message.length)
    this.#arena.fill(0xee, ARENA_OFFSET, ARENA_OFFSET + message.length)
    return unique
  }

  /** A request that has to be answered before handle() returns. */
  ask(name: OpcodeName, from: Sender, ...parts: Part[]): Reply {
    const unique = this.post(OPCODE[name], from, body(...parts))
    const reply = this.replies.get(unique)
    if (reply === undefined) throw new Error(`${name} was not answered at once`)
    return reply
  }

  /** A request that may be answered later. */
  async askLater(name: OpcodeName, from: Sender, ...parts: Part[]): Promise<Reply> {
    const unique = this.post(OPCODE[name], from, body(...parts))
    return this.replies.get(unique) ?? this.answered(unique)
  }

  answered(unique: bigint): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`unique ${unique} was never answered`)), 5000)
      this.#waiting.set(unique, (reply) => {
        clearTimeout(timer)
        resolve(reply)
      })
    })
  }

  /** A request without an answer. */
  tell(name: OpcodeName, from: Sender, ...parts: Part[]): void {
    const unique = this.post(OPCODE[name], from, body(...parts))
    if (!this.#expected.delete(unique)) this.faults.push(`${name} was answered`)
  }

  get unansweredCount(): number {
    return this.#expected.size
  }
}

export interface EntryReply {
  readonly error: number
  readonly nodeId: number
  readonly generation: number
  readonly entrySec: number
  readonly attributesSec: number
  readonly ino: number
  readonly sizeBytes: number
  readonly mode: number
  readonly linkCount: number
  readonly uid: number
}

/** Reads an entry out of a LOOKUP, MKDIR, CREATE... reply. */
export function entryOf(reply: Reply): EntryReply {
  const { data, error } = reply
  if (error !== 0 || data.length < 128) {
    return {
      error,
      nodeId: 0,
      generation: 0,
      entrySec: 0,
      attributesSec: 0,
      ino: 0,
      sizeBytes: 0,
      mode: 0,
      linkCount: 0,
      uid: 0,
    }
  }
  const wide = (at: number) => Number(data.readBigUInt64LE(at))
  return {
    error,
    nodeId: wide(0),
    generation: wide(8),
    entrySec: wide(16),
    attributesSec: wide(24),
    ino: wide(40),
    sizeBytes: wide(48),
    mode: data.readUInt32LE(100),
    linkCount: data.readUInt32LE(104),
    uid: data.readUInt32LE(108),
  }
}

export interface Listed {
  readonly name: string
  readonly ino: number
  readonly cookie: number
  readonly type: number
  /** Of READDIRPLUS; 0 otherwise. */
  readonly nodeId: number
}

export function listingOf(data: Buffer, isPlus: boolean): Listed[] {
  const listed: Listed[] = []
  const skip = isPlus ? 128 : 0
  for (let at = 0; at < data.length; ) {
    const dirent = at + skip
    const length = data.readUInt32LE(dirent + 16)
    const next = dirent + 24 + Math.ceil(length / 8) * 8
    const padding = data.subarray(dirent + 24 + length, next)
    if (padding.some((byte) => byte !== 0)) throw new Error('padding is not zero')
    listed.push({
      name: data.toString('latin1', dirent + 24, dirent + 24 + length),
      ino: Number(data.readBigUInt64LE(dirent)),
      cookie: Number(data.readBigUInt64LE(dirent + 8)),
      type: data.readUInt32LE(dirent + 20),
      nodeId: isPlus ? Number(data.readBigUInt64LE(at)) : 0,
    })
    at = next
  }
  return listed
}
