// Which backups to keep: a pure function from what is there and the rules to a plan.
//
// The rules are those that restic and borg have: --keep-daily 7 keeps the newest backup of each of the last
// seven days that have one; where the rule has room left at the oldest backup, that one is kept as well; rules
// add up. They are applied to each group of backups by itself: those of the same volumes and writers.
// Always true: what a kept backup builds on is kept; so is the newest complete backup of each group, and whatever is
// damaged, with everything that it may build on, as nobody can tell what it needs.

import { UmbraError } from '../../base/errors.ts'
import type { BackupType } from '../documents/vocabulary.ts'
import { parseBackupId } from './backup-id.ts'
import type { Calendar, Period } from './calendar-period.ts'
import { withBases } from './dependencies.ts'
import type { Manifest } from './manifest.ts'
import type { BackupEntry } from './repository.ts'

/** How many of each to keep; undefined: no such rule. */
export interface RetentionRules {
  readonly last?: number | undefined
  readonly hourly?: number | undefined
  readonly daily?: number | undefined
  readonly weekly?: number | undefined
  readonly monthly?: number | undefined
  readonly yearly?: number | undefined
}

export interface PlannedBackup {
  readonly id: string
  /** Null: its manifest is damaged, and its name tells nothing else. */
  readonly type: BackupType | null
  readonly instantMs: number
  readonly keep: boolean
  /** Why it is kept: `last`, `daily` and so on, `newest complete`, `damaged`, `base`. */
  readonly reasons: readonly string[]
  /** Of one that is kept as a base alone: the oldest backup that needs it. */
  readonly baseOf: string | null
}

const PERIODS: readonly Period[] = ['hourly', 'daily', 'weekly', 'monthly', 'yearly']

/**
 * @param entries all backups, oldest first
 * @param pinned ids that something unfinished needs
 * @returns oldest first
 * @throws UmbraError INVALID_ARGUMENT when nothing is said to be kept
 */
export function planRetention(
  entries: readonly BackupEntry[],
  rules: RetentionRules,
  calendar: Calendar,
  pinned: Iterable<string> = [],
): PlannedBackup[] {
  checkRules(rules)
  const reasons = new Map<string, Set<string>>()
  const keep = (id: string, reason: string) => reasons.set(id, (reasons.get(id) ?? new Set()).add(reason))
  for (const group of groupsOf(entries)) applyRules(group, rules, calendar, keep)
  const pins = new Set([...pinned, ...damagedAndBelow(entries, keep)])
  const needed = withBases(entries, [...reasons.keys(), ...pins])
  return entries.map(({ id, manifest }) => {
    const own = reasons.get(id)
    const isBase = own === undefined && needed.has(id)
    const parts = parseBackupId(id)
    return {
      id,
      type: manifest?.type ?? parts?.type ?? null,
      instantMs: manifest?.instantMs ?? parts?.timeMs ?? 0,
      keep: needed.has(id),
      reasons: own ? [...own] : isBase ? ['base'] : [],
      baseOf: isBase ? (entries.find((other) => isKeptUser(other, id, reasons, entries))?.id ?? null) : null,
    }
  })
}

function isKeptUser(
  { id }: BackupEntry,
  base: string,
  reasons: ReadonlyMap<string, unknown>,
  entries: readonly BackupEntry[],
): boolean {
  return reasons.has(id) && withBases(entries, [id]).has(base)
}

function checkRules(rules: RetentionRules): void {
  const counts = Object.values(rules).filter((count) => count !== undefined)
  if (counts.some((count) => !Number.isSafeInteger(count) || count < 0))
    throw new UmbraError('INVALID_ARGUMENT', 'How many backups to keep is a whole number')
  if (rules.last === 0)
    throw new UmbraError('INVALID_ARGUMENT', '--keep-last 0 is refused: the last backup always stays')
  if (!counts.some((count) => count > 0))
    throw new UmbraError(
      'INVALID_ARGUMENT',
      'Say what to keep: --keep-last N, --keep-hourly N, --keep-daily N, --keep-weekly N, --keep-monthly N, --keep-yearly N',
    )
}

type Sound = Extract<BackupEntry, { problem: null }>

/** Backups of the same volumes and writers, oldest first. */
function groupsOf(entries: readonly BackupEntry[]): Sound[][] {
  const groups = new Map<string, Sound[]>()
  for (const entry of entries) {
    if (entry.problem) continue
    const key = groupKey(entry.manifest)
    groups.set(key, [...(groups.get(key) ?? []), entry])
  }
  return [...groups.values()]
}

function groupKey({ images, writers }: Manifest): string {
  const volumes = images.map(({ volumeUuid }) => volumeUuid).sort()
  const components = writers
    .filter(({ components }) => components.length > 0)
    .map(({ classId, instanceName }) => `${classId}/${instanceName}`)
    .sort()
  return JSON.stringify([volumes, components])
}

function applyRules(
  group: readonly Sound[],
  rules: RetentionRules,
  calendar: Calendar,
  keep: (id: string, reason: string) => void,
): void {
  const newestFirst = [...group].sort(
    (a, b) => b.manifest.instantMs - a.manifest.instantMs || (a.id < b.id ? 1 : -1),
  )
  for (const { id } of newestFirst.slice(0, rules.last ?? 0)) keep(id, 'last')
  for (const period of PERIODS) {
    let left = rules[period] ?? 0
    let previous: string | null = null
    for (const [i, { id, manifest }] of newestFirst.entries()) {
      if (left === 0) break
      const name = calendar.periodOf(manifest.instantMs, period)
      if (name === previous && i < newestFirst.length - 1) continue
      keep(id, period)
      previous = name
      left--
    }
  }
  const complete = newestFirst.find(({ manifest }) => !manifest.isPartial) ?? newestFirst[0]
  if (complete) keep(complete.id, 'newest complete')
  // A copy or a differential may be newer, but nothing can build on it.
  const base = newestFirst.find(({ manifest: { type } }) => type === 'full' || type === 'incremental')
  if (base) keep(base.id, 'next base')
}

/** Of a damaged backup everything back to the last full before it may be a base. */
function damagedAndBelow(
  entries: readonly BackupEntry[],
  keep: (id: string, reason: string) => void,
): string[] {
  const below: string[] = []
  for (const [i, { id, problem }] of entries.entries()) {
    if (!problem) continue
    keep(id, 'damaged')
    if (parseBackupId(id)?.type === 'full') continue
    for (const older of entries.slice(0, i).reverse()) {
      below.push(older.id)
      if (parseBackupId(older.id)?.type === 'full') break
    }
  }
  return below
}
