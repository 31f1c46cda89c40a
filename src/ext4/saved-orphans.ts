// The list of blocks that unlinked files still in use hold, as kept beside the file system.
//
// Always true: each commit carries the list as of its cut, or a short one that says to trim
// everything, or the one before; it never fails for want of room for it. What a list found at opening
// names is discarded once, before anything else changes.

import { hasCode } from '../base/errors.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { decodeOrphanTable, type OrphanOverlay } from './orphan-overlay.ts'
import type { Trimmer } from './trimmer.ts'

export class SavedOrphans {
  readonly #device: BlockDevice
  readonly #overlay: OrphanOverlay

  constructor(device: BlockDevice, overlay: OrphanOverlay) {
    this.#device = device
    this.#overlay = overlay
  }

  /**
   * A commit must not fail for want of room for the table: a shorter one does, or the one before. What
   * that does not list stays mapped after a crash, free and unread, until it is written again.
   * @param dirtyBlockCount blocks that the commit writes besides
   */
  save(dirtyBlockCount: number): void {
    const table = this.#overlay.takeTable()
    if (!table || this.#trySave(table, dirtyBlockCount)) return
    this.#overlay.keepTable()
    this.#trySave(this.#overlay.shortTable(), dirtyBlockCount)
  }

  #trySave(table: Uint8Array, dirtyBlockCount: number): boolean {
    try {
      // No operation is under way: what was claimed for the last one is room for the table.
      this.#device.requireRoom(dirtyBlockCount, true)
      this.#device.writeSideTable(table)
      return true
    } catch (error) {
      if (hasCode(error, 'OUT_OF_SPACE')) return false
      throw error
    }
  }

  /** After a crash: what unlinked files held is still mapped in the volume; gives it back. */
  discard(trimmer: Trimmer): void {
    const bytes = this.#device.readSideTable()
    if (bytes.length === 0) return
    const table = decodeOrphanTable(bytes)
    if (table.trimAll) trimmer.trim()
    for (const run of table.runs) trimmer.trimRun(run.blockIndex, run.blockCount)
    this.#device.writeSideTable(new Uint8Array(0))
  }
}
