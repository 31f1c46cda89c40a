// What an event makes of a writer's state, as data (vss.md section 3.4, where they are derived).
//
// Always true: an event that failed leaves its failed state; a later event that succeeds does not hide
// it, only Abort and BackupShutdown end it.

import type { WriterState } from '../documents/vocabulary.ts'
import type { WriterEvent } from '../writers/writer-messages.ts'

interface Transition {
  /** Null: the state does not change. */
  readonly done: WriterState | null
  readonly failed: WriterState
}

export const WRITER_TRANSITIONS: Readonly<Record<WriterEvent, Transition>> = {
  identify: { done: 'stable', failed: 'failed-at-identify' },
  'prepare-for-backup': { done: 'stable', failed: 'failed-at-prepare-backup' },
  'prepare-for-snapshot': { done: 'waiting-for-freeze', failed: 'failed-at-prepare-snapshot' },
  freeze: { done: 'waiting-for-thaw', failed: 'failed-at-freeze' },
  thaw: { done: 'waiting-for-post-snapshot', failed: 'failed-at-thaw' },
  'post-snapshot': { done: 'waiting-for-backup-complete', failed: 'failed-at-post-snapshot' },
  'backup-complete': { done: 'stable', failed: 'failed-at-backup-complete' },
  // VSS has no state for a failed Abort: the failure that led to it stays to be seen.
  abort: { done: null, failed: 'unknown' },
  'backup-shutdown': { done: 'stable', failed: 'failed-at-backup-shutdown' },
  'pre-restore': { done: 'stable', failed: 'failed-at-pre-restore' },
  'post-restore': { done: 'stable', failed: 'failed-at-post-restore' },
}
