// How much the host's file system can still take, for statfs on the mount: a volume is a sparse file, so
// free blocks in it are a promise that the host has to keep.
//
// Always true: the host is asked at most once a second and only when somebody wants to know, through
// the volume file's open descriptor, never by a path (which could lie behind the own mount by now);
// nobody waits longer for it than the deadline; a host that cannot tell limits nothing.

import { statfs } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { SpaceLimit } from '../fuse/space-limit.ts'

const FRESH_MS = 1000
const DEADLINE_MS = 1000

export class HostSpace implements SpaceLimit {
  readonly #ask: () => Promise<number>
  readonly #nowMs: () => number
  #bytes: number | undefined
  #askedAtMs = Number.NEGATIVE_INFINITY
  #asking: Promise<unknown> | undefined

  /** @param ask the host's answer; @param nowMs a clock that never goes back */
  constructor(ask: () => Promise<number>, nowMs: () => number = () => performance.now()) {
    this.#ask = ask
    this.#nowMs = nowMs
  }

  /** @param descriptor of the volume file, open as long as anybody asks */
  static ofDescriptor(descriptor: number): HostSpace {
    return new HostSpace(async () => {
      const { bavail, bsize } = await statfs(`/proc/self/fd/${descriptor}`)
      return bavail * bsize
    })
  }

  availableBytes(): number | undefined | Promise<unknown> {
    if (this.#nowMs() - this.#askedAtMs < FRESH_MS) return this.#bytes
    this.#asking ??= this.#refresh().finally(() => {
      this.#asking = undefined
    })
    return this.#asking
  }

  /** After the deadline the old answer serves another second; the late one is taken when it comes. */
  async #refresh(): Promise<void> {
    const answer = this.#ask().then(
      (bytes) => {
        this.#bytes = bytes
      },
      () => {
        this.#bytes = undefined
      },
    )
    await Promise.race([answer, sleep(DEADLINE_MS, undefined, { ref: false })])
    this.#askedAtMs = this.#nowMs()
  }
}
