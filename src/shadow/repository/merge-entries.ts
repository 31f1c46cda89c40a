// The files of one component as its chain of backups leaves them: what a restore of the whole chain, one backup
// after another, would have on disk.
//
// Always true: names are byte strings; names of one inode share one content; a name that a later backup records as
// deleted is gone; ranges are laid over what the chain has of that name, as a restore does.

import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { entryPath, isEntryOf } from '../requester/base-state.ts'
import { byteString, textOf } from '../requester/file-tree.ts'
import type { ComponentLink } from './chains.ts'
import type { FileEntry } from './manifest.ts'
import { readFileIndex } from './manifest-file.ts'
import { MergedFile, type SavedSource } from './merged-file.ts'

export interface MergedName {
  /** Of the newest backup that has it. */
  readonly entry: FileEntry
  /** Null: it is no regular file. */
  readonly file: MergedFile | null
  /** The newest backup of the chain saved just this state of it. */
  readonly isExact: boolean
}

/** @returns by path. @throws UmbraError BROKEN_CHAIN, INVALID_DOCUMENT */
export function mergeEntries(chain: readonly ComponentLink[]): Map<string, MergedName> {
  const names = new Map<string, MergedName>()
  for (const link of chain) {
    if (link.manifest.fileIndex === null) continue
    const merge = new LinkMerge(names, link, link === chain.at(-1))
    for (const entry of readFileIndex(join(link.entry.folder, link.manifest.fileIndex.file)))
      if (isEntryOf(entry, link)) merge.add(entry)
  }
  return names
}

class LinkMerge {
  readonly #names: Map<string, MergedName>
  readonly #link: ComponentLink
  readonly #isLast: boolean

  constructor(names: Map<string, MergedName>, link: ComponentLink, isLast: boolean) {
    this.#names = names
    this.#link = link
    this.#isLast = isLast
  }

  add(entry: FileEntry): void {
    // Ranges stand in the index; the writer's file of them was for this one backup.
    if (entry.kind === 'ranges-file') return
    const path = entryPath(entry)
    if (entry.kind === 'deleted') {
      this.#names.delete(path)
      return
    }
    const file = entry.kind === 'file' ? this.#content(entry, path) : null
    this.#names.set(path, { entry, file, isExact: this.#isLast && entry.how !== 'partial' })
  }

  #content(entry: FileEntry, path: string): MergedFile {
    const first = linkPath(entry)
    if (first !== null) {
      const file = this.#names.get(first)?.file
      if (file) return file
      throw this.#bad(path, `is a link to ${textOf(first).text}, which was not saved`)
    }
    if (!entry.stored) throw this.#bad(path, 'has no content')
    const source = { path: join(this.#link.entry.folder, entry.stored.file), stored: entry.stored }
    return entry.ranges ? this.#overlaid(entry, path, source) : MergedFile.whole(source)
  }

  #overlaid(entry: FileEntry, path: string, source: SavedSource): MergedFile {
    const ranges = entry.ranges ?? []
    const lengthBytes = ranges.reduce((sum, range) => sum + range.lengthBytes, 0)
    if (lengthBytes !== source.stored.sizeBytes)
      throw this.#bad(
        path,
        `has ranges of ${lengthBytes} bytes, and ${source.stored.sizeBytes} bytes are saved`,
      )
    const below = this.#names.get(path)?.file
    if (below) {
      below.overlay(ranges, source, entry.sizeBytes)
      return below
    }
    if (entry.how === 'partial') return MergedFile.ofRanges(ranges, source, entry.sizeBytes)
    throw new UmbraError(
      'BROKEN_CHAIN',
      `Backup ${this.#link.entry.id} has changed ranges of ${textOf(path).text}, and no backup before it has the file`,
      { backup: this.#link.entry.id },
    )
  }

  #bad(path: string, what: string): UmbraError {
    const { id } = this.#link.entry
    return new UmbraError('INVALID_DOCUMENT', `Backup ${id}: ${textOf(path).text} ${what}`, { backup: id })
  }
}

/** The first name of the same inode, as bytes. */
function linkPath({ hardLinkOf, hardLinkOfBytes }: FileEntry): string | null {
  if (hardLinkOfBytes !== undefined) return Buffer.from(hardLinkOfBytes, 'base64').toString('latin1')
  return hardLinkOf === undefined ? null : byteString(hardLinkOf)
}
