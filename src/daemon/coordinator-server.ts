// The coordinator's end of its socket: sessions for requesters, a place for connected writers.
//
// Always true: a connection's closing is its requester's death: each of its sessions is abandoned, which
// thaws, aborts or shuts down as the session's state asks (vss.md section 1.4); nobody reaches a session
// of another connection.

import { UmbraError } from '../base/errors.ts'
import type { Coordinator } from '../shadow/coordinator/coordinator.ts'
import type { RequesterSession } from '../shadow/coordinator/requester-session.ts'
import { SESSION_CALLS, type SessionCall } from '../shadow/coordinator/session-states.ts'
import type { ControlServer, Session } from './control-server.ts'
import {
  type CallParams,
  closeSessionRequest,
  coordinatorStatusRequest,
  openSessionRequest,
  sessionCallRequest,
  sessionTraceNotification,
  writersRequest,
} from './coordinator-protocol.ts'
import type { TraceBranches } from './trace-branches.ts'

export interface CoordinatorServerOptions {
  readonly coordinator: Coordinator
  readonly traces: TraceBranches
  readonly connectedWriters: () => Promise<number>
  /** Sessions have come or gone. */
  readonly onChange: () => void
  readonly report: (error: unknown) => void
}

export function serveCoordinator(server: ControlServer, options: CoordinatorServerOptions): void {
  const { coordinator, traces, connectedWriters, onChange, report } = options
  const opened = new WeakMap<Session, Map<string, RequesterSession>>()

  const find = (connection: Session, sessionId: string): RequesterSession => {
    const session = opened.get(connection)?.get(sessionId)
    if (session !== undefined) return session
    throw new UmbraError('BAD_STATE', 'There is no such session, or it has been closed')
  }
  const forget = (connection: Session, sessionId: string): void => {
    opened.get(connection)?.delete(sessionId)
    traces.cut(sessionId)
    onChange()
  }

  server.handle(coordinatorStatusRequest, async () => ({
    pid: process.pid,
    sessions: coordinator.sessionCount,
    connectedWriters: await connectedWriters(),
  }))
  server.handle(writersRequest, () => coordinator.listWriters())
  server.handleWith(openSessionRequest, async ({ operation, traces: isTraced }, connection) => {
    if (operation !== 'backup' && operation !== 'restore') {
      throw new UmbraError('INVALID_ARGUMENT', `No such operation: ${JSON.stringify(operation)}`)
    }
    const session = await coordinator.openSession(operation)
    const { sessionId } = session
    const sessions = opened.get(connection) ?? new Map<string, RequesterSession>()
    opened.set(connection, sessions.set(sessionId, session))
    if (isTraced) traces.branch(sessionId, (entry) => connection.notify(sessionTraceNotification, entry))
    connection.onEnd(() => {
      if (!sessions.has(sessionId)) return
      coordinator
        .abandon(session)
        .catch(report)
        .finally(() => forget(connection, sessionId))
    })
    return { sessionId }
  })
  server.handleWith(closeSessionRequest, async ({ sessionId }, connection) => {
    await find(connection, sessionId)
      .close()
      .finally(() => forget(connection, sessionId))
    return null
  })
  for (const call of SESSION_CALLS) {
    server.handleWith(sessionCallRequest(call), async ({ sessionId, parameters }: CallParams, connection) => {
      const session = find(connection, sessionId)
      return (await invoke(session, call, parameters)) ?? null
    })
  }
}

function invoke(
  session: RequesterSession,
  call: SessionCall,
  parameters: readonly unknown[],
): Promise<unknown> {
  if (!Array.isArray(parameters)) throw new UmbraError('INVALID_ARGUMENT', `${call} without parameters`)
  const method = session[call] as (...values: readonly unknown[]) => Promise<unknown>
  return method(...parameters)
}
