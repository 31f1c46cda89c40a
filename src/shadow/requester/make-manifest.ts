// Puts together the manifest of a backup that was made.
//
// Always true: the chain is the union of what the images and components build on; what a writer said to
// BackupComplete decides whether its components may be built on.

import { randomUuid } from '../../base/uuid.ts'
import type { WriterStatus } from '../coordinator/requester-session.ts'
import { imageChain } from '../repository/chains.ts'
import { componentKey, type FileStep } from '../repository/file-commands.ts'
import type { ComponentRecord, Manifest, StoredFile, VolumePoint } from '../repository/manifest.ts'
import type { BackupEntry } from '../repository/repository.ts'
import type { BackupChoice } from './backup-options.ts'
import type { Copied } from './copy-phase.ts'
import { restoreCommands } from './image-saving.ts'
import { failureText } from './writer-judgement.ts'

export interface ManifestParts {
  readonly id: string
  readonly choice: BackupChoice
  readonly startedAtMs: number
  readonly instantMs: number
  readonly snapshotSetId: string | null
  readonly volumes: readonly VolumePoint[]
  readonly copied: Copied
  readonly documents: readonly StoredFile[]
  readonly entries: readonly BackupEntry[]
  readonly notes: readonly string[]
  /** A writer that should have taken part could not be asked. */
  readonly lacksWriters: boolean
}

export function makeManifest(parts: ManifestParts): Manifest {
  const { id, choice, copied } = parts
  const { images, writers, fileIndex } = copied
  const chain = chainOf(parts)
  const hasGaps = writers.some(
    ({ type, components }) => type === 'excluded' || components.some(({ succeeded }) => !succeeded),
  )
  const isPartial = hasGaps || parts.lacksWriters
  return {
    format: 'umbra-backup-manifest-1',
    id,
    uuid: randomUuid(),
    type: choice.type,
    startedAtMs: parts.startedAtMs,
    instantMs: Math.round(parts.instantMs),
    finishedAtMs: Date.now(),
    baseBackupId: chain.at(-2) ?? null,
    chain,
    snapshotSetId: parts.snapshotSetId,
    volumes: parts.volumes,
    images,
    writers,
    documents: parts.documents,
    fileIndex,
    restoreCommands: restoreCommands(id, images, fileIndex?.file ?? null, fileSteps(parts)),
    isPartial,
    notes: parts.notes,
  }
}

/** Every backup that some part of this one needs, oldest first, this one last. */
function chainOf({ id, copied, entries }: ManifestParts): string[] {
  const needed = new Set<string>()
  for (const { baseBackupId, volumeUuid } of copied.images) {
    if (baseBackupId === null) continue
    for (const { entry } of imageChain(entries, baseBackupId, volumeUuid)) needed.add(entry.id)
  }
  const byId = new Map(entries.map((entry) => [entry.id, entry.manifest]))
  for (const { classId, instanceName, components } of copied.writers) {
    for (const component of components) {
      let next = component.succeeded ? component.baseBackupId : null
      while (next !== null && byId.has(next)) {
        needed.add(next)
        const writer = byId
          .get(next)
          ?.writers.find((other) => other.classId === classId && other.instanceName === instanceName)
        next = writer?.components.find((other) => isSame(other, component))?.baseBackupId ?? null
      }
    }
  }
  return [...[...needed].sort(), id]
}

/**
 * The manifest after BackupComplete: what a writer that failed in it has is saved, but nothing may build
 * on it, as the writer's own history does not know of it.
 * @param statuses null: nobody was told
 */
export function withStatuses(manifest: Manifest, statuses: readonly WriterStatus[] | null): Manifest {
  let hasFailed = statuses === null && manifest.writers.length > 0
  const writers = manifest.writers.map((writer) => {
    const status = statuses?.find(({ instanceId }) => instanceId === writer.instanceId)
    if (writer.type === 'excluded' || (statuses !== null && (status === undefined || status.result === 'ok')))
      return writer
    hasFailed = true
    const components = writer.components.map((component) => ({ ...component, mayBeBase: false }))
    const reason = status ? failureText(status) : 'the writer was not told that the backup is complete'
    return { ...writer, result: status?.result ?? ('not-responding' as const), reason, components }
  })
  return { ...manifest, writers, isPartial: manifest.isPartial || hasFailed }
}

/** The backups that the component files need, each with the components that it is needed for. */
function fileSteps({ id, copied, entries }: ManifestParts): FileStep[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry.manifest]))
  const needed = new Map<string, string[]>()
  const need = (backupId: string, instanceId: string, component: ComponentRecord): void => {
    needed.set(backupId, [...(needed.get(backupId) ?? []), componentKey(instanceId, component)])
  }
  for (const { classId, instanceId, instanceName, components } of copied.writers) {
    for (const component of components.filter(({ succeeded }) => succeeded)) {
      need(id, instanceId, component)
      for (let next = component.baseBackupId; next !== null; ) {
        const writer = byId
          .get(next)
          ?.writers.find((other) => other.classId === classId && other.instanceName === instanceName)
        const base = writer?.components.find((other) => isSame(other, component))
        if (!writer || !base) break
        need(next, writer.instanceId, base)
        next = base.baseBackupId
      }
    }
  }
  return [...needed]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([backupId, components]) => {
      const index = backupId === id ? copied.fileIndex : byId.get(backupId)?.fileIndex
      return index ? [{ backupId, index: index.file, components }] : []
    })
}

function isSame(a: ComponentRecord, b: ComponentRecord): boolean {
  return a.logicalPath === b.logicalPath && a.name === b.name
}
