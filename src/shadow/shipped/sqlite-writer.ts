// The writer for SQLite: every database found under the configured paths is a component.
//
// SQLite recovers by itself from any instant, so a database is never wrong without this writer; with
// it the write-ahead log is brought into the database beforehand and no transaction is half done at
// the instant: from Freeze to Thaw this writer holds the reserved lock of each database (BEGIN IMMEDIATE), which
// lets readers read and writers wait.
//
// Always true: a lock lives in its client's connection, so it ends with Thaw, with Abort, and with this process.

import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { BackupComponent } from '../documents/backup-components.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { ComponentContext, WriterContext } from '../writers/writer-context.ts'
import { SQLITE, SQLITE_LOOKS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
import { restoredFolder } from './restored-folder.ts'
import {
  COMPANION_SUFFIXES,
  findSqliteDatabases,
  readSqliteHeader,
  type SqliteDatabase,
} from './sqlite-files.ts'

export const SQLITE_CLASS_ID = '0d9a2b1c-6c0b-4f5e-9a0e-6e3f5a1d7c21'

export interface SqliteWriterOptions {
  readonly name: string
  /** Databases, or folders that are searched. */
  readonly paths: readonly string[]
  /** The client program; `sqlite3` unless told. */
  readonly client?: readonly string[]
  /** Databases that are locked at once; one beyond it makes Identify fail. 64 unless told. */
  readonly databasesMax?: number
  /** How long a writing transaction is waited for; 10 s unless told. */
  readonly lockTimeoutMs?: number
}

const DATABASES_MAX = 64
const LOCK_TIMEOUT_MS = 10_000
const SET_ASIDE = '.before-restore'

/** What a backup leaves for the next one. */
interface SqliteStamp {
  readonly pageBytes: number
  readonly changeCounter: number
  readonly applicationId: number
}

export class SqliteWriter extends Writer {
  readonly #options: SqliteWriterOptions
  /** By session, then by path. */
  readonly #clients = new Map<string, ClientProcess[]>()

  constructor(options: SqliteWriterOptions) {
    super()
    this.#options = options
  }

  /** Component: the folder is the logical path. Named companions may be missing at any time. */
  identify(): WriterMetadata {
    const { name } = this.#options
    const builder = new MetadataBuilder({
      classId: SQLITE_CLASS_ID,
      instanceId: this.instanceId,
      name: 'SQLite',
      instanceName: name,
      source: 'transactional-database',
    })
      .setBackupSchema('incremental', 'differential', 'copy', 'timestamped', 'new-target')
      .setFreezeLevel('back-end')
    for (const { folder, fileName } of this.#databases()) {
      const component = builder.addFileGroup({ logicalPath: folder.slice(1), name: fileName })
      component.addFiles({ path: folder, filespec: literal(fileName), recursive: false, changedRanges: true })
      for (const suffix of ['-wal', '-journal']) {
        component.addFiles({
          path: folder,
          filespec: literal(fileName + suffix),
          recursive: false,
          createdDuringBackup: true,
          changedRanges: true,
        })
      }
    }
    return builder.build()
  }

  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    const clients: ClientProcess[] = []
    this.#clients.set(context.sessionId, clients)
    for (const { path } of this.#selected(context)) {
      const client = await this.#open(path)
      clients.push(client)
      // A reader may keep part of the log; what stays in it is saved with it.
      await client.ask('PRAGMA wal_checkpoint(TRUNCATE)')
    }
  }

  override async onFreeze(context: WriterContext): Promise<void> {
    const clients = this.#clients.get(context.sessionId) ?? []
    await Promise.all(clients.map((client) => client.ask('BEGIN IMMEDIATE')))
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const clients = this.#clients.get(context.sessionId) ?? []
    const lost = clients.some((client) => client.isEnded)
    await this.#release(context)
    if (lost)
      context.fail('non-retryable', 'A lock was lost before the shadow copy was made', { fatal: true })
  }

  override onPostSnapshot(context: WriterContext): void {
    for (const component of context.components) {
      const path = context.inSnapshot(databasePath(component.data))
      const header = path === undefined ? undefined : readSqliteHeader(path)
      if (header === undefined) {
        context.fail('inconsistent-snapshot', `${component.fullPath} is not on a volume of the shadow set`)
        continue
      }
      const { pageBytes, changeCounter, applicationId } = header
      component.setBackupStamp(
        JSON.stringify({ pageBytes, changeCounter, applicationId } satisfies SqliteStamp),
      )
    }
  }

  override onAbort(context: WriterContext): Promise<void> {
    return this.#release(context)
  }

  override onBackupShutdown(context: WriterContext): Promise<void> {
    return this.#release(context)
  }

  /** A log that stays beside an older database would be replayed into it. */
  override onPreRestore(context: WriterContext): void {
    for (const { data } of context.components) {
      if (data.previousBackupStamp !== undefined) continue
      for (const companion of companions(data)) {
        if (existsSync(companion)) renameSync(companion, companion + SET_ASIDE)
      }
    }
  }

  override async onPostRestore(context: WriterContext): Promise<void> {
    for (const component of context.components) {
      this.#settleCompanions(component)
      if (component.hasAdditionalRestores || component.data.fileRestoreStatus !== 'all') continue
      await this.#verify(context, component)
    }
  }

  /** Opening it recovers it, as at every start of its application. */
  async #verify(context: WriterContext, component: ComponentContext): Promise<void> {
    const path = join(restoredFolder(component.data, folderOf(component.data)), component.data.name)
    const client = await this.#open(path)
    try {
      const [answer] = await client.ask('PRAGMA integrity_check(1)', context.request.timeoutMs)
      if (answer === 'ok') return
      component.setFailureMessage(`${path}: ${answer}`)
      context.fail('non-retryable', `${path} was restored, but is damaged: ${answer}`)
    } finally {
      await client.close()
    }
  }

  #settleCompanions({ data }: ComponentContext): void {
    for (const companion of companions(data)) {
      const aside = companion + SET_ASIDE
      if (!existsSync(aside)) continue
      // Nothing was written: the database of before has its log back.
      if (data.fileRestoreStatus === 'none') renameSync(aside, companion)
      else rmSync(aside)
    }
  }

  async #open(path: string): Promise<ClientProcess> {
    const { client = ['sqlite3'], lockTimeoutMs = LOCK_TIMEOUT_MS } = this.#options
    const opened = await ClientProcess.start([...client, ...SQLITE_LOOKS, path], SQLITE)
    await opened.ask(`.timeout ${lockTimeoutMs}`)
    return opened
  }

  async #release({ sessionId }: WriterContext): Promise<void> {
    const clients = this.#clients.get(sessionId) ?? []
    this.#clients.delete(sessionId)
    await Promise.all(clients.map((client) => client.close()))
  }

  #selected(context: WriterContext): SqliteDatabase[] {
    const chosen = new Set(context.components.map(({ data }) => databasePath(data)))
    const { componentMode } = context.backupState
    return this.#databases().filter(({ path }) => !componentMode || chosen.has(path))
  }

  #databases(): SqliteDatabase[] {
    const { paths, databasesMax = DATABASES_MAX } = this.#options
    const byPath = new Map(paths.flatMap(findSqliteDatabases).map((database) => [database.path, database]))
    if (byPath.size > databasesMax) {
      throw new Error(
        `${byPath.size} databases under ${paths.join(', ')}; at most ${databasesMax} are locked at once`,
      )
    }
    return [...byPath.values()]
  }
}

function folderOf({ logicalPath }: Pick<BackupComponent, 'logicalPath'>): string {
  return `/${logicalPath}`
}

function databasePath(component: Pick<BackupComponent, 'logicalPath' | 'name'>): string {
  return join(folderOf(component), component.name)
}

function companions(component: BackupComponent): string[] {
  const path = join(restoredFolder(component, folderOf(component)), component.name)
  return COMPANION_SUFFIXES.map((suffix) => path + suffix)
}

/** A name as a filespec: there is no way to write a wildcard that means itself. */
function literal(name: string): string {
  return name.replaceAll('*', '?')
}
