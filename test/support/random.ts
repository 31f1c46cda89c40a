// Random numbers for tests that can be played again: a seed is printed, UMBRA_SEED sets it.

import type { Assertion } from 'brittle'

/** The seed for this test, printed so that a failure can be replayed. */
export function chosenSeed(t: Pick<Assertion, 'comment'>): number {
  const fromEnvironment = process.env['UMBRA_SEED']
  const seed = fromEnvironment ? Number(fromEnvironment) >>> 0 : Math.floor(Math.random() * 2 ** 32)
  t.comment(`UMBRA_SEED=${seed}`)
  return seed
}

/** mulberry32 and what tests ask of it. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from 0 to limit - 1; 0 for a limit of 0. */
  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  /** Both ends included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T
  }

  bytes(lengthBytes: number): Uint8Array {
    const bytes = new Uint8Array(lengthBytes)
    for (let i = 0; i < lengthBytes; i++) bytes[i] = this.below(256)
    return bytes
  }
}
