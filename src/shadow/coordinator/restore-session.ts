// A restore's session: the requester's calls of vss.md section 2.1, each of which the gate has let pass.
//
// Always true: there is no Abort in a restore; file sets come from the stored metadata, never from live
// writers, who are asked only whether they are there; PreRestore and PostRestore go to writers of whom
// something is selected, and as their metadata says (never, if-replace-fails, always).

import { UmbraError } from '../../base/errors.ts'
import type {
  BackupComponent,
  BackupComponents,
  ComponentKey,
  NewTarget,
} from '../documents/backup-components.ts'
import { componentSet, fullPathOf, isSameComponent, restoreSelection } from '../documents/component-rules.ts'
import { allFileSets } from '../documents/file-set-mask.ts'
import { isSameSpec, specText } from '../documents/file-spec.ts'
import { validateBackupComponents } from '../documents/validate-backup-components.ts'
import { validateWriterMetadata } from '../documents/validate-writer-metadata.ts'
import type { FileRestoreStatus, RestoreType } from '../documents/vocabulary.ts'
import { FILE_RESTORE_STATUSES, RESTORE_TYPES } from '../documents/vocabulary.ts'
import type { FileSpec, WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterRequest } from '../writers/writer-messages.ts'
import { BackupDocument } from './backup-document.ts'
import { CallGate } from './call-gate.ts'
import type { SessionHandlers } from './gated-session.ts'
import { type CoordinatorLimits, eventLimitMs } from './limits.ts'
import type { AbsentWriter, ComponentRef, WriterStatus } from './requester-session.ts'
import { RESTORE_CALLS, type RestoreSessionState } from './session-states.ts'
import type { SessionWriter } from './session-writer.ts'
import type { SessionWriters } from './session-writers.ts'
import { applyChanges } from './writer-changes.ts'

export interface RestoreSessionOptions {
  readonly sessionId: string
  readonly writers: SessionWriters
  readonly limits: CoordinatorLimits
}

/** A writer of the document with its stored metadata, and the live one, if it is there. */
interface Stored {
  readonly metadata: WriterMetadata
  readonly components: BackupComponent[]
  readonly live: SessionWriter | undefined
}

export class RestoreSession implements SessionHandlers {
  readonly gate = new CallGate<RestoreSessionState>('opened', RESTORE_CALLS)
  readonly #sessionId: string
  readonly #writers: SessionWriters
  readonly #limits: CoordinatorLimits
  #document = new BackupDocument()
  #metadata: readonly WriterMetadata[] = []

  constructor({ sessionId, writers, limits }: RestoreSessionOptions) {
    this.#sessionId = sessionId
    this.#writers = writers
    this.#limits = limits
  }

  async enableWriters(writers: readonly string[]): Promise<void> {
    this.#writers.enable(writers)
  }

  async disableWriters(writers: readonly string[]): Promise<void> {
    this.#writers.disable(writers)
  }

  /** @throws UmbraError INVALID_DOCUMENT; NOT_FOUND: a writer of the document has no metadata */
  async loadDocuments(components: BackupComponents, metadata: readonly WriterMetadata[]): Promise<void> {
    const document = new BackupDocument(validateBackupComponents(components))
    const stored = metadata.map((one) => structuredClone(validateWriterMetadata(one)))
    for (const writer of document.writers) {
      const own = stored.find(({ identity }) => identity.instanceId === writer.instanceId)
      if (own === undefined) {
        throw new UmbraError('NOT_FOUND', `The metadata document of ${writer.name} is missing`)
      }
      // Throws for a component that the metadata does not know.
      for (const component of writer.components) componentSet(own, component)
    }
    this.#document = document
    this.#metadata = stored
    this.gate.moveTo('loaded')
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

  async setRestoreType(type: RestoreType): Promise<void> {
    if (!RESTORE_TYPES.includes(type)) {
      throw new UmbraError('INVALID_ARGUMENT', `No such restore type: ${JSON.stringify(type)}`)
    }
    this.#document.setRestoreType(type)
  }

  /** @throws UmbraError NOT_FOUND: not in the backup, or its writer is not there although it takes part */
  async setSelectedForRestore(component: ComponentRef, selected: boolean): Promise<void> {
    const { stored, target } = this.#find(component)
    if (selected) checkThere(stored)
    target.selectedForRestore = selected
    if (!selected) target.restoreSubcomponents = []
  }

  /** @throws UmbraError NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT: it is not selectable for restore */
  async addRestoreSubcomponent(component: ComponentRef, subcomponent: ComponentKey): Promise<void> {
    const { stored, target } = this.#find(component)
    checkThere(stored)
    const selection = restoreSelection(stored.metadata, [target], subcomponent)
    if (selection.subcomponent === null) {
      throw new UmbraError('INVALID_ARGUMENT', `${fullPathOf(subcomponent)} is the component itself`)
    }
    const { logicalPath, name } = selection.subcomponent
    if (target.restoreSubcomponents.some((known) => isSameComponent(known, subcomponent))) {
      throw new UmbraError('ALREADY_EXISTS', `${fullPathOf(subcomponent)} has been added already`)
    }
    target.selectedForRestore = true
    target.restoreSubcomponents.push({ logicalPath, name })
  }

  async setAdditionalRestores(component: ComponentRef, more: boolean): Promise<void> {
    this.#find(component).target.additionalRestores = more
  }

  async setRestoreOptions(component: ComponentRef, options: string): Promise<void> {
    this.#find(component).target.restoreOptions = options
  }

  /** @throws UmbraError INVALID_ARGUMENT: the writer does not take new targets, or it is none of its file sets */
  async addNewTarget(component: ComponentRef, target: NewTarget): Promise<void> {
    const { stored, target: own } = this.#find(component)
    const { metadata } = stored
    if (!metadata.backupSchema.includes('new-target')) {
      throw new UmbraError('INVALID_ARGUMENT', `${metadata.identity.name} does not take new targets`)
    }
    const sets = componentSet(metadata, own).flatMap(allFileSets)
    if (!sets.some((set) => isSameSpec(set, target))) {
      throw new UmbraError('INVALID_ARGUMENT', `${specText(target)} is no file set of ${fullPathOf(own)}`)
    }
    if (own.newTargets.some((known) => isSameSpec(known, target))) {
      throw new UmbraError('ALREADY_EXISTS', `${specText(target)} has a new target already`)
    }
    const { path, filespec, recursive, newPath } = target
    own.newTargets.push({ path, filespec, recursive, newPath })
  }

  async preRestore(): Promise<WriterStatus[]> {
    this.gate.moveTo('pre-restored')
    await this.#tell('pre-restore', this.#selected())
    return this.#writers.statuses()
  }

  async setFileRestoreStatus(component: ComponentRef, status: FileRestoreStatus): Promise<void> {
    if (!FILE_RESTORE_STATUSES.includes(status)) {
      throw new UmbraError('INVALID_ARGUMENT', `No such restore status: ${JSON.stringify(status)}`)
    }
    this.#find(component).target.fileRestoreStatus = status
  }

  async addAlternateLocationUsed(
    component: ComponentRef,
    { path, filespec, recursive, destination }: FileSpec & { destination: string },
  ): Promise<void> {
    const { target } = this.#find(component)
    target.alternateLocationMappingsUsed.push({ path, filespec, recursive, destination })
  }

  async setRangesFilePath(component: ComponentRef, partialFileIndex: number, path: string): Promise<void> {
    const { target } = this.#find(component)
    if (target.partialFiles[partialFileIndex] === undefined) {
      throw new UmbraError('NOT_FOUND', `${fullPathOf(target)} has no partial file ${partialFileIndex}`)
    }
    target.rangesFilePaths[partialFileIndex] = path
  }

  async postRestore(): Promise<WriterStatus[]> {
    this.gate.moveTo('post-restored')
    await this.#tell('post-restore', this.#selected().filter(takesPostRestore))
    return this.#writers.statuses()
  }

  async end(): Promise<void> {
    this.gate.moveTo('closed')
  }

  /** Those of whom something is selected and who are to be told of restores at all. */
  #selected(): Stored[] {
    return this.#stored().filter(
      ({ metadata, components }) =>
        metadata.restoreMethod.writerRestore !== 'never' &&
        components.some((component) => component.selectedForRestore),
    )
  }

  async #tell(event: 'pre-restore' | 'post-restore', stored: readonly Stored[]): Promise<void> {
    const timeoutMs = eventLimitMs(this.#limits, event)
    const { signal } = this.gate
    await Promise.all(
      stored.map(async ({ metadata, components, live }) => {
        if (live === undefined || live.isOut) return
        // What is not selected is none of the writer's business now.
        const selected = components.filter((component) => component.selectedForRestore)
        const request: WriterRequest = {
          event,
          sessionId: this.#sessionId,
          operation: 'restore',
          snapshotSetId: null,
          contextAttributes: 0,
          backupState: this.#document.backupState,
          restoreType: this.#document.restoreType,
          volumes: [],
          components: structuredClone(selected),
          timeoutMs,
        }
        const accept = (reply: { components?: Parameters<typeof applyChanges>[3] }): void =>
          applyChanges(metadata, request, selected, reply.components ?? [])
        await live.deliver({ request, signal, accept })
      }),
    )
    if (signal.aborted) throw signal.reason
  }

  #stored(): Stored[] {
    return this.#document.writers.map(({ classId, instanceId, instanceName }) => {
      const metadata = this.#metadata.find(({ identity }) => identity.instanceId === instanceId)
      if (metadata === undefined) throw new UmbraError('NOT_FOUND', `No metadata of the writer ${instanceId}`)
      // The instance id is a new one after every start of the writer; its name is not.
      const live = this.#writers.all.find(
        ({ metadata: { identity } }) =>
          identity.classId === classId && identity.instanceName === instanceName,
      )
      return { metadata, components: this.#document.componentsOf(instanceId), live }
    })
  }

  /** @param ref with the instance id of the document or of the writer that is there now */
  #find(ref: ComponentRef): { stored: Stored; target: BackupComponent } {
    for (const stored of this.#stored()) {
      const ids = [stored.metadata.identity.instanceId, stored.live?.instanceId]
      const target = stored.components.find((component) => isSameComponent(component, ref))
      if (target !== undefined && ids.includes(ref.instanceId)) return { stored, target }
    }
    throw new UmbraError('NOT_FOUND', `The backup holds no component ${fullPathOf(ref)} of that writer`)
  }
}

/** @throws UmbraError NOT_FOUND: only a writer that takes no part in restores need not be there */
function checkThere({ metadata, live }: Stored): void {
  if (live !== undefined || metadata.restoreMethod.writerRestore === 'never') return
  throw new UmbraError('NOT_FOUND', `The writer ${metadata.identity.name} is not there`)
}

/** `if-replace-fails`: only where not all files are back in their own places. */
function takesPostRestore({ metadata, components }: Stored): boolean {
  if (metadata.restoreMethod.writerRestore === 'always') return true
  return components.some(
    (component) =>
      component.selectedForRestore &&
      (component.fileRestoreStatus !== 'all' || component.alternateLocationMappingsUsed.length > 0),
  )
}
