// Keeps snapshots within the room that they may have, by the volume's policy: warns, evicts, refuses.
//
// Always true: evicting happens inside a cut, a bounded number at a time, so no committed state holds
// more than the limit for long and nobody waits for it but writes that found no room; what is pinned
// is never evicted, what is leased last, and an evicted snapshot leaves a bookmark. Nothing is evicted
// when that would free nothing. A live write is refused only when nothing may be evicted: that is the
// fault `area-full`, which ends by itself when there is room again.

import { hasCode, UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, formatSize } from '../base/units.ts'
import type { PointRecord } from './catalog.ts'
import type { SpaceEvent, SpaceFault } from './points.ts'
import { FREEING_RESERVE_BLOCKS, type LimitKeeper } from './room.ts'
import { SpaceLog } from './space-log.ts'
import { CLIENT_ACCESSIBLE_MAX, checkPolicy, isClientAccessible, type SpacePolicy } from './space-policy.ts'
import type { VolumePoints } from './volume-points.ts'
import type { VolumeState } from './volume-state.ts'

/** What the keeper needs of its volume. */
export interface KeeperHost {
  /** What is being built; another one after a transaction was dropped. */
  state(): VolumeState
  points(): VolumePoints
  commit(): Promise<void>
  /** Runs `action` in the next cut; resolves when it is durable. @throws UmbraError READ_ONLY, CLOSED */
  inCut<T>(action: () => T): Promise<T>
  /** Makes what was freed available; undefined when nothing waits for it, or nothing may be written. */
  reclaim(): Promise<void> | undefined
  /** Frees everything that deleted snapshots held and gives it back to the host. */
  drain(): Promise<void>
}

type Reason = 'limit' | 'count' | 'clients' | 'host'

/** So many in one cut; the next commit goes on. */
const EVICTIONS_PER_CUT = 16
/** Room that there must be again before the fault ends: the two reserves and half as much beside them. */
const CLEAR_BLOCKS = 3 * FREEING_RESERVE_BLOCKS

export class SpaceKeeper implements LimitKeeper {
  readonly log = new SpaceLog()
  readonly #host: KeeperHost
  #fault: SpaceFault | null = null
  #evicting: Promise<void> | undefined
  #hasAsked = false
  /** Over the limit, but those that may go hold nothing alone, or there is no room to delete them. */
  #isStuck = false

  constructor(host: KeeperHost) {
    this.#host = host
  }

  get policy(): SpacePolicy {
    return this.#host.state().policy
  }

  /** Why live writes are refused for the snapshots' sake; null while they are not. */
  get fault(): SpaceFault | null {
    return this.#fault
  }

  // -- the limit, as Room asks about it

  get canEvict(): boolean {
    if (this.#isStuck || this.policy.whenFull !== 'evict-oldest') return false
    return this.#host.points().nextToEvict() !== undefined
  }

  overLimit(): void {
    if (this.#hasAsked) return
    this.#hasAsked = true
    // A failed commit has turned the volume read-only, which it says itself.
    this.#host.commit().catch(() => {})
  }

  // -- setting

  /**
   * Changes the policy, durably. Under evict-oldest what is over a new limit is evicted.
   * @returns names of the snapshots that were evicted for it
   * @throws UmbraError INVALID_ARGUMENT; OUT_OF_SPACE, with nothing changed, where snapshots hold more
   *   than the new limit and are protected; READ_ONLY
   */
  async setPolicy(change: Partial<SpacePolicy>): Promise<string[]> {
    const evicted: string[] = []
    const stop = this.log.onEvent(({ kind, snapshot }) => {
      if (kind === 'evicted' && snapshot !== null) evicted.push(snapshot)
    })
    try {
      await this.#host.inCut(() => {
        const state = this.#host.state()
        const policy = { ...state.policy, ...change }
        checkPolicy(policy)
        this.#refuseOverfull(state, policy)
        state.policy = policy
        state.isDirty = true
      })
      while (this.#next(this.#reason()) !== undefined) await this.#host.commit()
    } finally {
      stop()
    }
    return evicted
  }

  // -- keeping

  /** At the end of a cut, when the map is written and what was asked for is done. */
  cut(): void {
    this.#hasAsked = false
    const state = this.#host.state()
    this.log.warn(state.deadBlocks * BLOCK_SIZE_BYTES, this.policy.snapshotLimitBytes)
    this.#isStuck = false
    for (let i = 0; i < EVICTIONS_PER_CUT; i++) {
      const reason = this.#reason()
      this.#isStuck = reason === 'limit' && this.#freesNothing(state)
      const next = this.#next(reason)
      if (reason === undefined || next === undefined) break
      this.#isStuck = !this.#tryEvict(next, reason)
      if (this.#isStuck) break
    }
    if (this.#next(this.#reason()) !== undefined) this.overLimit()
    this.#mayClear(state)
  }

  /**
   * For whoever ran out of space and will try again: the first time what was freed is made available,
   * then snapshots are evicted, the oldest first.
   * @param attempt how often it was asked before for the same work
   * @returns undefined when there is nothing left to be done: the work fails
   */
  makeRoom(attempt: number): Promise<void> | undefined {
    if (attempt === 0) return this.#host.reclaim() ?? this.#settle()
    if (this.policy.whenFull === 'evict-oldest' && this.#freedByAll() > 0) {
      this.#evicting ??= this.#evictForHost().finally(() => {
        this.#evicting = undefined
      })
      return this.#evicting
    }
    this.#refused()
    return undefined
  }

  /** Does what `work` does, making room for it as far as that goes. */
  async withRoom<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        const room = hasCode(error, 'OUT_OF_SPACE') ? this.makeRoom(attempt) : undefined
        if (room === undefined) throw error
        await room
      }
    }
  }

  /** A write found room. */
  wrote(): void {
    if (this.#fault?.cause === 'host') this.#clear()
  }

  // -- inside

  /** Commits what is collected, which sets free what was claimed for it at worst. */
  #settle(): Promise<void> | undefined {
    return this.#host.state().isAtRest ? undefined : this.#host.commit()
  }

  #reason(): Reason | undefined {
    const { policy, deadBlocks, limitBlocks, catalog } = this.#host.state()
    if (policy.whenFull !== 'evict-oldest') return undefined
    if (deadBlocks > limitBlocks) return 'limit'
    const isTooMany =
      policy.snapshotCountLimit !== null && catalog.snapshots.length > policy.snapshotCountLimit
    if (isTooMany) return 'count'
    if (catalog.shadowCount <= CLIENT_ACCESSIBLE_MAX) return undefined
    const clients = catalog.snapshots.filter(({ shadow }) => isClientAccessible(shadow)).length
    return clients > CLIENT_ACCESSIBLE_MAX ? 'clients' : undefined
  }

  /** One too many is never the one that was just taken; nothing goes that would free nothing. */
  #next(reason: Reason | undefined): PointRecord | undefined {
    if (reason === undefined || (reason === 'limit' && this.#isStuck)) return undefined
    const points = this.#host.points()
    if (reason === 'clients') return points.nextToEvict(true, ({ shadow }) => isClientAccessible(shadow))
    return points.nextToEvict(reason === 'count')
  }

  /** @returns false where even deleting finds no room */
  #tryEvict(record: PointRecord, reason: Reason): boolean {
    try {
      this.#evict(record, reason)
      return true
    } catch (error) {
      if (hasCode(error, 'OUT_OF_SPACE')) return false
      throw error
    }
  }

  #evict(record: PointRecord, reason: Reason): number {
    const freedBytes = this.#host.points().evict(record)
    const why =
      reason === 'host'
        ? 'the host has no room left'
        : reason === 'limit'
          ? 'snapshots hold more than they may'
          : 'there are more than there may be'
    this.log.add({
      kind: 'evicted',
      message: `Snapshot ${JSON.stringify(record.name)} was dropped: ${why}; ${formatSize(freedBytes)} freed${record.isSealed ? ', a bookmark is left' : ''}`,
      snapshot: record.name,
      ...this.#figures(),
    })
    return freedBytes
  }

  /** Without a pinned one among them, snapshots that go free all that they hold. */
  #freesNothing(state: VolumeState): boolean {
    return state.catalog.snapshots.some((record) => record.pinned) && this.#freedByAll() === 0
  }

  #freedByAll(): number {
    return this.#host.points().freedByEvicting()
  }

  /** Evicts until something is freed, and has it given back down to the last block. */
  async #evictForHost(): Promise<void> {
    await this.#host.inCut(() => {
      for (let freedBytes = 0, i = 0; freedBytes === 0 && i < EVICTIONS_PER_CUT; i++) {
        const next = this.#next('host')
        if (next === undefined || this.#freedByAll() === 0) return
        freedBytes = this.#evict(next, 'host')
      }
    })
    const { puncher } = this.#host.state()
    puncher.isThorough = true
    try {
      await this.#host.drain()
    } finally {
      puncher.isThorough = false
    }
  }

  #refuseOverfull(state: VolumeState, policy: SpacePolicy): void {
    if (policy.whenFull !== 'protect') return
    const { snapshotLimitBytes, snapshotCountLimit } = policy
    const heldBytes = state.deadBlocks * BLOCK_SIZE_BYTES
    const count = state.catalog.snapshots.length
    const isFull = snapshotLimitBytes !== null && heldBytes > snapshotLimitBytes
    const isMany = snapshotCountLimit !== null && count > snapshotCountLimit
    if (!isFull && !isMany) return
    const held = isFull
      ? `Snapshots hold ${formatSize(heldBytes)}, more than ${formatSize(snapshotLimitBytes)}`
      : `There are ${count} snapshots, more than ${snapshotCountLimit}`
    const oldest = state.catalog.snapshots.slice(0, 3).map(({ name }) => JSON.stringify(name))
    throw new UmbraError(
      'OUT_OF_SPACE',
      `${held}, and protected ones are not dropped: delete some first (the oldest are ${oldest.join(', ')})`,
      { heldBytes, count },
    )
  }

  #refused(): void {
    const state = this.#host.state()
    if (this.#fault !== null || state.deadBlocks === 0) return
    const isLimit = state.deadBlocks + CLEAR_BLOCKS > state.limitBlocks
    const what = isLimit
      ? 'snapshots hold as much as they may'
      : 'the host has no room left, and snapshots hold blocks'
    const message = `Live writes are refused: ${what}; delete a snapshot${isLimit ? ' or raise the limit' : ''}`
    this.#fault = { kind: 'area-full', cause: isLimit ? 'limit' : 'host', sinceMs: Date.now(), message }
    this.log.add({ kind: 'area-full', message, snapshot: null, ...this.#figures() })
  }

  #mayClear(state: VolumeState): void {
    if (this.#fault === null) return
    const hasRoom = this.#fault.cause === 'limit' && state.deadBlocks + CLEAR_BLOCKS <= state.limitBlocks
    if (hasRoom || state.deadBlocks === 0 || this.canEvict) this.#clear()
  }

  #clear(): void {
    this.#fault = null
    this.log.add({
      kind: 'room-again',
      message: 'There is room again: live writes go on',
      snapshot: null,
      ...this.#figures(),
    })
  }

  #figures(): Pick<SpaceEvent, 'usedBytes' | 'limitBytes'> {
    const { deadBlocks, policy } = this.#host.state()
    return { usedBytes: deadBlocks * BLOCK_SIZE_BYTES, limitBytes: policy.snapshotLimitBytes }
  }
}
