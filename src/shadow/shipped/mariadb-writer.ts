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
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { WriterContext } from '../writers/writer-context.ts'
import { MARIADB, MARIADB_LOOKS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
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

interface MariadbStamp {
  readonly logFile: string
  readonly logPosition: number
  readonly gtid: string
}

interface Locked {
  readonly client: ClientProcess
  readonly isMariadb: boolean
  stamp?: MariadbStamp
}

const FREEZE_TIMEOUT_MS = 20_000
/** A statement that waits longer for a table's lock gives up, and the backup with it. */
const LOCK_WAIT_S = 15
/** What a server makes anew at its start. */
const LEFT_OUT = ['*.pid', '*.sock', '*.sock.lock', 'ibtmp*', '*.err']

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
        backupRequired: ['log'],
        snapshotRequired: ['log'],
      })
    }
    return builder.build()
  }

  /** For a log backup: what was committed so far is to be in closed files. */
  override async onPrepareForBackup(context: WriterContext): Promise<void> {
    if (context.backupType !== 'log' || this.#options.binaryLog === undefined) return
    const client = await this.#start()
    try {
      await client.ask('FLUSH BINARY LOGS')
      this.#openLogs.set(context.sessionId, (await positionOf(client)).logFile)
    } finally {
      await client.close()
    }
  }

  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    const { dataFolder } = this.#options
    if (!context.volumeOf(this.#dataFolder())) {
      context.fail('inconsistent-snapshot', `${dataFolder} is not on a volume of the shadow set`, {
        fatal: true,
      })
      return
    }
    const client = await this.#start()
    try {
      const [version = ''] = await client.ask('SELECT version()')
      const isMariadb = /mariadb/i.test(version)
      await client.ask(`SET SESSION lock_wait_timeout = ${LOCK_WAIT_S}`)
      if (isMariadb) {
        await client.ask('BACKUP STAGE START', context.request.timeoutMs)
        await client.ask('BACKUP STAGE FLUSH', context.request.timeoutMs)
      } else await client.ask('LOCK INSTANCE FOR BACKUP', context.request.timeoutMs)
      this.#locked.set(context.sessionId, { client, isMariadb })
    } catch (error) {
      await client.close()
      throw error
    }
  }

  override async onFreeze(context: WriterContext): Promise<void> {
    const locked = this.#lockedIn(context)
    const { client, isMariadb } = locked
    if (isMariadb) {
      await client.ask('BACKUP STAGE BLOCK_DDL')
      await client.ask('BACKUP STAGE BLOCK_COMMIT')
    } else await client.ask('FLUSH TABLES WITH READ LOCK')
    locked.stamp = await positionOf(client)
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const { client, isMariadb } = this.#lockedIn(context)
    try {
      if (isMariadb) await client.ask('BACKUP STAGE END')
      else {
        await client.ask('UNLOCK TABLES')
        await client.ask('UNLOCK INSTANCE')
      }
    } finally {
      await client.close()
    }
  }

  override onPostSnapshot(context: WriterContext): void {
    const stamp = this.#locked.get(context.sessionId)?.stamp
    if (stamp === undefined) return
    for (const component of context.components) {
      if (component.data.name === DATABASES) component.setBackupStamp(JSON.stringify(stamp))
    }
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
  override async onPreRestore(context: WriterContext): Promise<void> {
    if (this.#options.serviceName !== undefined) return
    const dataFolder = this.#dataFolder()
    const isInPlace = context.components.some(
      ({ data }) => data.name === DATABASES && restoredFolder(data, dataFolder) === dataFolder,
    )
    if (!isInPlace || !(await this.#isRunning())) return
    context.fail('retryable', `The server runs on ${dataFolder}: stop it, or restore to another place`, {
      fatal: true,
    })
  }

  async #isRunning(): Promise<boolean> {
    try {
      const client = await this.#start()
      await client.close()
      return true
    } catch {
      return false
    }
  }

  /** A data directory may be reached through a link; the files are where it leads. */
  #dataFolder(): string {
    try {
      return realpathSync(join(this.#options.dataFolder))
    } catch (error) {
      throw new UmbraError('NOT_FOUND', `No data directory ${this.#options.dataFolder}`, {}, error)
    }
  }

  #lockedIn(context: WriterContext): Locked {
    const locked = this.#locked.get(context.sessionId)
    if (locked) return locked
    throw new UmbraError('BAD_STATE', `There was no PrepareForSnapshot before ${context.event}`)
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
