// What the coordinator says to a writer and what it answers: one request and one reply for all three
// kinds of writers. A hook gets the request on standard input and the event's name as its argument; a
// connected process gets it as the JSON-RPC request `event`; a TypeScript writer as a method call.
//
// Always true: a request tells a writer of its own components only; a reply has passed validation
// before it is believed; what it may change depends on the event (CHANGES_ALLOWED_IN).

import type {
  BackupComponent,
  BackupState,
  ComponentKey,
  DifferencedFile,
  DirectedTarget,
  PartialFile,
} from '../documents/backup-components.ts'
import type { RestoreTarget, RestoreType, WriterResult } from '../documents/vocabulary.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'

/** In the order of a backup, then of a restore. */
export const WRITER_EVENTS = [
  'identify',
  'prepare-for-backup',
  'prepare-for-snapshot',
  'freeze',
  'thaw',
  'post-snapshot',
  'abort',
  'backup-complete',
  'backup-shutdown',
  'pre-restore',
  'post-restore',
] as const
export type WriterEvent = (typeof WRITER_EVENTS)[number]

/** A volume of the shadow set, as a writer sees it. */
export interface WriterVolume {
  readonly volumePath: string
  /** Null: not mounted. */
  readonly mountPoint: string | null
  readonly snapshotId: string
  /** Where the shadow copy can be read from PostSnapshot on: DIR/.snapshots/NAME. */
  readonly snapshotPath: string | null
  /** In PostSnapshot: the same path, writable until the event ends; null without auto-recovery. */
  readonly recoveryPath: string | null
}

export interface WriterRequest {
  readonly event: WriterEvent
  readonly sessionId: string
  readonly operation: 'backup' | 'restore' | 'identify'
  /** Null before the set is started and in restores. */
  readonly snapshotSetId: string | null
  /** Attribute bits of the snapshot context. */
  readonly contextAttributes: number
  readonly backupState: BackupState | null
  readonly restoreType: RestoreType | null
  readonly volumes: readonly WriterVolume[]
  /** The writer's explicit components with all that is known of them. */
  readonly components: readonly BackupComponent[]
  /** The writer has this long. */
  readonly timeoutMs: number
}

/** What a reply may say of one of the writer's components. Absent: unchanged. */
export interface ComponentChanges extends ComponentKey {
  readonly backupStamp?: string
  readonly backupMetadata?: string
  readonly differencedFiles?: readonly DifferencedFile[]
  readonly partialFiles?: readonly PartialFile[]
  readonly failureMessage?: string
  readonly restoreTarget?: RestoreTarget
  readonly directedTargets?: readonly DirectedTarget[]
  readonly restoreMetadata?: string
}

export interface WriterReply {
  readonly result: WriterResult
  /** With a result other than `ok`: the event itself failed (VSS's `false`), not merely some data of it. */
  readonly fatal?: boolean
  readonly message?: string
  /** Identify only, and required there. */
  readonly metadata?: WriterMetadata
  readonly components?: readonly ComponentChanges[]
}

type Change = Exclude<keyof ComponentChanges, keyof ComponentKey>

/** Anything else in a reply is refused with BAD_STATE, and the writer's result becomes non-retryable. */
export const CHANGES_ALLOWED_IN: Readonly<Record<WriterEvent, readonly Change[]>> = {
  identify: [],
  'prepare-for-backup': [
    'backupStamp',
    'backupMetadata',
    'differencedFiles',
    'partialFiles',
    'failureMessage',
  ],
  'prepare-for-snapshot': [],
  freeze: [],
  thaw: [],
  'post-snapshot': ['backupStamp', 'backupMetadata', 'differencedFiles', 'partialFiles', 'failureMessage'],
  abort: [],
  'backup-complete': [],
  'backup-shutdown': [],
  'pre-restore': ['restoreTarget', 'directedTargets', 'restoreMetadata', 'failureMessage'],
  'post-restore': ['failureMessage'],
}
