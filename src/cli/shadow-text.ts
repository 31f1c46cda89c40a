// Shadow copies and what the shadow shell gives back, as text.

import type { SetTimings, ShadowProperties, WriterStatus } from '../shadow/coordinator/requester-session.ts'
import type { TraceEntry } from '../shadow/coordinator/trace.ts'
import { hasAttribute, SNAPSHOT_ATTRIBUTES, type SnapshotAttribute } from '../shadow/documents/vocabulary.ts'
import { writerText } from '../shadow/requester/component-plan.ts'
import type { WriterListing } from '../shadow/requester/shadow-shell/shell-command.ts'
import type { ListedWriters, ShellResult } from '../shadow/requester/shadow-shell/shell-result.ts'
import { metadataText, statusLines, writersText } from './commands/writer.ts'
import { dateText, listText, millisecondsText, tableText, visibleText } from './output.ts'

export function attributeWords(attributes: number): string[] {
  const all = Object.keys(SNAPSHOT_ATTRIBUTES) as SnapshotAttribute[]
  return all.filter((attribute) => hasAttribute(attributes, attribute))
}

/** All properties, set by set. */
export function shadowsText(shadows: readonly ShadowProperties[]): string {
  if (shadows.length === 0) return 'no shadow copies'
  const lines: string[] = []
  let setId = ''
  for (const shadow of shadows) {
    if (shadow.snapshotSetId !== setId) {
      setId = shadow.snapshotSetId
      const left = shadows.filter((other) => other.snapshotSetId === setId).length
      lines.push(`${setId}: shadow copy set of ${shadow.setCount}, ${left} listed`)
    }
    lines.push(indented(propertiesText(shadow)))
  }
  return `${lines.join('\n')}\n${countText(shadows.length)}`
}

function propertiesText(shadow: ShadowProperties): string {
  return listText([
    ['shadow copy', shadow.snapshotId],
    ['set', `${shadow.snapshotSetId}, ${shadow.setCount} at first`],
    ['name', shadow.snapshotName],
    ['original volume', shadow.originalVolume],
    ['created', dateText(shadow.createdAtMs)],
    ['path', shadow.devicePath ?? 'not mounted'],
    ['originating machine', shadow.originatingMachine],
    ['service machine', shadow.serviceMachine],
    ['exposed', shadow.exposedName ?? 'no'],
    ['exposed part', shadow.exposedPath ?? '-'],
    ['provider', shadow.provider],
    ['attributes', attributeWords(shadow.attributes).join(', ') || '-'],
    ['state', shadow.state],
  ])
}

export function countText(count: number): string {
  return count === 1 ? '1 shadow copy' : `${count} shadow copies`
}

export function createdText(
  snapshotSetId: string,
  shadows: readonly ShadowProperties[],
  { heldMs, totalMs }: SetTimings,
): string {
  const rows = shadows.map(({ snapshotId, originalVolume, devicePath, snapshotName }) => [
    snapshotId,
    originalVolume,
    devicePath ?? snapshotName,
  ])
  const head = `shadow copy set ${snapshotSetId}: ${countText(shadows.length)}, writes held ${millisecondsText(heldMs)} of ${millisecondsText(totalMs)}`
  return `${head}\n${tableText(['shadow copy', 'volume', 'path'], rows)}`
}

/** Empty: nothing is to be said. */
export function resultText(result: ShellResult): string {
  switch (result.kind) {
    case 'nothing':
    case 'executed':
      return ''
    case 'settings':
      return listText(Object.entries(result.settings))
    case 'volumes':
      return volumesText(result)
    case 'created':
      return [
        createdText(result.snapshotSetId, result.shadows, result.timings),
        ...result.aliases.map(({ name, value }) => `  %${name}%  ${visibleText(value)}`),
      ].join('\n')
    case 'statuses':
      return result.statuses.length === 0 ? 'no writers took part' : statusesText(result.statuses)
    case 'involved':
      return result.writers.length === 0
        ? 'no writer is involved'
        : result.writers
            .map(({ name, components }) => `${visibleText(name)}: ${components} components`)
            .join('\n')
    case 'writers':
      return listedWritersText(result.writers, result.listing)
    case 'shadows':
      return shadowsText(result.shadows)
    case 'providers':
      return providersText(result.providers)
    case 'deleted':
      return `${countText(result.count)} deleted`
    case 'exposed':
      return `${result.exposure.snapshotId} is exposed at ${visibleText(result.exposure.mountPoint)}`
    case 'unexposed':
      return `${result.exposure.snapshotId} is no longer exposed at ${visibleText(result.exposure.mountPoint)}`
    case 'reverted':
      return revertText(result.revert)
    case 'help':
      return result.lines.join('\n')
  }
}

export function revertText({
  volume,
  revertedTo,
  undo,
  unmounted,
}: Extract<ShellResult, { kind: 'reverted' }>['revert']): string {
  const mount = unmounted === null ? '' : `; it is no longer mounted at ${unmounted}`
  return visibleText(
    `${volume} is now what ${revertedTo} is; what it was is kept as snapshot ${undo}${mount}`,
  )
}

export function providersText(providers: readonly { readonly id: string; readonly name: string }[]): string {
  return tableText(
    ['provider', 'id', 'kind'],
    providers.map(({ id, name }) => [name, id, 'redirect on write, in the volume']),
  )
}

/** One line a step, as `--verbose` prints it. */
export function traceLine(entry: TraceEntry): string {
  const what =
    entry.kind === 'call'
      ? `call ${entry.call}`
      : entry.kind === 'event'
        ? `event ${entry.event} ${entry.writer}`
        : `step ${entry.step} ${entry.volume}`
  const end = entry.phase === 'begin' ? '' : entry.failure === null ? ': done' : `: ${entry.failure}`
  return visibleText(`${new Date(entry.atMs).toISOString()} ${what}${end}`)
}

function volumesText({ volumes, aliases }: Extract<ShellResult, { kind: 'volumes' }>): string {
  const count = volumes.length === 1 ? '1 volume' : `${volumes.length} volumes`
  return [
    ...volumes.map(({ volume, alias }) => `${volume}${alias === null ? '' : ` alias ${alias}`}`),
    `${count} in the shadow copy set`,
    ...aliases.map(({ name, value }) => `%${name}%  ${value}`),
  ]
    .map(visibleText)
    .join('\n')
}

function statusesText(statuses: readonly WriterStatus[]): string {
  return tableText(
    ['writer', 'state', 'last result'],
    statuses.map((status) => [writerText(status), status.state, status.message ?? status.result]),
  )
}

function listedWritersText(writers: ListedWriters, listing: WriterListing): string {
  if (writers.length === 0) return writersText(writers)
  if (listing === 'status') return writers.map(({ status }) => listText(statusLines(status))).join('\n\n')
  const documents = writers.flatMap(({ metadata }) => metadata ?? [])
  return documents.map((metadata) => metadataText(metadata, listing === 'detailed')).join('\n\n')
}

function indented(text: string): string {
  return text
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n')
}
