// Inodes in memory, within a limit, by two generations.
//
// Always true: one object for each inode number; an inode in use (handles, lookups, orphan), dirty or
// with changes not yet durable stays; any other stays for at least half the limit's worth of further
// loads, so that an operation may hold the inodes it works on.

import type { Inode } from './inode.ts'

export class InodeCache {
  readonly #generationCount: number
  readonly #durableTransaction: () => number
  #young = new Map<number, Inode>()
  #old = new Map<number, Inode>()

  constructor(limitCount: number, durableTransaction: () => number) {
    this.#generationCount = Math.max(256, limitCount >> 1)
    this.#durableTransaction = durableTransaction
  }

  get count(): number {
    return this.#young.size + this.#old.size
  }

  get(ino: number): Inode | undefined {
    const young = this.#young.get(ino)
    if (young) return young
    const old = this.#old.get(ino)
    if (!old) return undefined
    this.#old.delete(ino)
    this.#young.set(ino, old)
    return old
  }

  add(inode: Inode): void {
    if (this.#young.size >= this.#generationCount) this.#rotate()
    this.#young.set(inode.ino, inode)
  }

  remove(ino: number): void {
    this.#young.delete(ino)
    this.#old.delete(ino)
  }

  #rotate(): void {
    const kept = new Map<number, Inode>()
    for (const inode of this.#old.values()) if (this.#mustStay(inode)) kept.set(inode.ino, inode)
    this.#old = this.#young
    // Those that must stay go on living among the old, where they cost no room for fresh ones.
    for (const inode of kept.values()) this.#old.set(inode.ino, inode)
    this.#young = new Map()
  }

  #mustStay(inode: Inode): boolean {
    const durable = this.#durableTransaction()
    return (
      inode.openCount > 0 ||
      inode.lookupCount > 0 ||
      inode.dirty ||
      inode.orphaned ||
      inode.inodeTransaction > durable ||
      inode.mappingTransaction > durable
    )
  }
}
