// What a resumable backup notes down in its unfinished folder, so that a later run can go on with its
// persistent shadow copies.
//
// Always true: the note is written when the shadow copies are there and replaced whole; it goes once
// the manifest is durable, so that one of both always names the shadow copies; one that cannot be read means that the backup is started anew.

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { hasCode } from '../../base/errors.ts'
import { replaceFile } from '../../image/output.ts'
import type { BackupComponents } from '../documents/backup-components.ts'
import { validateBackupComponents } from '../documents/validate-backup-components.ts'
import { validateWriterMetadata } from '../documents/validate-writer-metadata.ts'
import type { BackupType, WriterResult } from '../documents/vocabulary.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { BackupFolder } from '../repository/backup-folder.ts'
import type { ImageRecord, VolumePoint } from '../repository/manifest.ts'
import type { BackupChoice } from './backup-options.ts'

const NOTE_NAME = 'resume.json'
const FORMAT = 'umbra-resume-1'

export interface NotedVolume {
  readonly volume: VolumePoint
  readonly snapshotName: string
  readonly hasImage: boolean
  readonly baseBackupId: string | null
}

export interface ResumeNote {
  readonly format: typeof FORMAT
  readonly type: BackupType
  readonly components: BackupChoice['components']
  readonly imageFormat: 'qcow2' | 'raw'
  readonly changedRanges: boolean
  readonly withoutWriters: boolean
  readonly startedAtMs: number
  readonly instantMs: number
  readonly snapshotSetId: string | null
  readonly volumes: readonly NotedVolume[]
  readonly metadata: readonly WriterMetadata[]
  readonly document: BackupComponents
  readonly failed: readonly (readonly [string, { readonly result: WriterResult; readonly reason: string }])[]
  readonly images: readonly ImageRecord[]
  readonly notes: readonly string[]
  /** See ManifestParts. */
  readonly lacksWriters: boolean
}

export async function writeResumeNote(folder: BackupFolder, note: Omit<ResumeNote, 'format'>): Promise<void> {
  const text = JSON.stringify({ format: FORMAT, ...note })
  await replaceFile(folder.path(NOTE_NAME), Buffer.from(text))
}

export function hasResumeNote(folder: BackupFolder): boolean {
  return existsSync(folder.path(NOTE_NAME))
}

/** Null: there is none, or none that can be believed. */
export function readResumeNote(folder: BackupFolder): ResumeNote | null {
  try {
    const note = JSON.parse(readFileSync(folder.path(NOTE_NAME), 'utf8')) as ResumeNote
    if (note.format !== FORMAT || !Array.isArray(note.volumes)) return null
    for (const metadata of note.metadata) validateWriterMetadata(metadata)
    if (!note.withoutWriters) validateBackupComponents(note.document)
    return note
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return null
    if (hasCode(error, 'INVALID_DOCUMENT') || (error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

export function removeResumeNote(folder: BackupFolder): void {
  rmSync(folder.path(NOTE_NAME), { force: true })
}

/** Whether a run with these options would make the same backup. */
export function isSameWork(note: ResumeNote, choice: BackupChoice, volumeUuids: readonly string[]): boolean {
  const noted = note.volumes.filter(({ hasImage }) => hasImage).map(({ volume }) => volume.volumeUuid)
  const wanted = choice.images ? volumeUuids : []
  return (
    note.type === choice.type &&
    note.imageFormat === choice.format &&
    note.changedRanges === (choice.changedRanges ?? false) &&
    note.withoutWriters === (choice.withoutWriters ?? false) &&
    JSON.stringify(note.components) === JSON.stringify(choice.components) &&
    JSON.stringify([...noted].sort()) === JSON.stringify([...wanted].sort())
  )
}
