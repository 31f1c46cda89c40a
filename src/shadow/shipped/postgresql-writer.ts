// The writer for PostgreSQL: the cluster's files at one instant, and its archived write-ahead log.
//
// PostgreSQL recovers by itself from any instant of all its files, which a shadow copy is: no committed
// transaction is missing and none from later is there. The non-exclusive backup that is begun before Freeze and ended
// after Thaw adds a checkpoint just before (recovery is short) and the label, which is kept in the
// component's metadata: it is not put beside the files, because with it the server would ask for log
// that was written after the instant.
//
// Always true: begin and end are said in one connection, as PostgreSQL asks; when this process dies the
// server ends the backup by itself. (PostgreSQL manual 26.3.3, "Making a Base Backup Using the Low Level API".)

import { rmSync, writeFileSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { ComponentContext, WriterContext } from '../writers/writer-context.ts'
import { PSQL, PSQL_LOOKS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
import {
  isPostgresqlRunning,
  leftOut,
  type PostgresqlFiles,
  readPostgresqlFiles,
} from './postgresql-files.ts'
import { restoredFolder } from './restored-folder.ts'

export const POSTGRESQL_CLASS_ID = '3a5c1f3e-2f6d-4d2b-8c56-6c1b9a0f7e14'
export const CLUSTER = 'cluster'
export const WAL_ARCHIVE = 'wal-archive'

export interface PostgresqlWriterOptions {
  readonly name: string
  readonly dataFolder: string
  /** The client with what says where the server is and who asks; `psql -d postgres` unless told. */
  readonly client?: readonly string[]
  /** Where the cluster's archive_command puts the log; without it there are no log backups. */
  readonly archiveFolder?: string
  /** Remove archived log once it is in a complete backup. */
  readonly truncateArchive?: boolean
  readonly freezeTimeoutMs?: number
}

interface PostgresqlStamp {
  readonly systemIdentifier: string
  readonly timeline: number
  readonly startLsn: string
  readonly stopLsn: string
}

/** A backup between its beginning and its end. */
interface Begun {
  readonly client: ClientProcess
  readonly startLsn: string
  stamp?: PostgresqlStamp
  label?: string
}

const FREEZE_TIMEOUT_MS = 20_000
const POLL_MS = 100
/** A segment of the log by its name: timeline, log, segment. */
const SEGMENT = /^[0-9A-F]{24}$/

export class PostgresqlWriter extends Writer {
  readonly #options: PostgresqlWriterOptions
  readonly #begun = new Map<string, Begun>()
  /** By session: the segments that its log backup takes. */
  readonly #archived = new Map<string, string[]>()

  constructor(options: PostgresqlWriterOptions) {
    super()
    this.#options = options
  }

  identify(): WriterMetadata {
    const { name, archiveFolder, freezeTimeoutMs = FREEZE_TIMEOUT_MS } = this.#options
    const files = this.#files()
    const builder = new MetadataBuilder({
      classId: POSTGRESQL_CLASS_ID,
      instanceId: this.instanceId,
      name: 'PostgreSQL',
      instanceName: name,
      source: 'transactional-database',
      version: { major: files.majorVersion, minor: 0 },
    })
      .setFreezeLevel('back-end')
      .setFreezeTimeout(freezeTimeoutMs)
    const logs = archiveFolder === undefined ? [] : (['log'] as const)
    builder.setBackupSchema(
      'incremental',
      'differential',
      'copy',
      'timestamped',
      'new-target',
      'rollforward-restore',
      ...logs,
    )
    const cluster = builder.addFileGroup({ name: CLUSTER, caption: `PostgreSQL in ${files.dataFolder}` })
    for (const path of foldersOf(files)) {
      cluster.addFiles({
        path,
        changedRanges: true,
        backupRequired: ['full', 'incremental', 'differential'],
        snapshotRequired: ['full', 'incremental', 'differential'],
      })
    }
    for (const spec of leftOut(files)) builder.exclude(spec)
    if (archiveFolder !== undefined) {
      builder
        .addDatabase({ name: WAL_ARCHIVE, caption: `Archived log in ${archiveFolder}` })
        // Archived segments do not change, so they may be read where they are.
        .addLogFiles({ path: archiveFolder, backupRequired: ['log'], snapshotRequired: [] })
    }
    return builder.build()
  }

  /** For a log backup: what was committed so far is to be in the archive. */
  override async onPrepareForBackup(context: WriterContext): Promise<void> {
    const { archiveFolder } = this.#options
    if (context.backupType !== 'log' || archiveFolder === undefined) return
    const client = await this.#start()
    try {
      await switched(client, context)
      const names = await readdir(archiveFolder)
      this.#archived.set(
        context.sessionId,
        names.filter((name) => SEGMENT.test(name)),
      )
    } finally {
      await client.close()
    }
  }

  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    for (const path of foldersOf(this.#files())) {
      if (context.volumeOf(path)) continue
      context.fail('inconsistent-snapshot', `${path} is not on a volume of the shadow set`, { fatal: true })
      return
    }
    const client = await this.#start()
    try {
      const start = (await isBefore15(client))
        ? "pg_start_backup('umbra', true, false)"
        : "pg_backup_start('umbra', true)"
      const [startLsn = ''] = await client.ask(`SELECT ${start}`, context.request.timeoutMs)
      this.#begun.set(context.sessionId, { client, startLsn })
    } catch (error) {
      await client.close()
      throw error
    }
  }

  /** The shadow copy itself is the instant; what is needed is that the backup is still begun. */
  override async onFreeze(context: WriterContext): Promise<void> {
    await this.#begunIn(context).client.ask('SELECT 1')
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const begun = this.#begunIn(context)
    try {
      await this.#end(begun)
    } finally {
      await begun.client.close()
    }
  }

  override onPostSnapshot(context: WriterContext): void {
    const begun = this.#begun.get(context.sessionId)
    if (begun?.stamp === undefined) return
    for (const component of context.components) {
      if (component.data.name !== CLUSTER) continue
      component.setBackupStamp(JSON.stringify(begun.stamp))
      component.setBackupMetadata(JSON.stringify({ backupLabel: begun.label ?? '' }))
    }
  }

  override onAbort(context: WriterContext): Promise<void> {
    return this.#forget(context)
  }

  /** Archived log may go when it is in a log backup that was completed. */
  override async onBackupComplete(context: WriterContext): Promise<void> {
    const { archiveFolder, truncateArchive } = this.#options
    const archive = context.component(WAL_ARCHIVE)
    const saved = this.#archived.get(context.sessionId) ?? []
    if (!truncateArchive || archiveFolder === undefined || context.backupType !== 'log') return
    if (archive?.backupSucceeded !== true) return
    for (const name of saved) await rm(join(archiveFolder, name), { force: true })
  }

  override onBackupShutdown(context: WriterContext): Promise<void> {
    return this.#forget(context)
  }

  /** A running server would be torn apart. */
  override onPreRestore(context: WriterContext): void {
    const { dataFolder } = this.#options
    for (const { data } of context.components) {
      const target = restoredFolder(data, dataFolder)
      if (data.name !== CLUSTER || !isPostgresqlRunning(target)) continue
      context.fail('retryable', `PostgreSQL runs in ${target}: stop it, or restore to another place`, {
        fatal: true,
      })
    }
  }

  override onPostRestore(context: WriterContext): void {
    for (const component of context.components) {
      const { data } = component
      if (data.name !== CLUSTER || component.hasAdditionalRestores || data.fileRestoreStatus !== 'all')
        continue
      const target = restoredFolder(data, this.#options.dataFolder)
      rmSync(join(target, 'postmaster.pid'), { force: true })
      this.#rollForward(component, target)
    }
  }

  /** Recovery is the server's at its next start; this says how far it is to go. */
  #rollForward({ data }: ComponentContext, target: string): void {
    const { archiveFolder } = this.#options
    const wish = /"Roll Forward"="(All|Partial:[^"]+)"/i.exec(data.restoreOptions ?? '')?.[1]
    if (wish === undefined || archiveFolder === undefined) return
    const lines = [`restore_command = 'cp "${archiveFolder}/%f" "%p"'`, "recovery_target_action = 'promote'"]
    const point = /^Partial:(.+)$/i.exec(wish)?.[1]
    if (point !== undefined) {
      const isPosition = /^[0-9A-F]+\/[0-9A-F]+$/i.test(point)
      lines.push(`recovery_target_${isPosition ? 'lsn' : 'time'} = '${point.replaceAll("'", "''")}'`)
    }
    // Read after postgresql.auto.conf's other lines: the last one counts.
    writeFileSync(join(target, 'postgresql.auto.conf'), `${lines.join('\n')}\n`, { flag: 'a' })
    writeFileSync(join(target, 'recovery.signal'), '', { mode: 0o600 })
  }

  async #end(begun: Begun): Promise<void> {
    const { client, startLsn } = begun
    const isOld = await isBefore15(client)
    const stop = isOld ? 'pg_stop_backup(false, false)' : 'pg_backup_stop(false)'
    // A function's three columns as one line: the label has line ends.
    const [answer = '{}'] = await client.ask(`SELECT row_to_json(s) FROM ${stop} AS s`)
    const { lsn, labelfile } = JSON.parse(answer) as { lsn?: string; labelfile?: string }
    const [identity = ''] = await client.ask(
      'SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()',
    )
    const [systemIdentifier = '', timeline = '0'] = identity.split('\t')
    begun.stamp = { systemIdentifier, timeline: Number(timeline), startLsn, stopLsn: lsn ?? '' }
    begun.label = labelfile ?? ''
  }

  #files(): PostgresqlFiles {
    return readPostgresqlFiles(this.#options.dataFolder)
  }

  #begunIn(context: WriterContext): Begun {
    const begun = this.#begun.get(context.sessionId)
    if (begun) return begun
    throw new UmbraError('BAD_STATE', `There was no PrepareForSnapshot before ${context.event}`)
  }

  #start(): Promise<ClientProcess> {
    const client = this.#options.client ?? ['psql', '-d', 'postgres']
    return ClientProcess.start([...client, ...PSQL_LOOKS], PSQL)
  }

  /** The server ends a backup whose connection closes. */
  async #forget({ sessionId }: WriterContext): Promise<void> {
    const begun = this.#begun.get(sessionId)
    this.#begun.delete(sessionId)
    this.#archived.delete(sessionId)
    await begun?.client.close()
  }
}

function foldersOf({ dataFolder, walFolder, tablespaces }: PostgresqlFiles): string[] {
  return [dataFolder, ...(walFolder === null ? [] : [walFolder]), ...tablespaces]
}

async function isBefore15(client: ClientProcess): Promise<boolean> {
  const [version = '0'] = await client.ask("SELECT current_setting('server_version_num')")
  return Number(version) < 150_000
}

/** Ends the current segment of the log and waits until it is archived. @throws UmbraError TIMED_OUT by the event's signal */
async function switched(client: ClientProcess, { signal }: WriterContext): Promise<void> {
  // An empty segment would not be switched, and there is nothing in it to archive.
  const [segment = ''] = await client.ask('SELECT pg_walfile_name(pg_switch_wal())')
  for (;;) {
    const [last = ''] = await client.ask("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")
    if (last.slice(0, 24) >= segment) return
    const [failed = ''] = await client.ask(
      'SELECT last_failed_wal FROM pg_stat_archiver WHERE last_failed_time > coalesce(last_archived_time, to_timestamp(0))',
    )
    if (failed !== '') throw new UmbraError('WRITER_FAILED', `PostgreSQL cannot archive ${failed}`)
    await sleep(POLL_MS, undefined, { signal })
  }
}
