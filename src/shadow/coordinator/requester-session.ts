// What a requester can ask of the coordinator, in the order of vss.md sections 1.2 and 2.1: the same
// interface in the coordinator's process and over its socket.
//
// Always true: a session serves one backup or one restore and is not used again; a call out of order
// throws BAD_STATE and changes nothing; when the requester's connection closes the session ends as
// vss.md 1.4 says: thawed, aborted or shut down, auto-release shadow copies gone.

import type {
  BackupComponents,
  BackupState,
  ComponentKey,
  NewTarget,
  SetMember,
} from '../documents/backup-components.ts'
import type {
  FileRestoreStatus,
  RestoreType,
  SnapshotContext,
  WriterResult,
  WriterState,
} from '../documents/vocabulary.ts'
import type { FileSpec, WriterMetadata } from '../documents/writer-metadata.ts'

/** Names a writer by its instance (`instanceId`), or by class for enabling and disabling. */
export interface WriterKey {
  readonly instanceId: string
}

export type ComponentRef = WriterKey & ComponentKey

export interface ContextOptions {
  readonly context: SnapshotContext
  readonly noAutoRecovery?: boolean
  readonly rollbackRecovery?: boolean
}

export interface WriterStatus {
  readonly classId: string
  readonly instanceId: string
  readonly name: string
  readonly instanceName: string
  readonly state: WriterState
  readonly result: WriterResult
  readonly message: string | null
}

/** A shadow copy as a requester sees it: vss.md section 6.3. */
export interface ShadowProperties extends SetMember {
  readonly snapshotSetId: string
  /** Volumes originally in the set. */
  readonly setCount: number
  /** Where it can be read on this machine; null: not mounted. */
  readonly devicePath: string | null
  readonly originatingMachine: string
  readonly serviceMachine: string
  readonly exposedName: string | null
  readonly exposedPath: string | null
  readonly attributes: number
  readonly createdAtMs: number
  readonly state: 'created'
  readonly epoch: number
}

/** A writer that should be there and could not identify itself. */
export interface AbsentWriter {
  /** The hook's path, the configuration's name. */
  readonly origin: string
  readonly message: string
}

/** What took how long while a set was made; for people and benches. */
export interface SetTimings {
  readonly freezeMs: number
  readonly flushMs: number
  /** The longest that a volume's modifications waited. */
  readonly heldMs: number
  readonly totalMs: number
}

export interface RequesterSession {
  readonly sessionId: string

  // -- both
  /** Only these writers (class or instance ids or names) take part; before gatherWriterMetadata(). */
  enableWriters(writers: readonly string[]): Promise<void>
  disableWriters(writers: readonly string[]): Promise<void>
  /** Identify, once a session. */
  gatherWriterMetadata(): Promise<WriterMetadata[]>
  gatherWriterStatus(): Promise<WriterStatus[]>
  /** Beyond VSS, where they are missing in silence: those that Identify was sent to in vain. */
  absentWriters(): Promise<AbsentWriter[]>
  /** The document as it stands, with what writers added. */
  components(): Promise<BackupComponents>
  /** Releases the session: auto-release shadow copies go, BackupShutdown is sent. May be called at any time, once. */
  close(): Promise<void>

  // -- a backup
  setContext(options: ContextOptions): Promise<void>
  setBackupState(state: BackupState): Promise<void>
  /** @throws UmbraError SET_IN_PROGRESS: another creation is under way; `waitMs` waits and tries again so long */
  startSnapshotSet(options?: { readonly waitMs?: number }): Promise<{ snapshotSetId: string }>
  /**
   * The id is the one that the snapshot will have, unless its provider names snapshots itself:
   * snapshotProperties() and the document have what it is once it is made.
   * @throws UmbraError LIMIT_EXCEEDED beyond 64 volumes, VOLUME_NOT_SUPPORTED, ALREADY_EXISTS
   */
  addToSnapshotSet(
    volume: string,
    options?: { readonly snapshotName?: string },
  ): Promise<{ snapshotId: string }>
  /** @throws UmbraError NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT for one that may not be added */
  addComponent(component: ComponentRef): Promise<void>
  setBackupOptions(component: ComponentRef, options: string): Promise<void>
  setPreviousBackupStamp(component: ComponentRef, stamp: string): Promise<void>
  prepareForBackup(): Promise<WriterStatus[]>
  /** Makes the shadow copies; without a set (nothing needs one) it is not called. */
  doSnapshotSet(): Promise<SetTimings>
  snapshotProperties(): Promise<ShadowProperties[]>
  setBackupSucceeded(component: ComponentRef, succeeded: boolean): Promise<void>
  backupComplete(): Promise<WriterStatus[]>
  abortBackup(): Promise<void>
  /** What becomes of the set's auto-release snapshots at close(): gone, or gone with a bookmark left. */
  keepBookmarks(keep: boolean): Promise<void>

  // -- a restore
  loadDocuments(components: BackupComponents, metadata: readonly WriterMetadata[]): Promise<void>
  setRestoreType(type: RestoreType): Promise<void>
  setSelectedForRestore(component: ComponentRef, selected: boolean): Promise<void>
  addRestoreSubcomponent(component: ComponentRef, subcomponent: ComponentKey): Promise<void>
  setAdditionalRestores(component: ComponentRef, more: boolean): Promise<void>
  setRestoreOptions(component: ComponentRef, options: string): Promise<void>
  addNewTarget(component: ComponentRef, target: NewTarget): Promise<void>
  preRestore(): Promise<WriterStatus[]>
  setFileRestoreStatus(component: ComponentRef, status: FileRestoreStatus): Promise<void>
  addAlternateLocationUsed(component: ComponentRef, used: FileSpec & { destination: string }): Promise<void>
  setRangesFilePath(component: ComponentRef, partialFileIndex: number, path: string): Promise<void>
  postRestore(): Promise<WriterStatus[]>
}

/** What the coordinator's process offers besides sessions. */
export interface CoordinatorControl {
  openSession(operation: 'backup' | 'restore'): Promise<RequesterSession>
  /** The writers that are there now, asked to identify themselves; a session that is under way is not disturbed. */
  listWriters(): Promise<{ status: WriterStatus; metadata: WriterMetadata | null; origin: string }[]>
}
