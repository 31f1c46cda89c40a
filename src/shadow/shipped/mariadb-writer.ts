// The writer for MariaDB and MySQL: the data directory at one instant, and the binary log.
//
// MariaDB's backup stages do what Freeze asks for: first the slow flush of the non-transactional tables,
// then, between Freeze and Thaw, no commit and no change of a table's definition, so that engines that do not
// recover by themselves are whole as well. MySQL has LOCK INSTANCE FOR BACKUP and a global read lock.
// (MariaDB Knowledge Base, "BACKUP STAGE"; MySQL 8.0 Reference Manual 13.3.5.)
//
// Always true: the locks live in one connection and end with it; where the binary log stood at the instant is
// in the stamp.

import { realpathSync } from 'node:fs'
import { UmbraError } from '../../base/errors.ts'
import { isAtOrBelow } from '../documents/file-spec.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { WriterContext } from '../writers/writer-context.ts'
import { MARIADB, MARIADB_LOOKS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
import { binaryLogs, folderOf, isMariadbRunning, numberOf } from './mariadb-files.ts'
import { restoredFolder } from './restored-folder.ts'

export const MARIADB_CLASS_ID = 'b7d3f1a6-0f27-4a86-9c73-2f4b8f6a5d90'
export const DATABASES = 'databases'
export const BINARY_LOG = 'binary-log'

export interface MariadbWriterOptions {
  readonly name: string
  readonly dataFolder: string
  /** The client with what says where the server is and who asks; `mariadb` unless told. */
  readonly client?: readonly string[]
  /** Folder and first part of the binary log's files, e.g. /srv/db/binlog/mysql-bin; without it there are no log backups. */
  readonly binaryLog?: { readonly folder: string; readonly baseName: string }
  /** Purge binary logs once they are in a complete backup. */
  readonly purgeBinaryLogs?: boolean
  readonly serviceName?: string
  readonly freezeTimeoutMs?: number
}

/** Of the databases: where the binary log stood at the instant. */
interface MariadbStamp {
  /** Empty without a binary log. */
  readonly logFile: string
  readonly logPosition: number
  readonly gtid: string
}

/** Of the binary log: the first file that is not in a backup as a whole. */
interface BinaryLogStamp {
  readonly nextLog: string
}

interface Locked {
  readonly client: ClientProcess
  readonly isMariadb: boolean
  stamp?: MariadbStamp
  hasThawed: boolean
}

const FREEZE_TIMEOUT_MS = 20_000
/** What a server makes anew at its start. */
const LEFT_OUT = ['*.pid', '*.sock', '*.sock.lock', 'ibtmp*', '*.err']
/** Of a file, however long it is: clipped to its end. */
const WHOLE = [{ offsetBytes: 0, lengthBytes: 2 ** 40 }]
/** Variables that name folders with data in them; servers do not know all of them. */
const FOLDERS = [
  'datadir',
  'innodb_data_home_dir',
  'innodb_log_group_home_dir',
  'innodb_undo_directory',
  'aria_log_dir_path',
]

export class MariadbWriter extends Writer {
  readonly #options: MariadbWriterOptions
  readonly #locked = new Map<string, Locked>()
  /** By session: the log that was being written when its log backup began. */
  readonly #openLogs = new Map<string, string>()

  constructor(options: MariadbWriterOptions) {
    super()
    this.#options = options
  }

  identify(): WriterMetadata {
    const { name, binaryLog, serviceName, freezeTimeoutMs = FREEZE_TIMEOUT_MS } = this.#options
    const dataFolder = this.#dataFolder()
    const builder = new MetadataBuilder({
      classId: MARIADB_CLASS_ID,
      instanceId: this.instanceId,
      name: 'MariaDB',
      instanceName: name,
      source: 'transactional-database',
    })
      .setFreezeLevel('back-end')
      .setFreezeTimeout(freezeTimeoutMs)
    const logs = binaryLog === undefined ? [] : (['log'] as const)
    builder.setBackupSchema('incremental', 'differential', 'copy', 'timestamped', 'new-target', ...logs)
    if (serviceName === undefined) builder.setRestoreMethod('restore-if-can-replace')
    else builder.setRestoreMethod('stop-restore-start', { serviceName })
    builder.addFileGroup({ name: DATABASES, caption: `MariaDB in ${dataFolder}` }).addFiles({
      path: dataFolder,
      changedRanges: true,
      backupRequired: ['full', 'incremental', 'differential'],
      snapshotRequired: ['full', 'incremental', 'differential'],
    })
    for (const filespec of LEFT_OUT) builder.exclude({ path: dataFolder, filespec, recursive: false })
    if (binaryLog !== undefined) {
      builder.addDatabase({ name: BINARY_LOG, caption: `Binary log in ${binaryLog.folder}` }).addLogFiles({
        path: binaryLog.folder,
        filespec: `${binaryLog.baseName}.*`,
        recursive: false,
        // Each file is named when it is due; closed ones do not change, so they may be read where they are.
        backupRequired: [],
        snapshotRequired: [],
      })
    }
    return builder.build()
  }

  /** For a log backup: what was committed so far is to be in closed files. */
  override async onPrepareForBackup(context: WriterContext): Promise<void> {
    const component = context.component(BINARY_LOG)
    const { binaryLog } = this.#options
    if (context.backupType !== 'log' || !component || binaryLog === undefined) return
    const client = await this.#start()
    try {
      await client.ask('FLUSH BINARY LOGS')
      const { logFile: open } = await positionOf(client)
      const first = parsedStamp<BinaryLogStamp>(component.previousBackupStamp)?.nextLog
      const closed = binaryLogs(binaryLog.folder, binaryLog.baseName).filter(
        (name) => numberOf(name) < numberOf(open) && (!first || numberOf(name) >= numberOf(first)),
      )
      refuseGaps(closed, first, open)
      for (const fileName of closed)
        component.addPartialFile({ path: binaryLog.folder, fileName, ranges: WHOLE })
      this.#openLogs.set(context.sessionId, open)
      component.setBackupStamp(JSON.stringify({ nextLog: open } satisfies BinaryLogStamp))
    } finally {
      await client.close()
    }
  }

  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    const dataFolder = this.#dataFolder()
    if (!this.#isAffected(context, dataFolder)) return
    // A server that does not run leaves its files as they are.
    if (!isMariadbRunning(dataFolder)) return
    const { timeoutMs } = context.request
    const client = await this.#start()
    try {
      const [version = ''] = await client.ask('SELECT version()')
      const isMariadb = /mariadb/i.test(version)
      if (!(await this.#isComplete(context, client, dataFolder))) return await client.close()
      // A statement that waits longer for a table gives up, and the backup with it; before the freeze's own end.
      const { freezeTimeoutMs = FREEZE_TIMEOUT_MS } = this.#options
      await client.ask(`SET SESSION lock_wait_timeout = ${Math.max(1, Math.floor(freezeTimeoutMs / 2000))}`)
      if (isMariadb) {
        await client.ask('BACKUP STAGE START', timeoutMs)
        await client.ask('BACKUP STAGE FLUSH', timeoutMs)
      } else await client.ask('LOCK INSTANCE FOR BACKUP', timeoutMs)
      this.#locked.set(context.sessionId, { client, isMariadb, hasThawed: false })
    } catch (error) {
      await client.close()
      throw error
    }
  }

  override async onFreeze(context: WriterContext): Promise<void> {
    const locked = this.#locked.get(context.sessionId)
    if (!locked) return
    const { client, isMariadb } = locked
    const { timeoutMs } = context.request
    if (isMariadb) {
      await client.ask('BACKUP STAGE BLOCK_DDL', timeoutMs)
      await client.ask('BACKUP STAGE BLOCK_COMMIT', timeoutMs)
    } else await client.ask('FLUSH TABLES WITH READ LOCK', timeoutMs)
    // With a binary log InnoDB writes a commit down lazily, since the binary log could tell of it; the files
    // of the databases must do without that one.
    await client.ask('FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS', timeoutMs)
    locked.stamp = await positionOf(client)
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const locked = this.#locked.get(context.sessionId)
    if (!locked || locked.hasThawed) return
    const { client, isMariadb } = locked
    const { timeoutMs } = context.request
    try {
      if (isMariadb) await client.ask('BACKUP STAGE END', timeoutMs)
      else {
        await client.ask('UNLOCK TABLES', timeoutMs)
        await client.ask('UNLOCK INSTANCE', timeoutMs)
      }
      locked.hasThawed = true
    } finally {
      await client.close()
    }
  }

  override onPostSnapshot(context: WriterContext): void {
    const stamp = this.#locked.get(context.sessionId)?.stamp
    if (stamp === undefined) return
    context.component(DATABASES)?.setBackupStamp(JSON.stringify(stamp))
    if (stamp.logFile === '') return
    const first: BinaryLogStamp = { nextLog: stamp.logFile }
    context.component(BINARY_LOG)?.setBackupStamp(JSON.stringify(first))
  }

  override onAbort(context: WriterContext): Promise<void> {
    return this.#forget(context)
  }

  /** Closed logs may go when they are in a log backup that was completed. */
  override async onBackupComplete(context: WriterContext): Promise<void> {
    const open = this.#openLogs.get(context.sessionId)
    const isSaved = context.component(BINARY_LOG)?.backupSucceeded === true
    if (!this.#options.purgeBinaryLogs || context.backupType !== 'log' || !isSaved || !open) return
    const client = await this.#start()
    try {
      await client.ask(`PURGE BINARY LOGS TO '${open}'`)
    } finally {
      await client.close()
    }
  }

  override onBackupShutdown(context: WriterContext): Promise<void> {
    return this.#forget(context)
  }

  /** A running server would be torn apart. */
  override onPreRestore(context: WriterContext): void {
    if (this.#options.serviceName !== undefined) return
    for (const { data } of context.components) {
      const documented = context.metadata.components.find(({ name }) => name === DATABASES)?.files[0]?.path
      const target = restoredFolder(data, documented ?? this.#options.dataFolder)
      if (data.name !== DATABASES || !isMariadbRunning(target)) continue
      context.fail('retryable', `The server runs on ${target}: stop it, or restore to another place`, {
        fatal: true,
      })
    }
  }

  /** Whether the backup has to do with the server's data. */
  #isAffected(context: WriterContext, dataFolder: string): boolean {
    if (context.backupType === 'log') return false
    if (context.volumeOf(dataFolder)) return true
    if (context.component(DATABASES))
      context.fail('inconsistent-snapshot', `${dataFolder} is not on a volume of the shadow set`, {
        fatal: true,
      })
    return false
  }

  /** Data that lies elsewhere would be of another instant, or of none. */
  async #isComplete(context: WriterContext, client: ClientProcess, dataFolder: string): Promise<boolean> {
    const names = FOLDERS.map((name) => `'${name}'`).join(', ')
    const lines = await client.ask(`SHOW GLOBAL VARIABLES WHERE Variable_name IN (${names})`)
    for (const line of lines) {
      const [name = '', value = ''] = line.split('\t')
      const folder = realFolder(folderOf(dataFolder, value))
      const isSaved = isAtOrBelow(folder, dataFolder)
      if (isSaved || (!context.component(DATABASES) && context.volumeOf(folder))) continue
      const why = name === 'datadir' ? 'is not the configured data folder' : `is not below ${dataFolder}`
      context.fail('inconsistent-snapshot', `The server's ${name}, ${folder}, ${why}`, { fatal: true })
      return false
    }
    return true
  }

  /** @throws UmbraError NOT_FOUND */
  #dataFolder(): string {
    return realFolder(this.#options.dataFolder)
  }

  #start(): Promise<ClientProcess> {
    return ClientProcess.start([...(this.#options.client ?? ['mariadb']), ...MARIADB_LOOKS], MARIADB)
  }

  async #forget({ sessionId }: WriterContext): Promise<void> {
    const locked = this.#locked.get(sessionId)
    this.#locked.delete(sessionId)
    this.#openLogs.delete(sessionId)
    await locked?.client.close()
  }
}

/** Empty without a binary log. */
async function positionOf(client: ClientProcess): Promise<MariadbStamp> {
  const [status = ''] = await client.ask('SHOW MASTER STATUS')
  const [logFile = '', position = '0'] = status.split('\t')
  const [gtid = ''] = await client.ask('SELECT @@global.gtid_binlog_pos').catch(() => [''])
  return { logFile, logPosition: Number(position), gtid }
}

/** A log that lacks a file in between cannot be replayed. @throws UmbraError WRITER_FAILED */
function refuseGaps(closed: readonly string[], first: string | undefined, open: string): void {
  let expected = first === undefined ? undefined : numberOf(first)
  for (const name of [...closed, open]) {
    if (expected !== undefined && numberOf(name) !== expected)
      throw new UmbraError(
        'WRITER_FAILED',
        `The binary log lacks file number ${expected}, ${name} comes next: a new full backup is needed`,
      )
    expected = numberOf(name) + 1
  }
}

/** A folder may be reached through a link; the files are where it leads. @throws UmbraError NOT_FOUND */
function realFolder(folder: string): string {
  try {
    return realpathSync(folder)
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `There is no data directory ${folder}`, { folder }, error)
  }
}

/** Null: there is none, or it is not ours. */
function parsedStamp<T>(text: string | undefined): T | null {
  if (text === undefined) return null
  try {
    return JSON.parse(text) as T
  } catch {
    return null
  }
}
