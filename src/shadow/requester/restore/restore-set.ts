// The restore set of one component: which of a backup's files are its, and where each of them goes (vss.md
// section 2.1, step 8; 5.1, rules 9 and 10).
//
// Always true: a file's set is found in the stored metadata, never in a live writer's; alternate paths are
// the backup's business and ignored; where there are several places a whole file set goes to one.

import { join } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import type { BackupComponent, ComponentKey, DirectedTarget } from '../../documents/backup-components.ts'
import { restoreSet } from '../../documents/component-rules.ts'
import { allFileSets } from '../../documents/file-set-mask.ts'
import { isAtOrBelow, isSameSpec, matchesFile } from '../../documents/file-spec.ts'
import type { FileSet, WriterMetadata } from '../../documents/writer-metadata.ts'
import type { ComponentLink } from '../../repository/chains.ts'
import type { FileEntry } from '../../repository/manifest.ts'
import { readFileIndex } from '../../repository/manifest-file.ts'
import { entryPath, isEntryOf } from '../base-state.ts'
import { byteString, bytesOf, joinPath, textOf } from '../file-tree.ts'

export interface RestoreItem {
  readonly entry: FileEntry
  /** Default path, a byte string. */
  readonly path: string
  /** Undefined: new files that the writer added during the backup, and ranges files. */
  readonly set: FileSet | undefined
  /** Where its bytes are stored, a byte string; undefined: it has none of its own. */
  readonly stored: string | undefined
}

/** @throws UmbraError INVALID_DOCUMENT, NOT_FOUND, INVALID_ARGUMENT as restoreSet() */
export function restoreItems(
  link: ComponentLink,
  metadata: WriterMetadata,
  component: Pick<BackupComponent, 'logicalPath' | 'name' | 'restoreSubcomponents'>,
): RestoreItem[] {
  const { fileIndex } = link.manifest
  if (fileIndex === null) return []
  const { restoreSubcomponents } = component
  const sets = setsOf(metadata, component, restoreSubcomponents)
  const isPart = restoreSubcomponents.length > 0
  const items: RestoreItem[] = []
  const leftOut: LeftOut = { entries: new Map(), heirs: new Map() }
  for (const entry of readFileIndex(join(link.entry.folder, fileIndex.file))) {
    if (!isEntryOf(entry, link)) continue
    const path = entryPath(entry)
    const set = entry.kind === 'ranges-file' ? undefined : setOf(sets, path)
    if (isPart && set === undefined && entry.kind !== 'ranges-file') {
      leftOut.entries.set(path, entry)
      continue
    }
    const whole = withContent(entry, leftOut)
    const stored = whole.stored && byteString(join(link.entry.folder, whole.stored.file))
    items.push({ entry: whole, path, set, stored })
  }
  return items
}

/** Files of the component that are not restored, and who takes their content over. */
interface LeftOut {
  readonly entries: Map<string, FileEntry>
  readonly heirs: Map<string, FileEntry>
}

/** The first name of its inode, which has its bytes, may not be restored: then the next one takes them over. */
function withContent(entry: FileEntry, { entries, heirs }: LeftOut): FileEntry {
  const firstPath = linkedPath(entry)
  const first = firstPath === undefined ? undefined : entries.get(firstPath)
  if (firstPath === undefined || !first?.stored) return entry
  const { hardLinkOf: _of, hardLinkOfBytes: _bytes, ...own } = entry
  const heir = heirs.get(firstPath)
  if (heir)
    return {
      ...own,
      hardLinkOf: heir.path,
      ...(heir.pathBytes === undefined ? {} : { hardLinkOfBytes: heir.pathBytes }),
    }
  heirs.set(firstPath, entry)
  return { ...own, stored: first.stored, sizeBytes: first.sizeBytes }
}

/** Of a second name of an inode: the first one, a byte string. */
export function linkedPath({ hardLinkOf, hardLinkOfBytes }: FileEntry): string | undefined {
  if (hardLinkOfBytes !== undefined) return Buffer.from(hardLinkOfBytes, 'base64').toString('latin1')
  return hardLinkOf === undefined ? undefined : byteString(hardLinkOf)
}

/** The file sets that are restored. */
export function setsOf(
  metadata: WriterMetadata,
  component: Pick<BackupComponent, 'logicalPath' | 'name'>,
  subcomponents: readonly ComponentKey[],
): readonly FileSet[] {
  return restoreSet(metadata, component, subcomponents).flatMap((member) => allFileSets(member))
}

/** The most particular one: folders may lie in several. */
function setOf(sets: readonly FileSet[], path: string): FileSet | undefined {
  const bytes = bytesOf(path)
  const found = sets.filter((set) => matchesFile(set, bytes) || isFolderOf(set, path))
  return found.sort((a, b) => b.path.length - a.path.length)[0]
}

function isFolderOf(set: FileSet, path: string): boolean {
  const folder = byteString(set.path)
  return path === folder || (set.recursive && isAtOrBelow(path, folder))
}

/** Gives a default path its place. */
export type Placement = (item: Pick<RestoreItem, 'path' | 'set'>) => string

/** A set's own folder, or the new target that the requester gave it. */
export function originalPlaces(component: Pick<BackupComponent, 'newTargets'>): Placement {
  return ({ path, set }) => {
    const target = set && component.newTargets.find((candidate) => isSameSpec(candidate, set))
    return set && target ? moved(path, set.path, target.newPath) : path
  }
}

/** Undefined: not every set has an alternate location. */
export function alternatePlaces(metadata: WriterMetadata, sets: readonly FileSet[]): Placement | undefined {
  const mappingOf = (set: FileSet) =>
    metadata.alternateLocationMappings.find((mapping) => isSameSpec(mapping, set))
  if (!sets.every((set) => mappingOf(set))) return undefined
  return ({ path, set }) => {
    const mapping = set && mappingOf(set)
    return set && mapping ? moved(path, set.path, mapping.alternateLocation) : path
  }
}

/** @param from folder, text. @param to folder, text. @returns the path below `to`, a byte string */
export function moved(path: string, from: string, to: string): string {
  const below = path.slice(from === '/' ? 1 : byteString(from).length + 1)
  return below === '' ? byteString(to) : joinPath(byteString(to), below)
}

/** The directed targets of a file; undefined: it goes where the others go. */
export function directedOf(
  item: RestoreItem,
  targets: readonly DirectedTarget[],
): readonly DirectedTarget[] | undefined {
  if (item.entry.kind !== 'file') return undefined
  const found = targets.filter(
    ({ sourcePath, sourceName }) => joinPath(byteString(sourcePath), byteString(sourceName)) === item.path,
  )
  return found.length === 0 ? undefined : found
}

/**
 * Where in the stored file each source range begins.
 * @throws UmbraError RESTORE_REFUSED when the ranges are not the same in number and size, pair by pair, or
 *   not those that were saved (vss.md section 5.1, rule 10)
 */
export function directedCopies(item: RestoreItem, target: DirectedTarget) {
  const { sourceRanges, destinationRanges } = target
  const name = textOf(item.path).text
  const refuse = (why: string) => new UmbraError('RESTORE_REFUSED', `The directed target of ${name} ${why}`)
  if (sourceRanges.length !== destinationRanges.length) throw refuse('has ranges without a counterpart')
  const { ranges, stored, sizeBytes } = item.entry
  if (stored === undefined || item.stored === undefined) throw refuse('has no bytes of its own in the backup')
  const from = item.stored
  let at = 0
  return sourceRanges.map((source, index) => {
    const destination = destinationRanges[index]
    if (!destination || destination.lengthBytes !== source.lengthBytes)
      throw refuse('has source and destination ranges that differ in size')
    const saved = ranges?.[index]
    if (ranges && (ranges.length !== sourceRanges.length || !saved || !isSameRange(saved, source)))
      throw refuse('has source ranges that are not those of its partial file')
    if (!ranges && source.offsetBytes + source.lengthBytes > sizeBytes)
      throw refuse('has a source range beyond the end of the file')
    const fromBytes = ranges ? at : source.offsetBytes
    at += source.lengthBytes
    return { from, fromBytes, toBytes: destination.offsetBytes, lengthBytes: source.lengthBytes }
  })
}

function isSameRange(
  a: { offsetBytes: number; lengthBytes: number },
  b: { offsetBytes: number; lengthBytes: number },
): boolean {
  return a.offsetBytes === b.offsetBytes && a.lengthBytes === b.lengthBytes
}
