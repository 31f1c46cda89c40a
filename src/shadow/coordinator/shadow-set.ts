// The shadow set of one backup session: its place in the line, its volumes, and what becomes of them.
//
// Always true: the lock is held from start() until released(), which happens however the session ends;
// at most `volumesPerSet` members, each volume once; before it is created undo() leaves nothing of it.

import { randomUUID } from 'node:crypto'
import { UmbraError } from '../../base/errors.ts'
import type { SetMember } from '../documents/backup-components.ts'
import { hasAttribute } from '../documents/vocabulary.ts'
import type { WriterVolume } from '../writers/writer-messages.ts'
import type { CoordinatorLimits } from './limits.ts'
import type { ShadowProperties } from './requester-session.ts'
import type { SetLock } from './set-lock.ts'
import { ofVolume, ShadowMember } from './shadow-member.ts'
import type { ShadowProvider, ShadowSequence, ShadowVolumeInfo } from './shadow-provider.ts'
import { unlessAborted } from './time-limit.ts'
import type { Tracer } from './trace.ts'

export interface ShadowSetOptions {
  readonly provider: ShadowProvider
  readonly lock: SetLock
  readonly limits: CoordinatorLimits
  readonly tracer: Tracer
}

export class ShadowSet {
  readonly #options: ShadowSetOptions
  readonly #members: ShadowMember[] = []
  #id: string | null = null
  #attributes = 0
  #isCreated = false
  #release: () => void = () => {}

  constructor(options: ShadowSetOptions) {
    this.#options = options
  }

  /** Null: not started. */
  get id(): string | null {
    return this.#id
  }

  get members(): readonly ShadowMember[] {
    return this.#members
  }

  /** @throws UmbraError SET_IN_PROGRESS, or the signal's reason */
  async start(attributes: number, waitMs: number, signal: AbortSignal): Promise<string> {
    this.#release = await this.#options.lock.acquire(waitMs, signal)
    this.#attributes = attributes
    this.#id = randomUUID()
    return this.#id
  }

  /** @throws UmbraError LIMIT_EXCEEDED, ALREADY_EXISTS, NOT_FOUND, VOLUME_NOT_SUPPORTED, or the signal's reason */
  async add(volume: string, name: string | undefined, signal: AbortSignal): Promise<string> {
    const { provider, limits, tracer } = this.#options
    if (this.#members.length >= limits.volumesPerSet) {
      throw new UmbraError('LIMIT_EXCEEDED', `A shadow set has at most ${limits.volumesPerSet} volumes`)
    }
    const info = await unlessAborted(provider.supports(volume), signal)
    this.#checkNew(info)
    const snapshotId = randomUUID()
    const snapshotName = name ?? `shadow-${(this.#id ?? '').slice(0, 8)}`
    const sequence = await tracer.around(
      { kind: 'step', step: 'begin-prepare', volume: info.volumePath },
      () => this.#begin(volume, { snapshotId, snapshotName }, signal),
    )
    this.#members.push(
      new ShadowMember({ sequence, snapshotId, snapshotName, provider: provider.id, tracer }),
    )
    return snapshotId
  }

  /** All members are made: from now on they end by end(), not by undo(). */
  created(): void {
    this.#isCreated = true
  }

  /** The next set may be started. */
  released(): void {
    this.#release()
  }

  forDocument(): SetMember[] {
    return this.#members.map((member) => member.forDocument())
  }

  forWriters(): WriterVolume[] {
    return this.#members.map((member) => member.forWriters())
  }

  properties(): ShadowProperties[] {
    const setCount = this.#members.length
    const set = { snapshotSetId: this.#id ?? '', setCount, attributes: this.#attributes }
    return this.#members.map((member) => member.properties(set))
  }

  /**
   * The session is over: what was not created is undone; what was is done with, and goes unless its
   * context keeps it.
   */
  async end(keepBookmarks: boolean): Promise<void> {
    const limitMs = this.#options.limits.providerAbortMs
    const keepBookmark = keepBookmarks && !hasAttribute(this.#attributes, 'no-auto-release')
    await Promise.all(
      this.#members.map((member) =>
        this.#isCreated ? member.end(limitMs, keepBookmark) : member.undo(limitMs),
      ),
    )
    this.released()
  }

  #begin(
    volume: string,
    names: { snapshotId: string; snapshotName: string },
    signal: AbortSignal,
  ): Promise<ShadowSequence> {
    const request = {
      ...names,
      snapshotSetId: this.#id ?? '',
      attributes: this.#attributes,
      setCount: this.#members.length + 1,
    }
    const begun = this.#options.provider.begin(volume, request)
    return unlessAborted(begun, signal).catch((error) => {
      // One that comes after all must not stay.
      begun.then((sequence) => sequence.abort()).catch(() => {})
      throw error === signal.reason ? error : ofVolume(volume, error)
    })
  }

  #checkNew({ volumeUuid, volumePath }: ShadowVolumeInfo): void {
    if (this.#members.some(({ info }) => info.volumeUuid === volumeUuid)) {
      throw new UmbraError('ALREADY_EXISTS', `${volumePath} is in the shadow set already`)
    }
  }
}
