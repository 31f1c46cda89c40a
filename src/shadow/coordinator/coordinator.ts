// The coordinator: sessions of requesters over the writers of a source and the volumes of a provider.
//
// Always true: one shadow set is being made at a time; sessions do not see each other's writers'
// results; every session that was opened ends in close(), whose work is done whatever state it met.

import { randomUUID } from 'node:crypto'
import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterPort, WriterSource } from '../writers/writer-port.ts'
import { BackupSession } from './backup-session.ts'
import { gatedSession, type OpenSession } from './gated-session.ts'
import { identify } from './identify.ts'
import { type CoordinatorLimits, DEFAULT_LIMITS } from './limits.ts'
import type { CoordinatorControl, RequesterSession, WriterStatus } from './requester-session.ts'
import { RestoreSession } from './restore-session.ts'
import { SessionWriters } from './session-writers.ts'
import { SetLock } from './set-lock.ts'
import type { ShadowProvider } from './shadow-provider.ts'
import { ShadowSet } from './shadow-set.ts'
import { type TraceFunction, Tracer } from './trace.ts'
import { WriterStatusBoard } from './writer-status-board.ts'

export interface CoordinatorOptions {
  readonly writers: WriterSource
  readonly provider: ShadowProvider
  readonly limits?: Partial<CoordinatorLimits>
  readonly onTrace?: TraceFunction
}

export interface Coordinator extends CoordinatorControl {
  /** Sessions that are open or whose end is under way. */
  readonly sessionCount: number
  /** Ends a session whose requester has died. */
  abandon(session: RequesterSession): Promise<void>
  /** Ends every session as if its requester had died. */
  shutdown(): Promise<void>
}

/** A coordinator in this process. */
export function createCoordinator(options: CoordinatorOptions): Coordinator {
  return new LocalCoordinator(options)
}

type Operation = 'backup' | 'restore'

class LocalCoordinator implements Coordinator {
  readonly #source: WriterSource
  readonly #provider: ShadowProvider
  readonly #limits: CoordinatorLimits
  readonly #onTrace: TraceFunction | undefined
  readonly #lock = new SetLock()
  readonly #board = new WriterStatusBoard()
  readonly #sessions = new Map<string, { operation: Operation; open: OpenSession }>()
  #isShutDown = false

  constructor({ writers, provider, limits, onTrace }: CoordinatorOptions) {
    this.#source = writers
    this.#provider = provider
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
    this.#onTrace = onTrace
  }

  get sessionCount(): number {
    return this.#sessions.size
  }

  async openSession(operation: Operation): Promise<RequesterSession> {
    if (this.#isShutDown) throw new UmbraError('UNAVAILABLE', 'The coordinator is ending')
    this.#checkSlot(operation)
    const sessionId = randomUUID()
    const tracer = new Tracer(sessionId, this.#onTrace)
    const open = operation === 'backup' ? this.#backup(sessionId, tracer) : this.#restore(sessionId, tracer)
    this.#sessions.set(sessionId, { operation, open })
    return open.session
  }

  async abandon(session: RequesterSession): Promise<void> {
    await this.#sessions.get(session.sessionId)?.open.abandon()
  }

  async shutdown(): Promise<void> {
    this.#isShutDown = true
    await Promise.all([...this.#sessions.values()].map(({ open }) => open.abandon()))
  }

  async listWriters(): Promise<{ status: WriterStatus; metadata: WriterMetadata | null; origin: string }[]> {
    const ports = await this.#source.ports()
    return Promise.all(ports.map((port) => this.#look(port)))
  }

  async #look(
    port: WriterPort,
  ): Promise<{ status: WriterStatus; metadata: WriterMetadata | null; origin: string }> {
    const { origin } = port
    try {
      const { identifyMs, portGraceMs } = this.#limits
      const metadata = await identify(port, randomUUID(), identifyMs, portGraceMs)
      return { status: this.#board.statusOf(metadata), metadata: structuredClone(metadata), origin }
    } catch (error) {
      return { status: unidentified(origin, error), metadata: null, origin }
    }
  }

  #backup(sessionId: string, tracer: Tracer): OpenSession {
    const limits = this.#limits
    const set = new ShadowSet({ provider: this.#provider, lock: this.#lock, limits, tracer })
    const writers = this.#writersOf(sessionId, tracer)
    const handlers = new BackupSession({ sessionId, writers, set, limits })
    return gatedSession({
      sessionId,
      gate: handlers.gate,
      handlers,
      tracer,
      end: (isOrderly) => handlers.end(isOrderly).finally(() => this.#sessions.delete(sessionId)),
    })
  }

  #restore(sessionId: string, tracer: Tracer): OpenSession {
    const writers = this.#writersOf(sessionId, tracer)
    const handlers = new RestoreSession({ sessionId, writers, limits: this.#limits })
    return gatedSession({
      sessionId,
      gate: handlers.gate,
      handlers,
      tracer,
      end: () => handlers.end().finally(() => this.#sessions.delete(sessionId)),
    })
  }

  #writersOf(sessionId: string, tracer: Tracer): SessionWriters {
    const onStatus = (status: WriterStatus): void => this.#board.note(status)
    return new SessionWriters({ source: this.#source, sessionId, limits: this.#limits, tracer, onStatus })
  }

  #checkSlot(operation: Operation): void {
    const most = operation === 'backup' ? this.#limits.backupSessions : this.#limits.restoreSessions
    const open = [...this.#sessions.values()].filter((session) => session.operation === operation).length
    if (open < most) return
    throw new UmbraError('LIMIT_EXCEEDED', `There are ${open} ${operation} sessions, the most at once`)
  }
}

/** How a writer that does not identify itself is listed. */
function unidentified(origin: string, error: unknown): WriterStatus {
  const isSilent = error instanceof UmbraError && (error.code === 'TIMED_OUT' || error.code === 'UNAVAILABLE')
  return {
    classId: '',
    instanceId: '',
    name: origin,
    instanceName: '',
    state: 'failed-at-identify',
    result: isSilent ? 'not-responding' : 'non-retryable',
    message: error instanceof Error ? error.message : String(error),
  }
}
