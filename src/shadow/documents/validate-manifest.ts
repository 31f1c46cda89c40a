// A backup's manifest and the lines of its file index, checked where they are read back.
//
// Always true of one that has passed: it has the shape of its schema; properties that this version does
// not know are left alone; no path in it leads out of the backup's folder.

import { UmbraError } from '../../base/errors.ts'
import type { FileEntry, Manifest, StoredFile } from '../repository/manifest.ts'
import { checkShape } from './document-schemas.ts'

/** @throws UmbraError INVALID_DOCUMENT that says where and what */
export function validateManifest(value: unknown): Manifest {
  checkShape('backup-manifest', value, 'The manifest')
  const manifest = value as Manifest
  if (manifest.chain.at(-1) !== manifest.id) {
    throw new UmbraError('INVALID_DOCUMENT', `The manifest: its chain does not end with ${manifest.id}`)
  }
  const sidecars = manifest.images.flatMap(({ sidecar }) => (sidecar ? [sidecar] : []))
  const files: StoredFile[] = [...manifest.images, ...sidecars, ...manifest.documents]
  if (manifest.fileIndex) files.push(manifest.fileIndex)
  for (const file of files) checkInside(file, 'The manifest')
  return manifest
}

/** @param where names the line in errors. @throws UmbraError INVALID_DOCUMENT */
export function validateFileEntry(value: unknown, where: string): FileEntry {
  checkShape('file-entry', value, where)
  const entry = value as FileEntry
  if (entry.stored) checkInside(entry.stored, where)
  return entry
}

function checkInside({ file }: StoredFile, where: string): void {
  if (!file.split('/').includes('..')) return
  throw new UmbraError('INVALID_DOCUMENT', `${where}: ${file} leads out of the backup's folder`)
}
