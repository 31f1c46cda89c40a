// umbra writer: the writers that take part in backups, and those that are configured.

import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { connectCoordinator } from '../../daemon/coordinator-client.ts'
import type { ListedWriter } from '../../daemon/coordinator-protocol.ts'
import { parseDocument } from '../../shadow/documents/canonical-json.ts'
import { fullPathOf } from '../../shadow/documents/component-rules.ts'
import { allFileSets } from '../../shadow/documents/file-set-mask.ts'
import { specText } from '../../shadow/documents/file-spec.ts'
import type { ComponentMetadata, FileSet, WriterMetadata } from '../../shadow/documents/writer-metadata.ts'
import { createShippedWriter } from '../../shadow/shipped/shipped-writers.ts'
import {
  addConfiguredWriter,
  configurationPath,
  configuredNames,
  removeConfiguredWriter,
  validateConfiguration,
  WRITER_KINDS,
} from '../../shadow/writers/writer-configuration.ts'
import { type JsonOption, listText, printResult, tableText, visibleText } from '../output.ts'

const WRITER_ARGUMENT = 'its name, instance name, class or instance id, or where it comes from'

export function writerCommand(): Command {
  const writer = new Command('writer').description('the applications that take part in backups')
  writer
    .command('list')
    .description('list the writers that are there now: hooks, configured and connected ones')
    .option('--json', 'print as JSON')
    .action(async (options: JsonOption) => {
      printResult(options, await listedWriters(), (writers) => writersText(writers))
    })
  writer
    .command('status')
    .description('show the state and the last result of writers')
    .argument('[WRITER]', `${WRITER_ARGUMENT}; all without it`)
    .option('--json', 'print as JSON')
    .action(async (name: string | undefined, options: JsonOption) => {
      const statuses = chosen(await listedWriters(), name).map(({ status }) => status)
      printResult(options, statuses, (shown) =>
        shown.map((status) => listText(statusLines(status))).join('\n\n'),
      )
    })
  writer
    .command('metadata')
    .description('show what writers have: components, file sets, excludes, restore method')
    .argument('[WRITER]', `${WRITER_ARGUMENT}; all without it`)
    .option('--detailed', 'with every file set')
    .option('--json', 'print the metadata documents as JSON')
    .action(async (name: string | undefined, options: JsonOption & { detailed?: boolean }) => {
      const documents = chosen(await listedWriters(), name).flatMap(({ metadata }) => metadata ?? [])
      printResult(options, documents, (shown) =>
        shown.map((metadata) => metadataText(metadata, options.detailed === true)).join('\n\n'),
      )
    })
  writer
    .command('add')
    .description('configure a writer; the coordinator runs it from the next backup on')
    .argument('<NAME>', 'name of the configuration')
    .argument('<FILE>', `its JSON (docs/WRITERS.md) of kind ${WRITER_KINDS.join(', ')}; - for standard input`)
    .option('--replace', 'take the place of a configuration of this name')
    .option('--json', 'print as JSON')
    .action(async (name: string, file: string, options: JsonOption & { replace?: boolean }) => {
      printResult(
        options,
        await addWriter(name, file, options.replace === true),
        (added) => `writer ${added.name} (${added.kind}) is configured in ${visibleText(added.path)}`,
      )
    })
  writer
    .command('remove')
    .description('forget a configured writer')
    .argument('<NAME>', 'name of the configuration')
    .option('--json', 'print as JSON')
    .action((name: string, options: JsonOption) => {
      removeConfiguredWriter(name)
      printResult(options, { removed: name }, () => `writer ${visibleText(name)} is no longer configured`)
    })
  return writer
}

async function listedWriters(): Promise<ListedWriter[]> {
  const coordinator = await connectCoordinator()
  try {
    return await coordinator.listWriters()
  } finally {
    coordinator.close()
  }
}

/** @throws UmbraError NOT_FOUND */
function chosen(writers: readonly ListedWriter[], name: string | undefined): readonly ListedWriter[] {
  if (name === undefined) return writers
  const found = writers.filter(({ status, origin }) =>
    [status.name, status.instanceName, status.classId, status.instanceId, origin].includes(name),
  )
  if (found.length > 0) return found
  throw new UmbraError('NOT_FOUND', `No such writer: ${name}`)
}

/** Made once to see that it can be: what is wrong is told here and not at the next backup. */
async function addWriter(
  name: string,
  file: string,
  replace: boolean,
): Promise<{ name: string; kind: string; path: string }> {
  configurationPath(name)
  const what = file === '-' ? 'standard input' : file
  const configuration = validateConfiguration(parseDocument(readInput(file), what), what)
  await createShippedWriter({ name, configuration })
  const added = addConfiguredWriter(name, configuration, replace)
  return { name, kind: added.configuration.kind, path: added.path }
}

function readInput(file: string): Uint8Array {
  try {
    return readFileSync(file === '-' ? 0 : file)
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `Cannot read ${file}: ${(error as Error).message}`, {}, error)
  }
}

export function writersText(writers: readonly ListedWriter[]): string {
  if (writers.length === 0) {
    const hint = configuredNames().length === 0 ? ' (umbra writer add configures one)' : ''
    return `no writers${hint}`
  }
  return tableText(
    ['writer', 'instance', 'components', 'state', 'last result', 'comes from'],
    writers.map(({ status, metadata, origin }) => [
      status.name,
      status.instanceName,
      metadata === null ? '-' : String(metadata.components.length),
      status.state,
      status.result,
      origin,
    ]),
  )
}

export function statusLines(status: ListedWriter['status']): [string, string][] {
  return [
    ['writer', status.name],
    ['instance', status.instanceName],
    ['class id', status.classId],
    ['instance id', status.instanceId],
    ['state', status.state],
    ['last result', status.message === null ? status.result : `${status.result}: ${status.message}`],
  ]
}

export function metadataText(metadata: WriterMetadata, isDetailed: boolean): string {
  const { identity, restoreMethod, backupSchema } = metadata
  const head = listText([
    ['writer', identity.instanceName === '' ? identity.name : `${identity.name} (${identity.instanceName})`],
    ['class id', identity.classId],
    ['instance id', identity.instanceId],
    ['usage', `${identity.usage}, ${identity.source}`],
    ['can do', ['full', ...backupSchema].join(', ')],
    ['freeze', `${metadata.freezeLevel}, at most ${metadata.freezeTimeoutMs / 1000} s`],
    ['restore', `${restoreMethod.method}, writer takes part: ${restoreMethod.writerRestore}`],
  ])
  const lines = [head, ...metadata.components.map((component) => componentText(component, isDetailed))]
  if (isDetailed) {
    for (const spec of metadata.excludeFiles) lines.push(`  not saved: ${visibleText(specText(spec))}`)
    for (const spec of metadata.excludeFromSnapshotFiles) {
      lines.push(`  not in the shadow copy: ${visibleText(specText(spec))}`)
    }
    for (const mapping of metadata.alternateLocationMappings) {
      lines.push(`  ${visibleText(specText(mapping))} may go to ${visibleText(mapping.alternateLocation)}`)
    }
  }
  return lines.join('\n')
}

function componentText(component: ComponentMetadata, isDetailed: boolean): string {
  const caption = component.caption === undefined ? '' : `: ${component.caption}`
  const choice = component.selectable ? 'selectable' : 'not selectable'
  const lines = [`  ${visibleText(`${fullPathOf(component)} (${component.type}, ${choice})${caption}`)}`]
  if (isDetailed) {
    for (const set of allFileSets(component)) {
      const kind = component.databaseLogFiles.includes(set) ? 'log files' : 'files'
      lines.push(`    ${kind} ${visibleText(`${specText(set)}${fileSetText(set)}`)}`)
    }
    for (const dependency of component.dependencies) {
      lines.push(`    needs ${visibleText(`${fullPathOf(dependency)} of ${dependency.classId}`)}`)
    }
  }
  return lines.join('\n')
}

/** What is out of the ordinary about a file set. */
function fileSetText({ alternatePath, backupRequired, snapshotRequired }: FileSet): string {
  const parts: string[] = []
  if (alternatePath !== undefined) parts.push(`read from ${alternatePath}`)
  if (backupRequired.length < 4) parts.push(`saved in ${backupRequired.join(', ') || 'no backup but a copy'}`)
  if (snapshotRequired.length < 4) {
    parts.push(`from a snapshot in ${snapshotRequired.join(', ') || 'no backup but a copy'}`)
  }
  return parts.length === 0 ? '' : `; ${parts.join('; ')}`
}
