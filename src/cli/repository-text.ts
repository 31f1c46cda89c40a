// How `umbra status REPOSITORY` reads.
//
// Always true: what is damaged or was found damaged stands in capitals of its own column, not between figures.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { formatSize } from '../base/units.ts'
import type { BackupStatus, RepositoryStatus } from '../shadow/repository/repository-status.ts'
import { dateText, listText, tableText } from './output.ts'

/** A folder with the head of a repository. */
export function isRepository(path: string): boolean {
  return existsSync(join(path, 'repository.json'))
}

export function repositoryText(status: RepositoryStatus): string {
  const { repository, backups, unfinished, last } = status
  const head = listText([
    ['repository', repository],
    ['takes', formatSize(status.allocatedBytes)],
    ...(unfinished.length > 0 ? [['unfinished', unfinished.join(', ')] as const] : []),
    ...(['backup', 'verify', 'prune', 'consolidate', 'restore'] as const).map(
      (operation) => [`last ${operation}`, lastText(last[operation])] as const,
    ),
  ])
  if (backups.length === 0) return `${head}\nno backups`
  const table = tableText(
    ['backup', 'type', 'instant', 'builds on', 'data', 'takes', 'state', 'verified'],
    backups.map((backup) => [
      backup.id,
      backup.type ?? '?',
      backup.instantMs === null ? '-' : dateText(backup.instantMs),
      backup.base ?? '-',
      formatSize(backup.dataBytes),
      formatSize(backup.allocatedBytes),
      stateText(backup),
      backup.verified ? `${dateText(backup.verified.atMs)} ${verdict(backup.verified.outcome)}` : 'never',
    ]),
  )
  return `${head}\n\n${table}`
}

function lastText(result: RepositoryStatus['last']['backup']): string {
  return result ? `${dateText(result.atMs)} ${verdict(result.outcome)}: ${result.message}` : 'never'
}

function stateText({ problem, isPartial }: BackupStatus): string {
  return problem !== null ? 'DAMAGED' : isPartial ? 'in part' : 'complete'
}

function verdict(outcome: 'ok' | 'partial' | 'failed'): string {
  return outcome === 'failed' ? 'FAILED' : outcome
}
