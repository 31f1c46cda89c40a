// Which call is legal in which state of a session, as data (vss.md sections 1.2 and 2.1; row 14).
//
// Always true: a call that is not listed for the session's state is refused with BAD_STATE before
// anything is done; `close` is legal always. Where VSS's pages differ (section 9, 16) it is decided
// here: the context is set before the set is started; components are added before PrepareForBackup,
// because a writer would not learn of a later one.

import type { RequesterSession } from './requester-session.ts'

export type SessionCall = Exclude<keyof RequesterSession, 'sessionId' | 'close'>

/**
 * `bare`, `bare-set` and `bare-created` belong to contexts without writers. `failed`: the shadow copies
 * could not be made. `unsnapshotted`: prepared, and nothing needs a shadow copy.
 */
export const BACKUP_SESSION_STATES = [
  'opened',
  'identified',
  'set-started',
  'prepared',
  'unsnapshotted',
  'created',
  'completed',
  'failed',
  'aborted',
  'bare',
  'bare-set',
  'bare-created',
  'closed',
] as const
export type BackupSessionState = (typeof BACKUP_SESSION_STATES)[number]

export const RESTORE_SESSION_STATES = [
  'opened',
  'loaded',
  'identified',
  'pre-restored',
  'post-restored',
  'closed',
] as const
export type RestoreSessionState = (typeof RESTORE_SESSION_STATES)[number]

const BEFORE_PREPARE: readonly BackupSessionState[] = ['identified', 'set-started']
const OPEN_BACKUP = BACKUP_SESSION_STATES.filter((state) => state !== 'closed')

/** A call of restores only has no state here. */
export const BACKUP_CALLS: Readonly<Record<SessionCall, readonly BackupSessionState[]>> = {
  enableWriters: ['opened'],
  disableWriters: ['opened'],
  gatherWriterMetadata: ['opened'],
  gatherWriterStatus: OPEN_BACKUP.filter((state) => state !== 'opened' && !state.startsWith('bare')),
  absentWriters: OPEN_BACKUP.filter((state) => state !== 'opened' && !state.startsWith('bare')),
  components: OPEN_BACKUP,
  keepBookmarks: OPEN_BACKUP,
  setContext: ['opened', 'bare', 'identified'],
  setBackupState: ['opened', 'bare', 'bare-set', ...BEFORE_PREPARE],
  startSnapshotSet: ['identified', 'bare'],
  addToSnapshotSet: ['set-started', 'prepared', 'bare-set'],
  addComponent: BEFORE_PREPARE,
  setBackupOptions: BEFORE_PREPARE,
  setPreviousBackupStamp: BEFORE_PREPARE,
  prepareForBackup: BEFORE_PREPARE,
  doSnapshotSet: ['prepared', 'bare-set'],
  snapshotProperties: ['created', 'completed', 'bare-created'],
  // In `prepared` only while the set is empty: then nothing is there to be made.
  setBackupSucceeded: ['created', 'unsnapshotted', 'prepared'],
  backupComplete: ['created', 'unsnapshotted', 'prepared'],
  abortBackup: ['set-started', 'prepared', 'unsnapshotted', 'created', 'failed', 'bare-set', 'bare-created'],
  loadDocuments: [],
  setRestoreType: [],
  setSelectedForRestore: [],
  addRestoreSubcomponent: [],
  setAdditionalRestores: [],
  setRestoreOptions: [],
  addNewTarget: [],
  preRestore: [],
  setFileRestoreStatus: [],
  addAlternateLocationUsed: [],
  setRangesFilePath: [],
  postRestore: [],
}

export const RESTORE_CALLS: Readonly<Record<SessionCall, readonly RestoreSessionState[]>> = {
  enableWriters: ['opened', 'loaded'],
  disableWriters: ['opened', 'loaded'],
  gatherWriterMetadata: ['loaded'],
  gatherWriterStatus: ['identified', 'pre-restored', 'post-restored'],
  absentWriters: ['identified', 'pre-restored', 'post-restored'],
  components: ['loaded', 'identified', 'pre-restored', 'post-restored'],
  loadDocuments: ['opened'],
  setRestoreType: ['loaded', 'identified'],
  setSelectedForRestore: ['identified'],
  addRestoreSubcomponent: ['identified'],
  setAdditionalRestores: ['identified'],
  setRestoreOptions: ['identified'],
  addNewTarget: ['identified'],
  preRestore: ['identified'],
  setFileRestoreStatus: ['pre-restored'],
  addAlternateLocationUsed: ['pre-restored'],
  setRangesFilePath: ['pre-restored'],
  postRestore: ['pre-restored'],
  keepBookmarks: [],
  setContext: [],
  setBackupState: [],
  startSnapshotSet: [],
  addToSnapshotSet: [],
  addComponent: [],
  setBackupOptions: [],
  setPreviousBackupStamp: [],
  prepareForBackup: [],
  doSnapshotSet: [],
  snapshotProperties: [],
  setBackupSucceeded: [],
  backupComplete: [],
  abortBackup: [],
}

export const SESSION_CALLS = Object.keys(BACKUP_CALLS) as readonly SessionCall[]
