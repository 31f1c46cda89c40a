// The coordinator's end of a writer in another process.
//
// Always true: deliver() settles within its time whatever the writer does, and takes the event back
// when it is over; a reply has passed validation; when the connection closes, everything that waits on
// it fails with UNAVAILABLE.

import { CancellationTokenSource, type MessageConnection, ResponseError } from 'vscode-jsonrpc/node.js'
import { UmbraError } from '../../base/errors.ts'
import { validateWriterReply } from '../documents/validate-writer-message.ts'
import type { WriterReply, WriterRequest } from './writer-messages.ts'
import type { WriterPort, WriterSource } from './writer-port.ts'
import { codeOf, eventRequest, registerRequest, WRITER_PROTOCOL, wireError } from './writer-protocol.ts'

export interface ConnectedPortOptions {
  /** For logs and lists. */
  readonly origin: string
  /** Settles when the connection has closed. */
  readonly whenGone: Promise<void>
  /** Closes it; the connection is disposed of besides. */
  readonly close?: () => void
}

export function connectedPort(connection: MessageConnection, options: ConnectedPortOptions): WriterPort {
  const { origin, whenGone } = options
  const gone = whenGone.then(() => {
    throw new UmbraError('UNAVAILABLE', `${origin} has gone`)
  })
  gone.catch(() => {})
  return {
    kind: 'connected',
    origin,
    whenGone,
    deliver: (request, timeoutMs) => deliver(connection, gone, origin, { ...request, timeoutMs }),
    close() {
      options.close?.()
      connection.dispose()
    },
  }
}

async function deliver(
  connection: MessageConnection,
  gone: Promise<never>,
  origin: string,
  request: WriterRequest,
): Promise<WriterReply> {
  const token = new CancellationTokenSource()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      token.cancel()
      const limit = `${request.timeoutMs} ms`
      reject(new UmbraError('TIMED_OUT', `${origin} did not answer ${request.event} in ${limit}`))
    }, request.timeoutMs)
  })
  try {
    const answer = connection.sendRequest(eventRequest, request, token.token)
    // It may come when nobody waits any more.
    answer.catch(() => {})
    return validateWriterReply(request.event, await Promise.race([answer, late, gone]))
  } catch (error) {
    throw deliveryError(origin, request, error)
  } finally {
    clearTimeout(timer)
  }
}

/** An answer that is an error, or no connection any more. */
function deliveryError(origin: string, { event }: WriterRequest, error: unknown): UmbraError {
  if (error instanceof UmbraError) return error
  const message = `${origin}: ${event}: ${error instanceof Error ? error.message : String(error)}`
  if (!(error instanceof ResponseError)) return new UmbraError('UNAVAILABLE', message, {}, error)
  const code = codeOf(error)
  const isNoReply = code !== 'TIMED_OUT' && code !== 'UNAVAILABLE'
  return new UmbraError(isNoReply ? 'INVALID_DOCUMENT' : code, message, {}, error)
}

/** The writers that have registered on connections to the coordinator. */
export class WriterConnections implements WriterSource {
  readonly #ports = new Set<WriterPort>()

  /** Answers `writer.register` on this connection; before it listens. */
  accept(connection: MessageConnection, whenGone: Promise<void>): void {
    let isRegistered = false
    connection.onRequest(registerRequest, (registration) => {
      if (isRegistered) throw wireError(new UmbraError('ALREADY_EXISTS', 'The writer is registered already'))
      if (registration?.protocol !== WRITER_PROTOCOL || typeof registration.name !== 'string') {
        throw wireError(new UmbraError('UNSUPPORTED_VERSION', `The writer does not speak ${WRITER_PROTOCOL}`))
      }
      isRegistered = true
      const port = connectedPort(connection, { origin: registration.name.slice(0, 255), whenGone })
      this.#ports.add(port)
      void whenGone.then(() => this.#ports.delete(port))
      return { protocol: WRITER_PROTOCOL }
    })
  }

  ports(): Promise<readonly WriterPort[]> {
    return Promise.resolve([...this.#ports])
  }
}

/** Several sources as one, in their order. */
export function joinedSources(...sources: readonly WriterSource[]): WriterSource {
  return { ports: async () => (await Promise.all(sources.map((source) => source.ports()))).flat() }
}
