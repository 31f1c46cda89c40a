// What a connected writer and the coordinator say to each other: JSON-RPC 2.0 with Content-Length
// framing, over a Unix socket or any other stream. docs/WRITERS.md describes it for other languages.
//
// Always true: the writer registers once, with the version of the protocol; after that the coordinator
// sends `event` requests, several at a time where sessions overlap; the standard `$/cancelRequest` takes one back.

import { RequestType, ResponseError } from 'vscode-jsonrpc/node.js'
import { ERROR_CODES, type ErrorCode, UmbraError } from '../../base/errors.ts'
import type { WriterReply, WriterRequest } from './writer-messages.ts'

export const WRITER_PROTOCOL = 'umbra-writer-1'

export interface Registration {
  readonly protocol: string
  /** For logs and lists; what the writer is called is in its metadata. */
  readonly name: string
}

export interface Registered {
  readonly protocol: typeof WRITER_PROTOCOL
}

/** The data of a JSON-RPC error: the UmbraError's code. */
export interface WriterWireError {
  readonly code: ErrorCode
}

export const registerRequest = new RequestType<Registration, Registered, WriterWireError>('writer.register')
export const eventRequest = new RequestType<WriterRequest, WriterReply, WriterWireError>('event')

/** JSON-RPC leaves -32000 to -32099 to the application. */
const WRITER_ERROR = -32000

export function wireError(thrown: unknown): ResponseError<WriterWireError> {
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new ResponseError(WRITER_ERROR, message, {
    code: thrown instanceof UmbraError ? thrown.code : 'IO_FAILED',
  })
}

/** The code that the other side gave, if it gave one that there is. */
export function codeOf(thrown: unknown): ErrorCode | undefined {
  const data =
    thrown instanceof ResponseError ? (thrown.data as Partial<WriterWireError> | undefined) : undefined
  return data?.code !== undefined && Object.hasOwn(ERROR_CODES, data.code) ? data.code : undefined
}
