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

import { existsSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { WriterContext } from '../writers/writer-context.ts'
import { PSQL, PSQL_LOOKS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
import {
  type ClusterLink,
  foldersOf,
  isPostgresqlRunning,
  leftOut,
  lostCluster,
  ownFoldersOf,
  type PostgresqlFiles,
  readPostgresqlFiles,
  tablespaceLinks,
} from './postgresql-files.ts'
import {
  archivedSince,
  isBefore,
  isSegment,
  lsnFrom,
  nextSegment,
  segmentOf,
  type WalGeometry,
} from './postgresql-log.ts'
import { relink, removeLeavings, rollForward, rollForwardIn } from './postgresql-recovery.ts'
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

/** What of a server does not change while it runs. */
interface ServerState extends WalGeometry {
  readonly systemIdentifier: string
  readonly isBefore15: boolean
}

/** Of the cluster: where its backup began and ended. */
interface ClusterStamp {
  readonly systemIdentifier: string
  readonly timeline: string
  readonly startLsn: string
  readonly stopLsn: string
}

/** What a restore needs to know of the cluster. */
interface ClusterMetadata {
  readonly links: readonly ClusterLink[]
  readonly backupLabel?: string
}

/** Of the archived log: the first segment that is in no backup yet. */
interface ArchiveStamp {
  readonly systemIdentifier: string
  readonly nextSegment: string
}

/** A backup between its beginning and its end. */
interface Begun {
  readonly client: ClientProcess
  readonly state: ServerState
  readonly startLsn: string
  stopLsn?: string
  label?: string
}

const FREEZE_TIMEOUT_MS = 20_000
const POLL_MS = 100
const MASK = {
  backupRequired: ['full', 'incremental', 'differential'],
  snapshotRequired: ['full', 'incremental', 'differential'],
} as const
/** Of a file, however long it is: clipped to its end. */
const WHOLE = [{ offsetBytes: 0, lengthBytes: 1024 ** 3 }]

export class PostgresqlWriter extends Writer {
  readonly #options: PostgresqlWriterOptions
  readonly #begun = new Map<string, Begun>()
  /** By session: the cluster's links before its backup began. */
  readonly #links = new Map<string, readonly ClusterLink[]>()
  /** By session: the segments that its log backup takes. */
  readonly #archived = new Map<string, string[]>()

  constructor(options: PostgresqlWriterOptions) {
    super()
    this.#options = options
  }

  identify(): WriterMetadata {
    const { name, archiveFolder, dataFolder, freezeTimeoutMs = FREEZE_TIMEOUT_MS } = this.#options
    // Lost, it can still be restored.
    const files = lostCluster(dataFolder) ?? this.#files()
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
    for (const path of ownFoldersOf(files))
      cluster.addFiles({ path, changedRanges: true, restoreToEmpty: true, ...MASK })
    // The folder around it, for its attributes: nothing else in it is the cluster's.
    for (const { folder } of files.tablespaces)
      cluster.addFiles({ path: folder, filespec: 'PG_*', recursive: false, ...MASK })
    for (const spec of leftOut(files)) builder.exclude(spec)
    if (archiveFolder !== undefined) {
      builder
        .addDatabase({ name: WAL_ARCHIVE, caption: `Archived log in ${archiveFolder}` })
        // Each segment is named when it is due; whole ones do not change, so they may be read where they are.
        .addLogFiles({ path: archiveFolder, recursive: false, backupRequired: [], snapshotRequired: [] })
    }
    return builder.build()
  }

  /** For a log backup: what was committed so far is to be in the archive. */
  override async onPrepareForBackup(context: WriterContext): Promise<void> {
    // A backup of an empty folder would look like a good one.
    if (context.component(CLUSTER) && context.backupType !== 'log') this.#files()
    const archive = context.component(WAL_ARCHIVE)
    if (context.backupType !== 'log' || !archive) return
    const client = await this.#start()
    try {
      const state = await stateOf(client)
      const last = await switched(client, state, context)
      const stamp = parsed<ArchiveStamp>(archive.previousBackupStamp)
      const isKnown = stamp?.systemIdentifier === state.systemIdentifier
      const first = isKnown && !this.#options.truncateArchive ? stamp.nextSegment : null
      const folder = this.#options.archiveFolder ?? ''
      const names = archivedSince(await readdir(folder), first, last, state)
      if (isKnown && first === null) archivedSince(names, stamp.nextSegment, last, state)
      for (const fileName of names) archive.addPartialFile({ path: folder, fileName, ranges: WHOLE })
      this.#archived.set(context.sessionId, names.filter(isSegment))
      const { systemIdentifier } = state
      archive.setBackupStamp(JSON.stringify({ systemIdentifier, nextSegment: nextSegment(last, state) }))
    } finally {
      await client.close()
    }
  }

  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    if (!this.#isAffected(context)) return
    const files = this.#files()
    this.#refuseUnknown(context, files)
    // Before the checkpoint: recovery would make links anew that are made after it, in their old places.
    this.#links.set(context.sessionId, files.links)
    // A server that does not run leaves its files as they are.
    if (!isPostgresqlRunning(files.dataFolder)) return
    const client = await this.#start()
    try {
      const state = await stateOf(client)
      const start = state.isBefore15
        ? "pg_start_backup('umbra', true, false)"
        : "pg_backup_start('umbra', true)"
      const [startLsn = ''] = await client.ask(`SELECT ${start}`, context.request.timeoutMs)
      this.#begun.set(context.sessionId, { client, state, startLsn })
    } catch (error) {
      await client.close()
      throw error
    }
  }

  /** The shadow copy itself is the instant; what is needed is that the backup is still begun. */
  override async onFreeze(context: WriterContext): Promise<void> {
    await this.#begun.get(context.sessionId)?.client.ask('SELECT 1', context.request.timeoutMs)
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const begun = this.#begun.get(context.sessionId)
    if (!begun || begun.stopLsn !== undefined) return
    try {
      await endBackup(begun, context.request.timeoutMs)
    } finally {
      await begun.client.close()
    }
  }

  override onPostSnapshot(context: WriterContext): void {
    const links = this.#links.get(context.sessionId)
    if (links === undefined) return
    this.#refuseOthers(context, links)
    const begun = this.#begun.get(context.sessionId)
    const cluster = context.component(CLUSTER)
    const metadata: ClusterMetadata = { links, ...(begun?.label && { backupLabel: begun.label }) }
    cluster?.setBackupMetadata(JSON.stringify(metadata))
    if (begun?.stopLsn === undefined) return
    const { startLsn, stopLsn, state } = begun
    const { systemIdentifier, timeline } = state
    this.#removeUnwrittenLog(context, segmentOf(lsnFrom(stopLsn), state))
    const stamp: ClusterStamp = { systemIdentifier, timeline, startLsn, stopLsn }
    cluster?.setBackupStamp(JSON.stringify(stamp))
    const first: ArchiveStamp = { systemIdentifier, nextSegment: segmentOf(lsnFrom(startLsn), state) }
    context.component(WAL_ARCHIVE)?.setBackupStamp(JSON.stringify(first))
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
    for (const { data } of context.components) {
      const target = restoredFolder(data, this.#documentedFolder(context))
      if (data.name !== CLUSTER || !isPostgresqlRunning(target)) continue
      context.fail('retryable', `PostgreSQL runs in ${target}: stop it, or restore to another place`, {
        fatal: true,
      })
    }
  }

  /** Once, after the last restore. */
  override onPostRestore(context: WriterContext): void {
    const cluster = context.component(CLUSTER)
    if (!cluster || cluster.hasAdditionalRestores || cluster.data.fileRestoreStatus === 'failed') return
    const target = restoredFolder(cluster.data, this.#documentedFolder(context))
    if (!existsSync(join(target, 'PG_VERSION'))) return
    removeLeavings(target)
    const links = parsed<ClusterMetadata>(cluster.backupMetadata)?.links ?? []
    relink(target, links, (folder) => restoredFolder(cluster.data, folder))
    const wish = rollForwardIn(cluster.data.restoreOptions)
    const { archiveFolder } = this.#options
    if (wish === null) return
    if (archiveFolder === undefined)
      throw new UmbraError('INVALID_ARGUMENT', 'Without an archive folder there is no log to roll forward by')
    const archive = context.component(WAL_ARCHIVE)
    rollForward(target, archive ? restoredFolder(archive.data, archiveFolder) : archiveFolder, wish)
  }

  /** As the document of the backup has it, which may be older than the configuration. */
  #documentedFolder({ metadata }: WriterContext): string {
    const cluster = metadata.components.find(({ name }) => name === CLUSTER)
    return cluster?.files[0]?.path ?? this.#options.dataFolder
  }

  /** Whether the backup has to do with the cluster; with a part of its files it cannot be whole. */
  #isAffected(context: WriterContext): boolean {
    const isSelected = context.backupType !== 'log' && context.component(CLUSTER) !== undefined
    const folders = foldersOf(this.#files())
    const missing = folders.find((path) => context.volumeOf(path) === undefined)
    if (missing === undefined) return true
    if (isSelected || (context.backupType !== 'log' && folders.some((path) => context.volumeOf(path))))
      context.fail('inconsistent-snapshot', `${missing} is not on a volume of the shadow set`, {
        fatal: true,
      })
    return false
  }

  /** What was made since the writer identified itself is in no file set, and would be missing. */
  #refuseUnknown(context: WriterContext, files: PostgresqlFiles): void {
    const named = context.metadata.components.flatMap(({ files: sets }) => sets.map(({ path }) => path))
    const unknown = ownFoldersOf(files).find((folder) => !named.includes(folder))
    if (unknown !== undefined)
      context.fail('retryable', `${unknown} has come into being during the backup`, { fatal: true })
  }

  /** A tablespace that was made or dropped since then would be missing, or be led back to its old place. */
  #refuseOthers(context: WriterContext, links: readonly ClusterLink[]): void {
    const { dataFolder } = this.#options
    const folder = realpathSync(dataFolder)
    const now = tablespaceLinks(context.inSnapshot(folder) ?? folder)
    const before = links
      .filter(({ name }) => name !== 'pg_wal')
      .map(({ name, target }) => `${name} ${target}`)
    if (now.join('\n') !== before.sort().join('\n'))
      context.fail('retryable', `A tablespace of ${folder} was made or dropped during the backup`, {
        fatal: true,
      })
  }

  /**
   * Segments made ahead for log that is still to come hold nothing but old log under new names; recovery
   * reads no further than where they are missing.
   */
  #removeUnwrittenLog(context: WriterContext, last: string): void {
    const { dataFolder, walFolder } = this.#files()
    const folder = walFolder ?? join(dataFolder, 'pg_wal')
    if (!context.volumeOf(folder)?.recoveryPath) return
    const shadow = context.inSnapshot(folder)
    if (shadow === undefined) return
    for (const name of readdirSync(shadow)) {
      if (isSegment(name) && isBefore(last, name)) rmSync(join(shadow, name), { force: true })
    }
  }

  #files(): PostgresqlFiles {
    return readPostgresqlFiles(this.#options.dataFolder)
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
    this.#links.delete(sessionId)
    await begun?.client.close()
  }
}

/** @throws UmbraError WRITER_FAILED */
async function stateOf(client: ClientProcess): Promise<ServerState> {
  const [line = ''] = await client.ask(
    "SELECT system_identifier, current_setting('server_version_num'), (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) FROM pg_control_system()",
  )
  const [systemIdentifier = '', version = '0', segmentBytes = '0', timeline = ''] = line.split('\t')
  return {
    systemIdentifier,
    isBefore15: Number(version) < 150_000,
    segmentBytes: Number(segmentBytes),
    timeline,
  }
}

async function endBackup(begun: Begun, timeoutMs: number): Promise<void> {
  const stop = begun.state.isBefore15 ? 'pg_stop_backup(false, false)' : 'pg_backup_stop(false)'
  // A function's three columns as one line: the label has line ends.
  const lines = await begun.client.ask(`SELECT row_to_json(s) FROM ${stop} AS s`, timeoutMs)
  // Notices and warnings may stand before it, and alone when the server has just gone.
  const answer = lines.find((line) => line.startsWith('{'))
  if (answer === undefined)
    throw new UmbraError('WRITER_FAILED', `PostgreSQL did not end its backup: ${lines[0]}`)
  const { lsn, labelfile } = JSON.parse(answer) as { lsn?: string; labelfile?: string }
  begun.label = labelfile ?? ''
  begun.stopLsn = lsn ?? ''
}

/**
 * Ends the current segment of the log and waits until it is archived.
 * @returns its name
 * @throws UmbraError WRITER_FAILED when PostgreSQL does not archive, TIMED_OUT by the event's signal
 */
async function switched(
  client: ClientProcess,
  state: ServerState,
  { signal }: WriterContext,
): Promise<string> {
  const [mode = ''] = await client.ask('SHOW archive_mode')
  if (mode === 'off')
    throw new UmbraError('WRITER_FAILED', 'PostgreSQL does not archive: archive_mode is off')
  // The end of what was switched; where nothing was written since the last switch, its beginning.
  const [end = ''] = await client.ask('SELECT pg_switch_wal()')
  const last = segmentOf(lsnFrom(end) - 1n, state)
  for (;;) {
    const [line = ''] = await client.ask(ARCHIVER)
    const [archived = '', failed = ''] = line.split('\t')
    if (isSegment(archived.slice(0, 24)) && !isBefore(archived.slice(0, 24), last)) return last
    if (failed !== '') throw new UmbraError('WRITER_FAILED', `PostgreSQL cannot archive ${failed}`)
    await sleep(POLL_MS, undefined, { signal })
  }
}

/** The newest that was archived, and what could not be since. */
const ARCHIVER = `SELECT coalesce(last_archived_wal, ''),
  CASE WHEN last_failed_time > coalesce(last_archived_time, to_timestamp(0)) THEN last_failed_wal ELSE '' END
  FROM pg_stat_archiver`

/** Null: there is none, or it is not ours. */
function parsed<T>(text: string | undefined): T | null {
  if (text === undefined) return null
  try {
    return JSON.parse(text) as T
  } catch {
    return null
  }
}
