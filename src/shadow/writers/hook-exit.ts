// What a hook's exit code says: documented in docs/WRITERS.md, tested against it.
//
// Always true: 0 is success; every result that a writer may give has a code for "some of my data failed" and
// one for "the event failed" (fatal, a veto); anything else, a signal too, is a fatal non-retryable failure.

import type { FailureResult } from './writer-failure.ts'

/** Exit codes of failures that leave the event standing; 10 more is the same, fatal. */
export const HOOK_EXIT_CODES: Readonly<Record<FailureResult, number>> = {
  'inconsistent-snapshot': 70,
  'out-of-resources': 71,
  timeout: 72,
  retryable: 73,
  'non-retryable': 74,
}
export const FATAL_OFFSET = 10

/** Null: success. */
export function failureOfExit(code: number | null): { result: FailureResult; fatal: boolean } | null {
  if (code === 0) return null
  for (const [result, value] of Object.entries(HOOK_EXIT_CODES) as [FailureResult, number][]) {
    if (code === value) return { result, fatal: false }
    if (code === value + FATAL_OFFSET) return { result, fatal: true }
  }
  return { result: 'non-retryable', fatal: true }
}
