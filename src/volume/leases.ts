// Leases: promises that a snapshot, or a bookmark with its window list, stays while somebody reads it.
//
// Always true: a lease is in memory only, so it ends with the process; a point may have several. A
// leased snapshot is never deleted on request, and is the last to be evicted. If it is evicted all the
// same, its holder is told, and its blocks stay as they are until the holder lets go: no reader ever
// gets what was written over them.

import type { PointRecord } from './catalog.ts'
import type { TreeRoot } from './points.ts'
import type { ReadTickets } from './read-tickets.ts'

/** Everything a reader in another process needs, and the promise that the point stays. A bookmark's root is empty. */
export interface Lease {
  readonly id: string
  readonly name: string
  readonly volumeUuid: string
  readonly root: TreeRoot
  readonly epoch: number
  readonly blockCount: number
  /** `told` is called when the snapshot is evicted; at once if it has been. */
  onEvicted(told: () => void): void
  /** Ends it; calling again does nothing. */
  release(): void
}

interface Held {
  told: (() => void) | undefined
  /** Keeps what it reads from being reused, once it is evicted. */
  ticket: number | undefined
}

export class Leases {
  readonly #reads: ReadTickets
  readonly #held = new Map<string, Set<Held>>()

  constructor(reads: ReadTickets) {
    this.#reads = reads
  }

  isHeld(id: string): boolean {
    return this.#held.has(id)
  }

  take(record: PointRecord, volumeUuid: string): Lease {
    const { id, name, root, epoch, blockCount } = record
    const held: Held = { told: undefined, ticket: undefined }
    const all = this.#held.get(id)
    if (all) all.add(held)
    else this.#held.set(id, new Set([held]))
    const onEvicted = (told: () => void): void => {
      held.told = told
      if (held.ticket !== undefined) queueMicrotask(told)
    }
    return {
      id,
      name,
      volumeUuid,
      root,
      epoch,
      blockCount,
      onEvicted,
      release: () => this.#release(id, held),
    }
  }

  /** In the cut that evicts it. Holders are told when the cut is over. */
  evicted(id: string): void {
    for (const held of this.#held.get(id) ?? []) {
      held.ticket ??= this.#reads.begin()
      if (held.told) queueMicrotask(held.told)
    }
  }

  #release(id: string, held: Held): void {
    const all = this.#held.get(id)
    if (!all?.delete(held)) return
    if (all.size === 0) this.#held.delete(id)
    if (held.ticket !== undefined) this.#reads.end(held.ticket)
  }
}
