// How long each thing may take and how much there may be at once (vss.md section 1.3). Where VSS gives
// no figure the default is chosen here and documented in docs/VSS.md.
//
// Always true: no wait of the coordinator is without one of these limits; the hold's own limit is the
// provider's (HOLD_TIMEOUT_MS) and not among them, because it is not configurable.

import { FREEZE_TIMEOUT_MS } from '../documents/writer-metadata.ts'
import type { WriterEvent } from '../writers/writer-messages.ts'

export interface CoordinatorLimits {
  /** From a writer's Freeze to the end of its Thaw; a writer's metadata may ask for less. */
  readonly freezeMs: number
  /** Identify is to be quick: it may come at any time, from anybody. */
  readonly identifyMs: number
  /** PrepareForBackup, PrepareForSnapshot, PostSnapshot, BackupComplete, PreRestore, PostRestore. */
  readonly longEventMs: number
  /** Abort and BackupShutdown: somebody may wait for their end who has failed already. */
  readonly endEventMs: number
  /** Added to an event's limit for a writer's port to say by itself that there was no answer. */
  readonly portGraceMs: number
  /** A step of the provider outside of the freeze: EndPrepare, PreFinalCommit, PostFinalCommit. */
  readonly providerStepMs: number
  /** Undoing a volume's part of a set; what takes longer ends with its lease. */
  readonly providerAbortMs: number
  readonly volumesPerSet: number
  readonly backupSessions: number
  readonly restoreSessions: number
}

export const DEFAULT_LIMITS: CoordinatorLimits = {
  freezeMs: FREEZE_TIMEOUT_MS,
  identifyMs: 30_000,
  longEventMs: 10 * 60_000,
  endEventMs: 60_000,
  portGraceMs: 2_000,
  providerStepMs: 10 * 60_000,
  providerAbortMs: 15_000,
  volumesPerSet: 64,
  backupSessions: 64,
  restoreSessions: 8,
}

/** The limit of an event other than Freeze and Thaw, which share a window. */
export function eventLimitMs(limits: CoordinatorLimits, event: WriterEvent): number {
  if (event === 'identify') return limits.identifyMs
  if (event === 'abort' || event === 'backup-shutdown') return limits.endEventMs
  return limits.longEventMs
}
