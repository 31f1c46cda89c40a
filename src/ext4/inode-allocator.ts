// Which inode numbers are free. Directories at the top spread over flex groups, everything else
// stays in its parent's group while there is room.
//
// Always true: a number held by an orphan is free in the bitmap and never handed out; itable_unused
// covers only records beyond the highest number ever used in the group, and records that it uncovers
// are zero on disk.

import { posixError, UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { clearBits, findClear, isSet, setBits } from './bitmap.ts'
import type { BlockCache } from './block-cache.ts'
import { GROUP_FLAG } from './format.ts'
import type { Groups } from './groups.ts'
import { ROOT_INO } from './inode.ts'
import type { OrphanOverlay } from './orphan-overlay.ts'

export class InodeAllocator {
  readonly #cache: BlockCache
  readonly #groups: Groups
  readonly #overlay: OrphanOverlay
  /** No number below this index in the group is free and held by no orphan. */
  #firstFree = new Uint32Array(0)
  #committedFree = 0

  constructor(cache: BlockCache, groups: Groups, overlay: OrphanOverlay) {
    this.#cache = cache
    this.#groups = groups
    this.#overlay = overlay
    this.load()
  }

  /** Takes what the groups say: at first, and when the file system has grown. */
  load(): void {
    const { geometry, freeInodes } = this.#groups
    const known = this.#firstFree
    this.#firstFree = new Uint32Array(geometry.groupCount)
    this.#firstFree.set(known)
    this.#committedFree = 0
    for (const count of freeInodes) this.#committedFree += count
  }

  get committedFreeCount(): number {
    return this.#committedFree
  }
  get freeCount(): number {
    return this.#committedFree - this.#overlay.inodes.size
  }

  groupOf(ino: number): number {
    return Math.floor((ino - 1) / this.#groups.geometry.inodesPerGroup)
  }

  /** Block of the inode table that holds the record. */
  tableBlock(ino: number): number {
    const { inodesPerGroup, inodeSizeBytes } = this.#groups.geometry
    const index = (ino - 1) % inodesPerGroup
    return (
      this.#groups.inodeTable(this.groupOf(ino)) + Math.floor((index * inodeSizeBytes) / BLOCK_SIZE_BYTES)
    )
  }
  /** Where in that block the record starts. */
  recordOffset(ino: number): number {
    const { inodesPerGroup, inodeSizeBytes } = this.#groups.geometry
    return (((ino - 1) % inodesPerGroup) * inodeSizeBytes) % BLOCK_SIZE_BYTES
  }

  /** Whether the bitmap says that the inode is in use. */
  isUsed(ino: number): boolean {
    const bitmap = this.#groups.peekInodeBitmap(this.groupOf(ino))
    return bitmap !== undefined && isSet(bitmap.bytes, (ino - 1) % this.#groups.geometry.inodesPerGroup)
  }

  /** @throws UmbraError ENOSPC */
  allocate(parentIno: number, directory: boolean): number {
    if (this.freeCount <= 0) throw posixError('ENOSPC', 'No free inodes in the file system')
    const { groupCount } = this.#groups.geometry
    const home = directory && parentIno === ROOT_INO ? this.#spreadGroup() : this.groupOf(parentIno)
    for (let i = 0; i < groupCount; i++) {
      const ino = this.#allocateIn((home + i) % groupCount, directory)
      if (ino > 0) return ino
    }
    throw new UmbraError('CORRUPT', 'Free inode counts promise inodes that no bitmap has')
  }

  /** First group of the flex group with the fewest directories among those with room. */
  #spreadGroup(): number {
    const { geometry, freeInodes, freeBlocks, usedDirectories } = this.#groups
    const step = geometry.groupsPerFlex
    let best = 0
    let fewest = Number.POSITIVE_INFINITY
    for (let start = 0; start < geometry.groupCount; start += step) {
      const end = Math.min(start + step, geometry.groupCount)
      let directories = 0
      let inodes = 0
      let blocks = 0
      for (let group = start; group < end; group++) {
        directories += usedDirectories[group] as number
        inodes += freeInodes[group] as number
        blocks += freeBlocks[group] as number
      }
      const roomy = inodes * 4 > (end - start) * geometry.inodesPerGroup && blocks > 0
      if (roomy && directories < fewest) {
        fewest = directories
        best = start
      }
    }
    return best
  }

  #allocateIn(group: number, directory: boolean): number {
    const { inodesPerGroup, firstInode } = this.#groups.geometry
    if ((this.#groups.freeInodes[group] as number) === 0) return 0
    const bits = this.#groups.peekInodeBitmap(group)?.bytes
    const from = Math.max(this.#firstFree[group] as number, group === 0 ? firstInode - 1 : 0)
    let index = bits ? findClear(bits, from, inodesPerGroup) : from
    while (index >= 0 && this.#overlay.inodes.has(group * inodesPerGroup + index + 1))
      index = bits ? findClear(bits, index + 1, inodesPerGroup) : index + 1
    if (index < 0 || index >= inodesPerGroup) {
      this.#firstFree[group] = inodesPerGroup
      return 0
    }
    this.take(group * inodesPerGroup + index + 1, directory)
    this.#firstFree[group] = index + 1
    return group * inodesPerGroup + index + 1
  }

  /** Marks a free number as used. */
  take(ino: number, directory: boolean): void {
    const group = this.groupOf(ino)
    const { inodesPerGroup } = this.#groups.geometry
    const index = (ino - 1) % inodesPerGroup
    setBits(this.#groups.inodeBitmapForChange(group).bytes, index, 1)
    this.#uncover(group, index)
    this.#change(group, -1, directory ? 1 : 0)
  }

  /** Marks a number as free. One that an orphan holds from now on is handed out after letGo() only. */
  release(ino: number, directory: boolean, isHeld: boolean): void {
    const group = this.groupOf(ino)
    const index = (ino - 1) % this.#groups.geometry.inodesPerGroup
    const bits = this.#groups.inodeBitmapForChange(group).bytes
    if (!isSet(bits, index)) throw new UmbraError('CORRUPT', `Inode ${ino} is freed twice`)
    clearBits(bits, index, 1)
    if (!isHeld) this.#offer(group, index)
    this.#change(group, 1, directory ? -1 : 0)
  }

  /** No orphan holds the number any more. */
  letGo(ino: number): void {
    this.#overlay.inodes.delete(ino)
    this.#offer(this.groupOf(ino), (ino - 1) % this.#groups.geometry.inodesPerGroup)
  }

  #offer(group: number, index: number): void {
    this.#firstFree[group] = Math.min(this.#firstFree[group] as number, index)
  }

  #change(group: number, inodes: number, directories: number): void {
    const { freeInodes, usedDirectories } = this.#groups
    freeInodes[group] = (freeInodes[group] as number) + inodes
    usedDirectories[group] = (usedDirectories[group] as number) + directories
    this.#committedFree += inodes
    this.#groups.touch(group)
  }

  /** Shrinks itable_unused so that the record at `index` is covered, zeroing stale records. */
  #uncover(group: number, index: number): void {
    const { inodesPerGroup, inodeSizeBytes } = this.#groups.geometry
    const covered = inodesPerGroup - this.#groups.itableUnused(group)
    if (index < covered) return
    if ((this.#groups.flags(group) & GROUP_FLAG.INODE_ZEROED) === 0) {
      for (let i = covered; i <= index; i++) {
        const ino = group * inodesPerGroup + i + 1
        const at = this.recordOffset(ino)
        const block = this.#cache.get(this.tableBlock(ino))
        block.bytes.fill(0, at, at + inodeSizeBytes)
        this.#cache.markDirty(block, () => undefined)
      }
    }
    this.#groups.setItableUnused(group, inodesPerGroup - index - 1)
  }
}
