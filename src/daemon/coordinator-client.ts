// A requester's way to the coordinator: finds it or starts it, and makes its sessions look like local ones.
//
// Always true: a RequesterSession from here behaves as one in the coordinator's process, with the same
// errors; close() of the connection ends its sessions as if the requester had died.

import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, UmbraError } from '../base/errors.ts'
import type { CoordinatorControl, RequesterSession } from '../shadow/coordinator/requester-session.ts'
import { SESSION_CALLS } from '../shadow/coordinator/session-states.ts'
import type { TraceEntry, TraceFunction } from '../shadow/coordinator/trace.ts'
import { ControlClient } from './control-client.ts'
import {
  type CoordinatorStatus,
  closeSessionRequest,
  coordinatorStatusRequest,
  type ListedWriter,
  openSessionRequest,
  sessionCallRequest,
  sessionTraceNotification,
  writersRequest,
} from './coordinator-protocol.ts'
import { launchProgram } from './launch.ts'
import { COORDINATOR_KEY, openRuntimeFolder, socketPath } from './runtime-folder.ts'

const CONNECT_PATIENCE_MS = 30_000
const CONNECT_POLL_MS = 50
const STATUS_TIMEOUT_MS = 10_000
/** Each of several events may take its ten minutes; what is longer has another reason. */
const CALL_TIMEOUT_MS = 2 * 3600_000

export interface CoordinatorConnection extends CoordinatorControl {
  /** The trace of sessions opened afterwards. */
  onTrace: TraceFunction | undefined
  status(): Promise<CoordinatorStatus>
  /** Settles when the coordinator goes. */
  readonly whenClosed: Promise<void>
  close(): void
}

/**
 * A connection to this user's coordinator, which is started if it does not run.
 * @throws UmbraError UNAVAILABLE, TIMED_OUT, NOT_PERMITTED, or as the coordinator met it while starting
 */
export async function connectCoordinator(): Promise<CoordinatorConnection> {
  openRuntimeFolder()
  const deadlineMs = Date.now() + CONNECT_PATIENCE_MS
  for (;;) {
    const connection = await findCoordinator()
    if (connection !== undefined) return connection
    if (Date.now() > deadlineMs) throw new UmbraError('UNAVAILABLE', 'The coordinator does not stay')
    try {
      await launchProgram('coordinator-main', [])
    } catch (error) {
      // Somebody else is starting or ending one.
      if (!hasCode(error, 'BUSY') || Date.now() > deadlineMs) throw error
      await sleep(CONNECT_POLL_MS)
    }
  }
}

/** @returns undefined when none runs. @throws UmbraError NOT_PERMITTED, TIMED_OUT */
export async function findCoordinator(): Promise<CoordinatorConnection | undefined> {
  const client = await ControlClient.open(socketPath(COORDINATOR_KEY), 'coordinator')
  if (client === undefined) return undefined
  try {
    // One that is ending has taken the connection and does not answer any more.
    await client.call(coordinatorStatusRequest, STATUS_TIMEOUT_MS)
    return new RemoteCoordinator(client)
  } catch (error) {
    client.close()
    if (hasCode(error, 'UNAVAILABLE')) return undefined
    throw error
  }
}

class RemoteCoordinator implements CoordinatorConnection {
  readonly whenClosed: Promise<void>
  readonly #client: ControlClient
  onTrace: TraceFunction | undefined

  constructor(client: ControlClient) {
    this.#client = client
    this.whenClosed = client.whenClosed
    client.onNotification(sessionTraceNotification, (entry: TraceEntry) => this.onTrace?.(entry))
  }

  status(): Promise<CoordinatorStatus> {
    return this.#client.call(coordinatorStatusRequest)
  }

  listWriters(): Promise<ListedWriter[]> {
    return this.#client.call(writersRequest)
  }

  async openSession(operation: 'backup' | 'restore'): Promise<RequesterSession> {
    const traces = this.onTrace !== undefined
    const { sessionId } = await this.#client.callWith(openSessionRequest, { operation, traces })
    return remoteSession(this.#client, sessionId)
  }

  close(): void {
    this.#client.close()
  }
}

function remoteSession(client: ControlClient, sessionId: string): RequesterSession {
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= client.callWith(closeSessionRequest, { sessionId }, CALL_TIMEOUT_MS).then(() => {})
    return closed
  }
  const session: Record<string, unknown> = { sessionId, close }
  for (const call of SESSION_CALLS) {
    const request = sessionCallRequest(call)
    session[call] = async (...given: unknown[]) => {
      // JSON has no undefined: what is missing at the end stays away.
      const parameters = given.slice(0, given.findLastIndex((value) => value !== undefined) + 1)
      return (await client.callWith(request, { sessionId, parameters }, CALL_TIMEOUT_MS)) ?? undefined
    }
  }
  // Every call of the interface has just been given.
  return session as unknown as RequesterSession
}
