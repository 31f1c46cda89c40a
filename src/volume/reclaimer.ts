// Makes freed blocks available again, and waits for what is done about them in the background.
//
// Always true: what a durable transaction freed is handed out only when another one is durable after
// it; where no change would bring that one, a twin is asked for: a commit of the unchanged state.
// What is being punched cannot be handed out meanwhile, so whoever needs room waits for it too.

import type { CommitQueue } from './commit-queue.ts'
import type { Superblock } from './superblock.ts'
import type { VolumeState } from './volume-state.ts'

/** So many freed blocks (4 MiB) are worth a commit of an unchanged state, which makes them available. */
const RELEASE_BLOCKS = 1024

/** What the reclaimer needs of its volume. */
export interface ReclaimHost {
  /** The state being built; another one after a transaction was dropped. */
  state(): VolumeState
  /** The last durable superblock. */
  durable(): Superblock
  /** The volume's own commit, with its checks. */
  commit(): Promise<void>
}

export class Reclaimer {
  readonly #queue: CommitQueue
  readonly #host: ReclaimHost
  /** The next commit is made even if nothing has changed. */
  #wantsTwin = false

  constructor(queue: CommitQueue, host: ReclaimHost) {
    this.#queue = queue
    this.#host = host
  }

  /** In a cut: whether it is to be committed even if nothing has changed. Answers a wish once. */
  takeForce(state: VolumeState): boolean {
    const isForced = this.#wantsTwin || state.frees.awaitingBlocks >= RELEASE_BLOCKS
    this.#wantsTwin = false
    return isForced
  }

  async commitTwin(): Promise<void> {
    this.#wantsTwin = true
    await this.#queue.commit()
  }

  /** Has the durable transaction followed by another, so that what it freed is made available. */
  async releaseFrees(): Promise<void> {
    if (this.#host.state().frees.awaitingBlocks > 0) await this.commitTwin()
  }

  /** Frees everything that deleted snapshots held and gives it back to the host. */
  async drain(): Promise<void> {
    while (!this.#host.state().toFree.isEmpty) await this.#host.commit()
    await this.releaseFrees()
    await this.#host.state().puncher.drain()
  }

  /** Waits until everything is durable and nothing is under way in the background. */
  async settle(): Promise<void> {
    const state = this.#host.state()
    const isSettled = () => this.#queue.isIdle && this.#host.durable() === state.lastCut && state.isAtRest
    while (!isSettled() || state.frees.awaitingBlocks > 0) {
      await this.#host.commit()
      await this.releaseFrees()
      await state.puncher.drain()
    }
  }

  /** Makes freed blocks available, with up to two commits; undefined when none are waiting for it. */
  reclaim(): Promise<void> | undefined {
    const { frees, toFree, puncher } = this.#host.state()
    if (frees.pendingBlocks === 0 && toFree.isEmpty && puncher.isIdle) return undefined
    return this.#reclaim()
  }

  async #reclaim(): Promise<void> {
    await this.#host.commit()
    await this.releaseFrees()
    // What is being punched cannot be handed out meanwhile.
    await this.#host.state().puncher.drain()
  }
}
