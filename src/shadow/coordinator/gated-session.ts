// Makes a RequesterSession of a session's handlers: each call passes the gate and is traced.
//
// Always true: every call of the interface is there; one that the session's kind does not have is
// refused like any other that is not legal; close() and abandon() end the session once, whatever is
// under way.

import { UmbraError } from '../../base/errors.ts'
import type { CallGate } from './call-gate.ts'
import type { RequesterSession } from './requester-session.ts'
import { SESSION_CALLS, type SessionCall } from './session-states.ts'
import type { Tracer } from './trace.ts'

export type SessionHandlers = Partial<Pick<RequesterSession, SessionCall>>

export interface GatedSessionOptions<State extends string> {
  readonly sessionId: string
  readonly gate: CallGate<State>
  readonly handlers: SessionHandlers
  readonly tracer: Tracer
  /** @param isOrderly the requester asked for it; else it is gone */
  readonly end: (isOrderly: boolean) => Promise<void>
}

export interface OpenSession {
  readonly session: RequesterSession
  /** The requester has died. */
  abandon(): Promise<void>
}

export function gatedSession<State extends string>(options: GatedSessionOptions<State>): OpenSession {
  const { sessionId, gate, handlers, tracer, end } = options
  let ended: Promise<void> | undefined
  const endOnce = (call: 'close' | 'abandon'): Promise<void> => {
    ended ??= tracer.around({ kind: 'call', call }, async () => {
      await gate.interrupt(new UmbraError('ABORTED', 'The session was closed'))
      await end(call === 'close')
    })
    return ended
  }
  const session: Record<string, unknown> = { sessionId, close: () => endOnce('close') }
  for (const call of SESSION_CALLS) {
    session[call] = async (...parameters: unknown[]) => {
      if (call === 'abortBackup') await gate.interrupt(new UmbraError('ABORTED', 'The requester gave up'))
      return tracer.around({ kind: 'call', call }, () =>
        gate.run(call, () => handle(handlers, call, parameters)),
      )
    }
  }
  // Every call of the interface has just been given.
  return { session: session as unknown as RequesterSession, abandon: () => endOnce('abandon') }
}

function handle(handlers: SessionHandlers, call: SessionCall, parameters: unknown[]): unknown {
  const handler = handlers[call] as ((...parameters: unknown[]) => unknown) | undefined
  if (handler === undefined) throw new UmbraError('BAD_STATE', `${call} is no call of this kind of session`)
  return handler.apply(handlers, parameters)
}
