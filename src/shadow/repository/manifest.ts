// The manifest of one backup in a repository: what was taken, from what base, with which digests, and
// how stock tools restore it (issue text; vss.md section 4.9 lists what a requester must keep).
//
// A repository is a folder:
//   repository.json                      what it is: {format, id, createdAtMs}
//   lock                                 locked by the one command that changes the repository
//   backups/ID/manifest.json             this; ID is UTC time + type + short id, so that names sort by time
//   backups/ID/backup-components.json    both documents
//   backups/ID/writers/INSTANCE.json
//   backups/ID/images/VOLUME-UUID.qcow2  block images, a delta's backing file is the base's image (relative path)
//   backups/ID/files.jsonl               one line a saved file (FileEntry), in the order of saving
//   backups/ID/files/NNNNNN/NNNNNNNNN       the bytes of saved files, a thousand to a folder; sparse where they were
//   backups/ID/merged.jsonl, merged/     in place of files.jsonl, and beside files/: what consolidate made
//   backups/ID/.consolidating            a consolidation is under way or was interrupted
//   backups/.partial-ID/                 one that is being made: invisible to every command but cleaning
//   backups/.deleted-ID/                 one that is being removed: invisible to every command
//   results.jsonl                        dates and results of verify, prune, consolidate and restore
//
// Always true: a folder without `.partial-` is complete and does not change, but for images that
// consolidate replaces (by rename, with a new manifest: settle-consolidation.ts); every file named here has
// its SHA-256 here.

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
  /** Bytes of volume data in the image. */
  readonly dataBytes: number
  /** Beside a raw image: its identity. */
  readonly sidecar?: StoredFile
}

/** A volume of the shadow set: what was left of its shadow copy, which the next backup builds on. */
export interface VolumePoint {
  readonly volumeUuid: string
  readonly volumePath: string
  readonly mountPoint: string | null
  readonly point: { readonly id: string; readonly epoch: number; readonly createdAtMs: number }
  /** Name of the bookmark in the volume; null: none was left (copy, differential, log). */
  readonly bookmark: string | null
}

export interface ComponentRecord {
  readonly logicalPath: string
  readonly name: string
  /**
   * What its data was saved as: the writer's type, or `full` where this component has no base yet, or was
   * saved whole for a reason that the writer's record does not tell.
   */
  readonly type: BackupType
  readonly succeeded: boolean
  readonly failure: string | null
  readonly stamp: string | null
  /**
   * Whether a later incremental, differential or log backup may build on it: it succeeded, the type is no
   * copy, and the writer was told so by BackupComplete.
   */
  readonly mayBeBase: boolean
  /** Some files were saved by their changed ranges though the writer knows nothing of partial files. */
  readonly changedRanges: boolean
  /** Backup id of this component's base. */
  readonly baseBackupId: string | null
  /** Everything but folders. */
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
  readonly volumes: readonly VolumePoint[]
  readonly images: readonly ImageRecord[]
  readonly writers: readonly WriterRecord[]
  readonly documents: readonly StoredFile[]
  readonly fileIndex: StoredFile | null
  /** Command lines of stock tools (qemu-img, cp) that restore this backup. */
  readonly restoreCommands: readonly string[]
  /** Some component failed: the backup is complete without it. */
  readonly isPartial: boolean
  /** What a reader must know besides: a full instead of a delta, a resumed or adopted backup. One sentence each. */
  readonly notes: readonly string[]
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
  /**
   * How its content was chosen. `partial`: the writer gave `ranges`, and vouches for them alone. `mask` with
   * `ranges`: what changed since the component's base; the older file is cut or grown to sizeBytes first.
   */
  readonly how: 'differenced' | 'partial' | 'mask'
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: string
  readonly sizeBytes: number
  /** Of what was read from a shadow copy: tells whether a later file of this name is the same one. */
  readonly ino?: number
  readonly generation?: number
  /** Path of the first name of the same inode, which this backup holds too; base64 where it is not UTF-8. */
  readonly hardLinkOf?: string
  readonly hardLinkOfBytes?: string
  /** Of a symbolic link; base64 in linkTargetBytes where it is not UTF-8. */
  readonly linkTarget?: string
  readonly linkTargetBytes?: string
  /** Kernel encoding (new_encode_dev), with `mode` telling block from character device. */
  readonly rdev?: number
  /** Values in base64. */
  readonly xattrs?: Readonly<Record<string, string>>
  /** Content: whole, or for partial files these ranges one after another. */
  readonly stored?: StoredFile
  readonly ranges?: readonly ByteRange[]
}
