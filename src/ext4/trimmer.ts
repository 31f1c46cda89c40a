// Gives free blocks back to the device, so that what they held is neither kept nor seen again.
//
// Always true: only blocks that the bitmaps call free and that no unlinked file in use holds are
// discarded; a group whose bitmap was never initialised has nothing to give back.

import type { BlockDevice } from '../storage/block-device.ts'
import { clearRun, findClear } from './bitmap.ts'
import type { Groups } from './groups.ts'
import { groupBlockCount } from './layout.ts'
import type { OrphanOverlay } from './orphan-overlay.ts'

export class Trimmer {
  readonly #device: BlockDevice
  readonly #groups: Groups
  readonly #overlay: OrphanOverlay

  constructor(device: BlockDevice, groups: Groups, overlay: OrphanOverlay) {
    this.#device = device
    this.#groups = groups
    this.#overlay = overlay
  }

  /** Discards what is free of the run; what lies outside the file system is ignored. */
  trimRun(blockIndex: number, blockCount: number): void {
    const { blocksPerGroup, blockCount: total } = this.#groups.geometry
    const end = Math.min(blockIndex + blockCount, total)
    for (let block = blockIndex; block < end; ) {
      const group = Math.floor(block / blocksPerGroup)
      const groupEnd = Math.min(end, (group + 1) * blocksPerGroup)
      const first = group * blocksPerGroup
      this.#trimIn(group, block - first, groupEnd - first)
      block = groupEnd
    }
  }

  /** Discards the free runs among bits [from, to) of an initialised group, except what orphans hold. */
  #trimIn(group: number, from: number, to: number): void {
    const bitmap = this.#groups.peekBlockBitmap(group)
    if (!bitmap) return
    const held = this.#overlay.bits(group)
    const bits = held ? bitmap.bytes.map((byte, i) => byte | (held[i] as number)) : bitmap.bytes
    for (let at = findClear(bits, from, to); at >= 0; at = findClear(bits, at, to)) {
      const count = clearRun(bits, at, to, to - at)
      this.#device.discard(group * this.#groups.geometry.blocksPerGroup + at, count)
      at += count
    }
  }

  /** Discards every free block of initialised groups (FITRIM). */
  trim(): void {
    for (let group = 0; group < this.#groups.geometry.groupCount; group++)
      this.#trimIn(group, 0, groupBlockCount(this.#groups.geometry, group))
  }
}
