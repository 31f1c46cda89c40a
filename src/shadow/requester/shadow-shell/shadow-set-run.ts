// A shadow set for its own sake: made with all writers or without, kept as long as its session, and told to
// them when it has served its purpose.
//
// Always true: writers take part as a whole, those without components too; what fails while the set is
// made leaves nothing of it; complete() tells writers of success once, and not calling it tells them that
// there was none; close() lets volatile shadow copies go.

import { UmbraError } from '../../../base/errors.ts'
import { throwIfAborted } from '../../../image/pace.ts'
import type {
  ComponentRef,
  RequesterSession,
  SetTimings,
  ShadowProperties,
  WriterStatus,
} from '../../coordinator/requester-session.ts'
import type { BackupType, SnapshotContext } from '../../documents/vocabulary.ts'
import { hasAttribute, SNAPSHOT_CONTEXTS } from '../../documents/vocabulary.ts'
import type { WriterMetadata } from '../../documents/writer-metadata.ts'
import type { Surroundings, VolumePlace } from '../surroundings.ts'
import { failedWriters, writerFailure } from '../writer-judgement.ts'
import { saveDocuments } from './document-folder.ts'
import type { ShadowOptions } from './shell-command.ts'
import { componentsOnVolumes, verifyWriters, type WriterWishes } from './writer-choice.ts'

export interface ShadowSetWish extends WriterWishes, Partial<ShadowOptions> {
  /** Volume files or mount points, each once. */
  readonly volumes: readonly string[]
  /** Of the snapshots; by default made from the set's id. */
  readonly name?: string | undefined
  readonly context: SnapshotContext
  readonly backupType: Extract<BackupType, 'full' | 'copy'>
  /** How long to wait while another set is being made. */
  readonly waitMs: number
  readonly documents: string | null
  readonly signal?: AbortSignal | undefined
  readonly onNote?: ((note: string) => void) | undefined
}

export class ShadowSetRun {
  readonly snapshotSetId: string
  readonly shadows: readonly ShadowProperties[]
  readonly timings: SetTimings
  readonly #session: RequesterSession
  readonly #wish: ShadowSetWish
  readonly #metadata: readonly WriterMetadata[]
  readonly #components: readonly ComponentRef[]

  private constructor(session: RequesterSession, wish: ShadowSetWish, made: Made) {
    this.#session = session
    this.#wish = wish
    this.snapshotSetId = made.snapshotSetId
    this.shadows = made.shadows
    this.timings = made.timings
    this.#metadata = made.metadata
    this.#components = made.components
  }

  /** @throws UmbraError SET_IN_PROGRESS, WRITER_FAILED, FREEZE_TIMED_OUT, HOLD_TIMED_OUT, and as volumes fail */
  static async make(surroundings: Surroundings, wish: ShadowSetWish): Promise<ShadowSetRun> {
    checkWish(wish)
    const session = await surroundings.coordinator.openSession('backup')
    try {
      const made = await makeSet(surroundings, session, wish)
      const run = new ShadowSetRun(session, wish, made)
      await run.#save()
      return run
    } catch (error) {
      await session.abortBackup().catch(() => undefined)
      await session.close().catch(() => undefined)
      throw error
    }
  }

  /** Whether the shadow copies go with close(). */
  get isVolatile(): boolean {
    return !hasAttribute(SNAPSHOT_CONTEXTS[this.#wish.context], 'no-auto-release')
  }

  /** What they are for is done: components are marked as saved and writers hear BackupComplete. */
  async complete(): Promise<WriterStatus[]> {
    if (isBare(this.#wish)) return []
    for (const component of this.#components) await this.#session.setBackupSucceeded(component, true)
    const statuses = await this.#session.backupComplete()
    await this.#save()
    return statuses
  }

  async close(): Promise<void> {
    await this.#session.close()
  }

  async #save(): Promise<void> {
    if (this.#wish.documents === null || isBare(this.#wish)) return
    saveDocuments(this.#wish.documents, {
      components: await this.#session.components(),
      metadata: this.#metadata,
    })
  }
}

interface Made {
  readonly snapshotSetId: string
  readonly shadows: readonly ShadowProperties[]
  readonly timings: SetTimings
  readonly metadata: readonly WriterMetadata[]
  readonly components: readonly ComponentRef[]
}

function isBare({ context }: ShadowSetWish): boolean {
  return hasAttribute(SNAPSHOT_CONTEXTS[context], 'no-writers')
}

function checkWish(wish: ShadowSetWish): void {
  const refuse = (why: string): never => {
    throw new UmbraError('INVALID_ARGUMENT', why)
  }
  if (wish.volumes.length === 0) refuse('Shadow copies are made of volumes: name one')
  if (!isBare(wish)) return
  if (wish.verify.length > 0) refuse('Writers cannot be asked for and left out at once')
  if (wish.documents !== null) refuse('Without writers there are no documents to be saved')
  if (wish.rollbackRecovery) refuse('Recovery is what writers do: it needs them')
}

async function makeSet(
  surroundings: Surroundings,
  session: RequesterSession,
  wish: ShadowSetWish,
): Promise<Made> {
  const { context, noAutoRecovery = false, rollbackRecovery = false, exclude, waitMs } = wish
  if (exclude.length > 0 && !isBare(wish)) await session.disableWriters(exclude)
  await session.setContext({ context, noAutoRecovery, rollbackRecovery })
  const metadata = isBare(wish) ? [] : await gather(session, wish)
  const places: VolumePlace[] = []
  for (const volume of wish.volumes) places.push(await surroundings.volumes.find(volume))
  const uuids = new Set(places.map(({ volumeUuid }) => volumeUuid))
  const { components, notes } = await componentsOnVolumes(surroundings.volumes, metadata, uuids, exclude)
  for (const note of notes) wish.onNote?.(note)
  verifyWriters(metadata, components, wish.verify)
  throwIfAborted(wish.signal)
  const { snapshotSetId } = await session.startSnapshotSet({ waitMs })
  const named = wish.name === undefined ? {} : { snapshotName: wish.name }
  for (const { mountPoint, volumePath } of places) {
    throwIfAborted(wish.signal)
    // Absolute: the coordinator has a folder of its own.
    await session.addToSnapshotSet(mountPoint ?? volumePath, named)
  }
  for (const component of components) await session.addComponent(component)
  throwIfAborted(wish.signal)
  if (!isBare(wish)) judge(await session.prepareForBackup())
  const timings = await doSnapshotSet(session, wish)
  return { snapshotSetId, shadows: await session.snapshotProperties(), timings, metadata, components }
}

async function gather(session: RequesterSession, { backupType }: ShadowSetWish): Promise<WriterMetadata[]> {
  await session.setBackupState({
    // A writer without components is to be frozen as well.
    componentMode: false,
    bootableSystemState: false,
    backupType,
    partialFileSupport: false,
  })
  return session.gatherWriterMetadata()
}

async function doSnapshotSet(session: RequesterSession, wish: ShadowSetWish): Promise<SetTimings> {
  throwIfAborted(wish.signal)
  try {
    const timings = await session.doSnapshotSet()
    if (!isBare(wish)) judge(await session.gatherWriterStatus())
    return timings
  } catch (error) {
    if (isBare(wish)) throw error
    const failed = failedWriters(await session.gatherWriterStatus().catch(() => []))
    throw failed.length > 0 ? writerFailure(failed, error) : error
  }
}

function judge(statuses: readonly WriterStatus[]): void {
  const failed = failedWriters(statuses)
  if (failed.length > 0) throw writerFailure(failed)
}
