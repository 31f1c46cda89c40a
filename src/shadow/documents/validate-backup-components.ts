// A backup components document that comes in from a repository or over a connection.
//
// Always true of one that has passed: it has the shape of its schema; writers and their components are
// there once; ranges and directed targets can be used as they stand.

import { UmbraError } from '../../base/errors.ts'
import type { BackupComponent, BackupComponents } from './backup-components.ts'
import { fullPathOf } from './component-rules.ts'
import { checkDifferencedFile, checkDirectedTarget, checkPartialFile } from './component-values.ts'
import { checkShape } from './document-schemas.ts'
import { pathFault } from './file-spec.ts'

/** @throws UmbraError INVALID_DOCUMENT that says where and what */
export function validateBackupComponents(value: unknown): BackupComponents {
  checkShape('backup-components', value, 'The backup components document')
  const document = value as BackupComponents
  const writers = new Set<string>()
  for (const writer of document.writers) {
    const key = `${writer.classId} ${writer.instanceId}`.toLowerCase()
    if (writers.has(key)) throw invalid(`${writer.name} is there twice`)
    writers.add(key)
    const names = new Set<string>()
    for (const component of writer.components) {
      const name = fullPathOf(component)
      if (names.has(name)) throw invalid(`${writer.name}: the component ${name} is there twice`)
      names.add(name)
      checkComponent(component, `${writer.name}: ${name}`)
    }
  }
  return document
}

function checkComponent(component: BackupComponent, where: string): void {
  for (const file of component.differencedFiles) checkDifferencedFile(file, where)
  for (const file of component.partialFiles) checkPartialFile(file, where)
  for (const target of component.directedTargets) checkDirectedTarget(target, where)
  const paths = [
    ...component.newTargets.map((target) => target.newPath),
    ...component.alternateLocationMappingsUsed.map((mapping) => mapping.destination),
    ...Object.values(component.rangesFilePaths),
  ]
  for (const path of paths) {
    const fault = pathFault(path)
    if (fault && fault !== 'holds a wildcard') throw invalid(`${where}: the path ${path} ${fault}`)
  }
  for (const index of Object.keys(component.rangesFilePaths)) {
    if (Number(index) >= component.partialFiles.length) {
      throw invalid(`${where}: there is no partial file ${index} to have a ranges file`)
    }
  }
}

function invalid(message: string): UmbraError {
  return new UmbraError('INVALID_DOCUMENT', `The backup components document: ${message}`)
}
