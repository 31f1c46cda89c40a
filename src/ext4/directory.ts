// Directories: lookup, insertion, removal, ".." and listing, over linear blocks and hash trees alike.
//
// Always true: in an indexed directory records are found and put by hash only. reserve() makes room
// before anything else of an operation changes, insert() then cannot fail. A place is good until the
// directory's next change. New directories are linear while they have one block and hashed after.

import { assert } from '../base/assert.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { read16, read32, write32 } from './bytes.ts'
import type { Ext4Core, MetadataBlock } from './core.ts'
import {
  addRecord,
  corruptDirectory,
  findRecord,
  findRoom,
  initDirectoryBlock,
  RECORDS_END,
  recordFileType,
  recordIno,
  recordLength,
  recordName,
  recordSize,
  removeRecord,
  replaceRecord,
  writeRecord,
} from './directory-block.ts'
import { type DirectoryIndex, DirectoryIndexCache } from './directory-index.ts'
import { appendDirectoryBlock, DirectoryTree, mapDirectoryBlock } from './directory-tree.ts'
import { rootHashVersion } from './htree.ts'
import { INODE_FLAG, type Inode } from './inode.ts'

const DOT_DOT_AT = 12
const FIRST_NAME_AT = 24
const TYPE_DIRECTORY = 2
/** An index is built after this many searches of the directory's whole length. */
const SEARCHES_BEFORE_INDEX = 2

/** Where a record is, or where one goes. */
export interface Place {
  readonly block: MetadataBlock
  readonly at: number
}

export type RecordVisitor = (name: string, ino: number, fileType: number) => boolean

export class Directories {
  readonly tree: DirectoryTree
  readonly #core: Ext4Core
  readonly #indexes: DirectoryIndexCache

  constructor(core: Ext4Core, nameLimit?: number) {
    this.#core = core
    this.tree = new DirectoryTree(core)
    this.#indexes = new DirectoryIndexCache(nameLimit)
  }

  indexOf(directory: Inode): DirectoryIndex {
    return this.#indexes.get(directory.ino, () => {
      if (directory.sizeBytes % BLOCK_SIZE_BYTES === 0) return this.#core.inodeSeed(directory)
      throw corruptDirectory(directory.ino, `its size ${directory.sizeBytes} is no number of blocks`)
    })
  }

  /** @returns the inode number, 0: no such name. "." and ".." are not names here. */
  lookup(directory: Inode, name: string): number {
    const index = this.indexOf(directory)
    if (!index.names && this.#paysToIndex(directory, index)) this.#build(directory, index)
    if (index.names) return index.names.get(name) ?? 0
    const place = this.find(directory, name)
    return place ? recordIno(place.block.bytes, place.at) : 0
  }

  /** The record of a name (not "." or ".."); undefined: there is none. */
  find(directory: Inode, name: string): Place | undefined {
    const index = this.indexOf(directory)
    if (isIndexed(directory)) return this.#findHashed(directory, index, name)
    const blockCount = directory.sizeBytes / BLOCK_SIZE_BYTES
    for (let fileBlock = 0; fileBlock < blockCount; fileBlock++) {
      const block = this.tree.leaf(directory, index, fileBlock)
      const at = findRecord(block.bytes, name)
      if (at >= 0) return { block, at }
    }
    return undefined
  }

  /**
   * Makes room for a name that is not there yet.
   * @throws ENOSPC; the directory is then as good as before
   */
  reserve(directory: Inode, name: string): Place {
    const index = this.indexOf(directory)
    const sizeBytes = recordSize(name.length)
    if (isIndexed(directory)) return this.#reserveHashed(directory, index, name, sizeBytes)
    const blockCount = directory.sizeBytes / BLOCK_SIZE_BYTES
    for (let fileBlock = 0; fileBlock < blockCount; fileBlock++) {
      const block = this.tree.leaf(directory, index, fileBlock)
      const at = roomIn(block, index, sizeBytes)
      if (at >= 0) return { block, at }
    }
    index.changeCount++
    index.noteMoves()
    if (blockCount === 1 && this.#core.hasDirectoryIndex) {
      const first = this.tree.leaf(directory, index, 0)
      checkDots(first.bytes, directory.ino)
      this.tree.convert(directory, index, first)
      return this.#reserveHashed(directory, index, name, sizeBytes)
    }
    const block = appendDirectoryBlock(this.#core, directory, index.sealLeaf)
    initDirectoryBlock(block.bytes)
    return { block, at: 0 }
  }

  /** Writes a record into the place that reserve() gave for this name. */
  insert(directory: Inode, place: Place, name: string, ino: number, fileType: number): void {
    const index = this.indexOf(directory)
    const at = addRecord(place.block.bytes, place.at, ino, name, fileType)
    index.noteInsertion(place.block.blockIndex, at)
    this.#core.markDirty(place.block, index.sealLeaf)
    index.changeCount++
    this.#indexes.set(index, name, ino)
  }

  /** Removes a name that is there. */
  remove(directory: Inode, name: string): void {
    const index = this.indexOf(directory)
    const place = this.#existing(directory, name)
    removeRecord(place.block.bytes, place.at)
    index.noteRemoval(place.block.blockIndex)
    this.#core.markDirty(place.block, index.sealLeaf)
    index.changeCount++
    this.#indexes.delete(index, name)
  }

  /** Lets a name that is there mean another inode. */
  replace(directory: Inode, name: string, ino: number, fileType: number): void {
    const index = this.indexOf(directory)
    const place = this.#existing(directory, name)
    replaceRecord(place.block.bytes, place.at, ino, fileType)
    this.#core.markDirty(place.block, index.sealLeaf)
    index.changeCount++
    this.#indexes.set(index, name, ino)
  }

  /** Whether there is nothing but "." and "..". */
  isEmpty(directory: Inode): boolean {
    const { names } = this.indexOf(directory)
    if (names) return names.size === 0
    let empty = true
    this.forEachRecord(directory, () => {
      empty = false
      return false
    })
    return empty
  }

  /** Inode number of "..". @throws UmbraError CORRUPT */
  parentIno(directory: Inode): number {
    return read32(this.#firstBlock(directory).bytes, DOT_DOT_AT)
  }

  setParentIno(directory: Inode, ino: number): void {
    const index = this.indexOf(directory)
    const block = this.#firstBlock(directory)
    write32(block.bytes, DOT_DOT_AT, ino)
    this.#core.markDirty(block, isIndexed(directory) ? index.sealRoot : index.sealLeaf)
  }

  /** Gives a new directory its first block with "." and "..". @throws ENOSPC */
  create(directory: Inode, parentIno: number): void {
    this.#indexes.forget(directory.ino)
    const index = this.indexOf(directory)
    const block = appendDirectoryBlock(this.#core, directory, index.sealLeaf)
    initDirectoryBlock(block.bytes)
    writeRecord(block.bytes, 0, DOT_DOT_AT, directory.ino, '.', TYPE_DIRECTORY)
    writeRecord(block.bytes, DOT_DOT_AT, RECORDS_END - DOT_DOT_AT, parentIno, '..', TYPE_DIRECTORY)
    this.#indexes.start(index)
  }

  /** The directory is gone. */
  forget(directory: Inode): void {
    this.#indexes.forget(directory.ino)
  }

  /** Calls `visit` for each used record but "." and "..", in no order, until it returns false. */
  forEachRecord(directory: Inode, visit: RecordVisitor): void {
    const index = this.indexOf(directory)
    if (isIndexed(directory)) {
      const path = this.tree.probe(directory, index, 0)
      do {
        if (!visitRecords(this.tree.leafAt(directory, index, path).bytes, 0, visit)) return
      } while (this.tree.next(directory, index, path) >= 0)
      return
    }
    const blockCount = directory.sizeBytes / BLOCK_SIZE_BYTES
    for (let fileBlock = 0; fileBlock < blockCount; fileBlock++) {
      if (!visitRecords(this.tree.leaf(directory, index, fileBlock).bytes, 0, visit)) return
    }
  }

  #findHashed(directory: Inode, index: DirectoryIndex, name: string): Place | undefined {
    const root = this.tree.root(directory, index)
    const { major } = this.tree.hash(name, rootHashVersion(root.bytes))
    const path = this.tree.probe(directory, index, major)
    do {
      const block = this.tree.leafAt(directory, index, path)
      const at = findRecord(block.bytes, name)
      if (at >= 0) return { block, at }
    } while (this.tree.next(directory, index, path) === major + 1)
    return undefined
  }

  #reserveHashed(directory: Inode, index: DirectoryIndex, name: string, sizeBytes: number): Place {
    const root = this.tree.root(directory, index)
    const { major } = this.tree.hash(name, rootHashVersion(root.bytes))
    let block = this.tree.leafAt(directory, index, this.tree.probe(directory, index, major))
    let at = roomIn(block, index, sizeBytes)
    if (at < 0) {
      index.changeCount++
      index.noteMoves()
      this.tree.splitLeaf(directory, index, major)
      block = this.tree.leafAt(directory, index, this.tree.probe(directory, index, major))
      at = findRoom(block.bytes, sizeBytes)
      assert(at >= 0, 'a leaf just split has room for one name')
    }
    return { block, at }
  }

  #existing(directory: Inode, name: string): Place {
    const place = this.find(directory, name)
    if (!place) throw corruptDirectory(directory.ino, `a name of ${name.length} bytes is not where it was`)
    return place
  }

  #firstBlock(directory: Inode): MetadataBlock {
    const index = this.indexOf(directory)
    const verify = isIndexed(directory) ? index.verifyRoot : index.verifyLeaf
    const block = this.#core.metadata(mapDirectoryBlock(this.#core, directory, 0), verify)
    checkDots(block.bytes, directory.ino)
    return block
  }

  #paysToIndex(directory: Inode, index: DirectoryIndex): boolean {
    index.searchCount++
    const blockCount = directory.sizeBytes / BLOCK_SIZE_BYTES
    const searches = isIndexed(directory) ? SEARCHES_BEFORE_INDEX * blockCount : SEARCHES_BEFORE_INDEX
    return index.searchCount > searches
  }

  #build(directory: Inode, index: DirectoryIndex): void {
    const names = new Map<string, number>()
    this.forEachRecord(directory, (name, ino) => {
      names.set(name, ino)
      return this.#indexes.fits(names.size)
    })
    if (this.#indexes.fits(names.size)) this.#indexes.adopt(index, names)
    else index.searchCount = Number.NEGATIVE_INFINITY
  }
}

/** @returns offset of a record with room, or -1: nowhere in the block */
function roomIn(block: MetadataBlock, index: DirectoryIndex, sizeBytes: number): number {
  const from = index.roomFrom(block.blockIndex)
  const at = findRoom(block.bytes, sizeBytes, from)
  return at < 0 && from > 0 ? findRoom(block.bytes, sizeBytes) : at
}

export function isIndexed(directory: Inode): boolean {
  return (directory.flags & INODE_FLAG.INDEX) !== 0
}

/** @returns false when `visit` has had enough */
export function visitRecords(bytes: Uint8Array, from: number, visit: RecordVisitor): boolean {
  for (let at = 0; at < RECORDS_END; at += recordLength(bytes, at)) {
    const ino = recordIno(bytes, at)
    if (at < from || ino === 0 || isDot(bytes, at)) continue
    if (!visit(recordName(bytes, at), ino, recordFileType(bytes, at))) return false
  }
  return true
}

function isDot(bytes: Uint8Array, at: number): boolean {
  const length = bytes[at + 6] as number
  return bytes[at + 8] === 0x2e && (length === 1 || (length === 2 && bytes[at + 9] === 0x2e))
}

/** "." and ".." come first, as everyone relies on. */
function checkDots(bytes: Uint8Array, ino: number): void {
  const whole =
    read32(bytes, 0) === ino &&
    read16(bytes, 4) === DOT_DOT_AT &&
    read16(bytes, 6) === ((TYPE_DIRECTORY << 8) | 1) &&
    read16(bytes, DOT_DOT_AT + 6) === ((TYPE_DIRECTORY << 8) | 2) &&
    read16(bytes, DOT_DOT_AT + 4) >= FIRST_NAME_AT - DOT_DOT_AT
  if (!whole) throw corruptDirectory(ino, 'it does not start with "." and ".."')
}
