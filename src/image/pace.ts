// The pace of long work: progress for whoever watches, an end for whoever aborts, and air for the event
// loop. Work calls advance() after each piece; where it says so, it awaits breathe().
//
// Always true: onProgress is called with doneBytes that never go down and end at totalBytes; after the
// signal has fired the next breathe() throws ABORTED.

import { setImmediate as nextTurn } from 'node:timers/promises'
import { UmbraError } from '../base/errors.ts'
import { MIB } from '../base/units.ts'

export interface Progress {
  readonly doneBytes: number
  readonly totalBytes: number
}

/** What every long piece of work of this room takes. */
export interface LongWork {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: Progress) => void) | undefined
}

const BREATH_BYTES = 8 * MIB

export class Pace {
  readonly totalBytes: number
  readonly #work: LongWork
  #doneBytes = 0
  #sinceBreathBytes = 0

  constructor(totalBytes: number, work: LongWork) {
    this.totalBytes = totalBytes
    this.#work = work
    throwIfAborted(work.signal)
  }

  /** @returns whether breathe() is due */
  advance(bytes: number): boolean {
    this.#doneBytes += bytes
    this.#sinceBreathBytes += bytes
    return this.#sinceBreathBytes >= BREATH_BYTES
  }

  /** Reports, lets others run, and ends the work if that is wanted. @throws UmbraError ABORTED */
  async breathe(): Promise<void> {
    this.#sinceBreathBytes = 0
    this.#report()
    await nextTurn()
    throwIfAborted(this.#work.signal)
  }

  finish(): void {
    this.#doneBytes = this.totalBytes
    this.#report()
  }

  #report(): void {
    const doneBytes = Math.min(this.#doneBytes, this.totalBytes)
    this.#work.onProgress?.({ doneBytes, totalBytes: this.totalBytes })
  }
}

/** @throws UmbraError ABORTED once the signal has fired */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new UmbraError('ABORTED', 'The work was aborted', {}, signal.reason)
}
