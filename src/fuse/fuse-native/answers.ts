// Runs an operation and gives its result, or its errno, to the callback that fuse-native waits for.
//
// Always true: each callback is called exactly once, whatever the operation throws; one that throws
// NotReady is asked again when what it waits for has settled; one that throws ESTALE is asked once more
// with an empty path cache; ENOSYS is never answered (the kernel would remember it for the mount's
// life). After end() everything is ENOTCONN.

import { constants } from 'node:os'
import { errnoFrom, hasCode, UmbraError } from '../../base/errors.ts'
import { NotReady } from '../operations.ts'

/** Told of failures that are no answers: bugs and damage. */
export type NativeErrorReport = (error: unknown, operation: string) => void

/** As fuse-native's callbacks have it: 0, or a negated errno. */
export type Reply<T> = (error: number, value?: T) => void

const { EIO, ENOSYS, ENOTCONN, EOPNOTSUPP } = constants.errno

export class Answers {
  readonly #report: NativeErrorReport
  readonly #onStale: () => void
  /** Operations that NotReady keeps waiting. */
  readonly #delayed = new Set<Promise<void>>()
  #isEnded = false

  constructor(report: NativeErrorReport, onStale: () => void) {
    this.#report = report
    this.#onStale = onStale
  }

  end(): void {
    this.#isEnded = true
  }

  run<T>(operation: string, reply: Reply<T>, work: () => T | Promise<T>): void {
    this.#attempt(operation, reply, work, false)
  }

  /** As run(), once every operation that waits now is through: for what must not overtake them. */
  runInTurn<T>(operation: string, reply: Reply<T>, work: () => T | Promise<T>): void {
    if (this.#delayed.size === 0) this.run(operation, reply, work)
    else void Promise.allSettled([...this.#delayed]).then(() => this.run(operation, reply, work))
  }

  #attempt<T>(operation: string, reply: Reply<T>, work: () => T | Promise<T>, isRetry: boolean): void {
    if (this.#isEnded) {
      reply(-ENOTCONN)
      return
    }
    let result: T | Promise<T>
    try {
      result = work()
    } catch (error) {
      if (error instanceof NotReady) this.#delay(error.ready, operation, reply, work)
      else if (!isRetry && hasCode(error, 'ESTALE')) {
        this.#onStale()
        this.#attempt(operation, reply, work, true)
      } else this.#fail(operation, reply, error)
      return
    }
    if (!(result instanceof Promise)) reply(0, result)
    else
      void result.then(
        (value) => reply(0, value),
        (error) => this.#fail(operation, reply, error),
      )
  }

  #delay<T>(ready: Promise<unknown>, operation: string, reply: Reply<T>, work: () => T | Promise<T>): void {
    const waiting = ready.then(
      () => {
        this.#delayed.delete(waiting)
        this.#attempt(operation, reply, work, false)
      },
      (error) => {
        this.#delayed.delete(waiting)
        this.#fail(operation, reply, error)
      },
    )
    this.#delayed.add(waiting)
  }

  #fail<T>(operation: string, reply: Reply<T>, error: unknown): void {
    const errno = errnoFrom(error)
    if (!(error instanceof UmbraError) || errno === EIO) this.#report(error, operation)
    reply(-(errno === ENOSYS ? EOPNOTSUPP : errno))
  }
}
