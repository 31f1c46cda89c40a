// What a backup of each type needs of a writer, a component and a file set (vss.md sections 3.1, 3.3, 4.8).
//
// Always true: `copy` has no bits of its own and takes every file set, from the snapshot; `log` speaks
// of database log files only; a type that a writer does not support is a full backup for that writer,
// by both sides. The mask decides, not whether the component is mandatory. Files that the writer gives
// as differenced or partial are taken whatever their set's backup bits say; their set's snapshot bits hold.

import type { BackupType, MaskedType, SchemaBit } from './vocabulary.ts'
import { MASKED_TYPES } from './vocabulary.ts'
import type { ComponentMetadata, FileSet, FileSetMask, WriterMetadata } from './writer-metadata.ts'

/** VSS's 0xF0F: required in every type, from the snapshot. */
export const DEFAULT_MASK: FileSetMask = {
  backupRequired: MASKED_TYPES,
  snapshotRequired: MASKED_TYPES,
}

/** The schema bit that a writer needs for a type; `full` needs none. */
const BIT_OF_TYPE: Readonly<Record<BackupType, SchemaBit | null>> = {
  full: null,
  incremental: 'incremental',
  differential: 'differential',
  log: 'log',
  copy: 'copy',
}

export function supportsType(backupSchema: readonly SchemaBit[], type: BackupType): boolean {
  const bit = BIT_OF_TYPE[type]
  return bit === null || backupSchema.includes(bit)
}

/**
 * What a backup of this type is for this writer: `full` where it does not support the type. A copy stays a
 * copy, since it asks nothing of the writer but to leave its history alone, and a full would not.
 */
export function effectiveType(metadata: WriterMetadata, type: BackupType): BackupType {
  return type === 'copy' || supportsType(metadata.backupSchema, type) ? type : 'full'
}

/** After a restore of this type the set's files must be there as they were at the backup. */
export function isBackupRequired(mask: FileSetMask, type: BackupType): boolean {
  return type === 'copy' || mask.backupRequired.includes(type)
}

/** A backup of this type must read the set's files from a snapshot; else the live volume will do. */
export function isSnapshotRequired(mask: FileSetMask, type: BackupType): boolean {
  return type === 'copy' || mask.snapshotRequired.includes(type)
}

/** The sets that a type looks at: all, or for `log` the database log files. */
export function fileSetsFor(component: ComponentMetadata, type: BackupType): readonly FileSet[] {
  if (type === 'log') return component.databaseLogFiles
  return [...component.files, ...component.databaseFiles, ...component.databaseLogFiles]
}

/** The sets whose files are saved whole in a backup of this type. */
export function requiredFileSets(component: ComponentMetadata, type: BackupType): FileSet[] {
  return fileSetsFor(component, type).filter((set) => isBackupRequired(set, type))
}

/** Every file set of the component. */
export function allFileSets(component: ComponentMetadata): readonly FileSet[] {
  return fileSetsFor(component, 'full')
}

/** Whether a backup of this type, as it is for the component's writer, needs a snapshot of the volumes the component is on. */
export function needsSnapshot(component: ComponentMetadata, type: BackupType): boolean {
  return fileSetsFor(component, type).some((set) => isSnapshotRequired(set, type))
}

/** The mask as VSS's number, for comparison and display. */
export function maskNumber(mask: FileSetMask): number {
  const bits: Readonly<Record<MaskedType, number>> = { full: 1, differential: 2, incremental: 4, log: 8 }
  const sum = (types: readonly MaskedType[]): number => types.reduce((total, type) => total | bits[type], 0)
  return (
    sum(mask.backupRequired) | (sum(mask.snapshotRequired) << 8) | (mask.createdDuringBackup ? 0x10000 : 0)
  )
}

/** The mask for one of VSS's numbers. */
export function maskFromNumber(number: number): FileSetMask {
  const types = (bits: number): MaskedType[] => MASKED_TYPES.filter((_, index) => (bits & (1 << index)) !== 0)
  return {
    backupRequired: types(number & 0xf),
    snapshotRequired: types((number >> 8) & 0xf),
    ...((number & 0x10000) === 0 ? {} : { createdDuringBackup: true }),
  }
}
