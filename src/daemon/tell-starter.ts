// The one message that a starting daemon sends to whoever started it.
//
// Always true: it has been handed over when the promise settles; without a starter nothing is said.

import { UmbraError } from '../base/errors.ts'
import type { DaemonMessage } from './launch.ts'

export function tellStarter(message: DaemonMessage): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected || !process.send) return resolve()
    process.send(message, undefined, undefined, () => resolve())
  })
}

export function toFailed(error: unknown): DaemonMessage {
  const code = error instanceof UmbraError ? error.code : 'IO_FAILED'
  return { failed: { code, message: error instanceof Error ? error.message : String(error) } }
}
