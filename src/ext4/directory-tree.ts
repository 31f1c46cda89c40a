// Hashed directories: the way from the root to a leaf, growth by splitting, and turning a directory
// of one block into a hashed one.
//
// Always true: each step (a split, a level added) takes its block first and leaves a whole tree, so a
// step that fails for lack of space has changed nothing, and one that succeeds is right even if the
// name it was made for is never inserted. Nothing is inserted but where the hash leads.
// Source: Documentation/filesystems/ext4/directory.rst; Linux fs/ext4/namei.c.

import { posixError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { write16 } from './bytes.ts'
import type { Ext4Core, MetadataBlock } from './core.ts'
import {
  corruptDirectory,
  packRecords,
  RECORDS_END,
  recordIno,
  recordLength,
  recordName,
  recordSize,
} from './directory-block.ts'
import type { DirectoryIndex } from './directory-index.ts'
import {
  entryBlock,
  entryCount,
  entryHash,
  initNode,
  initRoot,
  insertEntry,
  isIndexFull,
  LEVELS_MAX,
  LEVELS_MAX_LARGE,
  moveEntries,
  NODE_ENTRIES_AT,
  ROOT_ENTRIES_AT,
  rootHashVersion,
  rootLevels,
  searchEntries,
  setEntryBlock,
  setEntryCount,
  setRootLevels,
} from './htree.ts'
import { HASH_TEA, type HashKey, type HashValue, hashName } from './htree-hash.ts'
import { INODE_FLAG, type Inode } from './inode.ts'

/** One index block on the way to a leaf. */
export interface Frame {
  readonly block: MetadataBlock
  /** Where its entries start. */
  readonly entriesAt: number
  /** The entry taken. */
  index: number
}

/** A way from the root (first) to the lowest index block (last). */
export type Path = Frame[]

interface HashedRecord {
  readonly at: number
  readonly major: number
  readonly sizeBytes: number
}

export class DirectoryTree {
  readonly #core: Ext4Core
  readonly #hash: HashValue = { major: 0, minor: 0 }
  readonly #keys: readonly HashKey[]

  constructor(core: Ext4Core) {
    this.#core = core
    this.#keys = [0, 1, 2].map((version) => ({ version, unsigned: core.hashUnsigned, seed: core.hashSeed }))
  }

  /** Hash of a name in a directory whose root says `version`; the result is reused. */
  hash(name: string, version: number): HashValue {
    return hashName(name, this.#keys[version] as HashKey, this.#hash)
  }

  root(directory: Inode, index: DirectoryIndex): MetadataBlock {
    return this.#core.metadata(this.#map(directory, 0), index.verifyRoot)
  }

  leaf(directory: Inode, index: DirectoryIndex, fileBlock: number): MetadataBlock {
    return this.#core.metadata(this.#map(directory, fileBlock), index.verifyLeaf)
  }

  /** The way to the first leaf that may hold names of this hash. */
  probe(directory: Inode, index: DirectoryIndex, hash: number): Path {
    const root = this.root(directory, index)
    const path: Path = [frame(root, ROOT_ENTRIES_AT, hash)]
    for (let level = rootLevels(root.bytes); level > 0; level--) {
      path.push(frame(this.#node(directory, index, path), NODE_ENTRIES_AT, hash))
    }
    return path
  }

  leafAt(directory: Inode, index: DirectoryIndex, path: Path): MetadataBlock {
    return this.leaf(directory, index, childBlock(directory, path))
  }

  /**
   * Moves to the next leaf.
   * @returns hash of its index entry (odd: goes on with the hash below), or -1 at the end
   */
  next(directory: Inode, index: DirectoryIndex, path: Path): number {
    let level = path.length - 1
    for (; level >= 0; level--) {
      const at = path[level] as Frame
      if (at.index + 1 < entryCount(at.block.bytes, at.entriesAt)) break
    }
    if (level < 0) return -1
    const turn = path[level] as Frame
    turn.index++
    const hash = entryHash(turn.block.bytes, turn.entriesAt, turn.index)
    const depth = path.length
    path.length = level + 1
    while (path.length < depth) {
      path.push({ block: this.#node(directory, index, path), entriesAt: NODE_ENTRIES_AT, index: 0 })
    }
    return hash
  }

  /** Gives a directory of one block an index with that block's records in one leaf. @throws ENOSPC */
  convert(directory: Inode, index: DirectoryIndex, first: MetadataBlock): void {
    const leaf = this.#append(directory, index.sealLeaf)
    const offsets: number[] = []
    for (let at = 0; at < RECORDS_END; at += recordLength(first.bytes, at)) {
      if (at >= 24 && recordIno(first.bytes, at) !== 0) offsets.push(at)
    }
    // ".." may own unused space up to the first record: records start behind it, never within 24 bytes.
    packRecords(leaf.bytes, first.bytes, offsets)
    const version = this.#core.hashVersion > HASH_TEA ? 1 : this.#core.hashVersion
    initRoot(first.bytes, version, 1)
    directory.flags |= INODE_FLAG.INDEX
    this.#core.markDirty(first, index.sealRoot)
    this.#core.markInodeDirty(directory)
  }

  /** Splits the full leaf that `path` leads to in two. @throws ENOSPC */
  splitLeaf(directory: Inode, index: DirectoryIndex, hash: number): void {
    let path = this.probe(directory, index, hash)
    while (isFrameFull(path.at(-1) as Frame)) {
      this.#splitIndex(directory, index, path)
      path = this.probe(directory, index, hash)
    }
    const leaf = this.leafAt(directory, index, path)
    const version = rootHashVersion((path[0] as Frame).block.bytes)
    const records = this.#sorted(leaf.bytes, version)
    const from = splitPoint(records)
    const hash2 = (records[from] as HashedRecord).major
    const isContinued = hash2 === (records[from - 1] as HashedRecord).major
    const fileBlock = directory.sizeBytes / BLOCK_SIZE_BYTES
    const upper = this.#append(directory, index.sealLeaf)
    const copy = leaf.bytes.slice()
    packRecords(upper.bytes, copy, offsetsOf(records, from, records.length))
    packRecords(leaf.bytes, copy, offsetsOf(records, 0, from))
    this.#core.markDirty(leaf, index.sealLeaf)
    const bottom = path.at(-1) as Frame
    insertEntry(
      bottom.block.bytes,
      bottom.entriesAt,
      bottom.index + 1,
      hash2 + (isContinued ? 1 : 0),
      fileBlock,
    )
    this.#dirtyFrame(index, bottom)
  }

  /** Makes room in the lowest index block of `path`, or brings that one step nearer. */
  #splitIndex(directory: Inode, index: DirectoryIndex, path: Path): void {
    let level = path.length - 1
    while (level > 0 && isFrameFull(path[level - 1] as Frame)) level--
    if (level === 0) this.#addLevel(directory, index, path)
    else this.#splitNode(directory, index, path, level)
  }

  #addLevel(directory: Inode, index: DirectoryIndex, path: Path): void {
    const root = path[0] as Frame
    const levels = rootLevels(root.block.bytes)
    const levelsMax = this.#core.hasLargeDirectories ? LEVELS_MAX_LARGE : LEVELS_MAX
    if (levels >= levelsMax) throw posixError('ENOSPC', `Directory ${directory.ino}: its hash tree is full`)
    const fileBlock = directory.sizeBytes / BLOCK_SIZE_BYTES
    const node = this.#append(directory, index.sealNode)
    initNode(node.bytes)
    moveEntries(root.block.bytes, ROOT_ENTRIES_AT, 0, node.bytes, NODE_ENTRIES_AT)
    setEntryCount(root.block.bytes, ROOT_ENTRIES_AT, 1)
    setEntryBlock(root.block.bytes, ROOT_ENTRIES_AT, 0, fileBlock)
    setRootLevels(root.block.bytes, levels + 1)
    this.#dirtyFrame(index, root)
  }

  #splitNode(directory: Inode, index: DirectoryIndex, path: Path, level: number): void {
    const full = path[level] as Frame
    const above = path[level - 1] as Frame
    const from = entryCount(full.block.bytes, full.entriesAt) >> 1
    const hash = entryHash(full.block.bytes, full.entriesAt, from)
    const fileBlock = directory.sizeBytes / BLOCK_SIZE_BYTES
    const node = this.#append(directory, index.sealNode)
    initNode(node.bytes)
    moveEntries(full.block.bytes, full.entriesAt, from, node.bytes, NODE_ENTRIES_AT)
    this.#dirtyFrame(index, full)
    insertEntry(above.block.bytes, above.entriesAt, above.index + 1, hash, fileBlock)
    this.#dirtyFrame(index, above)
  }

  /** The leaf's used records by rising hash. */
  #sorted(bytes: Uint8Array, version: number): HashedRecord[] {
    const records: HashedRecord[] = []
    for (let at = 0; at < RECORDS_END; at += recordLength(bytes, at)) {
      if (recordIno(bytes, at) === 0) continue
      const { major } = this.hash(recordName(bytes, at), version)
      records.push({ at, major, sizeBytes: recordSize(bytes[at + 6] as number) })
    }
    return records.sort((a, b) => a.major - b.major)
  }

  #append(directory: Inode, seal: (bytes: Uint8Array) => void): MetadataBlock {
    return appendDirectoryBlock(this.#core, directory, seal)
  }

  #dirtyFrame(index: DirectoryIndex, at: Frame): void {
    this.#core.markDirty(at.block, at.entriesAt === ROOT_ENTRIES_AT ? index.sealRoot : index.sealNode)
  }

  #node(directory: Inode, index: DirectoryIndex, path: Path): MetadataBlock {
    return this.#core.metadata(this.#map(directory, childBlock(directory, path)), index.verifyNode)
  }

  #map(directory: Inode, fileBlock: number): number {
    return mapDirectoryBlock(this.#core, directory, fileBlock)
  }
}

/** The device block of a directory's block. @throws UmbraError CORRUPT: directories have no holes */
export function mapDirectoryBlock(core: Ext4Core, directory: Inode, fileBlock: number): number {
  const inside = fileBlock * BLOCK_SIZE_BYTES < directory.sizeBytes
  const blockIndex = inside ? core.mapBlock(directory, fileBlock) : 0
  if (blockIndex === 0) throw corruptDirectory(directory.ino, `it has no block ${fileBlock}`)
  return blockIndex
}

/** Makes the directory one block longer. @throws ENOSPC with nothing changed */
export function appendDirectoryBlock(
  core: Ext4Core,
  directory: Inode,
  seal: (bytes: Uint8Array) => void,
): MetadataBlock {
  const fileBlock = directory.sizeBytes / BLOCK_SIZE_BYTES
  const block = core.newMetadata(core.appendBlock(directory, fileBlock), seal)
  directory.sizeBytes += BLOCK_SIZE_BYTES
  core.markInodeDirty(directory)
  // Until the caller has filled it the block is an empty record: whole in any case.
  write16(block.bytes, 4, BLOCK_SIZE_BYTES)
  return block
}

function frame(block: MetadataBlock, entriesAt: number, hash: number): Frame {
  return { block, entriesAt, index: searchEntries(block.bytes, entriesAt, hash) }
}

/** @throws UmbraError CORRUPT when it is the root again */
function childBlock(directory: Inode, path: Path): number {
  const last = path.at(-1) as Frame
  const fileBlock = entryBlock(last.block.bytes, last.entriesAt, last.index)
  if (fileBlock === 0) throw corruptDirectory(directory.ino, 'its index points back to the root')
  return fileBlock
}

function isFrameFull(at: Frame): boolean {
  return isIndexFull(at.block.bytes, at.entriesAt)
}

/** First record of the upper half by bytes; both halves have at least one. */
function splitPoint(records: readonly HashedRecord[]): number {
  let sizeBytes = 0
  for (let i = records.length - 1; i > 0; i--) {
    sizeBytes += (records[i] as HashedRecord).sizeBytes
    if (sizeBytes > BLOCK_SIZE_BYTES / 2) return Math.min(i + 1, records.length - 1)
  }
  return records.length >> 1
}

function offsetsOf(records: readonly HashedRecord[], from: number, end: number): number[] {
  const offsets: number[] = []
  for (let i = from; i < end; i++) offsets.push((records[i] as HashedRecord).at)
  return offsets
}
