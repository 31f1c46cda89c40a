// What waits to be done inside the next cut.
//
// Always true: actions run in the order they were asked for. One that throws before it changed the
// state is refused by itself; one that throws later breaks the cut, and with it the volume's writing.

import { UmbraError } from '../base/errors.ts'
import type { VolumeState } from './volume-state.ts'

interface Action {
  readonly run: () => void
  readonly refuse: (error: unknown) => void
}

export class CutActions {
  #waiting: Action[] = []

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  /**
   * Has `action` run in the cut of the next `commit`.
   * @returns what the action returned, when that commit is durable; throws what it threw
   */
  async inCut<T>(action: () => T, commit: () => Promise<void>): Promise<T> {
    let result: { readonly value: T } | undefined
    let refusal: { readonly error: unknown } | undefined
    this.#waiting.push({
      run: () => {
        result = { value: action() }
      },
      refuse: (error) => {
        refusal = { error }
      },
    })
    await commit()
    if (refusal) throw refusal.error
    if (!result) throw new UmbraError('READ_ONLY', 'The volume became read-only before it was done')
    return result.value
  }

  run(state: VolumeState): void {
    const actions = this.#waiting
    this.#waiting = []
    for (const action of actions) runOne(action, state)
  }
}

function runOne(action: Action, state: VolumeState): void {
  const wasDirty = state.isDirty
  state.isDirty = false
  try {
    action.run()
  } catch (error) {
    if (state.isDirty) throw error
    action.refuse(error)
  }
  if (wasDirty) state.isDirty = true
}
