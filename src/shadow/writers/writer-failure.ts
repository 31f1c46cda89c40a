// How a writer's handler says that it failed: by throwing this, or by context.fail().
//
// Always true: `result` is one of the results that a writer may give; anything else that a handler throws counts
// as a fatal, non-retryable failure.

import type { WriterResult } from '../documents/vocabulary.ts'

/** The results that a writer gives itself; the other two are the coordinator's findings. */
export type GivenResult = Exclude<WriterResult, 'not-responding' | 'status-not-available'>
export type FailureResult = Exclude<GivenResult, 'ok'>

export interface FailureOptions {
  /** The event failed as a whole (a veto), not merely some of the writer's data. */
  readonly fatal?: boolean
}

/** Thrown by a handler to end its event with a result of its own; fatal unless told otherwise. */
export class WriterFailure extends Error {
  override readonly name = 'WriterFailure'
  readonly result: FailureResult
  readonly fatal: boolean

  constructor(result: FailureResult, message: string, { fatal = true }: FailureOptions = {}) {
    super(message)
    this.result = result
    this.fatal = fatal
  }
}
