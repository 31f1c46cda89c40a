// Verifies backups of a repository, with everything that they build on, and remembers how it went.
//
// Always true: a backup is good when it and all that it builds on is whole; every damage is told with all
// backups that it spoils; no lock is held for so long a time, so a backup that was deleted or consolidated meanwhile
// is not called damaged for it.

import { type LongWork, Pace } from '../../image/pace.ts'
import { dependentsOf, withBases } from './dependencies.ts'
import type { BackupEntry, Repository } from './repository.ts'
import { bytesToVerify, type Damage, verifyBackup } from './verify-backup.ts'

export interface FoundDamage extends Damage {
  /** Backups that cannot be restored for it, besides the one that it is in; oldest first. */
  readonly spoils: readonly string[]
}

export interface VerifiedBackup {
  readonly id: string
  readonly isGood: boolean
  /** Backups that it builds on and that are damaged. */
  readonly damagedBases: readonly string[]
}

export interface VerifyReport {
  /** Those that were asked for, oldest first. */
  readonly backups: readonly VerifiedBackup[]
  readonly damages: readonly FoundDamage[]
  /** Bytes read. */
  readonly checkedBytes: number
}

/**
 * @param names of backups, or their beginnings; none: all of them
 * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT; ABORTED, IO_FAILED
 */
export async function verifyRepository(
  repository: Repository,
  names: readonly string[],
  work: LongWork = {},
): Promise<VerifyReport> {
  const entries = repository.list()
  const chosen = new Set(
    names.length === 0 ? entries.map(({ id }) => id) : names.map((name) => idOf(entries, name, repository)),
  )
  const needed = withBases(entries, chosen)
  const targets = entries.filter(({ id }) => needed.has(id))
  const totalBytes = targets.reduce((sum, { manifest }) => sum + (manifest ? bytesToVerify(manifest) : 0), 0)
  const pace = new Pace(totalBytes, work)
  const damages: FoundDamage[] = []
  for (const entry of targets) {
    const found = await verifyAsItIs(repository, entries, entry, pace)
    if (found.length === 0) continue
    const spoils = dependentsOf(entries, entry.id)
    for (const damage of found) damages.push({ ...damage, spoils })
  }
  pace.finish()
  const damaged = new Set(damages.map(({ backupId }) => backupId))
  const there = new Set(repository.list().map(({ id }) => id))
  const backups = entries
    .filter(({ id }) => chosen.has(id) && there.has(id))
    .map(({ id }) => {
      const damagedBases = [...withBases(entries, [id])]
        .filter((base) => base !== id && damaged.has(base))
        .sort()
      return { id, isGood: !damaged.has(id) && damagedBases.length === 0, damagedBases }
    })
  return { backups, damages, checkedBytes: totalBytes }
}

/** Damaged ones can be named too: that is what is asked about. */
function idOf(entries: readonly BackupEntry[], name: string, repository: Repository): string {
  const found = entries.filter(({ id }) => id === name || id.startsWith(name))
  const [only] = found
  return found.length === 1 && only ? only.id : repository.get(name).id
}

/** Once more where the backup has changed while it was looked at. */
async function verifyAsItIs(
  repository: Repository,
  entries: readonly BackupEntry[],
  entry: BackupEntry,
  pace: Pace,
): Promise<Damage[]> {
  const found = await verifyBackup(entries, entry, pace)
  if (found.length === 0) return found
  const fresh = repository.list()
  const now = fresh.find(({ id }) => id === entry.id)
  if (!now) return []
  const isSame = JSON.stringify(now.manifest) === JSON.stringify(entry.manifest)
  const hasBases = [...withBases(entries, [entry.id])].every(
    (id) => fresh.some((other) => other.id === id) || !entries.some((other) => other.id === id),
  )
  return isSame && hasBases ? found : verifyBackup(fresh, now, pace)
}

/** One line for each backup that was asked for. @param more what else was done with a good one */
export function recordVerification(
  repository: Repository,
  { backups, damages }: VerifyReport,
  more: ReadonlyMap<string, { readonly isGood: boolean; readonly message: string }>,
): void {
  for (const { id, isGood, damagedBases } of backups) {
    const own = damages.find(({ backupId }) => backupId === id)
    const rebuilt = more.get(id)
    const message =
      own?.message ??
      (damagedBases.length > 0
        ? `builds on ${damagedBases.join(', ')}, which is damaged`
        : (rebuilt?.message ?? 'every digest is right'))
    const outcome = isGood && rebuilt?.isGood !== false ? 'ok' : 'failed'
    repository.record({ atMs: Date.now(), operation: 'verify', backupId: id, outcome, message })
  }
}
