// Replays the crashes of a history and judges each.
//
// Always true: the first state that is wrong ends the replay and is reported with the history that led
// to it.

import type { Assertion } from 'brittle'
import type { CrashStateOptions } from '../../src/storage/crash-states.ts'
import { type CrashState, crashStates } from '../../src/storage/crash-states.ts'
import type { LogEntry } from '../../src/storage/write-log-storage.ts'
import type { ImageJudge } from './image-judge.ts'
import { judge } from './judge.ts'
import type { CrashStack } from './stack.ts'

export interface Red {
  readonly state: CrashState
  readonly problems: readonly string[]
}

export interface ReplayOptions extends CrashStateOptions {
  readonly images?: ImageJudge
  /** Of so many states one is judged by e2fsck. Default 1. */
  readonly imageEvery?: number
  /** From so many states work goes on in one. Default 1. */
  readonly useEvery?: number
  /** Where in the stack's log `base` is the storage's contents and nothing is under way. Default 0. */
  readonly fromIndex?: number
  /** Instead of the log as it was written: a planted fault. */
  readonly log?: readonly LogEntry[]
}

/** @returns the first state that is wrong, or how many there were */
export async function replay(stack: CrashStack, options: ReplayOptions): Promise<Red | number> {
  const { images, imageEvery = 1, useEvery = 1, fromIndex = 0, seed } = options
  const log = options.log ?? stack.log.entries
  let count = 0
  for (const found of crashStates(log.slice(fromIndex), options)) {
    const state = { ...found, cutIndex: found.cutIndex + fromIndex }
    const isImaged = (count + seed) % imageEvery === 0
    const isUsed = (count + seed) % useEvery === 0
    count++
    const judging = judge(stack, state, isImaged ? images : undefined, isUsed)
    const problems = await judging.catch((error: Error) => [error.stack ?? error.message])
    if (problems.length > 0) return { state, problems }
  }
  return count
}

export function report(t: Assertion, stack: CrashStack, seed: number, red: Red): void {
  const { state, problems } = red
  for (const step of stack.steps) t.comment(step)
  for (const { label, logIndex } of stack.notes) t.comment(`kept at entry ${logIndex}: ${label}`)
  for (const [transaction, { logIndex, sequence }] of stack.committed)
    t.comment(`transaction ${transaction} was cut at entry ${logIndex}, after operation ${sequence}`)
  for (const problem of problems.slice(0, 8)) t.comment(problem)
  t.fail(
    `history ${seed}, crash at entry ${state.cutIndex} ${state.label}: ${problems[0]} (${problems.length} in all)`,
  )
}
