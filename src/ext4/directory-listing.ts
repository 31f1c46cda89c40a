// Listing a directory in pieces, with cookies that stay good while entries come and go.
//
// A hashed directory (and one of a single block, which may become one) is listed by rising hash; the
// cookie is the hash, so neither splits nor removals move an entry:
//
//   cookie - 2 = (major >> 1) << 22 | (minor >> 13) << 3 | place among names equal in both (0 to 7)
//
// A linear directory of several blocks, whose records never move, is listed by position; the cookie
// is 1 + the record's offset in bytes.
//
// Always true: 0 is the start, 1 after ".", 2 after ".."; cookies rise and stay below 2^53; an entry
// present during the whole listing appears exactly once.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { Ext4Core } from './core.ts'
import { type Directories, isIndexed, visitRecords } from './directory.ts'
import { entryTypeOf, RECORDS_END, recordIno, recordLength } from './directory-block.ts'
import type { DirectoryIndex } from './directory-index.ts'
import type { DirectoryEntry } from './file-system.ts'
import { rootHashVersion } from './htree.ts'
import type { Inode } from './inode.ts'

export type EntryVisitor = (entry: DirectoryEntry) => boolean

const AFTER_DOT = 1
const AFTER_DOT_DOT = 2
const TYPE_DIRECTORY = 4
/** "." and ".." lie before it. */
const FIRST_NAME_AT = 24
const MAJOR_UNIT = 2 ** 22
const MINOR_SHIFT = 13
const TWIN_UNIT = 8

interface Listed {
  readonly name: string
  readonly ino: number
  readonly fileType: number
  readonly major: number
  readonly minor: number
  key: number
}

/** Entries of a leaf (and of those that go on with its last hash) by rising key. */
interface Batch {
  readonly index: DirectoryIndex
  readonly changeCount: number
  /** Hashes from here (even) to below `nextHash` are in it. */
  readonly firstHash: number
  /** -1: nothing after it. */
  readonly nextHash: number
  readonly entries: readonly Listed[]
}

export class DirectoryListing {
  readonly #core: Ext4Core
  readonly #directories: Directories
  #batch: Batch | undefined

  constructor(core: Ext4Core, directories: Directories) {
    this.#core = core
    this.#directories = directories
  }

  /** As FileSystem.readDirectory(). */
  list(directory: Inode, cookie: number, visit: EntryVisitor): void {
    if (cookie < AFTER_DOT && !visit(dotEntry('.', directory.ino, AFTER_DOT))) return
    if (cookie < AFTER_DOT_DOT) {
      const parentIno = this.#directories.parentIno(directory)
      if (!visit(dotEntry('..', parentIno, AFTER_DOT_DOT))) return
    }
    const isSingle = directory.sizeBytes <= BLOCK_SIZE_BYTES
    if (isIndexed(directory) || (isSingle && this.#core.hasDirectoryIndex)) {
      this.#listByHash(directory, Math.max(0, cookie - AFTER_DOT_DOT), visit)
    } else {
      this.#listByPosition(directory, cookie, visit)
    }
  }

  #listByHash(directory: Inode, fromKey: number, visit: EntryVisitor): void {
    let hash = Math.floor(fromKey / MAJOR_UNIT) * 2
    while (hash >= 0) {
      const batch = this.#batchAt(directory, hash)
      const { entries } = batch
      for (let i = lowerBound(entries, fromKey); i < entries.length; i++) {
        const { name, ino, fileType, key } = entries[i] as Listed
        const nextCookie = AFTER_DOT_DOT + key + 1
        if (!visit({ name, ino, type: entryTypeOf(fileType), nextCookie })) return
      }
      hash = batch.nextHash
    }
  }

  #listByPosition(directory: Inode, cookie: number, visit: EntryVisitor): void {
    const index = this.#directories.indexOf(directory)
    const blockCount = directory.sizeBytes / BLOCK_SIZE_BYTES
    const from = Math.max(cookie, FIRST_NAME_AT)
    for (let fileBlock = Math.floor(cookie / BLOCK_SIZE_BYTES); fileBlock < blockCount; fileBlock++) {
      const { bytes } = this.#directories.tree.leaf(directory, index, fileBlock)
      const baseBytes = fileBlock * BLOCK_SIZE_BYTES
      for (let at = 0; at < RECORDS_END; at += recordLength(bytes, at)) {
        if (baseBytes + at < from || recordIno(bytes, at) === 0) continue
        const nextCookie = baseBytes + at + 1
        let goOn = true
        visitOne(bytes, at, (name, ino, fileType) => {
          goOn = visit({ name, ino, type: entryTypeOf(fileType), nextCookie })
        })
        if (!goOn) return
      }
    }
  }

  #batchAt(directory: Inode, hash: number): Batch {
    const index = this.#directories.indexOf(directory)
    const kept = this.#batch
    if (
      kept?.index === index &&
      kept.changeCount === index.changeCount &&
      hash >= kept.firstHash &&
      (kept.nextHash < 0 || hash < kept.nextHash)
    ) {
      return kept
    }
    const batch = isIndexed(directory)
      ? this.#treeBatch(directory, index, hash)
      : this.#blockBatch(directory, index)
    this.#batch = batch
    return batch
  }

  #blockBatch(directory: Inode, index: DirectoryIndex): Batch {
    const entries: Listed[] = []
    this.#collect(this.#directories.tree.leaf(directory, index, 0).bytes, this.#core.hashVersion, entries)
    return { index, changeCount: index.changeCount, firstHash: 0, nextHash: -1, entries: ordered(entries) }
  }

  #treeBatch(directory: Inode, index: DirectoryIndex, hash: number): Batch {
    const { tree } = this.#directories
    const version = rootHashVersion(tree.root(directory, index).bytes)
    const path = tree.probe(directory, index, hash)
    const entries: Listed[] = []
    let nextHash: number
    do {
      this.#collect(tree.leafAt(directory, index, path).bytes, version, entries)
      nextHash = tree.next(directory, index, path)
    } while (nextHash >= 0 && nextHash % 2 === 1)
    return { index, changeCount: index.changeCount, firstHash: hash, nextHash, entries: ordered(entries) }
  }

  #collect(bytes: Uint8Array, version: number, entries: Listed[]): void {
    const { tree } = this.#directories
    visitRecords(bytes, 0, (name, ino, fileType) => {
      const { major, minor } = tree.hash(name, version)
      // The legacy hash has no minor part; any other hash of the name tells its twins apart.
      const second = version === 0 ? tree.hash(name, 1).minor : minor
      entries.push({ name, ino, fileType, major, minor: second, key: 0 })
      return true
    })
  }
}

function visitOne(
  bytes: Uint8Array,
  at: number,
  visit: (name: string, ino: number, fileType: number) => void,
): void {
  visitRecords(bytes, at, (name, ino, fileType) => {
    visit(name, ino, fileType)
    return false
  })
}

function dotEntry(name: string, ino: number, nextCookie: number): DirectoryEntry {
  return { name, ino, type: TYPE_DIRECTORY, nextCookie }
}

/** Sorts and numbers twins: names whose hashes are equal as far as the cookie holds them. */
function ordered(entries: Listed[]): readonly Listed[] {
  for (const entry of entries) {
    entry.key = (entry.major / 2) * MAJOR_UNIT + (entry.minor >>> MINOR_SHIFT) * TWIN_UNIT
  }
  entries.sort((a, b) => a.key - b.key || a.minor - b.minor || (a.name < b.name ? -1 : 1))
  let base = -1
  let twin = 0
  for (const entry of entries) {
    twin = entry.key === base ? Math.min(twin + 1, TWIN_UNIT - 1) : 0
    base = entry.key
    entry.key += twin
  }
  return entries
}

/** First entry whose key is at least `key`. */
function lowerBound(entries: readonly Listed[], key: number): number {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((entries[middle] as Listed).key < key) low = middle + 1
    else high = middle
  }
  return low
}
