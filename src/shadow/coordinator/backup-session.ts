// A backup's session: the requester's calls of vss.md section 1.2, each of which the gate has let pass.
//
// Always true: in component mode only writers with an explicit component take part after Identify, and
// they alone get PrepareForBackup (section 9, 20); BackupShutdown goes, with the set's id, to everyone
// who had PrepareForBackup, however the session ends, and after the shadow copies that end with it have
// gone; BackupComplete goes out only when the requester says so.

import { UmbraError } from '../../base/errors.ts'
import type { BackupComponents, BackupState } from '../documents/backup-components.ts'
import {
  BACKUP_TYPES,
  hasAttribute,
  SNAPSHOT_ATTRIBUTES,
  SNAPSHOT_CONTEXTS,
} from '../documents/vocabulary.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterEvent, WriterRequest } from '../writers/writer-messages.ts'
import { BackupDocument } from './backup-document.ts'
import { CallGate } from './call-gate.ts'
import type { SessionHandlers } from './gated-session.ts'
import { type CoordinatorLimits, eventLimitMs } from './limits.ts'
import type {
  AbsentWriter,
  ComponentRef,
  ContextOptions,
  SetTimings,
  ShadowProperties,
  WriterStatus,
} from './requester-session.ts'
import { BACKUP_CALLS, type BackupSessionState } from './session-states.ts'
import type { Outcome, SessionWriter } from './session-writer.ts'
import type { SessionWriters } from './session-writers.ts'
import { abortWriters, SetCreation } from './set-creation.ts'
import type { ShadowSet } from './shadow-set.ts'
import { applyChanges } from './writer-changes.ts'

export interface BackupSessionOptions {
  readonly sessionId: string
  readonly writers: SessionWriters
  readonly set: ShadowSet
  readonly limits: CoordinatorLimits
}

export class BackupSession implements SessionHandlers {
  readonly gate = new CallGate<BackupSessionState>('opened', BACKUP_CALLS)
  readonly #sessionId: string
  readonly #writers: SessionWriters
  readonly #set: ShadowSet
  readonly #limits: CoordinatorLimits
  readonly #document = new BackupDocument()
  #attributes: number = SNAPSHOT_CONTEXTS.backup
  #keepsBookmarks = false
  #participants: readonly SessionWriter[] = []

  constructor({ sessionId, writers, set, limits }: BackupSessionOptions) {
    this.#sessionId = sessionId
    this.#writers = writers
    this.#set = set
    this.#limits = limits
    this.#attributes = attributesOf({ context: 'backup' })
  }

  async enableWriters(writers: readonly string[]): Promise<void> {
    this.#writers.enable(writers)
  }

  async disableWriters(writers: readonly string[]): Promise<void> {
    this.#writers.disable(writers)
  }

  async gatherWriterMetadata(): Promise<WriterMetadata[]> {
    const metadata = await this.#writers.gather()
    this.gate.moveTo('identified')
    return metadata
  }

  async gatherWriterStatus(): Promise<WriterStatus[]> {
    return this.#writers.statuses()
  }

  async absentWriters(): Promise<AbsentWriter[]> {
    return [...this.#writers.absent]
  }

  async components(): Promise<BackupComponents> {
    return this.#document.copy()
  }

  async keepBookmarks(keep: boolean): Promise<void> {
    this.#keepsBookmarks = keep
  }

  async setContext(options: ContextOptions): Promise<void> {
    const attributes = attributesOf(options)
    const isBare = hasAttribute(attributes, 'no-writers')
    if (isBare && this.gate.state === 'identified') {
      throw new UmbraError(
        'BAD_STATE',
        'Writers have been asked; a context without writers comes before that',
      )
    }
    this.#attributes = attributes
    if (this.gate.state !== 'identified') this.gate.moveTo(isBare ? 'bare' : 'opened')
  }

  async setBackupState(state: BackupState): Promise<void> {
    if (!BACKUP_TYPES.includes(state.backupType)) {
      throw new UmbraError('INVALID_ARGUMENT', `No such backup type: ${JSON.stringify(state.backupType)}`)
    }
    this.#document.backupState = state
  }

  async startSnapshotSet(options: { readonly waitMs?: number } = {}): Promise<{ snapshotSetId: string }> {
    const waitMs = options.waitMs ?? 0
    const snapshotSetId = await this.#set.start(this.#attributes, waitMs, this.gate.signal)
    this.#document.setSnapshots(snapshotSetId, [])
    this.gate.moveTo(this.gate.state === 'bare' ? 'bare-set' : 'set-started')
    return { snapshotSetId }
  }

  async addToSnapshotSet(
    volume: string,
    options: { readonly snapshotName?: string } = {},
  ): Promise<{ snapshotId: string }> {
    const snapshotId = await this.#set.add(volume, options.snapshotName, this.gate.signal)
    this.#document.setSnapshots(this.#set.id, this.#set.forDocument())
    return { snapshotId }
  }

  async addComponent(component: ComponentRef): Promise<void> {
    this.#document.add(this.#writers.find(component.instanceId).metadata, component)
  }

  async setBackupOptions(component: ComponentRef, options: string): Promise<void> {
    this.#document.component(component.instanceId, component).backupOptions = options
  }

  async setPreviousBackupStamp(component: ComponentRef, stamp: string): Promise<void> {
    this.#document.component(component.instanceId, component).previousBackupStamp = stamp
  }

  async prepareForBackup(): Promise<WriterStatus[]> {
    const { componentMode } = this.#document.backupState
    this.#participants = this.#writers.all.filter(
      (writer) => !componentMode || this.#document.componentsOf(writer.instanceId).length > 0,
    )
    this.gate.moveTo(this.#set.id === null ? 'unsnapshotted' : 'prepared')
    for (const writer of this.#participants) writer.isPrepared = true
    await this.#tellAll('prepare-for-backup')
    return this.#writers.statuses()
  }

  async doSnapshotSet(): Promise<SetTimings> {
    if (this.#set.members.length === 0) {
      throw new UmbraError('BAD_STATE', 'The shadow set has no volume: nothing needs a shadow copy')
    }
    const isBare = this.gate.state === 'bare-set'
    const creation = new SetCreation({
      members: this.#set.members,
      writers: this.#participants,
      limits: this.#limits,
      deletesExcluded: !hasAttribute(this.#attributes, 'no-autorecovery'),
      send: (writer, event, timeoutMs, signal) => this.#send(writer, event, timeoutMs, signal),
      onUndone: () => this.#set.released(),
      signal: this.gate.signal,
    })
    try {
      const timings = await creation.run()
      this.#set.created()
      this.#document.setSnapshots(this.#set.id, this.#set.forDocument())
      this.gate.moveTo(isBare ? 'bare-created' : 'created')
      return timings
    } catch (error) {
      this.#document.setSnapshots(this.#set.id, [])
      this.gate.moveTo('failed')
      throw error
    } finally {
      this.#set.released()
    }
  }

  async snapshotProperties(): Promise<ShadowProperties[]> {
    return this.#set.properties()
  }

  async setBackupSucceeded(component: ComponentRef, succeeded: boolean): Promise<void> {
    this.#checkSetDone()
    this.#document.component(component.instanceId, component).backupSucceeded = succeeded
  }

  async backupComplete(): Promise<WriterStatus[]> {
    this.#checkSetDone()
    this.gate.moveTo('completed')
    this.#set.released()
    await this.#tellAll('backup-complete')
    return this.#writers.statuses()
  }

  async abortBackup(): Promise<void> {
    const isCreated = this.gate.state === 'created' || this.gate.state === 'bare-created'
    this.gate.moveTo('aborted')
    if (!isCreated) await this.#set.end(false)
    const timeoutMs = eventLimitMs(this.#limits, 'abort')
    await abortWriters(this.#participants, (writer) => this.#send(writer, 'abort', timeoutMs))
  }

  /** @param isOrderly false: the requester has died */
  async end(isOrderly: boolean): Promise<void> {
    const isComplete = this.gate.state === 'completed'
    this.gate.moveTo('closed')
    await this.#set.end(this.#keepsBookmarks && (isOrderly || isComplete))
    const timeoutMs = eventLimitMs(this.#limits, 'backup-shutdown')
    const told = this.#participants.filter((writer) => writer.isPrepared)
    await Promise.all(told.map((writer) => this.#send(writer, 'backup-shutdown', timeoutMs)))
  }

  #checkSetDone(): void {
    if (this.gate.state !== 'prepared' || this.#set.members.length === 0) return
    throw new UmbraError('BAD_STATE', 'The shadow set has volumes and has not been made')
  }

  async #tellAll(event: 'prepare-for-backup' | 'backup-complete'): Promise<void> {
    const timeoutMs = eventLimitMs(this.#limits, event)
    const { signal } = this.gate
    const taking = this.#participants.filter((writer) => !writer.isOut)
    await Promise.all(taking.map((writer) => this.#send(writer, event, timeoutMs, signal)))
    if (signal.aborted) throw signal.reason
  }

  #send(
    writer: SessionWriter,
    event: WriterEvent,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Outcome> {
    const components = this.#document.componentsOf(writer.instanceId)
    const { backupState } = this.#document
    const request: WriterRequest = {
      event,
      sessionId: this.#sessionId,
      operation: 'backup',
      snapshotSetId: this.#set.id,
      contextAttributes: this.#attributes,
      backupState,
      restoreType: null,
      volumes: this.#set.forWriters(),
      components: structuredClone(components),
      timeoutMs,
    }
    return writer.deliver({
      request,
      ...(signal && { signal }),
      accept: (reply) => applyChanges(writer.metadata, request, components, reply.components ?? []),
    })
  }
}

/** @throws UmbraError INVALID_ARGUMENT */
function attributesOf({ context, noAutoRecovery, rollbackRecovery }: ContextOptions): number {
  if (!Object.hasOwn(SNAPSHOT_CONTEXTS, context)) {
    throw new UmbraError('INVALID_ARGUMENT', `No such snapshot context: ${JSON.stringify(context)}`)
  }
  if (noAutoRecovery && rollbackRecovery) {
    throw new UmbraError('INVALID_ARGUMENT', 'Recovery for a rollback needs auto-recovery')
  }
  let attributes: number = SNAPSHOT_CONTEXTS[context] | SNAPSHOT_ATTRIBUTES.differential
  if (noAutoRecovery) attributes |= SNAPSHOT_ATTRIBUTES['no-autorecovery']
  else if (!hasAttribute(attributes, 'no-writers')) attributes |= SNAPSHOT_ATTRIBUTES.autorecover
  if (rollbackRecovery) attributes |= SNAPSHOT_ATTRIBUTES['rollback-recovery']
  return attributes
}
