// Names of backups: UTC time to the millisecond, type, and a short random part.
//
// Always true: names sort by time within a repository, even when the clock was set back, as a new one is
// put behind the newest that is there.

import { randomBytes } from 'node:crypto'
import { BACKUP_TYPES, type BackupType } from '../documents/vocabulary.ts'

const PATTERN = new RegExp(
  `^(\\d{4})(\\d{2})(\\d{2})T(\\d{2})(\\d{2})(\\d{2})(\\d{3})Z-(${BACKUP_TYPES.join('|')})-([0-9a-f]{8})$`,
)

export interface BackupIdParts {
  readonly timeMs: number
  readonly type: BackupType
}

/** What a backup's name says; null: no such name. */
export function parseBackupId(id: string): BackupIdParts | null {
  const match = PATTERN.exec(id)
  if (!match) return null
  const [year = 0, month = 0, day = 0, hour, minute, second, ms] = match.slice(1, 8).map(Number)
  const timeMs = Date.UTC(year, month - 1, day, hour, minute, second, ms)
  return { timeMs, type: match[8] as BackupType }
}

/** @param newest the repository's newest name, behind which this one sorts */
export function newBackupId(type: BackupType, nowMs: number, newest: string | null): string {
  const newestMs = newest === null ? null : (parseBackupId(newest)?.timeMs ?? null)
  const timeMs = newestMs === null ? nowMs : Math.max(nowMs, newestMs + 1)
  const time = new Date(timeMs).toISOString().replace(/[-:.]/g, '')
  return `${time}-${type}-${randomBytes(4).toString('hex')}`
}
