// Serves a Writer object over connections to a coordinator, one after another.
//
// Always true: when a connection ends, whatever its sessions had frozen is aborted before the next one
// is made; a coordinator that starts again finds the writer back within the retry time.

import type { MessageConnection } from 'vscode-jsonrpc/node.js'
import { UmbraError } from '../../base/errors.ts'
import { validateWriterRequest } from '../documents/validate-writer-message.ts'
import type { Writer } from './writer.ts'
import { WriterEndpoint } from './writer-endpoint.ts'
import { eventRequest, registerRequest, WRITER_PROTOCOL, wireError } from './writer-protocol.ts'

/** An open connection that does not listen yet. */
export interface WriterLine {
  readonly connection: MessageConnection
  readonly whenClosed: Promise<void>
  close(): void
}

export interface ServeOptions {
  /** Undefined: no coordinator is there now. */
  connect(): Promise<WriterLine | undefined>
  /** For the coordinator's logs and lists. */
  readonly name: string
  /** How long to wait for a coordinator before trying again. Default 500. */
  readonly retryMs?: number
  /** What went wrong, for people. */
  readonly onTrouble?: (message: string) => void
}

const RETRY_MS = 500
const REGISTER_TIMEOUT_MS = 10_000

export class WriterService {
  readonly #writer: Writer
  readonly #options: ServeOptions
  readonly #closing = new AbortController()
  readonly #ended: Promise<void>
  #onRegistered: () => void = () => {}
  /** Settles at the first registration. */
  readonly whenRegistered: Promise<void>

  constructor(writer: Writer, options: ServeOptions) {
    this.#writer = writer
    this.#options = options
    this.whenRegistered = new Promise((resolve) => {
      this.#onRegistered = resolve
    })
    this.#ended = this.#serve()
  }

  /** Ends the connection; what is frozen is aborted first. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#ended
  }

  async #serve(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        const line = await this.#options.connect()
        if (line) await this.#serveLine(line)
      } catch (error) {
        this.#options.onTrouble?.(error instanceof Error ? error.message : String(error))
      }
      await pause(this.#options.retryMs ?? RETRY_MS, this.#closing.signal)
    }
  }

  async #serveLine(line: WriterLine): Promise<void> {
    const close = (): void => line.close()
    this.#closing.signal.addEventListener('abort', close)
    const ended = serveWriterOver(this.#writer, line)
    try {
      const registered = line.connection.sendRequest(registerRequest, {
        protocol: WRITER_PROTOCOL,
        name: this.#options.name,
      })
      registered.catch(() => {})
      await Promise.race([registered, ended.then(unavailable), tooLate(line)])
      this.#onRegistered()
      await ended
    } finally {
      this.#closing.signal.removeEventListener('abort', close)
      line.close()
      await ended
    }
  }
}

/** Answers events on one connection, which begins to listen. Settles when it has closed and nothing is frozen any more. */
export async function serveWriterOver(writer: Writer, line: WriterLine): Promise<void> {
  const endpoint = new WriterEndpoint(writer)
  line.connection.onRequest(eventRequest, async (params, token) => {
    const abort = new AbortController()
    token.onCancellationRequested(() => abort.abort())
    try {
      return await endpoint.deliver(validateWriterRequest(params), abort.signal)
    } catch (error) {
      throw wireError(error)
    }
  })
  line.connection.onError(() => line.close())
  line.connection.listen()
  await line.whenClosed
  await endpoint.abandon()
}

function unavailable(): never {
  throw new UmbraError('UNAVAILABLE', 'The coordinator closed the connection')
}

function tooLate(line: WriterLine): Promise<never> {
  return new Promise((_, reject) => {
    const timer = setTimeout(
      () => reject(new UmbraError('TIMED_OUT', 'The coordinator does not answer')),
      REGISTER_TIMEOUT_MS,
    )
    // Registered or not: the timer ends with what it was for, and a late reject reaches nobody.
    timer.unref()
    void line.whenClosed.then(() => clearTimeout(timer))
  })
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer)
        resolve()
      },
      { once: true },
    )
  })
}
