// The writers' part of a restore whose files somebody else brings back: PreRestore before, PostRestore after.
//
// Always true: simulating sends Identify alone; a writer whose components are to be restored and who is not
// there is a failure before any other writer is told.

import { UmbraError } from '../../../base/errors.ts'
import type {
  ComponentRef,
  CoordinatorControl,
  RequesterSession,
  WriterStatus,
} from '../../coordinator/requester-session.ts'
import { writerText } from '../component-plan.ts'
import { failedWriters, writerFailure } from '../writer-judgement.ts'
import type { SavedDocuments } from './document-folder.ts'
import { isComponentCalled, verifyWriters, type WriterWishes } from './writer-choice.ts'

/** Who would take part. */
export interface InvolvedWriter {
  readonly name: string
  readonly instanceId: string
  readonly components: number
}

export class RestoreSteps {
  readonly #session: RequesterSession
  readonly #components: readonly ComponentRef[]

  private constructor(session: RequesterSession, components: readonly ComponentRef[]) {
    this.#session = session
    this.#components = components
  }

  /** Up to and with PreRestore. @throws UmbraError WRITER_FAILED, and as the session */
  static async begin(
    coordinator: CoordinatorControl,
    documents: SavedDocuments,
    wishes: WriterWishes,
  ): Promise<{ steps: RestoreSteps; statuses: WriterStatus[] }> {
    const session = await coordinator.openSession('restore')
    try {
      const components = await involve(session, documents, wishes)
      for (const component of components) await session.setSelectedForRestore(component, true)
      const statuses = await session.preRestore()
      judge(statuses)
      return { steps: new RestoreSteps(session, components), statuses }
    } catch (error) {
      await session.close().catch(() => undefined)
      throw error
    }
  }

  /** Which writers would be involved. @throws UmbraError WRITER_FAILED when one is missing */
  static async simulate(
    coordinator: CoordinatorControl,
    documents: SavedDocuments,
    wishes: WriterWishes,
  ): Promise<InvolvedWriter[]> {
    const session = await coordinator.openSession('restore')
    try {
      const components = await involve(session, documents, wishes)
      const counted = documents.components.writers.map((writer) => ({
        name: writerText(writer),
        instanceId: writer.instanceId,
        components: components.filter(({ instanceId }) => instanceId === writer.instanceId).length,
      }))
      return counted.filter((writer) => writer.components > 0)
    } finally {
      await session.close().catch(() => undefined)
    }
  }

  /** The files are back: PostRestore. The session is over. */
  async end(): Promise<WriterStatus[]> {
    try {
      for (const component of this.#components) await this.#session.setFileRestoreStatus(component, 'all')
      const statuses = await this.#session.postRestore()
      judge(statuses)
      return statuses
    } finally {
      await this.#session.close().catch(() => undefined)
    }
  }

  /** Without PostRestore. */
  async close(): Promise<void> {
    await this.#session.close()
  }
}

/** What is to be restored; its writers are all there. */
async function involve(
  session: RequesterSession,
  { components, metadata }: SavedDocuments,
  { verify, exclude }: WriterWishes,
): Promise<ComponentRef[]> {
  const selected: ComponentRef[] = []
  for (const writer of components.writers) {
    const document = metadata.find(({ identity }) => identity.instanceId === writer.instanceId)
    for (const { logicalPath, name } of writer.components) {
      const isExcluded =
        document && exclude.some((wish) => isComponentCalled(document, { logicalPath, name }, wish))
      if (!isExcluded) selected.push({ instanceId: writer.instanceId, logicalPath, name })
    }
  }
  verifyWriters(metadata, selected, verify)
  await session.loadDocuments(components, metadata)
  const there = await session.gatherWriterMetadata()
  const takesPart = new Set(
    metadata
      .filter(({ restoreMethod }) => restoreMethod.writerRestore !== 'never')
      .map(({ identity }) => identity.instanceId),
  )
  const missing = components.writers.find(
    ({ classId, instanceId, instanceName }) =>
      takesPart.has(instanceId) &&
      selected.some((ref) => ref.instanceId === instanceId) &&
      !there.some(({ identity }) => identity.classId === classId && identity.instanceName === instanceName),
  )
  if (missing === undefined) return selected
  throw new UmbraError('WRITER_FAILED', `${writerText(missing)} is not there and is needed for the restore`, {
    writer: missing.name,
  })
}

function judge(statuses: readonly WriterStatus[]): void {
  const failed = failedWriters(statuses)
  if (failed.length > 0) throw writerFailure(failed)
}
