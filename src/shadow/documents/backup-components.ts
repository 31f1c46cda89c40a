// The backup components document: what one backup took of which writer, and what a restore needs to
// know of it (vss.md section 6.2). One for each backup; saved with the writer metadata documents.
//
// Always true: it holds explicit components only; writers write in PrepareForBackup, PostSnapshot and
// PreRestore alone; after BackupComplete it does not change. Documents from outside have passed
// validateBackupComponents().

import type { ByteRange } from './byte-ranges.ts'
import type { BackupType, FileRestoreStatus, RestoreTarget, RestoreType } from './vocabulary.ts'
import type { FileSpec } from './writer-metadata.ts'

export const BACKUP_COMPONENTS_FORMAT = 'umbra-backup-components-1'

export interface BackupState {
  readonly componentMode: boolean
  /** Always false on Linux; kept because writers may ask. */
  readonly bootableSystemState: boolean
  readonly backupType: BackupType
  readonly partialFileSupport: boolean
}

export interface ComponentKey {
  readonly logicalPath: string
  readonly name: string
}

export interface DifferencedFile extends FileSpec {
  /** UTC, milliseconds since 1970; 0: the requester goes by its own records. */
  readonly lastModifyTimeMs: number
}

export interface PartialFile {
  /** Directory. */
  readonly path: string
  readonly fileName: string
  /** Text as in vss.md section 4.5, or `File=PATH` of a ranges file. */
  readonly ranges: string
  /** For the writer's own check after the restore. */
  readonly metadata?: string
}

export interface NewTarget extends FileSpec {
  readonly newPath: string
}

export interface DirectedTarget {
  readonly sourcePath: string
  readonly sourceName: string
  readonly sourceRanges: readonly ByteRange[]
  readonly destinationPath: string
  readonly destinationName: string
  readonly destinationRanges: readonly ByteRange[]
}

export interface BackupComponent extends ComponentKey {
  readonly type: 'database' | 'file-group'
  // set by the requester in a backup
  backupOptions?: string
  previousBackupStamp?: string
  backupSucceeded?: boolean
  // set by the writer in a backup
  backupStamp?: string
  backupMetadata?: string
  differencedFiles: DifferencedFile[]
  partialFiles: PartialFile[]
  prepareForBackupFailureMessage?: string
  postSnapshotFailureMessage?: string
  // set by the requester in a restore
  selectedForRestore: boolean
  restoreSubcomponents: ComponentKey[]
  additionalRestores: boolean
  restoreOptions?: string
  newTargets: NewTarget[]
  alternateLocationMappingsUsed: (FileSpec & { destination: string })[]
  /** By index of the partial file: where its ranges file was restored to. */
  rangesFilePaths: Record<number, string>
  fileRestoreStatus: FileRestoreStatus
  // set by the writer in a restore
  restoreTarget: RestoreTarget
  directedTargets: DirectedTarget[]
  restoreMetadata?: string
  preRestoreFailureMessage?: string
  postRestoreFailureMessage?: string
}

export interface BackupWriter {
  readonly classId: string
  readonly instanceId: string
  readonly instanceName: string
  readonly name: string
  components: BackupComponent[]
}

/** One member of the shadow set. */
export interface SetMember {
  readonly snapshotId: string
  readonly volumeUuid: string
  /** Path of the volume file. */
  readonly originalVolume: string
  readonly mountPoint: string | null
  readonly snapshotName: string
  readonly provider: string
}

export interface BackupComponents {
  readonly format: typeof BACKUP_COMPONENTS_FORMAT
  /** UUID of this backup. */
  readonly backupId: string
  backupState: BackupState
  restoreType: RestoreType
  snapshotSetId: string | null
  snapshots: SetMember[]
  writers: BackupWriter[]
}
