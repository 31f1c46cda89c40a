// One volume of a shadow set: the provider's sequence, traced, limited, with failures that name the volume.
//
// Always true: a step settles within its limit or when the creation is given up; undo() never throws
// and is done once; what the requester is told comes from the snapshot as it was committed.

import { hostname } from 'node:os'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import type { SetMember } from '../documents/backup-components.ts'
import type { WriterVolume } from '../writers/writer-messages.ts'
import type { ShadowProperties } from './requester-session.ts'
import type { ShadowSequence, ShadowVolumeInfo } from './shadow-provider.ts'
import { withLimit } from './time-limit.ts'
import type { ProviderStep, Tracer } from './trace.ts'

export interface ShadowMemberOptions {
  readonly sequence: ShadowSequence
  readonly snapshotId: string
  readonly snapshotName: string
  readonly provider: string
  readonly tracer: Tracer
}

export class ShadowMember {
  readonly snapshotName: string
  readonly #sequence: ShadowSequence
  readonly #provider: string
  readonly #tracer: Tracer
  #snapshotId: string
  #recoveryPath: string | null = null
  #epoch = 0
  #createdAtMs = 0
  #isCommitted = false
  #isOver = false

  constructor(options: ShadowMemberOptions) {
    this.#sequence = options.sequence
    this.snapshotName = options.snapshotName
    this.#snapshotId = options.snapshotId
    this.#provider = options.provider
    this.#tracer = options.tracer
  }

  get info(): ShadowVolumeInfo {
    return this.#sequence.info
  }

  get snapshotId(): string {
    return this.#snapshotId
  }

  /** One step of the sequence. @throws UmbraError with the volume's path */
  async step<R>(
    step: ProviderStep,
    limitMs: number,
    signal: AbortSignal,
    work: (sequence: ShadowSequence) => Promise<R>,
  ): Promise<R> {
    const volume = this.info.volumePath
    const late = (): Error => new UmbraError('TIMED_OUT', `${step} took longer than ${limitMs} ms`)
    try {
      return await this.#tracer.around({ kind: 'step', step, volume }, () =>
        withLimit(work(this.#sequence), limitMs, late, signal),
      )
    } catch (error) {
      // The creation was given up for another reason, which is the one to be told.
      if (signal.aborted && error === signal.reason) throw error
      throw ofVolume(volume, error)
    }
  }

  async commit(limitMs: number, signal: AbortSignal): Promise<void> {
    const made = await this.step('commit', limitMs, signal, (sequence) => sequence.commit())
    this.#snapshotId = made.snapshotId
    this.#epoch = made.epoch
    this.#createdAtMs = made.createdAtMs
    this.#isCommitted = true
  }

  async preFinalCommit(limitMs: number, signal: AbortSignal): Promise<void> {
    const opened = await this.step('pre-final-commit', limitMs, signal, (sequence) =>
      sequence.preFinalCommit(),
    )
    this.#recoveryPath = opened.recoveryPath
  }

  async seal(limitMs: number, signal: AbortSignal): Promise<void> {
    await this.step('post-final-commit', limitMs, signal, (sequence) => sequence.seal())
    this.#recoveryPath = null
  }

  /** Takes back whatever was done; what cannot be taken back in time goes with the provider's lease. */
  async undo(limitMs: number): Promise<void> {
    this.#recoveryPath = null
    await this.#over('abort', limitMs, (sequence) => sequence.abort())
  }

  /** Done with: an auto-release snapshot goes. */
  async end(limitMs: number, keepBookmark: boolean): Promise<void> {
    await this.#over('end', limitMs, (sequence) => sequence.end({ keepBookmark }))
  }

  forDocument(): SetMember {
    const { volumeUuid, volumePath, mountPoint } = this.info
    return {
      snapshotId: this.#snapshotId,
      volumeUuid,
      originalVolume: volumePath,
      mountPoint,
      snapshotName: this.snapshotName,
      provider: this.#provider,
    }
  }

  forWriters(): WriterVolume {
    const { volumePath, mountPoint } = this.info
    return {
      volumePath,
      mountPoint,
      snapshotId: this.#snapshotId,
      snapshotPath: this.#isCommitted ? this.#snapshotPath() : null,
      recoveryPath: this.#recoveryPath,
    }
  }

  properties(set: { snapshotSetId: string; setCount: number; attributes: number }): ShadowProperties {
    return {
      ...this.forDocument(),
      ...set,
      devicePath: this.#snapshotPath(),
      originatingMachine: hostname(),
      serviceMachine: hostname(),
      exposedName: null,
      exposedPath: null,
      createdAtMs: this.#createdAtMs,
      state: 'created',
      epoch: this.#epoch,
    }
  }

  #snapshotPath(): string | null {
    const { mountPoint } = this.info
    return mountPoint === null ? null : join(mountPoint, '.snapshots', this.snapshotName)
  }

  async #over(
    step: 'abort' | 'end',
    limitMs: number,
    work: (sequence: ShadowSequence) => Promise<void>,
  ): Promise<void> {
    if (this.#isOver) return
    this.#isOver = true
    // A failure is in the trace; nobody could do anything about it.
    await this.step(step, limitMs, new AbortController().signal, work).catch(() => {})
  }
}

export function ofVolume(volume: string, error: unknown): UmbraError {
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof UmbraError) {
    return new UmbraError(error.code, `${volume}: ${message}`, { ...error.context, volume }, error)
  }
  return new UmbraError('IO_FAILED', `${volume}: the provider failed: ${message}`, { volume }, error)
}
