// What a repository holds, in the figures that people ask for: each backup with its sizes and when it was last
// verified, and what was done with the repository last.
//
// Always true: reading takes no lock and changes nothing; a backup that is damaged is listed as such.

import type { BackupType } from '../documents/vocabulary.ts'
import { parseBackupId } from './backup-id.ts'
import { basesOf, chainOf } from './dependencies.ts'
import { allocatedBytes } from './prune.ts'
import type { BackupEntry, Repository } from './repository.ts'
import type { ResultEntry } from './results-log.ts'

export interface BackupStatus {
  readonly id: string
  readonly type: BackupType | null
  readonly instantMs: number | null
  /** The backup that it builds on. */
  readonly base: string | null
  readonly isPartial: boolean
  /** Why its manifest cannot be believed; null: it can. */
  readonly problem: string | null
  readonly imageCount: number
  /** Size of the volumes that it has images of. */
  readonly volumeBytes: number
  readonly componentCount: number
  readonly fileCount: number
  /** Volume data and file data in this backup alone. */
  readonly dataBytes: number
  /** What its folder takes. */
  readonly allocatedBytes: number
  /** The last time that it was verified, however it went. */
  readonly verified: Pick<ResultEntry, 'atMs' | 'outcome' | 'message'> | null
}

export interface RepositoryStatus {
  readonly repository: string
  readonly id: string
  readonly createdAtMs: number
  readonly backups: readonly BackupStatus[]
  /** Backups that were begun and are not complete. */
  readonly unfinished: readonly string[]
  readonly allocatedBytes: number
  /** The last of each; null: never. */
  readonly last: Readonly<Record<ResultEntry['operation'], ResultEntry | null>>
}

export function repositoryStatus(repository: Repository): RepositoryStatus {
  const entries = repository.list()
  const results = repository.results()
  const last = (operation: ResultEntry['operation']) =>
    results.findLast((result) => result.operation === operation) ?? null
  const backups = entries.map((entry) => backupStatus(entries, entry, results))
  return {
    repository: repository.folder,
    id: repository.id,
    createdAtMs: repository.createdAtMs,
    backups,
    unfinished: repository.partialIds(),
    allocatedBytes: backups.reduce((sum, backup) => sum + backup.allocatedBytes, 0),
    last: {
      backup: last('backup'),
      restore: last('restore'),
      verify: last('verify'),
      prune: last('prune'),
      consolidate: last('consolidate'),
    },
  }
}

function backupStatus(
  entries: readonly BackupEntry[],
  entry: BackupEntry,
  results: readonly ResultEntry[],
): BackupStatus {
  const { id, folder, manifest, problem } = entry
  const found = results.findLast(({ operation, backupId }) => operation === 'verify' && backupId === id)
  const components = manifest?.writers.flatMap((writer) => writer.components) ?? []
  const images = manifest?.images ?? []
  const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0)
  return {
    id,
    type: manifest?.type ?? parseBackupId(id)?.type ?? null,
    instantMs: manifest?.instantMs ?? null,
    base: manifest && basesOf(manifest).size > 0 ? (chainOf(entries, manifest).at(-2) ?? null) : null,
    isPartial: manifest?.isPartial ?? false,
    problem: problem?.message ?? null,
    imageCount: images.length,
    volumeBytes: sum(images.map(({ virtualSizeBytes }) => virtualSizeBytes)),
    componentCount: components.filter(({ succeeded }) => succeeded).length,
    fileCount: sum(components.map(({ fileCount }) => fileCount)),
    dataBytes: sum([...images.map(({ dataBytes }) => dataBytes), ...components.map(({ bytes }) => bytes)]),
    allocatedBytes: allocatedBytes(folder),
    verified: found ? { atMs: found.atMs, outcome: found.outcome, message: found.message } : null,
  }
}
