// The files that a file specification names, found in the tree where they have to be read.
//
// Always true: what is given is not excluded, comes in the order of names, a folder before what is in it; links are
// given and not followed, and a mount of another volume of the set is descended into in that volume.

import { UmbraError } from '../../base/errors.ts'
import { isAtOrBelow, isExcluded, isLiteral, matchesName, specText } from '../documents/file-spec.ts'
import type { FileSet, FileSpec } from '../documents/writer-metadata.ts'
import type { FilePlace, FilePlaces } from './file-places.ts'
import { byteString, bytesOf, type FileNode, joinPath } from './file-tree.ts'

export interface FoundFile {
  /** Default path, as bytes. */
  readonly path: string
  readonly place: FilePlace
  readonly node: FileNode
}

export interface Walk {
  readonly spec: FileSpec
  /** The file set that the spec is of; undefined: new files of a writer's own. */
  readonly set: FileSet | undefined
  readonly needsSnapshot: boolean
  readonly excludes: readonly FileSpec[]
  readonly places: FilePlaces
}

/** Where a spec's folder is read from: an alternate path replaces it. */
export function sourceFolder({ spec, set, places }: Walk): string {
  const alternate = set?.alternatePath
  if (alternate === undefined || set === undefined) return places.realFolder(spec.path)
  return joinPath(places.realFolder(alternate), byteString(spec.path.slice(set.path.length))).replace(
    /\/+/g,
    '/',
  )
}

/**
 * Everything that matches; folders of a recursive spec too, so that empty ones come back.
 * @throws UmbraError NOT_FOUND when the spec names one file and that is not there; VOLUME_NOT_SUPPORTED
 */
export function* walkFiles(walk: Walk): Generator<FoundFile> {
  const { spec, set, places, needsSnapshot } = walk
  const from = sourceFolder(walk).replace(/(?<=.)\/$/, '')
  const root = places.at(from, needsSnapshot)
  const node = root.tree.find(root.path)
  let count = 0
  if (node?.kind === 'directory') {
    yield { path: byteString(spec.path), place: root, node }
    for (const found of walkFolder(walk, from, byteString(spec.path), root)) {
      if (found.node.kind !== 'directory') count++
      yield found
    }
  }
  const isExpected = isLiteral(spec.filespec) && set?.createdDuringBackup !== true
  if (count > 0 || !isExpected || isLiteralExcluded(walk)) return
  throw new UmbraError('NOT_FOUND', `${specText(spec)} is not there`, { path: specText(spec) })
}

function* walkFolder(walk: Walk, from: string, path: string, folder: FilePlace): Generator<FoundFile> {
  for (const name of folder.tree.list(folder.path)) {
    const sourcePath = joinPath(from, name)
    const foundPath = joinPath(path, name)
    const place = walk.places.at(sourcePath, walk.needsSnapshot)
    const node = place.tree.find(place.path)
    // Live, it may have gone since it was listed.
    if (!node) continue
    if (node.kind === 'directory') {
      if (!walk.spec.recursive || isFolderExcluded(walk, foundPath)) continue
      yield { path: foundPath, place, node }
      yield* walkFolder(walk, sourcePath, foundPath, place)
    } else if (
      matchesName(walk.spec.filespec, bytesOf(name)) &&
      !isExcluded(walk.excludes, bytesOf(foundPath))
    )
      yield { path: foundPath, place, node }
  }
}

/** Below a folder of which everything is left out no folder is kept either; that folder itself is. */
function isFolderExcluded({ excludes }: Walk, path: string): boolean {
  return excludes.some((spec) => {
    const root = byteString(spec.path)
    return spec.recursive && spec.filespec === '*' && path !== root && isAtOrBelow(path, root)
  })
}

function isLiteralExcluded({ spec, excludes }: Walk): boolean {
  return isExcluded(excludes, joinPath(spec.path, spec.filespec))
}
