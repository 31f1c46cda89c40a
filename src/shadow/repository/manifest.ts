// The manifest of one backup in a repository: what was taken, from what base, with which digests, and
// how stock tools restore it (issue text; vss.md section 4.9 lists what a requester must keep).
//
// A repository is a folder:
//   repository.json                      what it is: {format, id, createdAtMs}
//   backups/ID/manifest.json             this; ID is UTC time + type + short id, so that names sort by time
//   backups/ID/backup-components.json    both documents
//   backups/ID/writers/INSTANCE.json
//   backups/ID/images/VOLUME.qcow2       block images, a delta's backing file is the base's image (relative path)
//   backups/ID/files.jsonl               one line a saved file (FileEntry), in the order of saving
//   backups/ID/files/NNNNNN              the bytes of saved files
//   backups/.partial-ID/                 one that is being made: invisible to every command but cleaning
//   results.jsonl                        dates and results of verify, prune, consolidate and restore
//
// Always true: a folder without `.partial-` is complete and does not change, but for images that
// consolidate replaces (by rename, with a new manifest); every file named here has its SHA-256 here.

import type { ByteRange } from '../documents/byte-ranges.ts'
import type { BackupType, WriterResult } from '../documents/vocabulary.ts'

export const REPOSITORY_FORMAT = 'umbra-repository-1'
export const MANIFEST_FORMAT = 'umbra-backup-manifest-1'

export interface StoredFile {
  /** Relative to the backup's folder. */
  readonly file: string
  readonly sizeBytes: number
  /** 64 hex digits. */
  readonly sha256: string
}

export interface ImageRecord extends StoredFile {
  readonly volumeUuid: string
  readonly volumePath: string
  readonly mountPoint: string | null
  readonly virtualSizeBytes: number
  readonly format: 'qcow2' | 'raw'
  readonly point: { readonly id: string; readonly epoch: number; readonly createdAtMs: number }
  /** Backup id whose image of this volume is the backing file; null: full. */
  readonly baseBackupId: string | null
  readonly basePointId: string | null
  /** The image's own content digest (image/digest.ts). */
  readonly contentDigest: string
  /** Bookmark in the volume that the next backup builds on; null for copy and for a differential. */
  readonly bookmark: string | null
}

export interface ComponentRecord {
  readonly logicalPath: string
  readonly name: string
  readonly succeeded: boolean
  readonly failure: string | null
  readonly stamp: string | null
  /** Backup id of this component's base. */
  readonly baseBackupId: string | null
  readonly fileCount: number
  readonly bytes: number
}

export interface WriterRecord {
  readonly classId: string
  readonly instanceId: string
  readonly instanceName: string
  readonly name: string
  /** What this writer's data was saved as: `full` where it does not support the backup's type. */
  readonly type: BackupType | 'excluded'
  /** Why it differs from the backup's type. */
  readonly reason: string | null
  readonly result: WriterResult
  readonly components: readonly ComponentRecord[]
}

export interface Manifest {
  readonly format: typeof MANIFEST_FORMAT
  readonly id: string
  readonly uuid: string
  readonly type: BackupType
  readonly startedAtMs: number
  /** The instant of the shadow set; of its start where there is none. */
  readonly instantMs: number
  readonly finishedAtMs: number
  /** Backup id of the base; null for full, copy and log. */
  readonly baseBackupId: string | null
  /** Ids from the full to this one: what a restore needs, in order. */
  readonly chain: readonly string[]
  readonly snapshotSetId: string | null
  readonly images: readonly ImageRecord[]
  readonly writers: readonly WriterRecord[]
  readonly documents: readonly StoredFile[]
  readonly fileIndex: StoredFile | null
  /** Command lines of stock tools (qemu-img, cp) that restore this backup. */
  readonly restoreCommands: readonly string[]
  /** Some component failed: the backup is complete without it. */
  readonly isPartial: boolean
}

/** A line of files.jsonl: one file system object of a component at the backup's instant. */
export interface FileEntry {
  readonly writer: string
  readonly logicalPath: string
  readonly name: string
  /** Absolute default path, as the application sees it; base64 in pathBytes where it is not UTF-8. */
  readonly path: string
  readonly pathBytes?: string
  readonly kind: 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'device' | 'deleted' | 'ranges-file'
  /** How its content was chosen. */
  readonly how: 'differenced' | 'partial' | 'mask'
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: string
  readonly sizeBytes: number
  /** Path of the first name of the same inode. */
  readonly hardLinkOf?: string
  readonly linkTarget?: string
  readonly rdev?: number
  /** Values in base64. */
  readonly xattrs?: Readonly<Record<string, string>>
  /** Content: whole, or for partial files these ranges one after another. */
  readonly stored?: StoredFile
  readonly ranges?: readonly ByteRange[]
}
