// Brings requests to a Writer object and makes replies of what its handlers do; the same for one in
// process and for one in a process of its own.
//
// Always true: a reply comes for every request within its time or TIMED_OUT is thrown, and the handler's
// signal is aborted then; a writer that was frozen is told to abort when its coordinator goes away or
// when neither Thaw nor Abort comes in the freeze's time: a freeze ends, whoever dies.

import { UmbraError } from '../../base/errors.ts'
import { checkShape } from '../documents/document-schemas.ts'
import { validateWriterMetadata } from '../documents/validate-writer-metadata.ts'
import { FREEZE_TIMEOUT_MS, type WriterMetadata } from '../documents/writer-metadata.ts'
import type { Writer } from './writer.ts'
import { WriterContext } from './writer-context.ts'
import { WriterFailure } from './writer-failure.ts'
import type { WriterEvent, WriterReply, WriterRequest } from './writer-messages.ts'

/** What a session has come to, for the case that its coordinator goes away. */
interface OpenSession {
  readonly metadata: WriterMetadata
  lastRequest: WriterRequest
  thawTimer: NodeJS.Timeout | undefined
  hasExpired: boolean
}

/** The coordinator's own watchdog comes first. */
const THAW_GRACE_MS = 2000
const ABANDON_TIMEOUT_MS = 30_000

export class WriterEndpoint {
  readonly #writer: Writer
  readonly #sessions = new Map<string, OpenSession>()
  /** Takes back what is under way. */
  readonly #underWay = new Set<(why: string) => void>()

  constructor(writer: Writer) {
    this.#writer = writer
  }

  /**
   * @param signal aborted when the coordinator takes the event back
   * @throws UmbraError TIMED_OUT
   */
  async deliver(request: WriterRequest, signal?: AbortSignal): Promise<WriterReply> {
    const abort = new AbortController()
    let takeBack: (why: string) => void = () => {}
    const timedOut = new Promise<never>((_, reject) => {
      takeBack = (why) => {
        abort.abort()
        reject(new UmbraError('TIMED_OUT', `The writer did not answer ${request.event}: ${why}`))
      }
      const timer = setTimeout(() => takeBack(`${request.timeoutMs} ms are over`), request.timeoutMs)
      signal?.addEventListener('abort', () => takeBack('taken back'), { once: true, signal: abort.signal })
      abort.signal.addEventListener('abort', () => clearTimeout(timer))
      if (signal?.aborted) takeBack('taken back')
    })
    timedOut.catch(() => {})
    this.#underWay.add(takeBack)
    try {
      return await Promise.race([this.#handle(request, abort.signal), timedOut])
    } finally {
      this.#underWay.delete(takeBack)
      // Ends the timer, and whatever the handler has left running with the signal.
      abort.abort()
    }
  }

  /** The coordinator has gone: what is frozen is aborted, and every session shut down. Never throws. */
  async abandon(): Promise<void> {
    for (const takeBack of this.#underWay) takeBack('the coordinator has gone')
    const sessions = [...this.#sessions.values()]
    for (const session of sessions) {
      if (session.lastRequest.operation === 'restore') continue
      const { event } = session.lastRequest
      if (!isAfterThaw(event)) await this.#tell(session, 'abort')
      await this.#tell(session, 'backup-shutdown')
    }
    for (const session of sessions) this.#forget(session)
  }

  async #handle(request: WriterRequest, signal: AbortSignal): Promise<WriterReply> {
    try {
      if (request.event === 'identify') {
        return { result: 'ok', metadata: validateWriterMetadata(await this.#writer.identify()) }
      }
      const session = await this.#sessionOf(request)
      if (request.event === 'thaw' && session.hasExpired) {
        throw new WriterFailure('timeout', 'The freeze took too long and was ended by the writer')
      }
      return await this.#run(session, request, signal)
    } catch (error) {
      return failureReply(error)
    }
  }

  async #run(session: OpenSession, request: WriterRequest, signal: AbortSignal): Promise<WriterReply> {
    this.#watch(session, request)
    const context = new WriterContext(request, session.metadata, signal)
    try {
      await callHandler(this.#writer, context)
      const reply = context.reply()
      checkShape('writer-reply', reply, 'The reply')
      return reply
    } catch (error) {
      // What was said before the failure is not believed.
      return failureReply(error)
    } finally {
      if (request.event === 'backup-shutdown' || request.event === 'post-restore') this.#forget(session)
    }
  }

  async #sessionOf(request: WriterRequest): Promise<OpenSession> {
    const known = this.#sessions.get(request.sessionId)
    if (known) {
      known.lastRequest = request
      return known
    }
    const session: OpenSession = {
      metadata: validateWriterMetadata(await this.#writer.identify()),
      lastRequest: request,
      thawTimer: undefined,
      hasExpired: false,
    }
    this.#sessions.set(request.sessionId, session)
    return session
  }

  /** From Freeze on the time to Thaw runs. */
  #watch(session: OpenSession, { event }: WriterRequest): void {
    clearTimeout(session.thawTimer)
    session.thawTimer = undefined
    if (event !== 'freeze') return
    const limitMs = Math.min(session.metadata.freezeTimeoutMs, FREEZE_TIMEOUT_MS) + THAW_GRACE_MS
    session.thawTimer = setTimeout(() => {
      session.hasExpired = true
      void this.#tell(session, 'abort')
    }, limitMs)
    // What keeps the process is its connection; when that ends, abandon() is called.
    session.thawTimer.unref()
  }

  /** An event that no coordinator sent. */
  async #tell(session: OpenSession, event: WriterEvent): Promise<void> {
    const request = { ...session.lastRequest, event, timeoutMs: ABANDON_TIMEOUT_MS }
    const signal = AbortSignal.timeout(ABANDON_TIMEOUT_MS)
    clearTimeout(session.thawTimer)
    const timeOver = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
    try {
      await Promise.race([
        callHandler(this.#writer, new WriterContext(request, session.metadata, signal)),
        timeOver,
      ])
    } catch {
      // Nobody is there to hear of it.
    }
  }

  #forget(session: OpenSession): void {
    clearTimeout(session.thawTimer)
    this.#sessions.delete(session.lastRequest.sessionId)
  }
}

/** Handled already what Abort would undo. */
function isAfterThaw(event: WriterEvent): boolean {
  return event === 'post-snapshot' || event === 'abort' || event === 'backup-complete'
}

async function callHandler(writer: Writer, context: WriterContext): Promise<void> {
  switch (context.event) {
    case 'identify':
      return
    case 'prepare-for-backup':
      return await writer.onPrepareForBackup?.(context)
    case 'prepare-for-snapshot':
      return await writer.onPrepareForSnapshot?.(context)
    case 'freeze':
      return await writer.onFreeze?.(context)
    case 'thaw':
      return await writer.onThaw?.(context)
    case 'post-snapshot':
      return await writer.onPostSnapshot?.(context)
    case 'abort':
      return await writer.onAbort?.(context)
    case 'backup-complete':
      return await writer.onBackupComplete?.(context)
    case 'backup-shutdown':
      return await writer.onBackupShutdown?.(context)
    case 'pre-restore':
      return await writer.onPreRestore?.(context)
    case 'post-restore':
      return await writer.onPostRestore?.(context)
  }
}

function failureReply(error: unknown): WriterReply {
  if (error instanceof WriterFailure) {
    return { result: error.result, fatal: error.fatal, message: shortened(error.message) }
  }
  const message = error instanceof Error ? error.message : String(error)
  return { result: 'non-retryable', fatal: true, message: shortened(message) }
}

/** As much as a reply may hold. */
function shortened(message: string): string {
  return message.length > 4096 ? `${message.slice(0, 4093)}...` : message
}
