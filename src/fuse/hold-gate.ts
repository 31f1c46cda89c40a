// Where modifications wait while a shadow set is cut: every volume of the set is held before the first
// of them commits, so that no snapshot holds what came after a write that another lacks.
//
// Always true: while held, nothing that changes the tree begins, and hold() has settled only when what
// had begun is done; reads, lookups, opening, forgetting and syncing what has arrived go on. What waits
// is asked again in the order in which it came. It costs one comparison while nobody holds.
//
// What the kernel itself makes wait is not ours to answer: under write-back, close(2) of a file with a
// queued write, because the write's times are sent first (they could go through only into the snapshot
// without the write, or out of order); without write-back, a read of the very page that is being written.

import { NotReady } from './operations.ts'

export class HoldGate {
  /** What those who wait wait for, and what lets them go on. */
  #held: { readonly released: Promise<void>; readonly release: () => void } | undefined
  /** Changes that span several turns of the loop. */
  readonly #running = new Set<Promise<unknown>>()

  get isHeld(): boolean {
    return this.#held !== undefined
  }

  /** Settles with the present hold; undefined: nobody holds. For what cannot be asked again. */
  get released(): Promise<void> | undefined {
    return this.#held?.released
  }

  /** To be called before anything is changed. @throws NotReady while held */
  pass(): void {
    if (this.#held !== undefined) throw new NotReady(this.#held.released)
  }

  /** A change that was let in and goes on later: a hold waits for its end. @returns the same promise */
  track<T>(change: Promise<T>): Promise<T> {
    const done = (): void => void this.#running.delete(ended)
    const ended: Promise<void> = change.then(done, done)
    this.#running.add(ended)
    return change
  }

  /** Settles when nothing changes any more. One holder at a time. */
  async hold(): Promise<void> {
    if (this.#held === undefined) {
      let release = (): void => {}
      const released = new Promise<void>((resolve) => {
        release = resolve
      })
      this.#held = { released, release }
    }
    await Promise.all(this.#running)
  }

  /** Does nothing where nobody holds. */
  release(): void {
    const held = this.#held
    this.#held = undefined
    held?.release()
  }
}
