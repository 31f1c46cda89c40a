// One writer as one session knows it: its port, its metadata, its state and its last result.
//
// Always true: what happens to the same writer in another session is not seen here (row 55); events are
// delivered one at a time; deliver() never throws: every failure becomes the writer's result. A writer
// whose event failed as a whole (fatal) gets no further events but Abort and BackupShutdown.

import { hasCode, UmbraError } from '../../base/errors.ts'
import type { WriterResult, WriterState } from '../documents/vocabulary.ts'
import { WRITER_RESULTS } from '../documents/vocabulary.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterEvent, WriterReply, WriterRequest } from '../writers/writer-messages.ts'
import type { WriterPort } from '../writers/writer-port.ts'
import { type PortPresence, presenceOf } from './port-presence.ts'
import type { WriterStatus } from './requester-session.ts'
import { withLimit } from './time-limit.ts'
import type { Tracer } from './trace.ts'
import { WRITER_TRANSITIONS } from './writer-transitions.ts'

export interface Delivery {
  readonly request: WriterRequest
  /** Whoever cuts the wait short: a watchdog, the session's end. */
  readonly signal?: AbortSignal
  /** Takes the reply's changes over. @throws UmbraError: they are refused */
  readonly accept?: (reply: WriterReply) => void
}

/** What became of one event. */
export interface Outcome {
  readonly result: WriterResult
  /** The event itself failed, not merely some data of it. */
  readonly isFatal: boolean
  readonly message: string | null
}

const OK: Outcome = { result: 'ok', isFatal: false, message: null }
/** What only the coordinator may find. */
const NOT_A_WRITERS: readonly WriterResult[] = ['not-responding', 'status-not-available']

export class SessionWriter {
  readonly port: WriterPort
  readonly metadata: WriterMetadata
  readonly presence: PortPresence
  /** Got PrepareForBackup: BackupShutdown is due to it. */
  isPrepared = false
  hasHandledPostSnapshot = false
  isAborted = false
  readonly #tracer: Tracer
  readonly #portGraceMs: number
  readonly #onChange: (status: WriterStatus) => void
  #state: WriterState = 'stable'
  #last: Outcome = OK
  #isOut = false
  #underWay: Promise<unknown> = Promise.resolve()

  constructor(
    port: WriterPort,
    metadata: WriterMetadata,
    options: { tracer: Tracer; portGraceMs: number; onChange: (status: WriterStatus) => void },
  ) {
    this.port = port
    this.metadata = metadata
    this.#tracer = options.tracer
    this.#portGraceMs = options.portGraceMs
    this.#onChange = options.onChange
    this.presence = presenceOf(port)
  }

  get name(): string {
    return nameOf(this.metadata)
  }

  get instanceId(): string {
    return this.metadata.identity.instanceId
  }

  /** An event failed as a whole, or there was no answer. */
  get isOut(): boolean {
    return this.#isOut
  }

  get status(): WriterStatus {
    const { classId, instanceId, name, instanceName } = this.metadata.identity
    const { result, message } = this.#last
    return { classId, instanceId, name, instanceName, state: this.#state, result, message }
  }

  /** Sends one event after the one that may be under way and takes note of what becomes of it. */
  async deliver(delivery: Delivery): Promise<Outcome> {
    const { event } = delivery.request
    const traced = { kind: 'event', event, writer: this.name } as const
    const before = this.#underWay
    const reply = before.then(() => {
      this.#tracer.begin(traced)
      return this.#send(delivery)
    })
    this.#underWay = reply.catch(() => {})
    await before
    const outcome = await this.#outcomeOf(event, reply, delivery)
    // What was cut short by the requester is no failure of the writer's.
    if (!isGivenUp(delivery.signal)) this.note(event, outcome)
    this.#tracer.end(traced, outcome.result === 'ok' ? null : outcome.result, outcome.result)
    return outcome
  }

  /** What the coordinator finds out by itself, a watchdog for example, counts like an event's outcome. */
  note(event: WriterEvent, outcome: Outcome): void {
    const transition = WRITER_TRANSITIONS[event]
    if (event === 'abort') {
      if (this.#last.result === 'ok') this.#state = 'stable'
    } else if (event === 'backup-shutdown') {
      this.#state = outcome.result === 'ok' ? 'stable' : transition.failed
    } else if (outcome.result !== 'ok') {
      this.#state = transition.failed
      this.#last = outcome
      if (outcome.isFatal) this.#isOut = true
    } else if (this.#last.result === 'ok' && transition.done !== null) {
      this.#state = transition.done
    }
    this.#onChange(this.status)
  }

  #send({ request, signal }: Delivery): Promise<WriterReply> {
    if (this.presence.isGone) return Promise.reject(new UmbraError('UNAVAILABLE', `${this.name} has gone`))
    // Nobody waits for it any more: it is better not begun.
    if (signal?.aborted) return Promise.reject(signal.reason)
    const limitMs = request.timeoutMs + this.#portGraceMs
    return withLimit(this.port.deliver(request, request.timeoutMs), limitMs, () => noAnswer(request))
  }

  async #outcomeOf(event: WriterEvent, reply: Promise<WriterReply>, delivery: Delivery): Promise<Outcome> {
    const { request, signal, accept } = delivery
    try {
      const limitMs = request.timeoutMs + this.#portGraceMs
      const answer = await withLimit(reply, limitMs, () => noAnswer(request), signal)
      return outcomeSaid(answer, accept)
    } catch (error) {
      return outcomeOfError(event, error)
    }
  }
}

function isGivenUp(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true && hasCode(signal.reason, 'ABORTED')
}

export function nameOf({ identity }: WriterMetadata): string {
  return identity.instanceName === '' ? identity.name : `${identity.name} (${identity.instanceName})`
}

function noAnswer({ event, timeoutMs }: WriterRequest): UmbraError {
  return new UmbraError('TIMED_OUT', `No answer to ${event} within ${timeoutMs} ms`)
}

function outcomeSaid(reply: WriterReply, accept: Delivery['accept']): Outcome {
  const { result, fatal, message } = reply
  if (!WRITER_RESULTS.includes(result) || NOT_A_WRITERS.includes(result)) {
    return {
      result: 'non-retryable',
      isFatal: true,
      message: `The writer answered ${JSON.stringify(result)}`,
    }
  }
  const isFatal = result !== 'ok' && fatal === true
  try {
    accept?.(reply)
  } catch (error) {
    if (!(error instanceof UmbraError)) throw error
    // The handler has done its work; what it wanted to change is refused.
    return { result: 'non-retryable', isFatal, message: `${error.code}: ${error.message}` }
  }
  return { result, isFatal, message: message ?? null }
}

function outcomeOfError(event: WriterEvent, error: unknown): Outcome {
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof UmbraError ? error.code : undefined
  // The handler has done its work; what it wanted to change is refused.
  if (code === 'BAD_STATE') return { result: 'non-retryable', isFatal: false, message: `${code}: ${message}` }
  if (code === 'FREEZE_TIMED_OUT') return { result: 'timeout', isFatal: true, message }
  if (code === 'TIMED_OUT') {
    const isInWindow = event === 'freeze' || event === 'thaw'
    return { result: isInWindow ? 'timeout' : 'not-responding', isFatal: true, message }
  }
  if (code === 'UNAVAILABLE') return { result: 'not-responding', isFatal: true, message }
  if (code === 'ABORTED') return { result: 'retryable', isFatal: true, message }
  return { result: 'non-retryable', isFatal: true, message }
}
