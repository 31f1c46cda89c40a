// What was done with a repository and how it went: verify, prune, consolidate, restore, and the backups
// that were not made. Shown by `status`.
//
// Always true: lines are only appended, each in one write; a line that cannot be read is skipped, as the
// last one may be half written after a crash.

import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode } from '../../base/errors.ts'
import { hostCall } from '../../image/host-file.ts'

export interface ResultEntry {
  readonly atMs: number
  readonly operation: 'backup' | 'restore' | 'verify' | 'prune' | 'consolidate'
  /** Backup id; null: the whole repository. */
  readonly backupId: string | null
  readonly outcome: 'ok' | 'partial' | 'failed'
  /** One sentence for people. */
  readonly message: string
}

export const RESULTS_NAME = 'results.jsonl'

export function appendResult(repository: string, entry: ResultEntry): void {
  const path = join(repository, RESULTS_NAME)
  hostCall(`Cannot write ${path}`, () => appendFileSync(path, `${JSON.stringify(entry)}\n`, { mode: 0o600 }))
}

/** Oldest first. */
export function readResults(repository: string): ResultEntry[] {
  const path = join(repository, RESULTS_NAME)
  let text: string
  try {
    text = hostCall(`Cannot read ${path}`, () => readFileSync(path, 'utf8'))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
  return text.split('\n').flatMap((line) => {
    const entry = parsed(line)
    return entry ? [entry] : []
  })
}

function parsed(line: string): ResultEntry | null {
  try {
    const entry = JSON.parse(line) as Partial<ResultEntry> | null
    const isSound =
      typeof entry?.atMs === 'number' &&
      typeof entry.operation === 'string' &&
      typeof entry.outcome === 'string' &&
      typeof entry.message === 'string'
    return isSound ? (entry as ResultEntry) : null
  } catch {
    return null
  }
}
