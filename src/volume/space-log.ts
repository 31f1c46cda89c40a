// What happened about the snapshots' room, for whoever wants to know: the last events, and listeners.
//
// Always true: a warning is given once when a share of the limit is passed on the way up, and again
// only after it fell well below; a listener that fails harms nobody.

import { formatSize } from '../base/units.ts'
import type { SpaceEvent } from './points.ts'

const EVENTS_KEPT = 64
const WARN_AT_SHARES = [0.95, 0.8]
/** It must fall so far below a share before that is warned of again. */
const REARM_SHARE = 0.05

export class SpaceLog {
  readonly #listeners = new Set<(event: SpaceEvent) => void>()
  #events: SpaceEvent[] = []
  /** The share that was warned of last; 0: none. */
  #warnedAt = 0

  /** Oldest first; only the last 64 are kept. */
  get events(): readonly SpaceEvent[] {
    return this.#events
  }

  /** @returns what ends the listening */
  onEvent(listener: (event: SpaceEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  add(event: Omit<SpaceEvent, 'atMs'>): void {
    const added = { ...event, atMs: Date.now() }
    this.#events = [...this.#events.slice(1 - EVENTS_KEPT), added]
    for (const listener of this.#listeners) {
      try {
        listener(added)
      } catch {
        // It listens inside a commit, which goes on.
      }
    }
  }

  /** In each cut: warns when what snapshots hold has come near the limit. */
  warn(usedBytes: number, limitBytes: number | null): void {
    if (limitBytes === null) {
      this.#warnedAt = 0
      return
    }
    const share = usedBytes / limitBytes
    if (share < this.#warnedAt - REARM_SHARE) this.#warnedAt = 0
    const passed = WARN_AT_SHARES.find((level) => share >= level)
    if (passed === undefined || passed <= this.#warnedAt) return
    this.#warnedAt = passed
    const message = `Snapshots hold ${formatSize(usedBytes)} of the ${formatSize(limitBytes)} that they may (${Math.floor(share * 100)} %)`
    this.add({ kind: 'warning', message, snapshot: null, usedBytes, limitBytes })
  }
}
