// Both kinds of documents of a shadow set in a folder, as a backup's folder in a repository has them:
// backup-components.json and writers/INSTANCE.json.
//
// Always true: what is read has been validated; writing takes the place of what was there.

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import type { BackupComponents } from '../../documents/backup-components.ts'
import { parseDocument } from '../../documents/canonical-json.ts'
import { validateBackupComponents } from '../../documents/validate-backup-components.ts'
import { validateWriterMetadata } from '../../documents/validate-writer-metadata.ts'
import type { WriterMetadata } from '../../documents/writer-metadata.ts'

export interface SavedDocuments {
  readonly components: BackupComponents
  readonly metadata: readonly WriterMetadata[]
}

const COMPONENTS_FILE = 'backup-components.json'
const WRITERS_FOLDER = 'writers'

/** @throws UmbraError INVALID_ARGUMENT when it cannot be written */
export function saveDocuments(folder: string, { components, metadata }: SavedDocuments): void {
  const writers = join(folder, WRITERS_FOLDER)
  try {
    mkdirSync(folder, { recursive: true })
    rmSync(writers, { recursive: true, force: true })
    mkdirSync(writers)
    for (const document of metadata) {
      write(join(writers, `${document.identity.instanceId}.json`), document)
    }
    write(join(folder, COMPONENTS_FILE), components)
  } catch (error) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `The documents cannot be saved in ${folder}: ${(error as Error).message}`,
      { folder },
      error,
    )
  }
}

/** @throws UmbraError NOT_FOUND, INVALID_DOCUMENT */
export function loadDocuments(folder: string): SavedDocuments {
  const components = validateBackupComponents(read(join(folder, COMPONENTS_FILE)))
  const writers = join(folder, WRITERS_FOLDER)
  const files = readdirSync(writers).filter((name) => name.endsWith('.json'))
  return {
    components,
    metadata: files.sort().map((file) => validateWriterMetadata(read(join(writers, file)))),
  }
}

function write(path: string, document: unknown): void {
  writeFileSync(path, `${JSON.stringify(document, null, 2)}\n`)
}

function read(path: string): unknown {
  let bytes: Uint8Array
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `Cannot read ${path}: ${(error as Error).message}`, { path }, error)
  }
  return parseDocument(bytes, path)
}
