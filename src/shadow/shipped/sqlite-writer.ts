// The writer for SQLite: every database found under the configured paths is a component.
//
// SQLite recovers by itself from any instant, so a database is never wrong without this writer; with
// it the write-ahead log is brought into the database beforehand, as far as that holds up nobody, and no
// transaction is half done at the instant: from Freeze to Thaw this writer holds the reserved lock of each
// database (BEGIN IMMEDIATE), which lets readers read and writers wait.
//
// Always true: a lock lives in its client's connection, so it ends with Thaw, with Abort, and with this process.

import { existsSync, realpathSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { BackupComponent } from '../documents/backup-components.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { ComponentContext, WriterContext } from '../writers/writer-context.ts'
import { WriterFailure } from '../writers/writer-failure.ts'
import { SQLITE, SQLITE_LOOKS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
import { databaseOwner } from './database-owner.ts'
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
  /** Databases that are locked at once; a backup of more is refused. 64 unless told. */
  readonly databasesMax?: number
  /** How long a writing transaction is waited for; 10 s unless told. */
  readonly lockTimeoutMs?: number
}

const DATABASES_MAX = 64
const LOCK_TIMEOUT_MS = 10_000
const SET_ASIDE = '.before-restore'

/** A database's connection, which holds its lock from Freeze on. */
interface Lock {
  readonly path: string
  readonly client: ClientProcess
}

/** What a backup leaves for the next one. */
interface SqliteStamp {
  readonly pageBytes: number
  readonly changeCounter: number
  readonly applicationId: number
}

export class SqliteWriter extends Writer {
  readonly #options: SqliteWriterOptions
  /** By session. */
  readonly #locks = new Map<string, Lock[]>()

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
    const locks: Lock[] = []
    this.#locks.set(context.sessionId, locks)
    for (const { path } of this.#selected(context)) {
      const client = await this.#open(path)
      locks.push({ path, client })
      // The other modes keep writers waiting for readers; what stays in the log is saved with it.
      await client.ask('PRAGMA wal_checkpoint(PASSIVE)')
    }
  }

  override async onFreeze(context: WriterContext): Promise<void> {
    await Promise.all((this.#locks.get(context.sessionId) ?? []).map(lock))
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const lost = this.#locks.get(context.sessionId)?.find(({ client }) => client.isEnded)
    await this.#release(context)
    if (lost)
      context.fail('non-retryable', `The lock of ${lost.path} was lost before the shadow copy was made`, {
        fatal: true,
      })
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
      // Nothing was written: the database of before has its log back. After a failure in the middle it
      // stays aside, for whoever puts things right.
      if (data.fileRestoreStatus === 'none') renameSync(aside, companion)
      else if (data.fileRestoreStatus === 'all') rmSync(aside)
    }
  }

  async #open(path: string): Promise<ClientProcess> {
    const { client = ['sqlite3'], lockTimeoutMs = LOCK_TIMEOUT_MS } = this.#options
    const runAs = databaseOwner(path)
    const opened = await ClientProcess.start([...client, ...SQLITE_LOOKS, existing(path)], SQLITE, { runAs })
    try {
      await opened.ask(`.timeout ${lockTimeoutMs}`)
      return opened
    } catch (error) {
      await opened.close()
      throw error
    }
  }

  async #release({ sessionId }: WriterContext): Promise<void> {
    const locks = this.#locks.get(sessionId) ?? []
    this.#locks.delete(sessionId)
    await Promise.all(locks.map(({ client }) => client.close()))
  }

  /** @throws WriterFailure when there are more than may be locked at once */
  #selected(context: WriterContext): SqliteDatabase[] {
    const chosen = new Set(context.components.map(({ data }) => databasePath(data)))
    const { componentMode } = context.backupState
    const selected = this.#databases().filter(({ path }) =>
      componentMode ? chosen.has(path) : context.volumeOf(path) !== undefined,
    )
    const { databasesMax = DATABASES_MAX } = this.#options
    if (selected.length <= databasesMax) return selected
    throw new WriterFailure(
      'out-of-resources',
      `${selected.length} databases are to be locked at once, and databasesMax is ${databasesMax}`,
    )
  }

  #databases(): SqliteDatabase[] {
    const found = this.#options.paths.flatMap((path) => findSqliteDatabases(realPath(path)))
    return [...new Map(found.map((database) => [database.path, database])).values()]
  }
}

/** @throws WriterFailure when somebody else's transaction does not end in time */
async function lock({ path, client }: Lock): Promise<void> {
  try {
    await client.ask('BEGIN IMMEDIATE')
  } catch (error) {
    if (!/is locked|is busy/.test(String(error))) throw error
    throw new WriterFailure('retryable', `A transaction keeps ${path} locked`)
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

/** A database that is not there any more must not be made. */
function existing(path: string): string {
  return `file:${encodeURI(path).replaceAll('?', '%3f').replaceAll('#', '%23')}?mode=rw`
}

/** Mounts are told by their real paths. */
function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    // Not there now; another backup may find it.
    return path
  }
}

/** A name as a filespec: there is no way to write a wildcard that means itself. */
function literal(name: string): string {
  return name.replaceAll('*', '?')
}
