// Inodes in memory, within a limit, by two generations.
//
// Always true: one object for each inode number; an inode with open handles, an orphan, and one that is
// dirty or has changes not yet durable stays; any other stays for at least half the limit's worth of
// further loads, so that an operation may hold the inodes it works on. Of what the kernel has looked up,
// which may be millions of inodes, only the count stays, and comes back with the inode.

import type { Inode } from './inode.ts'

export class InodeCache {
  readonly #generationCount: number
  readonly #durableTransaction: () => number
  /** Lookups that the kernel holds of inodes that are not in memory. */
  readonly #lookups = new Map<number, number>()
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
    const lookupCount = this.#lookups.get(inode.ino)
    if (lookupCount === undefined) return
    inode.lookupCount += lookupCount
    this.#lookups.delete(inode.ino)
  }

  /** The kernel forgets lookups of an inode that is not in memory. @returns false: it is in memory, or has none */
  forgetLookups(ino: number, count: number): boolean {
    const held = this.#lookups.get(ino)
    if (held === undefined) return false
    if (held > count) this.#lookups.set(ino, held - count)
    else this.#lookups.delete(ino)
    return true
  }

  remove(ino: number): void {
    this.#lookups.delete(ino)
    this.#young.delete(ino)
    this.#old.delete(ino)
  }

  #rotate(): void {
    const kept = new Map<number, Inode>()
    for (const inode of this.#old.values()) {
      if (this.#mustStay(inode)) kept.set(inode.ino, inode)
      else if (inode.lookupCount > 0) this.#lookups.set(inode.ino, inode.lookupCount)
    }
    this.#old = this.#young
    // Those that must stay go on living among the old, where they cost no room for fresh ones.
    for (const inode of kept.values()) this.#old.set(inode.ino, inode)
    this.#young = new Map()
  }

  #mustStay(inode: Inode): boolean {
    const durable = this.#durableTransaction()
    return (
      inode.openCount > 0 ||
      inode.dirty ||
      inode.orphaned ||
      inode.inodeTransaction > durable ||
      inode.mappingTransaction > durable
    )
  }
}
