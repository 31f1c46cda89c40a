// What a TypeScript writer's handler is given: the event, the writer's components in this session, and
// what the handler may say about them.
//
// Always true: a call that the event does not allow throws BAD_STATE and a value that does not fit throws
// INVALID_DOCUMENT, both at the call; the reply holds exactly what was said, lists with what was there before.

import { UmbraError } from '../../base/errors.ts'
import type {
  BackupComponent,
  BackupState,
  ComponentKey,
  DifferencedFile,
  DirectedTarget,
  PartialFile,
} from '../documents/backup-components.ts'
import type { ByteRange } from '../documents/byte-ranges.ts'
import { formatByteRanges, normalizeRanges } from '../documents/byte-ranges.ts'
import { fullPathOf, isSameComponent } from '../documents/component-rules.ts'
import { checkDirectedTarget } from '../documents/component-values.ts'
import { effectiveType } from '../documents/file-set-mask.ts'
import { isAtOrBelow } from '../documents/file-spec.ts'
import type { BackupType, RestoreTarget, RestoreType } from '../documents/vocabulary.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { checkDifferencedFits, checkPartialFits, checkRestoreTargetFits } from './change-rules.ts'
import type { FailureOptions, FailureResult } from './writer-failure.ts'
import {
  CHANGES_ALLOWED_IN,
  type ComponentChanges,
  type WriterEvent,
  type WriterReply,
  type WriterRequest,
  type WriterVolume,
} from './writer-messages.ts'

type Change = Exclude<keyof ComponentChanges, keyof ComponentKey>
type Writable<T> = { -readonly [K in keyof T]: T[K] }

export class WriterContext {
  readonly request: WriterRequest
  readonly metadata: WriterMetadata
  /** Aborted when the event's time is over or the coordinator takes it back. */
  readonly signal: AbortSignal
  /** The writer's explicit components in this session. */
  readonly components: readonly ComponentContext[]
  #failure: { result: FailureResult; message: string; fatal: boolean } | undefined

  constructor(request: WriterRequest, metadata: WriterMetadata, signal: AbortSignal) {
    this.request = request
    this.metadata = metadata
    this.signal = signal
    this.components = request.components.map((component) => new ComponentContext(this, component))
  }

  get event(): WriterEvent {
    return this.request.event
  }

  /** Tells overlapping backups apart; the same in all events of one. */
  get sessionId(): string {
    return this.request.sessionId
  }

  get snapshotSetId(): string | null {
    return this.request.snapshotSetId
  }

  get volumes(): readonly WriterVolume[] {
    return this.request.volumes
  }

  /** @throws UmbraError BAD_STATE in a restore */
  get backupState(): BackupState {
    if (this.request.backupState) return this.request.backupState
    throw new UmbraError('BAD_STATE', `There is no backup state in ${this.event}`)
  }

  /** What the backup is for this writer: `full` where the writer does not support its type. */
  get backupType(): BackupType {
    return effectiveType(this.metadata, this.backupState.backupType)
  }

  /** @throws UmbraError BAD_STATE in a backup */
  get restoreType(): RestoreType {
    if (this.request.restoreType) return this.request.restoreType
    throw new UmbraError('BAD_STATE', `There is no restore type in ${this.event}`)
  }

  /** The component with this full path, if it takes part. */
  component(key: string | ComponentKey): ComponentContext | undefined {
    return this.components.find(({ data }) =>
      typeof key === 'string' ? fullPathOf(data) === key : isSameComponent(data, key),
    )
  }

  /** The volume of the shadow set that a live path is on. */
  volumeOf(path: string): WriterVolume | undefined {
    const found = this.volumes.filter(
      ({ mountPoint }) => mountPoint !== null && isAtOrBelow(path, mountPoint),
    )
    return found.sort((a, b) => (b.mountPoint?.length ?? 0) - (a.mountPoint?.length ?? 0))[0]
  }

  /** Where a live path is in the shadow copy, from PostSnapshot on; undefined: on no mounted volume of the set. */
  inSnapshot(path: string): string | undefined {
    const volume = this.volumeOf(path)
    const root = volume?.recoveryPath ?? volume?.snapshotPath
    if (!volume?.mountPoint || !root) return undefined
    return path === volume.mountPoint
      ? root
      : `${root}/${path.slice(volume.mountPoint.length).replace(/^\//, '')}`
  }

  /**
   * Says that something failed; the first call counts, but a fatal one beats it. Not fatal unless told: the requester
   * decides then whether it goes on without this writer's data.
   */
  fail(result: FailureResult, message: string, { fatal = false }: FailureOptions = {}): void {
    if (this.#failure === undefined || (fatal && !this.#failure.fatal)) {
      this.#failure = { result, message, fatal }
    }
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined
  }

  /** What goes back to the coordinator. */
  reply(): WriterReply {
    const changes = this.components.flatMap((component) => component.changes() ?? [])
    return {
      ...(this.#failure ?? { result: 'ok' as const }),
      ...(changes.length === 0 ? {} : { components: changes }),
    }
  }
}

/** One of the writer's components in an event. */
export class ComponentContext {
  /** As the coordinator sent it. */
  readonly data: Readonly<BackupComponent>
  readonly #context: WriterContext
  readonly #changes: Partial<Writable<Pick<ComponentChanges, Change>>> = {}

  constructor(context: WriterContext, data: BackupComponent) {
    this.#context = context
    this.data = data
  }

  get fullPath(): string {
    return fullPathOf(this.data)
  }

  /** The stamp of the backup that this one builds on; undefined: there is none, take everything. */
  get previousBackupStamp(): string | undefined {
    return this.data.previousBackupStamp
  }

  get backupStamp(): string | undefined {
    return this.#changes.backupStamp ?? this.data.backupStamp
  }

  get backupMetadata(): string | undefined {
    return this.#changes.backupMetadata ?? this.data.backupMetadata
  }

  get restoreMetadata(): string | undefined {
    return this.#changes.restoreMetadata ?? this.data.restoreMetadata
  }

  /** For BackupComplete: whether all files of the component set were saved. */
  get backupSucceeded(): boolean {
    return this.data.backupSucceeded === true
  }

  /** For PostRestore: more images follow, so the store is not to be recovered yet. */
  get hasAdditionalRestores(): boolean {
    return this.data.additionalRestores
  }

  setBackupStamp(stamp: string): void {
    this.#allow('backupStamp')
    this.#changes.backupStamp = stamp
  }

  setBackupMetadata(metadata: string): void {
    this.#allow('backupMetadata')
    this.#changes.backupMetadata = metadata
  }

  /** @throws UmbraError BAD_STATE when the requester does not support partial files; INVALID_DOCUMENT */
  addPartialFile(file: Omit<PartialFile, 'ranges'> & { ranges: string | readonly ByteRange[] }): void {
    this.#allow('partialFiles')
    const { ranges } = file
    const added: PartialFile = {
      ...file,
      ranges: typeof ranges === 'string' ? ranges : formatByteRanges(normalizeRanges(ranges)),
    }
    checkPartialFits(this.#context.metadata, this.#context.request, this.data, added)
    const before = this.#changes.partialFiles ?? this.data.partialFiles
    if (before.some(({ path, fileName }) => path === added.path && fileName === added.fileName)) {
      throw new UmbraError(
        'INVALID_DOCUMENT',
        `The partial file ${added.path}/${added.fileName} is there already`,
      )
    }
    this.#changes.partialFiles = [...before, added]
  }

  /** @throws UmbraError BAD_STATE without last-modify, or in a full; INVALID_DOCUMENT when it meets a file set in part */
  addDifferencedFile(file: DifferencedFile): void {
    this.#allow('differencedFiles')
    checkDifferencedFits(this.#context.metadata, this.#context.request, this.data, file)
    this.#changes.differencedFiles = [...(this.#changes.differencedFiles ?? this.data.differencedFiles), file]
  }

  setFailureMessage(message: string): void {
    this.#allow('failureMessage')
    this.#changes.failureMessage = message
  }

  /** @throws UmbraError INVALID_DOCUMENT: `alternate` without a mapping for every file set */
  setRestoreTarget(target: RestoreTarget): void {
    this.#allow('restoreTarget')
    checkRestoreTargetFits(this.#context.metadata, this.data, target)
    this.#changes.restoreTarget = target
  }

  /** The target must be `directed` for it to count. @throws UmbraError INVALID_DOCUMENT unless the ranges are equal pair by pair */
  addDirectedTarget(target: DirectedTarget): void {
    this.#allow('directedTargets')
    checkDirectedTarget(target, this.fullPath)
    this.#changes.directedTargets = [...(this.#changes.directedTargets ?? this.data.directedTargets), target]
  }

  setRestoreMetadata(metadata: string): void {
    this.#allow('restoreMetadata')
    this.#changes.restoreMetadata = metadata
  }

  /** Undefined: nothing was said. */
  changes(): ComponentChanges | undefined {
    if (Object.keys(this.#changes).length === 0) return undefined
    return { logicalPath: this.data.logicalPath, name: this.data.name, ...this.#changes }
  }

  #allow(change: Change): void {
    const { event } = this.#context
    if ((CHANGES_ALLOWED_IN[event] as readonly string[]).includes(change)) return
    throw new UmbraError('BAD_STATE', `${this.fullPath}: ${change} cannot be set in ${event}`)
  }
}
