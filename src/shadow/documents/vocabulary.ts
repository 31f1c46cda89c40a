// The words of both documents and of every message of the shadow copy service: VSS's enumerations under
// their own names in lower case, as they stand in JSON.
//
// Always true: each list is the only place where its words are written down; the JSON Schemas, the
// validation and the command line take them from here.

/** VSS_BACKUP_TYPE without UNDEFINED and OTHER, which no requester of ours uses. */
export const BACKUP_TYPES = ['full', 'incremental', 'differential', 'log', 'copy'] as const
export type BackupType = (typeof BACKUP_TYPES)[number]

/** The types that a file set's mask can speak of; `copy` takes every file set, from the snapshot. */
export const MASKED_TYPES = ['full', 'differential', 'incremental', 'log'] as const
export type MaskedType = (typeof MASKED_TYPES)[number]

/** VSS_BACKUP_SCHEMA: what a writer can do. The values are VSS's bits. */
export const SCHEMA_BITS = {
  differential: 0x1,
  incremental: 0x2,
  'exclusive-incremental-differential': 0x4,
  log: 0x8,
  copy: 0x10,
  timestamped: 0x20,
  'last-modify': 0x40,
  'new-target': 0x100,
  'restore-with-move': 0x200,
  'independent-system-state': 0x400,
  'rollforward-restore': 0x1000,
  'restore-rename': 0x2000,
  'authoritative-restore': 0x4000,
  'parallel-restores': 0x8000,
} as const
export type SchemaBit = keyof typeof SCHEMA_BITS

export const USAGE_TYPES = ['bootable-system-state', 'system-service', 'user-data', 'other'] as const
export type UsageType = (typeof USAGE_TYPES)[number]

export const SOURCE_TYPES = ['transactional-database', 'non-transactional-database', 'other'] as const
export type SourceType = (typeof SOURCE_TYPES)[number]

/** Freeze goes from the front end to the system; Thaw the other way round (VSS leaves it open). */
export const FREEZE_LEVELS = ['front-end', 'back-end', 'system'] as const
export type FreezeLevel = (typeof FREEZE_LEVELS)[number]

export const COMPONENT_FLAGS = ['backup-recovery', 'app-rollback-recovery', 'not-system-state'] as const
export type ComponentFlag = (typeof COMPONENT_FLAGS)[number]

export const RESTORE_METHODS = [
  'restore-if-not-there',
  'restore-if-can-replace',
  'stop-restore-start',
  'restore-stop-start',
  'restore-to-alternate-location',
  'restore-at-reboot',
  'restore-at-reboot-if-cannot-replace',
  'custom',
] as const
export type RestoreMethod = (typeof RESTORE_METHODS)[number]

/** Whether the writer takes part in a restore: VSS_WRITERRESTORE_ENUM. */
export const WRITER_RESTORES = ['never', 'if-replace-fails', 'always'] as const
export type WriterRestore = (typeof WRITER_RESTORES)[number]

export const RESTORE_TARGETS = ['original', 'alternate', 'directed', 'original-location'] as const
export type RestoreTarget = (typeof RESTORE_TARGETS)[number]

/** `none`: failed and nothing on disk changed; `failed`: some files were written. */
export const FILE_RESTORE_STATUSES = ['undefined', 'none', 'all', 'failed'] as const
export type FileRestoreStatus = (typeof FILE_RESTORE_STATUSES)[number]

export const RESTORE_TYPES = ['by-copy', 'import', 'other'] as const
export type RestoreType = (typeof RESTORE_TYPES)[number]

/** VSS_WRITER_STATE, in the order of its numbers 0 to 15. */
export const WRITER_STATES = [
  'unknown',
  'stable',
  'waiting-for-freeze',
  'waiting-for-thaw',
  'waiting-for-post-snapshot',
  'waiting-for-backup-complete',
  'failed-at-identify',
  'failed-at-prepare-backup',
  'failed-at-prepare-snapshot',
  'failed-at-freeze',
  'failed-at-thaw',
  'failed-at-post-snapshot',
  'failed-at-backup-complete',
  'failed-at-pre-restore',
  'failed-at-post-restore',
  'failed-at-backup-shutdown',
] as const
export type WriterState = (typeof WRITER_STATES)[number]

/** What a writer made of an event; the last two are the coordinator's own findings. */
export const WRITER_RESULTS = [
  'ok',
  'inconsistent-snapshot',
  'out-of-resources',
  'timeout',
  'retryable',
  'non-retryable',
  'not-responding',
  'status-not-available',
] as const
export type WriterResult = (typeof WRITER_RESULTS)[number]

/** Results that may go away when the whole operation is tried again: wait 10 minutes, three times at most. */
export const TRANSIENT_RESULTS: readonly WriterResult[] = ['out-of-resources', 'timeout', 'retryable']

/** VSS_SNAPSHOT_STATE: 0 to 15. A requester sees `created` alone. */
export const SNAPSHOT_STATES = [
  'unknown',
  'preparing',
  'processing-prepare',
  'prepared',
  'processing-precommit',
  'precommitted',
  'processing-commit',
  'committed',
  'processing-postcommit',
  'processing-prefinalcommit',
  'prefinalcommitted',
  'processing-postfinalcommit',
  'created',
  'aborted',
  'deleted',
  'postcommitted',
] as const
export type SnapshotState = (typeof SNAPSHOT_STATES)[number]

/** VSS_VOLUME_SNAPSHOT_ATTRIBUTES: the bits that mean something here. */
export const SNAPSHOT_ATTRIBUTES = {
  persistent: 0x1,
  'no-autorecovery': 0x2,
  'client-accessible': 0x4,
  'no-auto-release': 0x8,
  'no-writers': 0x10,
  'not-surfaced': 0x40,
  differential: 0x20000,
  'exposed-locally': 0x100000,
  'exposed-remotely': 0x200000,
  autorecover: 0x400000,
  'rollback-recovery': 0x800000,
} as const
export type SnapshotAttribute = keyof typeof SNAPSHOT_ATTRIBUTES

/** VSS_SNAPSHOT_CONTEXT as sums of attribute bits. */
export const SNAPSHOT_CONTEXTS = {
  /** Auto-release, with writers: the default. */
  backup: 0x0,
  'file-share-backup': 0x10,
  'nas-rollback': 0x19,
  'app-rollback': 0x9,
  'client-accessible': 0x1d,
  'client-accessible-writers': 0xd,
} as const
export type SnapshotContext = keyof typeof SNAPSHOT_CONTEXTS

export function hasAttribute(attributes: number, attribute: SnapshotAttribute): boolean {
  return (attributes & SNAPSHOT_ATTRIBUTES[attribute]) !== 0
}
