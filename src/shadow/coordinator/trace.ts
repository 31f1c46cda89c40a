// What a coordinator does, step by step, for tests, logs and `--verbose`: requester's calls, writers'
// events and the provider's steps in the order in which they begin.
//
// Always true: an entry is given when its step begins and another when it ends, in that order; a trace
// function that throws harms nothing.

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
  /** Milliseconds since 1970, with fractions. */
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
