// A limit on a wait whose end lies with somebody else.
//
// Always true: the result settles within the limit or, given a signal, when that aborts; what comes
// too late is dropped, a late failure as well.

/** @throws whatever `late` makes when time is up; the signal's reason */
export function withLimit<R>(
  work: Promise<R>,
  limitMs: number,
  late: () => Error,
  signal?: AbortSignal,
): Promise<R> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      done()
    }
    const onAbort = (): void => settle(() => reject(signal?.reason))
    const timer = setTimeout(() => settle(() => reject(late())), Math.min(limitMs, 0x7fffffff))
    work.then(
      (value) => settle(() => resolve(value)),
      (error) => settle(() => reject(error)),
    )
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort)
  })
}

/** The work's result, or the signal's reason as soon as that aborts. */
export function unlessAborted<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort)
    const forget = (): void => signal.removeEventListener('abort', onAbort)
    work.then(resolve, reject).finally(forget)
  })
}
