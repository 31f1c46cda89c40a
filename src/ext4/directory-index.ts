// What is remembered of directories between operations: their checksum closures and, for those in
// use, every name with its inode, so that lookups and proofs of absence cost one map access.
//
// Always true: an index is complete or absent, never partial; the names of all indexes together stay
// within the limit (least recently used directories are forgotten first, and a directory larger than
// the limit has none and is searched by its hash tree). Forgetting one loses nothing but time.

import type { Seal, Verify } from './core.ts'
import { checkDirectoryBlock, sealDirectoryBlock } from './directory-block.ts'
import { checkNode, checkRoot, NODE_ENTRIES_AT, ROOT_ENTRIES_AT, sealIndexBlock } from './htree.ts'

const NAME_LIMIT = 1_000_000
const DIRECTORY_LIMIT = 20_000
/** Blocks of one directory whose last insertion is remembered; past this the memory starts anew. */
const ROOMS_MAX = 16_384

export class DirectoryIndex {
  readonly ino: number
  readonly sealLeaf: Seal
  readonly sealRoot: Seal
  readonly sealNode: Seal
  readonly verifyLeaf: Verify
  readonly verifyRoot: Verify
  readonly verifyNode: Verify
  /** Name -> inode number, complete; undefined: not built. */
  names: Map<string, number> | undefined
  /** Blocks searched since the index was dropped: decides when building one pays. */
  searchCount = 0
  /** Goes up with every change of the directory, for what is derived from it. */
  changeCount = 0
  /** Block -> where the record inserted there last starts: room is looked for from there on first. */
  readonly #rooms = new Map<number, number>()

  constructor(ino: number, seed: number) {
    this.ino = ino
    this.sealLeaf = (bytes) => sealDirectoryBlock(bytes, seed)
    this.sealRoot = (bytes) => sealIndexBlock(bytes, ROOT_ENTRIES_AT, seed)
    this.sealNode = (bytes) => sealIndexBlock(bytes, NODE_ENTRIES_AT, seed)
    this.verifyLeaf = (bytes) => checkDirectoryBlock(bytes, seed, ino)
    this.verifyRoot = (bytes) => checkRoot(bytes, seed, ino)
    this.verifyNode = (bytes) => checkNode(bytes, seed, ino)
  }

  /** Where a record of the block starts, at or after which there may be room. */
  roomFrom(blockIndex: number): number {
    return this.#rooms.get(blockIndex) ?? 0
  }

  /** A record was put into the block at `at`. */
  noteInsertion(blockIndex: number, at: number): void {
    if (this.#rooms.size >= ROOMS_MAX) this.#rooms.clear()
    this.#rooms.set(blockIndex, at)
  }

  /** A record of the block is gone: others may start elsewhere than before. */
  noteRemoval(blockIndex: number): void {
    this.#rooms.delete(blockIndex)
  }

  /** Records moved between blocks. */
  noteMoves(): void {
    this.#rooms.clear()
  }
}

export class DirectoryIndexCache {
  readonly #nameLimit: number
  /** In order of use, the least recently used first. */
  readonly #directories = new Map<number, DirectoryIndex>()
  #last: DirectoryIndex | undefined
  #nameCount = 0

  constructor(nameLimit: number = NAME_LIMIT) {
    this.#nameLimit = nameLimit
  }

  /** Names held in memory. */
  get nameCount(): number {
    return this.#nameCount
  }

  /** The directory's index; `seedOf` is asked only for one that is not remembered. */
  get(ino: number, seedOf: () => number): DirectoryIndex {
    if (this.#last?.ino === ino) return this.#last
    let index = this.#directories.get(ino)
    if (index) this.#directories.delete(ino)
    else index = new DirectoryIndex(ino, seedOf())
    this.#directories.set(ino, index)
    this.#last = index
    if (this.#directories.size > DIRECTORY_LIMIT) this.#forgetOldest()
    return index
  }

  /** Gives the directory an empty index (a new directory). */
  start(index: DirectoryIndex): void {
    this.drop(index)
    index.names = new Map()
  }

  /** Whether one with this many names would fit at all. */
  fits(nameCount: number): boolean {
    return nameCount <= this.#nameLimit
  }

  /** Gives the directory a complete index built by the caller. */
  adopt(index: DirectoryIndex, names: Map<string, number>): void {
    this.drop(index)
    index.names = names
    this.#nameCount += names.size
    this.#shrink(index)
  }

  set(index: DirectoryIndex, name: string, ino: number): void {
    if (!index.names) return
    const before = index.names.size
    index.names.set(name, ino)
    this.#nameCount += index.names.size - before
    if (this.#nameCount > this.#nameLimit) this.#shrink(index)
  }

  delete(index: DirectoryIndex, name: string): void {
    if (index.names?.delete(name)) this.#nameCount--
  }

  /** Drops the names only. */
  drop(index: DirectoryIndex): void {
    this.#nameCount -= index.names?.size ?? 0
    index.names = undefined
    index.searchCount = 0
  }

  /** The directory is gone, or its inode number became another's. */
  forget(ino: number): void {
    const index = this.#directories.get(ino)
    if (!index) return
    this.drop(index)
    this.#directories.delete(ino)
    if (this.#last === index) this.#last = undefined
  }

  #shrink(keep: DirectoryIndex): void {
    if ((keep.names?.size ?? 0) > this.#nameLimit) this.drop(keep)
    for (const index of this.#directories.values()) {
      if (this.#nameCount <= this.#nameLimit) return
      if (index !== keep) this.drop(index)
    }
  }

  #forgetOldest(): void {
    for (const ino of this.#directories.keys()) {
      if (ino === this.#last?.ino) continue
      this.forget(ino)
      return
    }
  }
}
