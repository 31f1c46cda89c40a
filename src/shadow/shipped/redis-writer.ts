// The writer for Redis: its append-only files and its dump, taken at an instant when every write that was
// acknowledged is in them.
//
// From Freeze to Thaw CLIENT PAUSE keeps writes waiting (reads go on). With the append-only file the instant
// is right once Redis has handed its buffer to the kernel; without it, a dump is made inside the pause, so that
// its length is bounded by the freeze window: a large data set wants the append-only file.
//
// Always true: the pause ends by itself with the freeze window, also when this process dies; nothing of the
// server's configuration is changed; a pause that did not last until Thaw, for whatever reason, fails the backup.

import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import type { BackupComponent } from '../documents/backup-components.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { WriterContext } from '../writers/writer-context.ts'
import { REDIS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
import {
  appended,
  dumped,
  infoOf,
  isAppending,
  type RedisFiles,
  type RedisMoment,
  redisFiles,
  redisMoment,
  settled,
} from './redis-server.ts'
import { restoredFolder } from './restored-folder.ts'

export const REDIS_CLASS_ID = '6f0f6c54-3c86-4d0c-9f0c-4c1f3d0a8b52'
const COMPONENT = 'data'

export interface RedisWriterOptions {
  readonly name: string
  /** The client with what says where the server is; `redis-cli` unless told. */
  readonly client?: readonly string[]
  /** For restores while the server is down, with the names Redis uses by default; asked of the server unless told. */
  readonly dataFolder?: string
  /** The service that a restore stops and starts; without one the server must be down. */
  readonly serviceName?: string
  /** From Freeze to Thaw; 10 s unless told. */
  readonly freezeTimeoutMs?: number
}

interface RedisStamp {
  readonly replicationId: string
  readonly replicationOffset: number
}

/** What whoever restores must know. */
interface RedisBackupMetadata {
  readonly folder: string
  readonly version: string
  readonly appendOnly: boolean
}

/** One backup, from PrepareForSnapshot to Thaw. */
interface Paused {
  readonly client: ClientProcess
  readonly wasAppending: boolean
  readonly folder: string
  /** Of performance.now(); 0: not paused yet. */
  sinceMs: number
  moment?: RedisMoment
}

const FREEZE_TIMEOUT_MS = 10_000
/** The server is on this machine or near: one that does not answer in this time is down. */
const START_TIMEOUT_MS = 5000

export class RedisWriter extends Writer {
  readonly #options: RedisWriterOptions
  readonly #paused = new Map<string, Paused>()
  readonly #moments = new Map<string, RedisMoment & { readonly folder: string }>()

  constructor(options: RedisWriterOptions) {
    super()
    this.#options = options
  }

  async identify(): Promise<WriterMetadata> {
    const { name, serviceName } = this.#options
    const { folder, dumpName, appendFolderName } = await this.#files()
    const builder = new MetadataBuilder({
      classId: REDIS_CLASS_ID,
      instanceId: this.instanceId,
      name: 'Redis',
      instanceName: name,
      source: 'non-transactional-database',
    })
      .setBackupSchema('incremental', 'differential', 'copy', 'timestamped', 'new-target')
      .setFreezeLevel('back-end')
      .setFreezeTimeout(this.#freezeTimeoutMs)
    if (serviceName === undefined) builder.setRestoreMethod('restore-if-can-replace')
    else builder.setRestoreMethod('stop-restore-start', { serviceName })
    builder
      .addFileGroup({ name: COMPONENT, caption: `Redis in ${folder}` })
      .addFiles({
        path: folder,
        filespec: dumpName,
        recursive: false,
        createdDuringBackup: true,
        changedRanges: true,
      })
      .addFiles({ path: join(folder, appendFolderName), createdDuringBackup: true, changedRanges: true })
    return builder.build()
  }

  /** Children of the server are waited for: what they write would be saved in vain. */
  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    const client = await this.#start()
    try {
      const { folder } = await redisFiles(client)
      if (!context.volumeOf(folder)) {
        await client.close()
        // Images of other volumes do not concern this server.
        if (context.components.length > 0)
          context.fail('inconsistent-snapshot', `${folder} is not on a volume of the shadow set`, {
            fatal: true,
          })
        return
      }
      await settled(client, context.signal)
      const wasAppending = isAppending(await infoOf(client, 'persistence'))
      this.#paused.set(context.sessionId, { client, wasAppending, folder, sinceMs: 0 })
    } catch (error) {
      await client.close()
      throw error
    }
  }

  override async onFreeze(context: WriterContext): Promise<void> {
    const paused = this.#paused.get(context.sessionId)
    if (paused === undefined) return
    const { client, wasAppending, folder } = paused
    paused.sinceMs = performance.now()
    await client.ask(`CLIENT PAUSE ${this.#freezeTimeoutMs} WRITE`)
    if (isAppending(await infoOf(client, 'persistence'))) {
      if (!wasAppending) {
        // Its first base file is not there yet, and the dump may be old.
        throw new UmbraError(
          'WRITER_FAILED',
          'The append-only file was turned on in the middle of the backup',
        )
      }
      await appended(client, context.signal)
    } else await dumped(client, context.signal)
    paused.moment = await redisMoment(client)
    this.#moments.set(context.sessionId, { ...paused.moment, folder })
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const paused = this.#paused.get(context.sessionId)
    if (paused === undefined) return
    const { client, moment, sinceMs } = paused
    try {
      const now = await redisMoment(client)
      const passedMs = performance.now() - sinceMs
      await client.ask('CLIENT UNPAUSE')
      if (passedMs >= this.#freezeTimeoutMs)
        context.fail('timeout', `The pause ended by itself after ${this.#freezeTimeoutMs} ms`, {
          fatal: true,
        })
      else if (moment?.runId !== now.runId)
        context.fail('non-retryable', 'Redis was restarted before the shadow copy was made', { fatal: true })
      else if (now.changes > moment.changes)
        context.fail('retryable', 'Somebody ended the pause before the shadow copy was made', { fatal: true })
    } finally {
      await this.#release(context)
    }
  }

  override onPostSnapshot(context: WriterContext): void {
    const moment = this.#moments.get(context.sessionId)
    if (moment === undefined) return
    const { replicationId, replicationOffset, folder, version, appendOnly } = moment
    for (const component of context.components) {
      component.setBackupStamp(JSON.stringify({ replicationId, replicationOffset } satisfies RedisStamp))
      component.setBackupMetadata(
        JSON.stringify({ folder, version, appendOnly } satisfies RedisBackupMetadata),
      )
    }
  }

  override async onAbort(context: WriterContext): Promise<void> {
    const client = this.#paused.get(context.sessionId)?.client
    // A question that is still open when Freeze ran out of time: another connection can end the pause as well.
    if (client) await client.ask('CLIENT UNPAUSE').catch(() => this.#unpauseAnew())
    await this.#release(context)
  }

  override async onBackupShutdown(context: WriterContext): Promise<void> {
    this.#moments.delete(context.sessionId)
    await this.#release(context)
  }

  /** A running server would write its memory over what is restored. */
  override async onPreRestore(context: WriterContext): Promise<void> {
    if (this.#options.serviceName !== undefined) return
    const running = await this.#running()
    if (running === undefined) return
    for (const { data } of context.components) {
      const folder = savedFolder(data) ?? running.folder
      if (restoredFolder(data, folder) !== running.folder) continue
      context.fail('retryable', `Redis serves ${running.folder}: stop it, or restore to another place`, {
        fatal: true,
      })
    }
  }

  get #freezeTimeoutMs(): number {
    return this.#options.freezeTimeoutMs ?? FREEZE_TIMEOUT_MS
  }

  /** @throws UmbraError UNAVAILABLE when the server is down and nothing says where its data is */
  async #files(): Promise<RedisFiles> {
    const running = await this.#running()
    if (running) return running
    const { dataFolder, name } = this.#options
    if (dataFolder === undefined) throw new UmbraError('UNAVAILABLE', `Redis ${name} does not answer`)
    return { folder: dataFolder, dumpName: 'dump.rdb', appendFolderName: 'appendonlydir' }
  }

  /** Undefined: no server answers. */
  async #running(): Promise<RedisFiles | undefined> {
    let client: ClientProcess
    try {
      client = await this.#start()
    } catch {
      return undefined
    }
    try {
      return await redisFiles(client)
    } finally {
      await client.close()
    }
  }

  async #start(): Promise<ClientProcess> {
    const client = await ClientProcess.start(this.#options.client ?? ['redis-cli'], REDIS, {
      timeoutMs: START_TIMEOUT_MS,
    })
    try {
      const [answer] = await client.ask('PING')
      if (answer !== 'PONG') throw new UmbraError('UNAVAILABLE', `Redis answers ${answer}`)
      return client
    } catch (error) {
      await client.close()
      throw error
    }
  }

  async #unpauseAnew(): Promise<void> {
    try {
      const client = await this.#start()
      await client.ask('CLIENT UNPAUSE').finally(() => client.close())
    } catch {
      // No server: no pause. One that does not answer ends the pause by itself.
    }
  }

  async #release({ sessionId }: WriterContext): Promise<void> {
    const paused = this.#paused.get(sessionId)
    this.#paused.delete(sessionId)
    await paused?.client.close()
  }
}

/** Where the files were when they were saved. */
function savedFolder({ backupMetadata }: BackupComponent): string | undefined {
  if (backupMetadata === undefined) return undefined
  const { folder } = JSON.parse(backupMetadata) as Partial<RedisBackupMetadata>
  return typeof folder === 'string' ? folder : undefined
}
