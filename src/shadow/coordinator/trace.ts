// What a coordinator does, step by step, for tests, logs and `--verbose`: requester's calls, writers'
// events and the provider's steps in the order in which they begin.
//
// Always true: an entry is given when its step begins and another when it ends, in that order; a trace
// function that throws harms nothing.

import { UmbraError } from '../../base/errors.ts'
import type { WriterResult } from '../documents/vocabulary.ts'
import type { WriterEvent } from '../writers/writer-messages.ts'

/** Steps of a volume's shadow sequence, in order; the last two end it at any time. */
export const PROVIDER_STEPS = [
  'begin-prepare',
  'end-prepare',
  'pre-commit',
  'flush-and-hold',
  'commit',
  'release',
  'post-commit',
  'pre-final-commit',
  'delete-excluded',
  'post-final-commit',
  'abort',
  'end',
] as const
export type ProviderStep = (typeof PROVIDER_STEPS)[number]

export type TraceEntry = {
  readonly sessionId: string
  /** Milliseconds since 1970. */
  readonly atMs: number
  readonly phase: 'begin' | 'end'
  /** Of an end: the error's code, a writer's result other than `ok`, or null. */
  readonly failure: string | null
} & (
  | { readonly kind: 'call'; readonly call: string }
  | {
      readonly kind: 'event'
      readonly event: WriterEvent
      readonly writer: string
      readonly result: WriterResult | null
    }
  | { readonly kind: 'step'; readonly step: ProviderStep; readonly volume: string }
)

export type TraceFunction = (entry: TraceEntry) => void

/** What is traced, without the fields that Tracer fills in. */
export type Traced =
  | { readonly kind: 'call'; readonly call: string }
  | { readonly kind: 'event'; readonly event: WriterEvent; readonly writer: string }
  | { readonly kind: 'step'; readonly step: ProviderStep; readonly volume: string }

/** Gives a session's entries to the trace function. */
export class Tracer {
  readonly #sessionId: string
  readonly #onTrace: TraceFunction | undefined

  constructor(sessionId: string, onTrace: TraceFunction | undefined) {
    this.#sessionId = sessionId
    this.#onTrace = onTrace
  }

  begin(what: Traced): void {
    this.#give('begin', what, null, null)
  }

  end(what: Traced, failure: string | null, result: WriterResult | null = null): void {
    this.#give('end', what, failure, result)
  }

  /** Traces the work's begin and its end, with the code of its failure. */
  async around<R>(what: Traced, work: () => R | Promise<R>): Promise<R> {
    this.begin(what)
    try {
      const value = await work()
      this.end(what, null)
      return value
    } catch (error) {
      this.end(what, error instanceof UmbraError ? error.code : 'UNEXPECTED')
      throw error
    }
  }

  #give(phase: 'begin' | 'end', what: Traced, failure: string | null, result: WriterResult | null): void {
    if (this.#onTrace === undefined) return
    const entry = { sessionId: this.#sessionId, atMs: Date.now(), phase, failure }
    try {
      this.#onTrace(what.kind === 'event' ? { ...entry, ...what, result } : { ...entry, ...what })
    } catch {
      // Whoever listens must not disturb what is listened to.
    }
  }
}
