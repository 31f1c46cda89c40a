// One volume's part of a shadow set, in the process that serves the volume: the steps of
// ShadowSequence as a state machine.
//
// Always true: a step out of order is BAD_STATE and changes nothing; a step that fails undoes the whole
// sequence, and so do abort(), a hold that lasts too long, and a window that is never sealed; after that
// every step fails with the first reason. However it ends, modifications go on and nothing unsealed
// stays. close() is the requester's death: a sealed snapshot stays only with NO_AUTO_RELEASE.

import { join } from 'node:path'
import { UmbraError } from '../base/errors.ts'
import { Ext4 } from '../ext4/ext4.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import type { HoldGate } from '../fuse/hold-gate.ts'
import type { RecoveryTree } from '../fuse/recovery-tree.ts'
import type { RecoveryWindows } from '../fuse/recovery-windows.ts'
import { SNAPSHOTS_NAME } from '../fuse/snapshots-view.ts'
import type { ShadowRequest, ShadowVolumeInfo } from '../shadow/coordinator/shadow-provider.ts'
import { hasAttribute } from '../shadow/documents/vocabulary.ts'
import type { FileSpec } from '../shadow/documents/writer-metadata.ts'
import type { Snapshot } from '../volume/points.ts'
import type { UnsealedSnapshot } from '../volume/unsealed-snapshot.ts'
import { deleteMatching } from './delete-matching.ts'
import type { HostedVolume } from './hosted-volume.ts'
import { openSnapshotTree } from './served-tree.ts'
import type { ShadowCommitted } from './shadow-protocol.ts'

export interface SequenceLimits {
  /** From flush-and-hold to release. */
  readonly holdMs: number
  /** From PreFinalCommit to the sealing: longer than writers may take for PostSnapshot. */
  readonly windowMs: number
}

/** What a sequence needs of its volume. */
export interface SequenceVolume {
  readonly hosted: HostedVolume
  readonly info: ShadowVolumeInfo
  readonly gate: HoldGate
  /** Where a mount shows unsealed snapshots; null: not mounted. */
  readonly windows: RecoveryWindows | null
  readonly limits: SequenceLimits
  /** Brings every write that has returned so far to the file system. */
  flush(): Promise<void>
  /** Told of what could not be undone. */
  report(error: unknown): void
}

type State =
  | 'begun'
  | 'prepared'
  | 'precommitted'
  | 'held'
  | 'committed'
  | 'released'
  | 'postcommitted'
  | 'recovering'
  | 'created'
  | 'ended'

/** Of the second instance of the file system: recovery touches little at once. */
const WINDOW_CACHE_BYTES = 32 * 1024 * 1024

export class ServedSequence {
  readonly #volume: SequenceVolume
  readonly #request: ShadowRequest
  #setCount: number
  #state: State = 'begun'
  #failure: UmbraError | undefined
  #running: Promise<unknown> | undefined
  #undoing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #heldAtMs: number | undefined
  #unsealed: UnsealedSnapshot | undefined
  #fileSystem: FileSystem | undefined
  #tree: RecoveryTree | undefined
  #sealed: Snapshot | undefined

  constructor(volume: SequenceVolume, request: ShadowRequest) {
    this.#volume = volume
    this.#request = request
    this.#setCount = request.setCount
  }

  /** Whether another sequence has to wait: the snapshot is still being made. */
  get isCreating(): boolean {
    return this.#failure === undefined && this.#state !== 'created' && this.#state !== 'ended'
  }

  /** Settles when nothing of it is under way any more. */
  async settled(): Promise<void> {
    await this.#running?.catch(() => {})
    await this.#undoing
  }

  /** The first flush takes what is there to be written, so that the one before the hold finds little. */
  endPrepare(setCount: number): Promise<null> {
    return this.#step('begun', 'prepared', async () => {
      if (!Number.isInteger(setCount) || setCount < 1) {
        throw new UmbraError('INVALID_ARGUMENT', `A set of ${setCount} volumes`)
      }
      this.#setCount = setCount
      const { hosted } = this.#volume
      hosted.checkNewName(this.#request.snapshotName)
      await this.#volume.flush()
      await hosted.volume.commit()
      return null
    })
  }

  preCommit(): Promise<null> {
    return this.#step('prepared', 'precommitted', async () => null)
  }

  flushAndHold(): Promise<{ flushMs: number }> {
    return this.#step('precommitted', 'held', async () => {
      const { gate, limits } = this.#volume
      const startedAtMs = performance.now()
      await this.#volume.flush()
      if (this.#failure) throw this.#failure
      const flushMs = performance.now() - startedAtMs
      this.#heldAtMs = performance.now()
      this.#limit(limits.holdMs, 'HOLD_TIMED_OUT', 'Modifications were held')
      await gate.hold()
      return { flushMs }
    })
  }

  commit(): Promise<ShadowCommitted> {
    return this.#step('held', 'committed', async () => {
      const { snapshotName, snapshotSetId, snapshotId, attributes } = this.#request
      const shadow = { setId: snapshotSetId, setCount: this.#setCount, attributes }
      const { volume } = this.#volume.hosted
      this.#unsealed = await volume.cutUnsealed(snapshotName, shadow, snapshotId)
      const { id, epoch, createdAtMs } = this.#unsealed.snapshot
      return { snapshotId: id, epoch, createdAtMs }
    })
  }

  release(): Promise<{ heldMs: number }> {
    return this.#step('committed', 'released', async () => ({ heldMs: this.#release() }))
  }

  postCommit(): Promise<null> {
    return this.#step('released', 'postcommitted', async () => null)
  }

  preFinalCommit(): Promise<{ recoveryPath: string | null }> {
    return this.#step('postcommitted', 'recovering', async () => {
      const { windows, limits, info } = this.#volume
      this.#limit(limits.windowMs, 'TIMED_OUT', 'The auto-recovery window was open')
      if (hasAttribute(this.#request.attributes, 'no-autorecovery')) return { recoveryPath: null }
      const { device } = this.#window()
      this.#fileSystem = Ext4.open(device, { cacheBytes: WINDOW_CACHE_BYTES })
      if (windows === null || info.mountPoint === null) return { recoveryPath: null }
      const { snapshotName } = this.#request
      this.#tree = windows.open(snapshotName, this.#fileSystem)
      return { recoveryPath: join(info.mountPoint, SNAPSHOTS_NAME, snapshotName) }
    })
  }

  /** Without auto-recovery nothing can be deleted, and nothing is. */
  deleteFromSnapshot(files: readonly FileSpec[]): Promise<number> {
    return this.#step('recovering', 'recovering', async () => {
      const fileSystem = this.#fileSystem
      return fileSystem ? await deleteMatching(fileSystem, files, this.#volume.info.mountPoint) : 0
    })
  }

  seal(): Promise<Snapshot> {
    return this.#step('recovering', 'created', async () => {
      const tree = this.#tree
      // What shared mappings of files in the window hold is the kernel's still.
      if (tree) await this.#volume.flush()
      await tree?.shut()
      const sealed = await this.#window().seal()
      this.#sealed = sealed
      this.#unsealed = undefined
      clearTimeout(this.#timer)
      tree?.seal(openSnapshotTree(this.#volume.hosted.volume.openSnapshot(sealed.id)))
      return sealed
    })
  }

  end(keepBookmark: boolean): Promise<null> {
    return this.#step('created', 'ended', async () => {
      if (!this.#stays) await this.#discard(keepBookmark)
      return null
    })
  }

  /** Undoes everything, also a sealed snapshot. Does nothing after end(). */
  async abort(): Promise<null> {
    if (this.#state !== 'ended') await this.#fail(new UmbraError('ABORTED', 'The shadow copy was aborted'))
    return null
  }

  /** The connection has closed, or the volume is about to. */
  async close(): Promise<void> {
    await this.#running?.catch(() => {})
    if (this.#state === 'created' && this.#failure === undefined) {
      await this.end(false).catch((error) => this.#volume.report(error))
    } else await this.abort()
  }

  get #stays(): boolean {
    return hasAttribute(this.#request.attributes, 'no-auto-release')
  }

  #window(): UnsealedSnapshot {
    if (this.#unsealed) return this.#unsealed
    throw new UmbraError('BAD_STATE', 'There is no unsealed snapshot')
  }

  async #step<T>(from: State, to: State, work: () => Promise<T>): Promise<T> {
    if (this.#failure) throw this.#failure
    if (this.#state !== from || this.#running !== undefined) {
      const now = this.#running !== undefined ? 'busy' : this.#state
      throw new UmbraError('BAD_STATE', `This step follows "${from}"; the shadow copy is ${now}`)
    }
    const running = work()
    this.#running = running
    try {
      const result = await running
      if (this.#failure) throw this.#failure
      this.#state = to
      return result
    } catch (error) {
      this.#failure ??= asFailure(error)
      throw this.#failure
    } finally {
      this.#running = undefined
      if (this.#failure) await this.#undo()
    }
  }

  /** Ends the sequence; a step that is under way is undone when it is through. */
  async #fail(reason: UmbraError): Promise<void> {
    this.#failure ??= reason
    this.#release()
    if (this.#running !== undefined) await this.settled()
    else await this.#undo()
  }

  #limit(limitMs: number, code: 'HOLD_TIMED_OUT' | 'TIMED_OUT', what: string): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      const reason = new UmbraError(code, `${what} for ${limitMs / 1000} s; the shadow copy is dropped`)
      void this.#fail(reason)
    }, limitMs)
  }

  /** @returns how long modifications were held */
  #release(): number {
    const heldAtMs = this.#heldAtMs
    if (heldAtMs === undefined) return 0
    this.#heldAtMs = undefined
    clearTimeout(this.#timer)
    this.#volume.gate.release()
    return performance.now() - heldAtMs
  }

  #undo(): Promise<void> {
    this.#undoing ??= this.#undoOnce().catch((error) => this.#volume.report(error))
    return this.#undoing
  }

  async #undoOnce(): Promise<void> {
    this.#release()
    clearTimeout(this.#timer)
    this.#tree?.drop()
    await this.#unsealed?.drop()
    if (this.#sealed) await this.#discard(false)
  }

  async #discard(keepBookmark: boolean): Promise<void> {
    if (this.#sealed) await this.#volume.hosted.discardShadow(this.#sealed.id, keepBookmark)
  }
}

function asFailure(error: unknown): UmbraError {
  if (error instanceof UmbraError) return error
  return new UmbraError('IO_FAILED', `The shadow copy failed: ${String(error)}`, {}, error)
}
