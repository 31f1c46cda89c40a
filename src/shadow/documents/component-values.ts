// What a writer may put into its components, each value by itself: differenced files, partial files,
// directed targets (vss.md sections 4.4, 4.5, 5.1). Rules that need the metadata or the event are in writers/change-rules.ts.
//
// Always true of a value that has passed: its paths are clean, its ranges can be parsed, the ranges of
// a directed target are equal pair by pair.

import { UmbraError } from '../../base/errors.ts'
import type { DifferencedFile, DirectedTarget, PartialFile } from './backup-components.ts'
import { parseByteRanges, rangesFilePathIn } from './byte-ranges.ts'
import { filespecFault, isLiteral, pathFault, specText } from './file-spec.ts'

/** @throws UmbraError INVALID_DOCUMENT */
export function checkDifferencedFile(file: DifferencedFile, where: string): void {
  checkPath(file.path, where)
  const fault = filespecFault(file.filespec)
  if (fault) throw invalid(where, `the filespec ${specText(file)} ${fault}`)
}

/** @throws UmbraError INVALID_DOCUMENT */
export function checkPartialFile(file: PartialFile, where: string): void {
  checkPath(file.path, where)
  checkFileName(file.fileName, where)
  if (rangesFilePathIn(file.ranges) === undefined) parseByteRanges(file.ranges)
}

/** @throws UmbraError INVALID_DOCUMENT */
export function checkDirectedTarget(target: DirectedTarget, where: string): void {
  checkPath(target.sourcePath, where)
  checkPath(target.destinationPath, where)
  checkFileName(target.sourceName, where)
  checkFileName(target.destinationName, where)
  const { sourceRanges, destinationRanges } = target
  const areEqual =
    sourceRanges.length === destinationRanges.length &&
    sourceRanges.every((range, index) => range.lengthBytes === destinationRanges[index]?.lengthBytes)
  if (!areEqual) {
    throw invalid(
      where,
      `the source and destination ranges of ${target.sourceName} differ in number or length`,
    )
  }
  for (const { offsetBytes, lengthBytes } of [...sourceRanges, ...destinationRanges]) {
    if (!Number.isSafeInteger(offsetBytes + lengthBytes)) {
      throw invalid(where, `a range of ${target.sourceName} ends past 2^53`)
    }
  }
}

function checkPath(path: string, where: string): void {
  const fault = pathFault(path)
  if (fault) throw invalid(where, `the path ${path} ${fault}`)
}

function checkFileName(name: string, where: string): void {
  const fault = filespecFault(name) ?? (isLiteral(name) ? undefined : 'holds a wildcard')
  if (fault) throw invalid(where, `the file name ${name} ${fault}`)
}

function invalid(where: string, message: string): UmbraError {
  return new UmbraError('INVALID_DOCUMENT', `${where}: ${message}`)
}
