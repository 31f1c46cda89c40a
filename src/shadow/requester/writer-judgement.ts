// What the requester makes of writers' statuses: a failed writer ends the backup, or is left out and
// told, as the user chose (vss.md sections 1.4 and 3.4).
//
// Always true: a failure names the writer, where it failed and why; whether trying again may help goes
// with it.

import { UmbraError } from '../../base/errors.ts'
import type { WriterStatus } from '../coordinator/requester-session.ts'
import { TRANSIENT_RESULTS } from '../documents/vocabulary.ts'
import { writerText } from './component-plan.ts'

export function failedWriters(statuses: readonly WriterStatus[]): WriterStatus[] {
  return statuses.filter(({ result }) => result !== 'ok')
}

export function failureText(status: WriterStatus): string {
  const { name, instanceName, state, result, message } = status
  const told = message === null || message === '' ? '' : `: ${message}`
  return `${writerText({ name, instanceName })} ${state.replaceAll('-', ' ')} (${result})${told}`
}

/** @param cause what the coordinator itself said */
export function writerFailure(failed: readonly WriterStatus[], cause?: unknown): UmbraError {
  const isTransient = failed.length > 0 && failed.every(({ result }) => TRANSIENT_RESULTS.includes(result))
  return new UmbraError(
    'WRITER_FAILED',
    `Given up because of a writer: ${failed.map(failureText).join('; ')}`,
    { transient: isTransient },
    cause,
  )
}

/** Whether the whole operation may succeed when it is tried again later (row 49). */
export function isTransient(error: unknown): boolean {
  if (!(error instanceof UmbraError)) return false
  if (error.code === 'WRITER_FAILED') return error.context['transient'] === true
  return error.code === 'FREEZE_TIMED_OUT' || error.code === 'HOLD_TIMED_OUT'
}
