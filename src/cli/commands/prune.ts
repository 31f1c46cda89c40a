// umbra prune: deletes the backups of a repository that the rules do not keep, after showing the plan.

import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { volumeAccess } from '../../daemon/backup-surroundings.ts'
import { Calendar, localTimeZone } from '../../shadow/repository/calendar-period.ts'
import { allocatedBytes, pinnedIds, prune } from '../../shadow/repository/prune.ts'
import { type BackupEntry, Repository } from '../../shadow/repository/repository.ts'
import { type PlannedBackup, planRetention, type RetentionRules } from '../../shadow/repository/retention.ts'
import { tidyBookmarks } from '../../shadow/requester/bookmark-care.ts'
import { countText, dateText, type JsonOption, printResult, tableText, visibleText } from '../output.ts'
import { wholeNumber } from '../whole-number.ts'

interface PruneOptions extends JsonOption {
  readonly keepLast?: number
  readonly keepHourly?: number
  readonly keepDaily?: number
  readonly keepWeekly?: number
  readonly keepMonthly?: number
  readonly keepYearly?: number
  readonly timeZone?: string
  readonly dryRun?: boolean
  readonly yes?: boolean
}

interface ShownBackup extends PlannedBackup {
  /** Space that its folder takes. */
  readonly allocatedBytes: number
}

interface PruneResult {
  readonly timeZone: string
  readonly isDone: boolean
  readonly backups: readonly ShownBackup[]
  readonly deletedCount: number
  readonly freedBytes: number
  readonly notes: readonly string[]
}

export function pruneCommand(): Command {
  return new Command('prune')
    .description(
      'delete backups that no rule keeps; rules hold for each set of volumes and writers by itself, and what a kept backup builds on stays',
    )
    .argument('<REPOSITORY>', 'folder of the repository')
    .option('--keep-last <N>', 'keep the newest N', wholeNumber)
    .option('--keep-hourly <N>', 'keep the newest of each of the last N hours that have one', wholeNumber)
    .option('--keep-daily <N>', 'the same for days', wholeNumber)
    .option('--keep-weekly <N>', 'the same for weeks, from Monday', wholeNumber)
    .option('--keep-monthly <N>', 'the same for months', wholeNumber)
    .option('--keep-yearly <N>', 'the same for years', wholeNumber)
    .option('--time-zone <ZONE>', 'whose days these are, such as Europe/Berlin or UTC; else the local one')
    .option('--dry-run', 'show the plan and delete nothing')
    .option('--yes', 'do not ask; needed where nobody can be asked')
    .option('--json', 'print as JSON')
    .action(async (folder: string, options: PruneOptions) => {
      const repository = Repository.open(folder)
      const calendar = calendarOf(options.timeZone ?? localTimeZone())
      const plan = () => planRetention(repository.list(), rulesOf(options), calendar, pinnedIds(repository))
      const planned = plan()
      const backups = planned.map((backup) => shown(backup, repository))
      const result = {
        timeZone: calendar.timeZone,
        isDone: false,
        backups,
        deletedCount: 0,
        freedBytes: 0,
        notes: [],
      }
      if (!options.json) process.stdout.write(`${planText(result)}\n`)
      const isNothing = backups.every(({ keep }) => keep)
      const canGoOn = !options.dryRun && !isNothing
      if (options.json && (!canGoOn || !options.yes))
        printResult(options, { ...result, isDone: isNothing && !options.dryRun }, String)
      if (!canGoOn || !(await isConfirmed(options))) return
      printResult(options, { ...result, ...(await carryOut(repository, planned, plan, backups)) }, doneText)
    })
}

function calendarOf(timeZone: string): Calendar {
  try {
    return new Calendar(timeZone)
  } catch (error) {
    throw new UmbraError('INVALID_ARGUMENT', `No such time zone: ${JSON.stringify(timeZone)}`, {}, error)
  }
}

function rulesOf(options: PruneOptions): RetentionRules {
  return {
    last: options.keepLast,
    hourly: options.keepHourly,
    daily: options.keepDaily,
    weekly: options.keepWeekly,
    monthly: options.keepMonthly,
    yearly: options.keepYearly,
  }
}

function shown(backup: PlannedBackup, repository: Repository): ShownBackup {
  return { ...backup, allocatedBytes: allocatedBytes(`${repository.backupsFolder}/${backup.id}`) }
}

/** @throws UmbraError INVALID_ARGUMENT where nobody can be asked */
async function isConfirmed({ yes, json }: PruneOptions): Promise<boolean> {
  if (yes) return true
  if (json || !process.stdin.isTTY || !process.stderr.isTTY)
    throw new UmbraError('INVALID_ARGUMENT', 'Nothing was deleted: say --yes where nobody can be asked')
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await asking.question('Delete them? [y/N] ')).trim())
  } finally {
    asking.close()
  }
}

async function carryOut(
  repository: Repository,
  planned: readonly PlannedBackup[],
  plan: () => PlannedBackup[],
  backups: readonly ShownBackup[],
): Promise<Pick<PruneResult, 'isDone' | 'deletedCount' | 'freedBytes' | 'notes'>> {
  using _lock = repository.lock()
  if (JSON.stringify(plan()) !== JSON.stringify(planned))
    throw new UmbraError('BUSY', 'The repository has changed since the plan was made; nothing was deleted')
  const gone = new Set<string>()
  let removed: readonly BackupEntry[]
  try {
    removed = prune(repository, planned, (id) => gone.add(id))
  } catch (error) {
    record(repository, 'failed', `${(error as Error).message}, after ${gone.size} backups were deleted`)
    throw error
  }
  const notes = await tidied(repository, removed)
  record(repository, 'ok', `${removed.length} of ${countText(planned.length, 'backup')} deleted`)
  const freedBytes = backups.reduce(
    (sum, { id, allocatedBytes: bytes }) => sum + (gone.has(id) ? bytes : 0),
    0,
  )
  return { isDone: true, deletedCount: removed.length, freedBytes, notes }
}

function record(repository: Repository, outcome: 'ok' | 'failed', message: string): void {
  repository.record({ atMs: Date.now(), operation: 'prune', backupId: null, outcome, message })
}

/** Bookmarks that nothing builds on any more go, where their volumes are. */
async function tidied(repository: Repository, removed: readonly BackupEntry[]): Promise<string[]> {
  const volumes = new Map(
    removed.flatMap(({ manifest }) => manifest?.volumes ?? []).map((volume) => [volume.volumeUuid, volume]),
  )
  const there = [...volumes.values()].filter(({ volumePath }) => existsSync(volumePath))
  const away = [...volumes.values()].filter((volume) => !there.includes(volume))
  return [
    ...(await tidyBookmarks(volumeAccess, repository, there)),
    ...away.map(
      ({ volumePath }) => `${volumePath} is not there: its old bookmarks stay until the next backup of it`,
    ),
  ]
}

function planText({ backups, timeZone }: Pick<PruneResult, 'backups' | 'timeZone'>): string {
  const rows = backups.map(({ id, type, instantMs, keep, reasons, baseOf, allocatedBytes: bytes }) => [
    id,
    type ?? '?',
    dateText(instantMs),
    formatSize(bytes),
    keep ? 'keep' : 'delete',
    baseOf === null ? reasons.join(', ') : `kept as base of ${baseOf}`,
  ])
  const doomed = backups.filter(({ keep }) => !keep)
  const bytes = doomed.reduce((sum, { allocatedBytes: own }) => sum + own, 0)
  const table = tableText(['backup', 'type', 'instant', 'takes', '', 'why'], rows)
  return `${table}\n${doomed.length} of ${countText(backups.length, 'backup')} to be deleted, about ${formatSize(bytes)}; days are those of ${timeZone}`
}

function doneText({ deletedCount, notes }: Pick<PruneResult, 'deletedCount' | 'notes'>): string {
  const lines = [`${countText(deletedCount, 'backup')} deleted`, ...notes]
  return lines.map(visibleText).join('\n')
}
