// Which files of a component a backup saves, and how: differenced files, then partial files, then the
// rest by its mask (vss.md section 4.2, row 75).
//
// Always true: excludes win over everything; a file that a differenced or partial specification touches
// is no longer its mask's; a file is given once; where the requester makes a full of what the writer
// took for a delta, whole files come first, so that nothing is missing.

import { UmbraError } from '../../base/errors.ts'
import type { BackupComponent, DifferencedFile, PartialFile } from '../documents/backup-components.ts'
import {
  type ByteRange,
  clipRanges,
  normalizeRanges,
  parseByteRanges,
  rangesFilePathIn,
} from '../documents/byte-ranges.ts'
import { allFileSets, fileSetsFor, isBackupRequired, isSnapshotRequired } from '../documents/file-set-mask.ts'
import { isExcluded, isSameSpec, matchesFile } from '../documents/file-spec.ts'
import { decodeRangesFile, RANGES_FILE_COUNT_MAX } from '../documents/ranges-file.ts'
import type { FileSet, WriterMetadata } from '../documents/writer-metadata.ts'
import type { BaseState } from './base-state.ts'
import type { PlannedComponent } from './component-plan.ts'
import type { FilePlace, FilePlaces } from './file-places.ts'
import { byteString, bytesOf, joinPath, textOf } from './file-tree.ts'
import { type FoundFile, sourceFolder, type Walk, walkFiles } from './file-walk.ts'

/** The clock of files moves in ticks: a change just after the base may bear a time just before it. */
const CLOCK_TICK_MS = 20

export interface ChosenFile extends FoundFile {
  readonly how: 'differenced' | 'partial' | 'mask'
  /** Only these; undefined: the whole file. */
  readonly ranges?: readonly ByteRange[]
  readonly isRangesFile?: boolean
}

export interface ChoiceRequest {
  readonly metadata: WriterMetadata
  readonly planned: PlannedComponent
  /** The writer's word after PostSnapshot. */
  readonly component: BackupComponent
  readonly places: FilePlaces
  /** The writer was asked for a delta, and the component is saved as a full all the same. */
  readonly isForcedFull: boolean
  /** Ranges of a file that differ from the component's base; undefined: not known, save it whole. */
  readonly changedRanges: (found: FoundFile, set: FileSet) => readonly ByteRange[] | undefined
  readonly onProblem: (problem: string) => void
}

export class FileChoice {
  readonly #request: ChoiceRequest
  /** Default paths that a specification of the writer, or a mask, has spoken of. */
  readonly #touched = new Set<string>()
  readonly #sets: readonly FileSet[]

  constructor(request: ChoiceRequest) {
    this.#request = request
    this.#sets = request.planned.members.flatMap((member) => allFileSets(member))
  }

  /** @throws UmbraError NOT_FOUND, VOLUME_NOT_SUPPORTED, INVALID_DOCUMENT: the component fails as a whole */
  async *files(): AsyncGenerator<ChosenFile> {
    const { isForcedFull } = this.#request
    if (isForcedFull) yield* this.#masked()
    yield* this.#differenced()
    yield* this.#partial()
    if (!isForcedFull) yield* this.#masked()
  }

  /** What the base has and is no longer there: default paths, as bytes. */
  *deleted(state: BaseState): Generator<string> {
    for (const path of state.keys()) {
      const place = this.#sourceOf(path)
      if (place && !place.tree.find(place.path)) yield path
    }
  }

  *#differenced(): Generator<ChosenFile> {
    const { component, metadata, planned } = this.#request
    const isAllowed =
      metadata.backupSchema.includes('last-modify') &&
      (planned.type === 'incremental' || planned.type === 'differential')
    if (!isAllowed) return
    for (const spec of component.differencedFiles) {
      const set = this.#sets.find((candidate) => isSameSpec(candidate, spec))
      for (const found of walkFiles(this.#walk(spec, set))) {
        if (found.node.kind === 'directory' || this.#touched.has(found.path)) continue
        this.#touched.add(found.path)
        if (this.#isModified(found, spec)) yield { ...found, how: 'differenced' }
      }
    }
  }

  /** A time given by the writer is binding; without one our own record of the base decides. Both include equality. */
  #isModified(found: FoundFile, spec: DifferencedFile): boolean {
    if (spec.lastModifyTimeMs !== 0)
      return BigInt(found.node.mtimeNs) >= BigInt(Math.floor(spec.lastModifyTimeMs)) * 1_000_000n
    const { base } = this.#request.planned
    return base === null || found.node.changedAtMs >= base.manifest.instantMs - CLOCK_TICK_MS
  }

  async *#partial(): AsyncGenerator<ChosenFile> {
    const { component, metadata } = this.#request
    for (const partial of component.partialFiles) {
      const path = joinPath(byteString(partial.path), byteString(partial.fileName))
      if (isExcluded(metadata.excludeFiles, bytesOf(path))) continue
      if (this.#touched.has(path)) {
        this.#refusePartial(path)
        continue
      }
      this.#touched.add(path)
      yield* this.#partialFile(partial, path)
    }
  }

  #refusePartial(path: string): void {
    const { isForcedFull, onProblem } = this.#request
    // Whole, it holds every range.
    if (!isForcedFull)
      onProblem(`${textOf(path).text} was given as a partial file too; it is saved whole or not at all`)
  }

  async *#partialFile(partial: PartialFile, path: string): AsyncGenerator<ChosenFile> {
    const place = this.#sourceOf(path) ?? this.#request.places.at(this.#realPath(path), false)
    const node = place.tree.find(place.path)
    if (node?.kind !== 'file')
      throw new UmbraError('NOT_FOUND', `The partial file ${textOf(path).text} is not there`, {
        path: textOf(path).text,
      })
    const rangesPath = rangesFilePathIn(partial.ranges)
    let ranges: readonly ByteRange[]
    if (rangesPath === undefined) ranges = parseByteRanges(partial.ranges)
    else {
      const rangesFile = this.#findRangesFile(byteString(rangesPath))
      ranges = await readRanges(rangesFile)
      yield rangesFile
    }
    yield { path, place, node, how: 'partial', ranges: clipRanges(ranges, node.sizeBytes) }
  }

  /** Live first, as the writer makes it while the backup runs; an older one may lie in the shadow copy. */
  #findRangesFile(path: string): ChosenFile {
    const { places } = this.#request
    const live = { tree: places.live, path, snapshot: null }
    for (const place of [live, places.at(path, false)]) {
      const node = place.tree.find(place.path)
      if (node?.kind === 'file') return { path, place, node, how: 'partial', isRangesFile: true }
    }
    throw new UmbraError('NOT_FOUND', `The ranges file ${textOf(path).text} is not there`)
  }

  *#masked(): Generator<ChosenFile> {
    const { planned } = this.#request
    for (const member of planned.members) {
      for (const set of fileSetsFor(member, planned.type)) {
        if (!isBackupRequired(set, planned.type)) continue
        for (const found of walkFiles(this.#walk(set, set))) {
          if (this.#touched.has(found.path)) continue
          this.#touched.add(found.path)
          yield this.#wholeOrChanged(found, set)
        }
      }
    }
  }

  #wholeOrChanged(found: FoundFile, set: FileSet): ChosenFile {
    const { changedRanges } = this.#request
    const ranges = found.node.kind === 'file' ? changedRanges(found, set) : undefined
    if (ranges === undefined) return { ...found, how: 'mask' }
    return { ...found, how: 'mask', ranges: clipRanges(normalizeRanges(ranges), found.node.sizeBytes) }
  }

  #walk(spec: Walk['spec'], set: FileSet | undefined): Walk {
    const { metadata, planned, places } = this.#request
    // A copy takes everything from shadow copies; but files that no type needs one for may lie on no volume.
    const mayBeLive = planned.type === 'copy' && set?.snapshotRequired.length === 0
    const needsSnapshot = set !== undefined && !mayBeLive && isSnapshotRequired(set, planned.type)
    return { spec, set, needsSnapshot, excludes: metadata.excludeFiles, places }
  }

  /** Where a file of one of the sets is read from; undefined: it is of none, or excluded. */
  #sourceOf(path: string): FilePlace | undefined {
    const { metadata, places } = this.#request
    if (isExcluded(metadata.excludeFiles, bytesOf(path))) return undefined
    const set = this.#sets.find(
      (candidate) => matchesFile(candidate, bytesOf(path)) || isFolderOf(candidate, path),
    )
    if (!set) return undefined
    const walk = this.#walk(set, set)
    const below = path.slice(byteString(set.path).length)
    return places.at(
      `${sourceFolder(walk)}${below}`.replace(/\/+/g, '/').replace(/(?<=.)\/$/, ''),
      walk.needsSnapshot,
    )
  }

  #realPath(path: string): string {
    const cut = path.lastIndexOf('/')
    const folder = bytesOf(path.slice(0, cut) || '/').toString('utf8')
    return joinPath(this.#request.places.realFolder(folder), path.slice(cut + 1))
  }
}

/** Folders that a set's files lie in are saved with it. */
function isFolderOf(set: FileSet, path: string): boolean {
  const folder = byteString(set.path)
  if (path === folder) return true
  return set.recursive && path.startsWith(folder === '/' ? '/' : `${folder}/`)
}

async function readRanges(file: ChosenFile): Promise<readonly ByteRange[]> {
  const { sizeBytes } = file.node
  const name = textOf(file.path).text
  if (sizeBytes > 16 * RANGES_FILE_COUNT_MAX + 8)
    throw new UmbraError('INVALID_DOCUMENT', `The ranges file ${name} has ${sizeBytes} bytes`)
  const bytes = Buffer.alloc(sizeBytes)
  const reader = file.place.tree.open(file.place.path)
  try {
    const got = await reader.read(0, sizeBytes, bytes, 0)
    return decodeRangesFile(bytes.subarray(0, got), name)
  } finally {
    reader.close()
  }
}
