// The writer metadata document: what a writer says of itself when it is asked to identify itself
// (vss.md section 6.1). One for each writer instance, saved with every backup.
//
// Always true: it does not change after Identify; a document from outside has passed
// validateWriterMetadata() before anything believes it. Paths are absolute, as the application sees
// them on the live system, without wildcards; a filespec has ? and * and no slash.

import type {
  ComponentFlag,
  FreezeLevel,
  MaskedType,
  RestoreMethod,
  SchemaBit,
  SourceType,
  UsageType,
  WriterRestore,
} from './vocabulary.ts'

export const WRITER_METADATA_FORMAT = 'umbra-writer-metadata-1'

export interface WriterIdentity {
  /** UUID, the same for every instance of this kind of writer. */
  readonly classId: string
  /** UUID, new at every start of the writer. */
  readonly instanceId: string
  /** Not localised, not unique. */
  readonly name: string
  /** Unique among the instances of the class, the same after a restart; '' for a writer of one instance. */
  readonly instanceName: string
  readonly usage: UsageType
  readonly source: SourceType
  readonly version?: { readonly major: number; readonly minor: number }
}

/** Files below one directory. */
export interface FileSpec {
  readonly path: string
  readonly filespec: string
  readonly recursive: boolean
}

/** What a backup of each type needs of a file set. Both lists are all four types unless told. */
export interface FileSetMask {
  /** Types after whose restore the files must be there as they were. */
  readonly backupRequired: readonly MaskedType[]
  /** Types for which the files must be read from a snapshot. */
  readonly snapshotRequired: readonly MaskedType[]
  /** The files are expected to come into being while the snapshot is made. */
  readonly createdDuringBackup?: boolean
  /**
   * Beyond VSS: where an incremental or differential backup has a base, of each file that the mask
   * requires only the byte ranges that changed since then need be saved, as the volume tracked them.
   */
  readonly changedRanges?: boolean
  /**
   * Beyond VSS: the folder is the application's alone, which would take any other file in it for its own; a restore is
   * refused where it is not empty.
   */
  readonly restoreToEmpty?: boolean
}

export interface FileSet extends FileSpec, FileSetMask {
  /** Where the files are to be read from in a backup, instead of `path`; file groups only. */
  readonly alternatePath?: string
}

export interface ComponentDependency {
  readonly classId: string
  readonly logicalPath: string
  readonly name: string
}

export interface ComponentMetadata {
  readonly type: 'database' | 'file-group'
  /** Names separated by slashes; '' is the root. */
  readonly logicalPath: string
  /** Without a slash; unique with its logical path. */
  readonly name: string
  readonly caption?: string
  readonly selectable: boolean
  readonly selectableForRestore: boolean
  readonly flags: readonly ComponentFlag[]
  /** File groups only. */
  readonly files: readonly FileSet[]
  /** Databases only: not recursive, no alternate path. */
  readonly databaseFiles: readonly FileSet[]
  readonly databaseLogFiles: readonly FileSet[]
  readonly dependencies: readonly ComponentDependency[]
}

export interface AlternateLocationMapping extends FileSpec {
  readonly alternateLocation: string
}

export interface RestoreMethodSpec {
  readonly method: RestoreMethod
  /** For the two methods that stop a service: a command line is made of it by the restore's configuration. */
  readonly serviceName?: string
  readonly writerRestore: WriterRestore
  readonly rebootRequired: boolean
}

export interface WriterMetadata {
  readonly format: typeof WRITER_METADATA_FORMAT
  readonly identity: WriterIdentity
  readonly backupSchema: readonly SchemaBit[]
  readonly freezeLevel: FreezeLevel
  /** From Freeze to Thaw; at most 60 000. */
  readonly freezeTimeoutMs: number
  readonly restoreMethod: RestoreMethodSpec
  readonly alternateLocationMappings: readonly AlternateLocationMapping[]
  /** They beat every file set; matched against the default path. */
  readonly excludeFiles: readonly FileSpec[]
  /** Deleted from the shadow copy after PostSnapshot, where auto-recovery is allowed. */
  readonly excludeFromSnapshotFiles: readonly FileSpec[]
  readonly components: readonly ComponentMetadata[]
}

export const FREEZE_TIMEOUT_MS = 60_000
