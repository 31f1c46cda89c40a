// What the tests of component restores share: a writer that takes part in restores, and records of trees
// as they have to come back.
//
// Always true: a record holds everything that a restore answers for: not access and change times, and not
// inode numbers, but which names share one.

import { fileURLToPath } from 'node:url'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { restoreComponents } from '../../src/shadow/requester/restore/component-restore.ts'
import type {
  ComponentRestoreOptions,
  ComponentRestoreResult,
  ServiceControl,
} from '../../src/shadow/requester/restore/component-restore-types.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'
import { run } from '../support/run.ts'
import { type BackupLab, LabWriter } from './backup-lab.ts'

export class RestoringWriter extends LabWriter {
  override onPreRestore(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onPostRestore(context: WriterContext): void | Promise<void> {
    for (const component of context.components)
      if (!component.hasAdditionalRestores && component.data.fileRestoreStatus === 'all')
        this.log.push(`recover ${component.fullPath}`)
    return this.#on(context)
  }

  #on(context: WriterContext): void | Promise<void> {
    this.log.push(context.event)
    return this.handlers[context.event]?.(context)
  }
}

export const noServices: ServiceControl = {
  stop: async () => {
    throw new Error('no service was to be stopped')
  },
  start: async () => {
    throw new Error('no service was to be started')
  },
}

export function restore(
  lab: BackupLab,
  options: Partial<ComponentRestoreOptions> = {},
  services: ServiceControl = noServices,
  repository: string = lab.repository,
): Promise<ComponentRestoreResult> {
  const surroundings = { coordinator: lab.coordinator, services, journalFolder: lab.at('journals') }
  return restoreComponents(surroundings, Repository.open(repository), { components: 'all', ...options })
}

const SCRIPT = fileURLToPath(new URL('../mount/tree-record.py', import.meta.url))

/** Lines of JSON, one a path, without what no restore can bring back. */
export async function treeRecord(folder: string): Promise<Map<string, string>> {
  const { stdout } = await run('python3', [SCRIPT, folder])
  const record = new Map<string, string>()
  for (const line of stdout.split('\n')) {
    if (line === '') continue
    const {
      ino: _ino,
      atime: _atime,
      ctime: _ctime,
      path,
      ...rest
    } = JSON.parse(line) as Record<string, unknown>
    // Folders count those below them: what is told by the tree itself.
    if (String(rest['mode']).startsWith('0o4')) delete rest['nlink']
    record.set(Buffer.from(String(path), 'hex').toString('latin1'), JSON.stringify(rest))
  }
  return record
}

/** What differs, at most ten lines of it. */
export function differences(expected: Map<string, string>, found: Map<string, string>): string[] {
  const lines: string[] = []
  for (const [path, line] of expected)
    if (found.get(path) !== line) lines.push(`${path}: ${line} became ${found.get(path) ?? 'nothing'}`)
  for (const path of found.keys()) if (!expected.has(path)) lines.push(`${path} came out of nowhere`)
  return lines.slice(0, 10)
}
