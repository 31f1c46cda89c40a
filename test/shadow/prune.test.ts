// deadline 300
// Pruning: which backups the rules keep, worked out by hand; that chains are never broken, and that the command shows
// its plan, asks, and is right wherever it is killed.

import { cpSync, existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode, UmbraError } from '../../src/base/errors.ts'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { newBackupId } from '../../src/shadow/repository/backup-id.ts'
import { Calendar } from '../../src/shadow/repository/calendar-period.ts'
import { withBases } from '../../src/shadow/repository/dependencies.ts'
import type { Manifest } from '../../src/shadow/repository/manifest.ts'
import { prune } from '../../src/shadow/repository/prune.ts'
import { type BackupEntry, Repository } from '../../src/shadow/repository/repository.ts'
import { planRetention, type RetentionRules } from '../../src/shadow/repository/retention.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import { backupLab } from './backup-lab.ts'
import { runCare } from './care-run.ts'

const NEEDS = requires('/dev/fuse', 'root', 'qemu-img')
const UTC = new Calendar('UTC')
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

interface Invented {
  readonly at: string | number
  readonly type?: BackupType
  /** Place in the list of the base of its image. */
  readonly on?: number
  readonly volume?: string
  readonly isPartial?: boolean
  readonly isDamaged?: boolean
}

function invented(backups: readonly Invented[]): BackupEntry[] {
  const entries: BackupEntry[] = []
  for (const { at, type, on, volume, isPartial, isDamaged } of backups) {
    const instantMs = typeof at === 'number' ? at : Date.parse(at)
    const id = newBackupId(type ?? 'full', instantMs, entries.at(-1)?.id ?? null)
    const folder = `/nowhere/${id}`
    if (isDamaged) {
      entries.push({ id, folder, manifest: null, problem: new UmbraError('INVALID_DOCUMENT', 'damaged') })
      continue
    }
    const manifest = {
      id,
      type: type ?? 'full',
      instantMs,
      isPartial: isPartial ?? false,
      images: [{ volumeUuid: volume ?? 'v', baseBackupId: on === undefined ? null : entries[on]?.id }],
      writers: [],
    } as unknown as Manifest
    entries.push({ id, folder, manifest, problem: null })
  }
  return entries
}

/** Places in the list of those that are kept; a base in brackets. */
function kept(entries: readonly BackupEntry[], rules: RetentionRules, calendar = UTC): string {
  const plan = planRetention(entries, rules, calendar)
  return plan
    .flatMap(({ keep, reasons }, i) => (keep ? [reasons.includes('base') ? `(${i})` : String(i)] : []))
    .join(' ')
}

test('the rules keep what users of restic and borg expect', (t) => {
  const daily = invented(Array.from({ length: 10 }, (_, i) => ({ at: Date.UTC(2026, 0, 1 + i, 12) })))
  t.is(kept(daily, { last: 3 }), '7 8 9')
  t.is(kept(daily, { daily: 4 }), '6 7 8 9')
  t.is(kept(daily, { daily: 100 }), '0 1 2 3 4 5 6 7 8 9')
  // 4 January 2026 is a Sunday; the weeks begin on the 29th of December and the 5th.
  t.is(kept(daily, { weekly: 2 }), '3 9', 'the newest of each week')
  t.is(kept(daily, { weekly: 3 }), '0 3 9', 'room is left: the oldest as well')
  t.is(kept(daily, { last: 1, monthly: 1 }), '9')
  t.is(kept(daily, { last: 2, weekly: 2 }), '3 8 9', 'rules add up')
  const hours = invented(
    Array.from({ length: 8 }, (_, i) => ({ at: Date.UTC(2026, 0, 1) + (i * HOUR_MS) / 2 })),
  )
  t.is(kept(hours, { hourly: 2 }), '5 7')
  const years = invented(['2023-12-31T23:00Z', '2024-01-01T00:30Z', '2025-06-01Z'].map((at) => ({ at })))
  t.is(kept(years, { yearly: 2 }), '1 2')
  t.is(
    kept(years, { yearly: 2 }, new Calendar('America/New_York')),
    '1 2',
    'there it is still 2023 both times',
  )
  t.is(kept(years, { yearly: 3 }, new Calendar('America/New_York')), '0 1 2')
})

test('periods follow the calendar of the zone', (t) => {
  const berlin = new Calendar('Europe/Berlin')
  const at = Date.UTC(2026, 9, 25, 0, 30)
  t.unlike(berlin.periodOf(at, 'hourly'), berlin.periodOf(at + HOUR_MS, 'hourly'), 'an hour that comes twice')
  t.is(berlin.periodOf(at, 'daily'), berlin.periodOf(at + 22 * HOUR_MS, 'daily'), 'a day of 25 hours')
  t.is(UTC.periodOf(Date.UTC(2027, 0, 3), 'weekly'), '2026-W53')
  t.is(UTC.periodOf(Date.UTC(2027, 0, 4), 'weekly'), '2027-W1')
  t.is(UTC.periodOf(Date.UTC(2024, 11, 30), 'weekly'), '2025-W1')
})

test('what a kept backup builds on stays, and the last complete one of each group', (t) => {
  const day = (i: number) => i * DAY_MS
  const chain = invented([
    { at: day(1) },
    { at: day(2), type: 'incremental', on: 0 },
    { at: day(3), type: 'incremental', on: 1 },
    { at: day(4), type: 'differential', on: 0 },
    { at: day(5) },
    { at: day(6), type: 'incremental', on: 4 },
  ])
  t.is(kept(chain, { last: 1 }), '(4) 5')
  t.is(kept(chain, { last: 3 }), '(0) 3 4 5')
  t.is(planRetention(chain, { last: 3 }, UTC)[0]?.baseOf, chain[3]?.id, 'and it says whose')
  const groups = invented([{ at: day(1), volume: 'a' }, { at: day(2) }, { at: day(3) }, { at: day(4) }])
  t.is(kept(groups, { last: 2 }), '0 2 3', 'each set of volumes by itself')
  const partial = invented([{ at: day(1) }, { at: day(2) }, { at: day(3), isPartial: true }])
  t.is(kept(partial, { last: 1 }), '1 2', 'the newest is not complete')
  const copied = invented([
    { at: day(1) },
    { at: day(2), type: 'incremental', on: 0 },
    { at: day(3), type: 'differential', on: 0 },
    { at: day(4), type: 'copy' },
  ])
  t.is(kept(copied, { last: 1 }), '(0) 1 3', 'what the next incremental builds on, whatever is newer')
  t.ok(planRetention(copied, { last: 1 }, UTC)[1]?.reasons.includes('next base'))
  const damaged = invented([
    { at: day(1) },
    { at: day(2) },
    { at: day(3), type: 'incremental', on: 1 },
    { at: day(4), type: 'incremental', isDamaged: true },
    { at: day(5) },
  ])
  t.is(kept(damaged, { last: 1 }), '(1) (2) 3 4', 'what a damaged one may need stays')
  for (const rules of [{}, { last: 0 }, { daily: 0 }, { last: 0, daily: 3 }, { last: 1.5 }]) {
    try {
      planRetention(chain, rules, UTC)
      t.fail(JSON.stringify(rules))
    } catch (error) {
      t.ok(hasCode(error, 'INVALID_ARGUMENT'), JSON.stringify(rules))
    }
  }
})

/** Full, two incrementals, full, incremental. */
async function scene(t: Assertion): Promise<{ repository: string; volume: string; ids: string[] }> {
  const lab = backupLab(t)
  const { path } = await lab.volume('v', { size: '16M', mount: false })
  const ids: string[] = []
  for (const type of ['full', 'incremental', 'incremental', 'full', 'incremental'] as const)
    ids.push((await lab.backup({ type })).manifest.id)
  return { repository: lab.repository, volume: path, ids }
}

interface Told {
  readonly isDone: boolean
  readonly deletedCount: number
  readonly notes: readonly string[]
  readonly backups: readonly { id: string; keep: boolean; reasons: string[]; baseOf: string | null }[]
}

test('the command shows its plan, wants to be told, and deletes just that', NEEDS, async (t) => {
  const { repository, volume, ids } = await scene(t)
  const listed = () =>
    Repository.open(repository)
      .list()
      .map(({ id }) => id)
  const shown = await umbra(['prune', repository, '--keep-last', '1', '--dry-run'])
  t.ok(shown.stdout.includes(`kept as base of ${ids[4]}`))
  t.ok(shown.stdout.includes('3 of 5 backups to be deleted'))
  const unasked = await umbra(['prune', repository, '--keep-last', '1'], { check: false })
  t.is(unasked.code, 2)
  t.ok(unasked.stderr.includes('--yes'))
  for (const rules of [
    [],
    ['--keep-last', '0', '--yes'],
    ['--keep-last', 'x'],
    ['--keep-daily', '1', '--time-zone', 'Nowhere'],
  ])
    t.is((await umbra(['prune', repository, ...rules], { check: false })).code, 2, rules.join(' '))
  t.alike(listed(), ids, 'nothing was deleted yet')
  const bookmarksBefore = await umbraJson<unknown[]>(['bookmark', 'list', volume])
  const told = await umbraJson<Told>(['prune', repository, '--keep-last', '1', '--yes'])
  t.ok(told.isDone)
  t.is(told.deletedCount, 3)
  t.alike(told.notes, [])
  t.alike(listed(), ids.slice(3))
  const bookmarks = await umbraJson<{ name: string }[]>(['bookmark', 'list', volume])
  t.is(bookmarks.length, 2, `of ${bookmarksBefore.length}, those that the next backups need`)
  t.is(Repository.open(repository).results().at(-1)?.operation, 'prune')
  const again = await umbraJson<Told>(['prune', repository, '--keep-last', '1'])
  t.is(again.deletedCount, 0, 'nothing to do, nobody to be asked')
})

test('killed at any step, no chain is broken, and the next command clears up', NEEDS, async (t) => {
  const { repository, ids } = await scene(t)
  const copy = () => {
    const folder = join(tempFolder(t), 'copy')
    cpSync(repository, folder, { recursive: true })
    return folder
  }
  const stepCount = (await runCare(copy(), { work: 'prune', keepLast: 1 })) ?? 0
  t.ok(stepCount >= 6, `${stepCount} changes of the disk`)
  const stride = process.env['UMBRA_LONG'] === '1' ? 1 : 3
  for (let killAt = 1 + new Random(chosenSeed(t)).below(stride); killAt <= stepCount; killAt += stride) {
    const folder = copy()
    t.is(await runCare(folder, { work: 'prune', killAt }), null)
    const entries = Repository.open(folder).list()
    const there = new Set(entries.map(({ id }) => id))
    const missing = [...there].filter((id) => [...withBases(entries, [id])].some((base) => !there.has(base)))
    t.alike(missing, [], `killed at ${killAt} of ${stepCount}: ${there.size} are there, each with its bases`)
    t.absent(
      entries.some(({ problem }) => problem),
      'none is damaged',
    )
    Repository.open(folder).lock()[Symbol.dispose]()
    const left = readdirSync(join(folder, 'backups')).sort()
    t.alike(left, [...there], 'nothing else is left')
    t.ok(there.has(ids[3] ?? '') && there.has(ids[4] ?? ''))
  }
})

test('planted: a plan that forgets a base is refused', NEEDS, async (t) => {
  const { repository, ids } = await scene(t)
  const opened = Repository.open(repository)
  const plan = planRetention(opened.list(), { last: 1 }, UTC)
  const wrong = plan.map((backup) => (backup.id === ids[3] ? { ...backup, keep: false } : backup))
  try {
    prune(opened, wrong)
    t.fail('it was carried out')
  } catch (error) {
    t.ok(hasCode(error, 'BROKEN_CHAIN'))
  }
  t.is(opened.list().length, 5)
})

test(
  'a removal that was interrupted is not taken for a backup that only lacks its name',
  NEEDS,
  async (t) => {
    const lab = backupLab(t)
    await lab.volume('v', { size: '16M', mount: false })
    const { manifest, folder } = await lab.backup({ type: 'full' })
    const deleted = join(folder, '..', `.deleted-${manifest.id}`)
    cpSync(folder, deleted, { recursive: true })
    writeFileSync(join(deleted, 'more'), 'x')
    await lab.backup({ type: 'incremental' })
    t.absent(existsSync(deleted))
    t.is(Repository.open(lab.repository).list().length, 2)
  },
)
