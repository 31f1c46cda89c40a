// What a writer's reply changes in the backup components document.
//
// Always true: a reply is taken whole or not at all; only the writer's own explicit components change,
// and only in what the event allows (CHANGES_ALLOWED_IN; row 53) and what fits its metadata and the
// backup. A list in a reply takes the place of the list that was there: the writer saw that one in its
// request.

import { UmbraError } from '../../base/errors.ts'
import type { BackupComponent } from '../documents/backup-components.ts'
import { fullPathOf, isSameComponent } from '../documents/component-rules.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { checkChangesFit } from '../writers/change-rules.ts'
import {
  CHANGES_ALLOWED_IN,
  type ComponentChanges,
  type WriterEvent,
  type WriterRequest,
} from '../writers/writer-messages.ts'

/** @throws UmbraError BAD_STATE, NOT_FOUND, INVALID_DOCUMENT with nothing changed */
export function applyChanges(
  metadata: WriterMetadata,
  request: WriterRequest,
  components: readonly BackupComponent[],
  changes: readonly ComponentChanges[],
): void {
  const { event } = request
  const targets = changes.map((change) => {
    checkAllowed(event, change)
    const target = components.find((component) => isSameComponent(component, change))
    if (target !== undefined) return target
    throw new UmbraError('NOT_FOUND', `${fullPathOf(change)} is no component of the writer's in this session`)
  })
  checkChangesFit(metadata, request, changes)
  changes.forEach((change, index) => {
    applyChange(targets[index] as BackupComponent, event, structuredClone(change))
  })
}

function checkAllowed(event: WriterEvent, change: ComponentChanges): void {
  const allowed: readonly string[] = CHANGES_ALLOWED_IN[event]
  for (const [field, value] of Object.entries(change)) {
    if (field === 'logicalPath' || field === 'name' || value === undefined) continue
    if (allowed.includes(field)) continue
    throw new UmbraError('BAD_STATE', `${field} of ${fullPathOf(change)} is not to be changed in ${event}`)
  }
}

function applyChange(target: BackupComponent, event: WriterEvent, change: ComponentChanges): void {
  if (change.backupStamp !== undefined) target.backupStamp = change.backupStamp
  if (change.backupMetadata !== undefined) target.backupMetadata = change.backupMetadata
  if (change.differencedFiles) target.differencedFiles = [...change.differencedFiles]
  if (change.partialFiles) target.partialFiles = [...change.partialFiles]
  if (change.restoreTarget !== undefined) target.restoreTarget = change.restoreTarget
  if (change.directedTargets) target.directedTargets = [...change.directedTargets]
  if (change.restoreMetadata !== undefined) target.restoreMetadata = change.restoreMetadata
  if (change.failureMessage !== undefined) setFailureMessage(target, event, change.failureMessage)
}

function setFailureMessage(target: BackupComponent, event: WriterEvent, message: string): void {
  if (event === 'prepare-for-backup') target.prepareForBackupFailureMessage = message
  else if (event === 'post-snapshot') target.postSnapshotFailureMessage = message
  else if (event === 'pre-restore') target.preRestoreFailureMessage = message
  else if (event === 'post-restore') target.postRestoreFailureMessage = message
}
