// Leases: promises that a snapshot stays while somebody reads it.
//
// Always true: a lease is in memory only, so it ends with the process; a snapshot may have several.

import type { PointRecord } from './catalog.ts'
import type { TreeRoot } from './points.ts'

/** Everything a reader in another process needs, and the promise that the snapshot stays. */
export interface Lease {
  readonly id: string
  readonly name: string
  readonly volumeUuid: string
  readonly root: TreeRoot
  readonly epoch: number
  readonly blockCount: number
  /** Ends it; calling again does nothing. */
  release(): void
}

export class Leases {
  readonly #counts = new Map<string, number>()

  isHeld(id: string): boolean {
    return this.#counts.has(id)
  }

  take(record: PointRecord, volumeUuid: string): Lease {
    const { id, name, root, epoch, blockCount } = record
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1)
    let isHeld = true
    const release = () => {
      if (!isHeld) return
      isHeld = false
      const left = (this.#counts.get(id) ?? 1) - 1
      if (left > 0) this.#counts.set(id, left)
      else this.#counts.delete(id)
    }
    return { id, name, volumeUuid, root, epoch, blockCount, release }
  }
}
