// Reads JSON-RPC messages from a stream, each after a header `Content-Length: N` and an empty line, as language
// servers do.
//
// Always true: neither a header that never ends nor a length that somebody claims makes it hold more than
// HEADER_MAX_BYTES and BODY_MAX_BYTES, and memory is taken for what has come, not for what is announced; after the
// first error nothing more is read.

import type { Readable } from 'node:stream'
import {
  AbstractMessageReader,
  type DataCallback,
  type Disposable,
  type Message,
  type MessageReader,
} from 'vscode-jsonrpc/node.js'
import { UmbraError } from '../base/errors.ts'
import { MIB } from '../base/units.ts'

/** Two short fields at most are ever sent. */
export const HEADER_MAX_BYTES = 4096
/** Some documents of the greatest size there may be. */
export const BODY_MAX_BYTES = 128 * MIB

const HEADER_END = Buffer.from('\r\n\r\n')
const NOTHING = Buffer.alloc(0)

export class BoundedReader extends AbstractMessageReader implements MessageReader {
  readonly #stream: Readable
  /** What has come of the header, or of the body; it grows with that. */
  #held: Buffer = NOTHING
  #heldBytes = 0
  /** Null: a header is being read. */
  #bodyBytes: number | null = null
  #callback: DataCallback = () => {}
  #hasFailed = false

  constructor(stream: Readable) {
    super()
    this.#stream = stream
  }

  listen(callback: DataCallback): Disposable {
    this.#callback = callback
    const onData = (chunk: Buffer) => this.#read(chunk)
    this.#stream.on('data', onData)
    this.#stream.on('error', (error) => this.fireError(error))
    this.#stream.on('close', () => this.fireClose())
    return { dispose: () => void this.#stream.off('data', onData) }
  }

  #read(chunk: Buffer): void {
    let rest = chunk
    try {
      while (rest.length > 0 && !this.#hasFailed)
        rest = this.#bodyBytes === null ? this.#readHeader(rest) : this.#readBody(rest, this.#bodyBytes)
    } catch (error) {
      this.#hasFailed = true
      this.#take()
      this.fireError(error)
    }
  }

  /** @returns what follows the header */
  #readHeader(chunk: Buffer): Buffer {
    const beforeBytes = this.#heldBytes
    this.#hold(chunk.subarray(0, HEADER_MAX_BYTES - beforeBytes), HEADER_MAX_BYTES)
    const end = this.#held.subarray(0, this.#heldBytes).indexOf(HEADER_END)
    if (end < 0 && this.#heldBytes === HEADER_MAX_BYTES)
      throw invalid(`its header is longer than ${HEADER_MAX_BYTES} bytes`)
    if (end < 0) return NOTHING
    this.#bodyBytes = contentLength(this.#take().toString('latin1', 0, end))
    return chunk.subarray(end + HEADER_END.length - beforeBytes)
  }

  /** @returns what follows the body */
  #readBody(chunk: Buffer, bodyBytes: number): Buffer {
    const missingBytes = bodyBytes - this.#heldBytes
    this.#hold(chunk.subarray(0, missingBytes), bodyBytes)
    if (chunk.length < missingBytes) return NOTHING
    this.#bodyBytes = null
    this.#callback(parsed(this.#take()))
    return chunk.subarray(missingBytes)
  }

  #hold(bytes: Buffer, maxBytes: number): void {
    const neededBytes = this.#heldBytes + bytes.length
    if (neededBytes > this.#held.length) {
      const grown = Buffer.allocUnsafe(Math.min(maxBytes, Math.max(neededBytes, 2 * this.#held.length)))
      this.#held.copy(grown, 0, 0, this.#heldBytes)
      this.#held = grown
    }
    bytes.copy(this.#held, this.#heldBytes)
    this.#heldBytes = neededBytes
  }

  #take(): Buffer {
    const taken = this.#held.subarray(0, this.#heldBytes)
    this.#held = NOTHING
    this.#heldBytes = 0
    return taken
  }
}

/** @throws UmbraError INVALID_DOCUMENT */
function contentLength(header: string): number {
  const fields = header.split('\r\n').map((line) => /^([^:]+):[ \t]*(.*?)[ \t]*$/.exec(line))
  const values = fields.filter((field) => field?.[1]?.toLowerCase() === 'content-length')
  const value = values.length === 1 ? (values[0]?.[2] ?? '') : ''
  if (!/^\d{1,15}$/.test(value) || Number(value) === 0) throw invalid('its header says no length')
  if (Number(value) > BODY_MAX_BYTES)
    throw invalid(`it is to be ${value} bytes long; ${BODY_MAX_BYTES} is the most`)
  return Number(value)
}

/** @throws UmbraError INVALID_DOCUMENT */
function parsed(body: Buffer): Message {
  try {
    return JSON.parse(body.toString('utf8')) as Message
  } catch (error) {
    throw invalid(`it is no JSON: ${(error as Error).message}`)
  }
}

function invalid(why: string): UmbraError {
  return new UmbraError('INVALID_DOCUMENT', `A message was not taken: ${why}`)
}
