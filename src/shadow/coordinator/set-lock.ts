// One creation at a time: from the start of a snapshot set until it is made or given up (row 11).
//
// Always true: at most one holder; who waits is served in order; a holder's release may come any number
// of times and frees the lock once.

import { UmbraError } from '../../base/errors.ts'

interface Waiter {
  readonly grant: (release: () => void) => void
}

export class SetLock {
  #isHeld = false
  readonly #waiters = new Set<Waiter>()

  /**
   * @param waitMs how long to try; 0: once
   * @returns what gives it back
   * @throws UmbraError SET_IN_PROGRESS; the signal's reason
   */
  acquire(waitMs: number, signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) return Promise.reject(signal.reason)
    if (!this.#isHeld) return Promise.resolve(this.#take())
    if (waitMs <= 0) return Promise.reject(inProgress())
    return new Promise((resolve, reject) => {
      const settle = (work: () => void): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
        this.#waiters.delete(waiter)
        work()
      }
      const waiter: Waiter = { grant: (release) => settle(() => resolve(release)) }
      const onAbort = (): void => settle(() => reject(signal.reason))
      const timer = setTimeout(() => settle(() => reject(inProgress())), Math.min(waitMs, 0x7fffffff))
      signal.addEventListener('abort', onAbort)
      this.#waiters.add(waiter)
    })
  }

  #take(): () => void {
    this.#isHeld = true
    let isReleased = false
    return () => {
      if (isReleased) return
      isReleased = true
      this.#isHeld = false
      const [next] = this.#waiters
      next?.grant(this.#take())
    }
  }
}

function inProgress(): UmbraError {
  return new UmbraError('SET_IN_PROGRESS', 'Another shadow set is being made; try again later')
}
