// The backup components document of a session, as it comes into being.
//
// Always true: it holds explicit components only, each once; what it gives out is a copy; who may change
// what and when is decided by the session's states and by CHANGES_ALLOWED_IN.

import { randomUUID } from 'node:crypto'
import { UmbraError } from '../../base/errors.ts'
import {
  BACKUP_COMPONENTS_FORMAT,
  type BackupComponent,
  type BackupComponents,
  type BackupState,
  type BackupWriter,
  type ComponentKey,
  type SetMember,
} from '../documents/backup-components.ts'
import {
  checkExplicitAdd,
  fullPathOf,
  isSameComponent,
  requireComponent,
} from '../documents/component-rules.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'

const DEFAULT_STATE: BackupState = {
  componentMode: true,
  bootableSystemState: false,
  backupType: 'full',
  partialFileSupport: false,
}

export class BackupDocument {
  readonly #document: BackupComponents

  constructor(document?: BackupComponents) {
    this.#document = document ? structuredClone(document) : newDocument()
  }

  get backupState(): BackupState {
    return this.#document.backupState
  }

  set backupState(state: BackupState) {
    this.#document.backupState = { ...state }
  }

  /** What it is now; the caller's own. */
  copy(): BackupComponents {
    return structuredClone(this.#document)
  }

  get writers(): readonly BackupWriter[] {
    return this.#document.writers
  }

  setRestoreType(type: BackupComponents['restoreType']): void {
    this.#document.restoreType = type
  }

  get restoreType(): BackupComponents['restoreType'] {
    return this.#document.restoreType
  }

  setSnapshots(snapshotSetId: string | null, members: readonly SetMember[]): void {
    this.#document.snapshotSetId = snapshotSetId
    this.#document.snapshots = [...members]
  }

  /** @throws UmbraError NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT as checkExplicitAdd() */
  add(metadata: WriterMetadata, key: ComponentKey): void {
    const { classId, instanceId, instanceName, name } = metadata.identity
    const known = this.#document.writers.find((writer) => writer.instanceId === instanceId)
    checkExplicitAdd(metadata, known?.components ?? [], key)
    const component = newComponent(requireComponent(metadata, key).type, key)
    if (known) known.components.push(component)
    else this.#document.writers.push({ classId, instanceId, instanceName, name, components: [component] })
  }

  /** The explicit components of a writer, themselves: changing them changes the document. */
  componentsOf(instanceId: string): BackupComponent[] {
    return this.#document.writers.find((writer) => writer.instanceId === instanceId)?.components ?? []
  }

  /** @throws UmbraError NOT_FOUND */
  component(instanceId: string, key: ComponentKey): BackupComponent {
    const found = this.componentsOf(instanceId).find((component) => isSameComponent(component, key))
    if (found !== undefined) return found
    throw new UmbraError('NOT_FOUND', `The session has no component ${fullPathOf(key)} of that writer`)
  }
}

function newDocument(): BackupComponents {
  return {
    format: BACKUP_COMPONENTS_FORMAT,
    backupId: randomUUID(),
    backupState: DEFAULT_STATE,
    restoreType: 'by-copy',
    snapshotSetId: null,
    snapshots: [],
    writers: [],
  }
}

function newComponent(type: BackupComponent['type'], { logicalPath, name }: ComponentKey): BackupComponent {
  return {
    type,
    logicalPath,
    name,
    differencedFiles: [],
    partialFiles: [],
    selectedForRestore: false,
    restoreSubcomponents: [],
    additionalRestores: false,
    newTargets: [],
    alternateLocationMappingsUsed: [],
    rangesFilePaths: {},
    fileRestoreStatus: 'undefined',
    restoreTarget: 'original',
    directedTargets: [],
  }
}
