// What a run that wants persistent shadow copies notes down before it has them made: where they will be, and
// under what name. Nobody but the requester ends them, so one that is killed right then would leave them
// behind for ever.
//
// Always true: the note is durable before the first of them can be there, and stays in the unfinished folder
// until the manifest names them, or until they are known to have gone.

import { readFileSync, rmSync } from 'node:fs'
import { replaceFile } from '../../image/output.ts'
import type { BackupFolder } from '../repository/backup-folder.ts'

const NOTE_NAME = 'shadow-set.json'
const FORMAT = 'umbra-shadow-set-1'

export interface SetNote {
  readonly format: typeof FORMAT
  readonly snapshotName: string
  readonly volumePaths: readonly string[]
}

export async function writeSetNote(folder: BackupFolder, note: Omit<SetNote, 'format'>): Promise<void> {
  await replaceFile(folder.path(NOTE_NAME), Buffer.from(JSON.stringify({ format: FORMAT, ...note })))
}

/** Null: there is none, or none that can be believed. */
export function readSetNote(folder: BackupFolder): SetNote | null {
  try {
    const note = JSON.parse(readFileSync(folder.path(NOTE_NAME), 'utf8')) as Partial<SetNote> | null
    const { format, snapshotName, volumePaths } = note ?? {}
    const isSound =
      format === FORMAT &&
      typeof snapshotName === 'string' &&
      Array.isArray(volumePaths) &&
      volumePaths.every((path) => typeof path === 'string')
    return isSound ? { format, snapshotName, volumePaths } : null
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

export function removeSetNote(folder: BackupFolder): void {
  rmSync(folder.path(NOTE_NAME), { force: true })
}
