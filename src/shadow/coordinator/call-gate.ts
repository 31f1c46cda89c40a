// The gate that every call of a session passes: legal in the state, and alone.
//
// Always true: a refused call has done nothing; a call that fails leaves the state as it was, unless
// the call itself moved it; while a call is under way every other one is refused, but for closing and
// aborting, which stop it.

import { setMaxListeners } from 'node:events'
import { UmbraError } from '../../base/errors.ts'
import type { SessionCall } from './session-states.ts'

export class CallGate<State extends string> {
  #state: State
  readonly #legal: Readonly<Record<SessionCall, readonly State[]>>
  #underWay: { readonly call: SessionCall; readonly settled: Promise<unknown> } | undefined
  #ended = stopper()

  constructor(initial: State, legal: Readonly<Record<SessionCall, readonly State[]>>) {
    this.#state = initial
    this.#legal = legal
  }

  get state(): State {
    return this.#state
  }

  moveTo(state: State): void {
    this.#state = state
  }

  /** Aborts when whoever asked wants the call that is under way to stop. */
  get signal(): AbortSignal {
    return this.#ended.signal
  }

  /** @throws UmbraError BAD_STATE */
  async run<R>(call: SessionCall, work: () => R | Promise<R>): Promise<R> {
    this.#check(call)
    const work_ = (async () => work())()
    const underWay = { call, settled: work_.catch(() => {}) }
    this.#underWay = underWay
    try {
      return await work_
    } finally {
      if (this.#underWay === underWay) this.#underWay = undefined
    }
  }

  /** Stops what is under way and waits for its end; it sees `signal` aborted. */
  async interrupt(reason: UmbraError): Promise<void> {
    const underWay = this.#underWay
    if (underWay === undefined) return
    this.#ended.abort(reason)
    await underWay.settled
    this.#ended = stopper()
  }

  #check(call: SessionCall): void {
    if (this.#underWay !== undefined) {
      throw new UmbraError('BAD_STATE', `${call} was called while ${this.#underWay.call} is under way`)
    }
    if (this.#legal[call].includes(this.#state)) return
    throw new UmbraError('BAD_STATE', `${call} is not to be called in a session that is ${this.#state}`, {
      call,
      state: this.#state,
    })
  }
}

/** Sixty-four volumes and any number of writers may wait on it at once. */
function stopper(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}
