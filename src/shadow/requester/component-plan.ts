// What a backup takes of which writer, and what each component builds on: worked out from the writers'
// documents, the user's choice and the repository before anything is held.
//
// Always true: every explicit component has one type; a component that needs a base and has none is
// saved as a full, visibly; a writer that keeps incremental and differential backups apart never gets
// both in one series (vss.md sections 4.7, 4.8, 5.2; 9 #3, #15).

import { UmbraError } from '../../base/errors.ts'
import type { ComponentKey } from '../documents/backup-components.ts'
import { type WriterSelection, withDependencies } from '../documents/component-dependencies.ts'
import { componentSet, explicitSelection, fullPathOf, wholeSelection } from '../documents/component-rules.ts'
import { effectiveType } from '../documents/file-set-mask.ts'
import type { BackupType } from '../documents/vocabulary.ts'
import type { ComponentMetadata, WriterMetadata } from '../documents/writer-metadata.ts'
import { type ComponentLink, componentBase, needsBase, seriesOf } from '../repository/chains.ts'
import type { BackupEntry } from '../repository/repository.ts'

export interface PlannedComponent {
  readonly key: ComponentKey
  /** The component and what is implicitly in its set. */
  readonly members: readonly ComponentMetadata[]
  readonly type: BackupType
  readonly base: ComponentLink | null
  /** Handed back to the writer; null: it has none, or keeps no stamps. */
  readonly previousStamp: string | null
}

export interface PlannedWriter {
  readonly metadata: WriterMetadata
  readonly type: BackupType
  /** Why the type is not the backup's. */
  readonly reason: string | null
  readonly components: readonly PlannedComponent[]
}

export interface PlanRequest {
  readonly metadata: readonly WriterMetadata[]
  readonly components: 'all' | 'none' | readonly string[]
  readonly type: BackupType
  readonly entries: readonly BackupEntry[]
  /** Deltas of files for writers that know nothing of them: then these need a base, too. */
  readonly changedRanges: boolean
}

/**
 * The writers of which something is taken.
 * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT, ALREADY_EXISTS for a wrong choice; NO_BASE when no
 *   component has what the type builds on, or a series would mix what its writer keeps apart; BROKEN_CHAIN
 */
export function planComponents(request: PlanRequest): PlannedWriter[] {
  const planned = selected(request)
    .filter(({ explicit }) => explicit.length > 0)
    .map((selection) => planWriter(selection, request))
  const components = planned.flatMap((writer) => writer.components)
  const isBaseless = components.length > 0 && components.every(({ base }) => base === null)
  const isSupported = planned.some(({ type }) => needsBase(type))
  if (needsBase(request.type) && isBaseless && isSupported)
    throw new UmbraError(
      'NO_BASE',
      `There is no complete backup of these components for a backup of type ${request.type}`,
    )
  return planned
}

function selected({ metadata, components }: PlanRequest): readonly WriterSelection[] {
  if (components === 'none') return []
  if (components === 'all')
    return metadata.map((writer) => ({ metadata: writer, explicit: wholeSelection(writer) }))
  const chosen = new Map<WriterMetadata, ComponentKey[] | 'whole'>()
  for (const choice of components) addChoice(chosen, metadata, choice)
  return withDependencies(
    metadata.map((writer) => {
      const keys = chosen.get(writer)
      if (keys === undefined) return { metadata: writer, explicit: [] }
      if (keys === 'whole') return { metadata: writer, explicit: wholeSelection(writer) }
      return { metadata: writer, explicit: explicitSelection(writer, keys) }
    }),
  )
}

/** @param choice `WRITER` or `WRITER:PATH/NAME` */
function addChoice(
  chosen: Map<WriterMetadata, ComponentKey[] | 'whole'>,
  metadata: readonly WriterMetadata[],
  choice: string,
): void {
  const whole = metadata.filter((writer) => isCalled(writer, choice))
  if (whole.length > 0) {
    for (const writer of whole) chosen.set(writer, 'whole')
    return
  }
  const colon = choice.indexOf(':')
  const name = choice.slice(0, Math.max(0, colon))
  const path = choice.slice(colon + 1)
  const writers = metadata.filter((writer) => isCalled(writer, name))
  if (colon < 0 || writers.length === 0)
    throw new UmbraError('NOT_FOUND', `No writer is called ${colon < 0 ? choice : name}`, { name: choice })
  const having = writers.filter((writer) =>
    writer.components.some((component) => fullPathOf(component) === path),
  )
  if (having.length === 0)
    throw new UmbraError('NOT_FOUND', `${name} has no component ${path}`, { name: choice })
  for (const writer of having) {
    const before = chosen.get(writer) ?? []
    if (before === 'whole') continue
    const cut = path.lastIndexOf('/')
    const key = { logicalPath: cut < 0 ? '' : path.slice(0, cut), name: path.slice(cut + 1) }
    chosen.set(writer, [...before, key])
  }
}

/** By name, `NAME/INSTANCE`, instance or class id. */
export function isCalled({ identity }: WriterMetadata, name: string): boolean {
  const { classId, instanceId, instanceName } = identity
  const full = instanceName === '' ? identity.name : `${identity.name}/${instanceName}`
  return [identity.name, full, classId, instanceId].includes(name)
}

export function writerText({ name, instanceName }: { name: string; instanceName: string }): string {
  return instanceName === '' ? name : `${name}/${instanceName}`
}

function planWriter({ metadata, explicit }: WriterSelection, request: PlanRequest): PlannedWriter {
  const { identity, backupSchema } = metadata
  const supported = effectiveType(metadata, request.type)
  const isUnsupported = supported !== request.type
  // Changed ranges stand in for what the writer cannot do itself; of logs nobody else knows anything.
  const byRanges = isUnsupported && request.changedRanges && request.type !== 'log'
  const type = byRanges ? request.type : supported
  const planned = explicit.map((key) => planComponent(metadata, key, type, request))
  if (backupSchema.includes('exclusive-incremental-differential'))
    for (const { key, type: own } of planned) refuseMixing(metadata, key, own, request)
  const reason = isUnsupported
    ? `${writerText(identity)} does not support backups of type ${request.type}${byRanges ? '; changed ranges of its files are saved instead' : ''}`
    : null
  return { metadata, type, reason, components: planned }
}

function planComponent(
  metadata: WriterMetadata,
  key: ComponentKey,
  type: BackupType,
  request: PlanRequest,
): PlannedComponent {
  const base = needsBase(type) ? componentBase(request.entries, metadata.identity, key, type) : null
  const isStamped = metadata.backupSchema.includes('timestamped')
  return {
    key: { logicalPath: key.logicalPath, name: key.name },
    members: componentSet(metadata, key),
    type: needsBase(type) && base === null ? 'full' : type,
    base,
    previousStamp: isStamped ? (base?.component.stamp ?? null) : null,
  }
}

function refuseMixing(
  metadata: WriterMetadata,
  key: ComponentKey,
  type: BackupType,
  request: PlanRequest,
): void {
  const other = type === 'incremental' ? 'differential' : type === 'differential' ? 'incremental' : null
  if (other === null || !seriesOf(request.entries, metadata.identity, key).includes(other)) return
  throw new UmbraError(
    'NO_BASE',
    `${writerText(metadata.identity)} never mixes incremental and differential backups, and there is one of type ${other} since its last full; a new full starts a new series`,
    { writer: metadata.identity.name },
  )
}
