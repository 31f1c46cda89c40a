// Whether what a writer adds to its components fits its metadata and the backup: the rules for
// differenced files, partial files and restore targets (vss.md sections 4.4, 4.5, 5.1).
//
// Always true: a change that passes names files of the component's own set, or new files on a volume of
// the shadow set, and never files that another component of the writer claims. New files are judged by
// volume once the set is known, that is in PostSnapshot. The writer's own calls and the coordinator ask here.

import { UmbraError } from '../../base/errors.ts'
import type { ComponentKey, DifferencedFile, PartialFile } from '../documents/backup-components.ts'
import { rangesFilePathIn } from '../documents/byte-ranges.ts'
import { componentSet, fullPathOf } from '../documents/component-rules.ts'
import { checkDifferencedFile, checkDirectedTarget, checkPartialFile } from '../documents/component-values.ts'
import { allFileSets, effectiveType } from '../documents/file-set-mask.ts'
import { doOverlap, isAtOrBelow, isSameSpec, matchesFile, specText } from '../documents/file-spec.ts'
import type { RestoreTarget } from '../documents/vocabulary.ts'
import type { FileSet, FileSpec, WriterMetadata } from '../documents/writer-metadata.ts'
import type { ComponentChanges, WriterRequest } from './writer-messages.ts'

/** @throws UmbraError BAD_STATE, INVALID_DOCUMENT, NOT_FOUND: which component, and what does not fit */
export function checkChangesFit(
  metadata: WriterMetadata,
  request: WriterRequest,
  changes: readonly ComponentChanges[],
): void {
  for (const change of changes) {
    for (const file of change.differencedFiles ?? []) checkDifferencedFits(metadata, request, change, file)
    const seen = new Set<string>()
    for (const file of change.partialFiles ?? []) {
      checkPartialFits(metadata, request, change, file)
      const path = joined(file.path, file.fileName)
      if (seen.has(path)) throw misfit(change, `the partial file ${path} is there twice`)
      seen.add(path)
    }
    for (const target of change.directedTargets ?? []) checkDirectedTarget(target, fullPathOf(change))
    if (change.restoreTarget !== undefined) checkRestoreTargetFits(metadata, change, change.restoreTarget)
  }
}

/** @throws UmbraError BAD_STATE: not in this backup; INVALID_DOCUMENT: the spec does not fit; NOT_FOUND */
export function checkDifferencedFits(
  metadata: WriterMetadata,
  request: WriterRequest,
  component: ComponentKey,
  file: DifferencedFile,
): void {
  checkDifferencedFile(file, fullPathOf(component))
  if (!metadata.backupSchema.includes('last-modify')) {
    throw refused(component, 'a writer needs last-modify in its backup schema to give differenced files')
  }
  const type = request.backupState && effectiveType(metadata, request.backupState.backupType)
  if (type !== 'incremental' && type !== 'differential') {
    throw refused(component, `differenced files have no place in a ${type ?? 'restore'}`)
  }
  const { own, others } = setsAround(metadata, component)
  if (own.some((set) => isSameSpec(set, file))) return
  const met = [...own, ...others].find((set) => doOverlap(set, file))
  if (met) {
    throw misfit(
      component,
      `the differenced file ${specText(file)} meets ${specText(met)} without being the same`,
    )
  }
  checkNewFile(request, component, file.path, specText(file))
}

/** @throws UmbraError BAD_STATE: not supported by the requester; INVALID_DOCUMENT, NOT_FOUND */
export function checkPartialFits(
  metadata: WriterMetadata,
  request: WriterRequest,
  component: ComponentKey,
  file: PartialFile,
): void {
  if (request.backupState?.partialFileSupport !== true) {
    throw refused(component, 'the requester does not support partial files')
  }
  checkPartialFile(file, fullPathOf(component))
  const path = joined(file.path, file.fileName)
  const { own, others } = setsAround(metadata, component)
  if (own.some((set) => matchesFile(set, path))) return
  const other = others.find((set) => matchesFile(set, path))
  if (other) throw misfit(component, `the partial file ${path} is claimed by ${specText(other)}`)
  checkNewFile(request, component, file.path, path)
  const rangesFile = rangesFilePathIn(file.ranges)
  if (rangesFile !== undefined && rangesFile === path) {
    throw misfit(component, `${path} cannot be its own ranges file`)
  }
}

/** @throws UmbraError INVALID_DOCUMENT: `alternate` without a mapping for every file set */
export function checkRestoreTargetFits(
  metadata: WriterMetadata,
  component: ComponentKey,
  target: RestoreTarget,
): void {
  if (target !== 'alternate') return
  const unmapped = setsAround(metadata, component).own.find(
    (set) => !metadata.alternateLocationMappings.some((mapping) => isSameSpec(mapping, set)),
  )
  if (unmapped === undefined) return
  throw misfit(component, `it has no alternate location for ${specText(unmapped)}`)
}

/** The file sets of the component's set, and those of the writer's other components. */
function setsAround(
  metadata: WriterMetadata,
  component: ComponentKey,
): { own: FileSet[]; others: FileSet[] } {
  const members = componentSet(metadata, component)
  return {
    own: members.flatMap(allFileSets),
    others: metadata.components.filter((other) => !members.includes(other)).flatMap(allFileSets),
  }
}

function checkNewFile(
  request: WriterRequest,
  component: ComponentKey,
  path: FileSpec['path'],
  what: string,
): void {
  if (request.event !== 'post-snapshot') return
  const mounts = request.volumes.flatMap(({ mountPoint }) => (mountPoint === null ? [] : [mountPoint]))
  if (mounts.some((mountPoint) => isAtOrBelow(path, mountPoint))) return
  throw misfit(component, `the new file ${what} is on no volume of the shadow set`)
}

function joined(path: string, name: string): string {
  return path === '/' ? `/${name}` : `${path}/${name}`
}

function misfit(component: ComponentKey, message: string): UmbraError {
  return new UmbraError('INVALID_DOCUMENT', `${fullPathOf(component)}: ${message}`)
}

function refused(component: ComponentKey, message: string): UmbraError {
  return new UmbraError('BAD_STATE', `${fullPathOf(component)}: ${message}`)
}
