// A manifest as a file: JSON that people can read, with a checksum of itself as its last field.
//
// Always true: a manifest that was read back has its checksum, matches the schema, and names the backup
// whose folder it lies in.

import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { MIB } from '../../base/units.ts'
import { hostCall } from '../../image/host-file.ts'
import { validateFileEntry, validateManifest } from '../documents/validate-manifest.ts'
import type { FileEntry, Manifest } from './manifest.ts'

export const MANIFEST_NAME = 'manifest.json'
/** A manifest grows with the components, not with their files. */
const MANIFEST_MAX_BYTES = 256 * MIB

/** A file with very many ranges has a long line. */
const LINE_MAX_BYTES = 256 * MIB
const NEWLINE = 10

export function encodeManifest(manifest: Manifest): Buffer {
  const checksum = checksumOf(manifest)
  return Buffer.from(`${JSON.stringify({ ...manifest, checksum }, null, 2)}\n`)
}

/**
 * @param folder the backup's folder
 * @param id what the backup is called
 * @throws UmbraError INVALID_DOCUMENT naming the file when it is missing, malformed, damaged or another backup's
 */
export function readManifest(folder: string, id: string): Manifest {
  const path = join(folder, MANIFEST_NAME)
  let parsed: unknown
  try {
    const { size } = statSync(path)
    if (size > MANIFEST_MAX_BYTES) throw bad(path, `has ${size} bytes`)
    parsed = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    if (error instanceof UmbraError) throw error
    if (error instanceof SyntaxError) throw bad(path, 'is not JSON')
    throw bad(path, `cannot be read: ${(error as Error).message}`)
  }
  if (typeof parsed !== 'object' || parsed === null) throw bad(path, 'is no manifest')
  const { checksum, ...rest } = parsed as Record<string, unknown>
  if (checksum !== checksumOf(rest)) throw bad(path, 'does not match its checksum')
  let manifest: Manifest
  try {
    manifest = validateManifest(rest)
  } catch (error) {
    throw bad(path, `is malformed: ${(error as Error).message}`)
  }
  if (manifest.id !== id) throw bad(path, `is the manifest of ${manifest.id}`)
  return manifest
}

/** Every line of a backup's index of files, read piece by piece. @throws UmbraError INVALID_DOCUMENT, ENOENT */
export function* readFileIndex(path: string): Generator<FileEntry> {
  const fd = hostCall(`Cannot open ${path}`, () => openSync(path, 'r'))
  try {
    const piece = Buffer.allocUnsafe(MIB)
    let rest = Buffer.alloc(0)
    let lineCount = 0
    for (;;) {
      const got = hostCall(`Cannot read ${path}`, () => readSync(fd, piece, 0, piece.length, null))
      if (got === 0) break
      const bytes = Buffer.concat([rest, piece.subarray(0, got)])
      let from = 0
      for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
        yield parseEntry(bytes.toString('utf8', from, end), path, ++lineCount)
        from = end + 1
      }
      rest = Buffer.from(bytes.subarray(from))
      if (rest.length > LINE_MAX_BYTES) throw bad(path, `has a line of over ${LINE_MAX_BYTES} bytes`)
    }
    if (rest.length > 0) throw bad(path, 'ends within a line')
  } finally {
    closeSync(fd)
  }
}

function parseEntry(line: string, path: string, lineNumber: number): FileEntry {
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    throw bad(path, `is not JSON in line ${lineNumber}`)
  }
  return validateFileEntry(parsed, `${path}, line ${lineNumber}`)
}

function checksumOf(manifest: unknown): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex')
}

function bad(path: string, what: string): UmbraError {
  return new UmbraError('INVALID_DOCUMENT', `${path} ${what}`, { path })
}
