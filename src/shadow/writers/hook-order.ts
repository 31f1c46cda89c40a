// The order of hooks in Freeze and Thaw: a coordinator tells all writers of one level at once, but
// hooks rely on the order of their names, as run-parts and qemu-ga's wrapper have it.
//
// Always true: of the hooks that are told in one turn the first by name freezes first and thaws last; a
// hook that does not end holds the next one back for PATIENCE_MS and no longer.

import { setImmediate as nextTurn } from 'node:timers/promises'

const PATIENCE_MS = 5000

interface Waiting {
  readonly index: number
  readonly start: () => Promise<void>
}

export class HookOrder {
  /** By session and event, while the turn lasts. */
  readonly #turns = new Map<string, Waiting[]>()

  /**
   * Runs `work` in its place among those that come in the same turn with the same key.
   * @param work gets the milliseconds that it has waited
   */
  run<T>(key: string, index: number, work: (waitedMs: number) => Promise<T>): Promise<T> {
    const cameMs = performance.now()
    return new Promise((resolve, reject) => {
      const start = (): Promise<void> => work(performance.now() - cameMs).then(resolve, reject)
      const turn = this.#turns.get(key)
      if (turn) {
        turn.push({ index, start })
        return
      }
      this.#turns.set(key, [{ index, start }])
      void this.#play(key)
    })
  }

  async #play(key: string): Promise<void> {
    await nextTurn()
    const turn = this.#turns.get(key) ?? []
    this.#turns.delete(key)
    turn.sort((a, b) => a.index - b.index)
    for (const { start } of turn) await boundedly(start())
  }
}

function boundedly(work: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, PATIENCE_MS)
    void work.then(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
