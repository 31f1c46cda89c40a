// Finds the SQLite databases under a path, and reads what their header says.
//
// Always true: the walk does not follow links and looks at a bounded number of entries; a file is a
// database when it begins with SQLite's magic string (SQLite file format, section 1.3), whatever its
// name; the result is sorted, so that the same tree always gives the same list.

import { closeSync, constants, type Dirent, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
const MAGIC = Buffer.from('SQLite format 3\0')
const HEADER_BYTES = 100
const ENTRIES_MAX = 1_000_000

export interface SqliteDatabase {
  readonly path: string
  readonly folder: string
  readonly fileName: string
}

export interface SqliteHeader {
  /** 512 to 65536. */
  readonly pageBytes: number
  /** Grows with each transaction outside of WAL mode. */
  readonly changeCounter: number
  readonly schemaCookie: number
  readonly applicationId: number
}

/**
 * @param path a database, or a folder to search
 * @throws UmbraError LIMIT_EXCEEDED for a tree with more entries than are looked at
 */
export function findSqliteDatabases(path: string): SqliteDatabase[] {
  const found: string[] = []
  const folders: string[] = []
  let entryCount = 0
  const root = entriesOf(path)
  if (root === undefined) {
    if (readSqliteHeader(path)) found.push(path)
  } else {
    folders.push(path)
  }
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const entry of entriesOf(folder) ?? []) {
      if (++entryCount > ENTRIES_MAX) {
        throw new UmbraError(
          'LIMIT_EXCEEDED',
          `More than ${ENTRIES_MAX} files under ${path}: name the databases`,
        )
      }
      const child = join(folder, entry.name)
      if (entry.isDirectory()) folders.push(child)
      else if (entry.isFile() && !isCompanion(entry.name) && readSqliteHeader(child)) found.push(child)
    }
  }
  return found.sort().map((database) => ({
    path: database,
    folder: dirname(database),
    fileName: basename(database),
  }))
}

/** Undefined: not there, not readable or not a database. */
export function readSqliteHeader(path: string): SqliteHeader | undefined {
  const header = Buffer.alloc(HEADER_BYTES)
  try {
    // A fifo would keep us waiting, a link lead elsewhere.
    const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    try {
      if (!fstatSync(fd).isFile()) return undefined
      if (readSync(fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return undefined
    } finally {
      closeSync(fd)
    }
  } catch {
    return undefined
  }
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) return undefined
  const pageBytes = header.readUInt16BE(16)
  return {
    pageBytes: pageBytes === 1 ? 65_536 : pageBytes,
    changeCounter: header.readUInt32BE(24),
    schemaCookie: header.readUInt32BE(40),
    applicationId: header.readUInt32BE(68),
  }
}

/** Files that belong to a database and are not one. */
export const COMPANION_SUFFIXES = ['-wal', '-journal', '-shm'] as const

function isCompanion(name: string): boolean {
  return COMPANION_SUFFIXES.some((suffix) => name.endsWith(suffix))
}

function entriesOf(folder: string): Dirent[] | undefined {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    // Not a folder, or gone meanwhile.
    return undefined
  }
}
