// Files of components out of a repository: the part of umbra restore that speaks to writers.

import { join, resolve } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { LazyCoordinator } from '../../daemon/lazy-coordinator.ts'
import { serviceControl } from '../../daemon/service-control.ts'
import type { Repository } from '../../shadow/repository/repository.ts'
import { restoreComponents } from '../../shadow/requester/restore/component-restore.ts'
import type {
  ComponentRestoreResult,
  NewFolder,
  RestoredComponent,
} from '../../shadow/requester/restore/component-restore-types.ts'
import { configurationFolder } from '../../shadow/writers/writer-configuration.ts'
import { EXIT_PARTIAL } from '../exit-codes.ts'
import { withLongWork } from '../long-work.ts'
import { countText, type JsonOption, printResult, visibleText } from '../output.ts'

export interface ComponentOptions extends JsonOption {
  readonly components?: string[]
  readonly allComponents?: boolean
  readonly toFolder?: string[]
  readonly restoreOptions?: string
  readonly rollForward?: string
  readonly withoutWriters?: boolean
  readonly serviceCommand?: string
  readonly dryRun?: boolean
}

/** Options that mean nothing for an image. */
const OWN = [
  'toFolder',
  'restoreOptions',
  'rollForward',
  'withoutWriters',
  'serviceCommand',
  'dryRun',
] as const

/** Whether component files are asked for. @throws UmbraError INVALID_ARGUMENT for options that need them */
export function wantsComponents(options: ComponentOptions): boolean {
  if (options.components || options.allComponents) return true
  const alone = OWN.find((name) => options[name] !== undefined)
  if (alone === undefined) return false
  const option = `--${alone.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
  throw new UmbraError('INVALID_ARGUMENT', `${option} goes with --components or --all-components`)
}

export async function restoreComponentFiles(
  repository: Repository,
  backup: string | undefined,
  options: ComponentOptions,
): Promise<void> {
  using coordinator = new LazyCoordinator()
  const surroundings = {
    coordinator,
    services: serviceControl(options.serviceCommand?.split(' ').filter((word) => word !== '')),
    journalFolder: join(configurationFolder(), 'restores'),
  }
  const result = await withLongWork('restore', (work) =>
    restoreComponents(surroundings, repository, {
      ...work,
      backup,
      components: options.allComponents ? 'all' : (options.components ?? []),
      newFolders: (options.toFolder ?? []).map(newFolder),
      restoreOptions: options.restoreOptions,
      rollForward: options.rollForward,
      withoutWriters: options.withoutWriters,
      dryRun: options.dryRun,
      onNote: (note) => process.stderr.write(`umbra: ${visibleText(note)}\n`),
    }),
  )
  printResult(options, result, resultText)
  if (result.isPartial) process.exitCode = EXIT_PARTIAL
}

/** @throws UmbraError INVALID_ARGUMENT */
function newFolder(text: string): NewFolder {
  const cut = text.indexOf('=')
  const from = text.slice(0, Math.max(0, cut))
  const to = text.slice(cut + 1)
  if (cut > 0 && from.startsWith('/') && to !== '') return { from: resolve(from), to: resolve(to) }
  throw new UmbraError('INVALID_ARGUMENT', `Not OLD=NEW: ${text}`)
}

function resultText({ backup, operations, components, isDryRun }: ComponentRestoreResult): string {
  const chain = operations.length > 1 ? ` by ${operations.join(', ')}` : ''
  const lines = [`${isDryRun ? 'Would restore' : 'Restored'} ${backup}${chain}`]
  for (const component of components) lines.push(`  ${visibleText(componentText(component, isDryRun))}`)
  return lines.join('\n')
}

const PLACES = {
  original: 'to the original place',
  alternate: 'to the alternate place',
  directed: 'to where the writer directed them',
  'new-target': 'to the folder given',
  unknown: 'to a place that is not known',
} as const

function componentText(component: RestoredComponent, isDryRun: boolean): string {
  const { writer, logicalPath, name, status, place, fileCount, bytes, failure, subcomponents } = component
  const path = logicalPath === '' ? name : `${logicalPath}/${name}`
  const parts = subcomponents.length > 0 ? ` (${subcomponents.join(', ')})` : ''
  const what = isDryRun ? 'would go' : status === 'all' ? 'went' : (status ?? '')
  const how =
    isDryRun || status === 'all'
      ? `: ${countText(fileCount, 'file')}, ${formatSize(bytes)} ${what} ${PLACES[place ?? 'unknown']}`
      : `: ${what}`
  return `${writer}: ${path}${parts}${how}${failure === null ? '' : `: ${failure}`}`
}
