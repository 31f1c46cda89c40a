// When commits and flushes happen: one at a time, shared by everyone who asks meanwhile.
//
// Always true: a commit's cut is synchronous, so it lies between two requests; the superblock is
// written only after everything it refers to was flushed; requests go on into the next transaction
// while the storage flushes. Nothing that failed is tried again: the first failure is reported to
// the volume, which turns read-only, and everyone waiting is told.

import { UmbraError } from '../base/errors.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import type { Superblock } from './superblock.ts'
import { writeSuperblock } from './superblock-slots.ts'

export interface CommitSteps {
  /** @throws UmbraError READ_ONLY where nothing may be written any more */
  checkWritable(): void
  /** Writes everything but the superblock, synchronously; undefined: nothing changed. */
  cut(): Superblock | undefined
  /** The transaction counts from now on. */
  becameDurable(superblock: Superblock): void
  failed(error: unknown): void
}

interface Deferred {
  readonly promise: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

function deferred(): Deferred {
  let resolve: () => void = () => {}
  let reject: (error: unknown) => void = () => {}
  const promise = new Promise<void>((yes, no) => {
    resolve = yes
    reject = no
  })
  // Whoever waits handles it; nobody may be waiting.
  promise.catch(() => {})
  return { promise, resolve, reject }
}

/** Runs one job at a time; all who ask while one runs share the next. */
class SharedJob {
  readonly #job: () => Promise<void>
  #next: Deferred | undefined
  #isRunning = false

  constructor(job: () => Promise<void>) {
    this.#job = job
  }

  /** A promise of a run that begins after this call. */
  request(): Promise<void> {
    if (this.#next === undefined) {
      this.#next = deferred()
      if (!this.#isRunning) queueMicrotask(() => this.#start())
    }
    return this.#next.promise
  }

  get isIdle(): boolean {
    return !this.#isRunning && this.#next === undefined
  }

  #start(): void {
    const mine = this.#next
    if (mine === undefined || this.#isRunning) return
    this.#next = undefined
    this.#isRunning = true
    this.#job()
      .then(mine.resolve, mine.reject)
      .finally(() => {
        this.#isRunning = false
        this.#start()
      })
      .catch(mine.reject)
  }
}

export class CommitQueue {
  readonly #storage: BlockStorage
  readonly #steps: CommitSteps
  readonly #commits = new SharedJob(() => this.#commit())
  readonly #flushes = new SharedJob(() => this.#flushStorage())
  /** Counts changes to the storage that no flush that has begun covers. */
  #unflushed = false

  constructor(storage: BlockStorage, steps: CommitSteps) {
    this.#storage = storage
    this.#steps = steps
  }

  get isIdle(): boolean {
    return this.#commits.isIdle && this.#flushes.isIdle
  }

  /** Data was written in place: the next flush() or commit() has something to do. */
  noteWrite(): void {
    this.#unflushed = true
  }

  async flush(): Promise<void> {
    this.#steps.checkWritable()
    if (this.#unflushed || !this.#flushes.isIdle) await this.#flushes.request()
  }

  async commit(): Promise<void> {
    this.#steps.checkWritable()
    await this.#commits.request()
  }

  async #commit(): Promise<void> {
    this.#steps.checkWritable()
    try {
      const superblock = this.#steps.cut()
      if (superblock === undefined) {
        if (this.#unflushed || !this.#flushes.isIdle) await this.#flushes.request()
        return
      }
      await this.#flushes.request()
      writeSuperblock(this.#storage, superblock)
      await this.#flushes.request()
      this.#steps.becameDurable(superblock)
    } catch (error) {
      this.#steps.failed(error)
      throw new UmbraError(
        'READ_ONLY',
        `The commit failed and the volume is read-only now: ${(error as Error).message}`,
        {},
        error,
      )
    }
  }

  async #flushStorage(): Promise<void> {
    this.#steps.checkWritable()
    this.#unflushed = false
    try {
      await this.#storage.flush()
    } catch (error) {
      this.#steps.failed(error)
      throw error
    }
  }
}
