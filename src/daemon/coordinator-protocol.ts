// What is said over the coordinator's socket: a request for each call of RequesterSession, and what the
// coordinator offers besides.
//
// Always true: a session belongs to the connection that opened it and ends with it; failures travel as
// over every control socket (control-protocol.ts). A connected writer registers over the same socket and
// is then asked by its own requests, which its port defines (shadow/writers).

import { NotificationType, RequestType, RequestType0 } from 'vscode-jsonrpc/node.js'
import type { WriterStatus } from '../shadow/coordinator/requester-session.ts'
import type { SessionCall } from '../shadow/coordinator/session-states.ts'
import type { TraceEntry } from '../shadow/coordinator/trace.ts'
import type { WriterMetadata } from '../shadow/documents/writer-metadata.ts'
import type { WireError } from './control-protocol.ts'

export interface CoordinatorStatus {
  readonly pid: number
  readonly sessions: number
  /** Processes that have registered as writers. */
  readonly connectedWriters: number
}

export interface ListedWriter {
  readonly status: WriterStatus
  /** Null: it did not identify itself. */
  readonly metadata: WriterMetadata | null
  readonly origin: string
}

export interface SessionParams {
  readonly sessionId: string
}

/** Of a session's call, in the order of its parameters; missing ones at the end are left out. */
export interface CallParams extends SessionParams {
  readonly parameters: readonly unknown[]
}

export const coordinatorStatusRequest = new RequestType0<CoordinatorStatus, WireError>('coordinator.status')
export const writersRequest = new RequestType0<ListedWriter[], WireError>('coordinator.writers')
/** @param traces its trace comes as `session.trace` notifications */
export const openSessionRequest = new RequestType<
  { operation: 'backup' | 'restore'; traces: boolean },
  SessionParams,
  WireError
>('session.open')
export const closeSessionRequest = new RequestType<SessionParams, null, WireError>('session.close')
export const sessionTraceNotification = new NotificationType<TraceEntry>('session.trace')

/** The request of one call: `session.prepareForBackup` and so on. */
export function sessionCallRequest(call: SessionCall): RequestType<CallParams, unknown, WireError> {
  return new RequestType(`session.${call}`)
}
