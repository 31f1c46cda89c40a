// What a restore of a component's chain up to its base would leave on disk: the names that it saved and
// has not recorded as deleted. A later backup compares with it to record deletions (vss.md section 9 #21:
// without that a chain of files brings deleted ones back).
//
// Always true: names are byte strings; log backups do not count, as they only add logs.

import { join } from 'node:path'
import type { ComponentKey } from '../documents/backup-components.ts'
import { type ComponentLink, componentChain } from '../repository/chains.ts'
import type { FileEntry } from '../repository/manifest.ts'
import { readFileIndex } from '../repository/manifest-file.ts'
import type { BackupEntry } from '../repository/repository.ts'
import { byteString } from './file-tree.ts'

export interface BaseFile {
  readonly entry: FileEntry
  /** Null: what is on disk is not exactly the file at the base's instant. */
  readonly exactInode: { readonly ino: number; readonly generation: number } | null
}

export type BaseState = ReadonlyMap<string, BaseFile>

/** The name that an entry speaks of, as bytes. */
export function entryPath(entry: Pick<FileEntry, 'path' | 'pathBytes'>): string {
  return entry.pathBytes === undefined
    ? byteString(entry.path)
    : Buffer.from(entry.pathBytes, 'base64').toString('latin1')
}

/** Whether a line of a backup's index is this component's. */
export function isEntryOf(entry: FileEntry, link: ComponentLink): boolean {
  return (
    entry.writer === link.writer.instanceId &&
    entry.logicalPath === link.component.logicalPath &&
    entry.name === link.component.name
  )
}

/** @throws UmbraError BROKEN_CHAIN, INVALID_DOCUMENT */
export function baseState(
  entries: readonly BackupEntry[],
  base: ComponentLink,
  key: ComponentKey,
): BaseState {
  const state = new Map<string, BaseFile>()
  for (const link of componentChain(entries, base.entry.id, base.writer, key)) {
    if (link.component.type === 'log' || link.manifest.fileIndex === null) continue
    for (const entry of readFileIndex(join(link.entry.folder, link.manifest.fileIndex.file))) {
      if (!isEntryOf(entry, link) || entry.kind === 'ranges-file') continue
      if (entry.kind === 'deleted') state.delete(entryPath(entry))
      else
        state.set(entryPath(entry), { entry, exactInode: exactInode(entry, link.entry.id === base.entry.id) })
    }
  }
  return state
}

/** Saved by the base itself, and not as ranges that a writer chose. */
function exactInode({ kind, how, ino, generation }: FileEntry, isOfBase: boolean): BaseFile['exactInode'] {
  if (!isOfBase || kind !== 'file' || how === 'partial') return null
  return ino === undefined || generation === undefined ? null : { ino, generation }
}
