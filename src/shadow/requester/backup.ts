// A backup from beginning to end: the repository's lock, what earlier runs left, the tries, and the full
// that is taken instead of a delta where the user said so.
//
// Always true: one command at a time changes a repository; before a new backup is begun, what a dead run
// half made is gone, and what it had made whole has its name; what is tried again is tried from the start; a
// folder that was made for a first backup that fails goes again, unless there is something in it.

import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { hasCode, UmbraError } from '../../base/errors.ts'
import { throwIfAborted } from '../../image/pace.ts'
import { Repository } from '../repository/repository.ts'
import { type BackupChoice, type BackupOptions, chosen } from './backup-options.ts'
import { type BackupResult, BackupRun } from './backup-run.ts'
import { cleanRepository } from './clean-repository.ts'
import { resumeBackup } from './resume-run.ts'
import type { Surroundings } from './surroundings.ts'
import { isTransient } from './writer-judgement.ts'

export type { BackupResult } from './backup-run.ts'

/**
 * @param to the repository's folder; a new or empty one becomes a repository
 * @throws UmbraError NO_BASE, BROKEN_CHAIN before anything is held; WRITER_FAILED, FREEZE_TIMED_OUT,
 *   HOLD_TIMED_OUT, SET_IN_PROGRESS: no shadow copy was made; BUSY: the repository is in use;
 *   OUT_OF_SPACE, EVICTED, ABORTED: nothing is left of it
 */
export async function backup(
  surroundings: Surroundings,
  to: string,
  options: BackupOptions,
): Promise<BackupResult> {
  const choice = chosen(options)
  // A volume that is not there leaves no fresh repository behind.
  const paths: string[] = []
  for (const volume of choice.volumes) paths.push((await surroundings.volumes.find(volume)).volumePath)
  const isNewFolder = !existsSync(to)
  const repository = await Repository.openOrCreate(to)
  using _lock = repository.lock()
  try {
    const resumed = await resumeBackup(surroundings.volumes, repository, choice)
    const notes = resumed ? [] : await cleanRepository(surroundings.volumes, repository, paths)
    for (const note of notes) choice.onNote?.(note)
    const result = resumed ?? (await withFullInstead(surroundings, repository, choice))
    repository.record({
      atMs: Date.now(),
      operation: 'backup',
      backupId: result.manifest.id,
      outcome: result.manifest.isPartial ? 'partial' : 'ok',
      message: `${result.manifest.type} backup`,
    })
    return result
  } catch (error) {
    if (isNewFolder && removeUnused(repository)) throw error
    const message = error instanceof Error ? error.message : String(error)
    repository.record({ atMs: Date.now(), operation: 'backup', backupId: null, outcome: 'failed', message })
    throw error
  }
}

/** @returns whether it has gone; what the backup failed of is told, not what this may meet */
function removeUnused(repository: Repository): boolean {
  try {
    if (!repository.isEmpty) return false
    repository.removeEmpty()
    return true
  } catch {
    return false
  }
}

async function withFullInstead(
  surroundings: Surroundings,
  repository: Repository,
  choice: BackupChoice,
): Promise<BackupResult> {
  try {
    return await withRetries(surroundings, repository, choice, [])
  } catch (error) {
    const lacksBase = hasCode(error, 'NO_BASE') || hasCode(error, 'BROKEN_CHAIN')
    if (!lacksBase || !choice.orFull || choice.type === 'full') throw error
    const note = `A full backup instead of type ${choice.type}: ${error.message}`
    choice.onNote?.(note)
    return withRetries(surroundings, repository, { ...choice, type: 'full' }, [note])
  }
}

/** Row 49: transient failures are tried again after a wait, others never. */
async function withRetries(
  surroundings: Surroundings,
  repository: Repository,
  choice: BackupChoice,
  notes: readonly string[],
): Promise<BackupResult> {
  const { count, waitMs } = choice.retries
  for (let tried = 0; ; tried++) {
    throwIfAborted(choice.signal)
    try {
      return await new BackupRun(surroundings, repository, choice, notes).run()
    } catch (error) {
      if (tried >= count || !isTransient(error)) throw error
      const seconds = Math.round(waitMs / 1000)
      choice.onNote?.(`${(error as Error).message}; the next of ${count} retries follows in ${seconds} s`)
      await pause(waitMs, choice.signal)
    }
  }
}

async function pause(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await delay(waitMs, undefined, signal ? { signal } : {})
  } catch (error) {
    throw new UmbraError('ABORTED', 'The work was aborted', {}, error)
  }
}
