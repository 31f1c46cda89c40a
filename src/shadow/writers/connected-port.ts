// The coordinator's end of a writer in another process.
//
// Always true: deliver() settles within its time whatever the writer does, and takes the event back
// when it is over; a reply has passed validation; when the connection closes, everything that waits on
// it fails with UNAVAILABLE.

import type { MessageConnection } from 'vscode-jsonrpc/node.js'
import { UmbraError } from '../../base/errors.ts'
import { validateWriterReply } from '../documents/validate-writer-message.ts'
import type { WriterReply, WriterRequest } from './writer-messages.ts'
import type { WriterPort, WriterSource } from './writer-port.ts'
import {
  codeOf,
  eventRequest,
  registerRequest,
  tokenFor,
  WRITER_PROTOCOL,
  wireError,
} from './writer-protocol.ts'

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
  const late = AbortSignal.timeout(request.timeoutMs)
  const tooLate = new Promise<never>((_, reject) => {
    late.addEventListener('abort', () =>
      reject(
        new UmbraError('TIMED_OUT', `${origin} did not answer ${request.event} in ${request.timeoutMs} ms`),
      ),
    )
  })
  const token = tokenFor(late)
  const answer = connection.sendRequest(eventRequest, request, token.token)
  // It may come when nobody waits any more.
  answer.catch(() => {})
  tooLate.catch(() => {})
  try {
    return validateWriterReply(request.event, await Promise.race([answer, tooLate, gone]))
  } catch (error) {
    if (error instanceof UmbraError) throw error
    const code = codeOf(error)
    const message = error instanceof Error ? error.message : String(error)
    const isReply = code !== 'TIMED_OUT' && code !== 'UNAVAILABLE'
    throw new UmbraError(
      isReply ? 'INVALID_DOCUMENT' : code,
      `${origin}: ${request.event}: ${message}`,
      {},
      error,
    )
  }
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
