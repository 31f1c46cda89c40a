// The writer for Redis: its append-only files and its dump, taken at an instant when every write that was
// acknowledged is in them.
//
// From Freeze to Thaw CLIENT PAUSE keeps writes waiting (reads go on). With the append-only file the instant
// is right once Redis has handed its buffer to the kernel; without it, a dump is made inside the pause, so that
// its length is bounded by the freeze window: a large data set wants the append-only file.
//
// Always true: the pause ends by itself with the freeze window, also when this process dies; nothing of
// the server's configuration is changed.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import { MetadataBuilder } from '../writers/metadata-builder.ts'
import { Writer } from '../writers/writer.ts'
import type { WriterContext } from '../writers/writer-context.ts'
import { REDIS } from './client-dialects.ts'
import { ClientProcess } from './client-process.ts'
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

/** Where Redis keeps what lasts. */
interface RedisFiles {
  readonly folder: string
  readonly dumpName: string
  readonly appendFolderName: string
}

interface RedisStamp {
  readonly replicationId: string
  readonly replicationOffset: number
}

const FREEZE_TIMEOUT_MS = 10_000
const POLL_MS = 5

export class RedisWriter extends Writer {
  readonly #options: RedisWriterOptions
  readonly #clients = new Map<string, ClientProcess>()
  readonly #stamps = new Map<string, RedisStamp>()

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
      .addFiles({ path: folder, filespec: dumpName, recursive: false, createdDuringBackup: true })
      .addFiles({ path: join(folder, appendFolderName), createdDuringBackup: true, changedRanges: true })
    return builder.build()
  }

  override async onPrepareForSnapshot(context: WriterContext): Promise<void> {
    const client = await this.#start()
    this.#clients.set(context.sessionId, client)
    const info = await infoOf(client, 'persistence')
    // Half a dump would lie in the shadow copy; its leftover is harmless, the wait is only for size.
    if (info.get('rdb_bgsave_in_progress') === '1') await waitFor(client, 'rdb_bgsave_in_progress', context)
  }

  override async onFreeze(context: WriterContext): Promise<void> {
    const client = this.#client(context)
    await client.ask(`CLIENT PAUSE ${this.#freezeTimeoutMs} WRITE`)
    const info = await infoOf(client, 'persistence')
    if (info.get('aof_enabled') === '1') await appended(client, context)
    else await dumped(client, context)
    const replication = await infoOf(client, 'replication')
    this.#stamps.set(context.sessionId, {
      replicationId: replication.get('master_replid') ?? '',
      replicationOffset: Number(replication.get('master_repl_offset') ?? 0),
    })
  }

  override async onThaw(context: WriterContext): Promise<void> {
    const client = this.#client(context)
    try {
      await client.ask('CLIENT UNPAUSE')
    } finally {
      await this.#release(context)
    }
  }

  override onPostSnapshot(context: WriterContext): void {
    const stamp = this.#stamps.get(context.sessionId)
    for (const component of context.components) {
      if (stamp) component.setBackupStamp(JSON.stringify(stamp))
    }
  }

  override async onAbort(context: WriterContext): Promise<void> {
    const client = this.#clients.get(context.sessionId)
    if (client && !client.isEnded) await client.ask('CLIENT UNPAUSE').catch(() => {})
    await this.#release(context)
  }

  override async onBackupShutdown(context: WriterContext): Promise<void> {
    this.#stamps.delete(context.sessionId)
    await this.#release(context)
  }

  /** A running server would write its memory over what is restored. */
  override async onPreRestore(context: WriterContext): Promise<void> {
    if (this.#options.serviceName !== undefined) return
    const running = await this.#running()
    if (running === undefined) return
    for (const { data } of context.components) {
      if (restoredFolder(data, running.folder) !== running.folder) continue
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
    const { dataFolder } = this.#options
    if (dataFolder === undefined) {
      const running = await this.#running()
      if (running) return running
      throw new UmbraError('UNAVAILABLE', `Redis ${this.#options.name} does not answer`)
    }
    const running = await this.#running()
    return running ?? { folder: dataFolder, dumpName: 'dump.rdb', appendFolderName: 'appendonlydir' }
  }

  async #running(): Promise<RedisFiles | undefined> {
    let client: ClientProcess
    try {
      client = await this.#start()
    } catch {
      return undefined
    }
    try {
      return {
        folder: await setting(client, 'dir'),
        dumpName: await setting(client, 'dbfilename'),
        appendFolderName: await setting(client, 'appenddirname'),
      }
    } finally {
      await client.close()
    }
  }

  async #start(): Promise<ClientProcess> {
    const client = await ClientProcess.start(this.#options.client ?? ['redis-cli'], REDIS)
    try {
      // The client answers without a server, too.
      const [answer] = await client.ask('PING')
      if (answer !== 'PONG') throw new UmbraError('UNAVAILABLE', `Redis answers ${answer}`)
      return client
    } catch (error) {
      await client.close()
      throw error
    }
  }

  #client(context: WriterContext): ClientProcess {
    const client = this.#clients.get(context.sessionId)
    if (client) return client
    throw new UmbraError('BAD_STATE', `There was no PrepareForSnapshot before ${context.event}`)
  }

  async #release({ sessionId }: WriterContext): Promise<void> {
    const client = this.#clients.get(sessionId)
    this.#clients.delete(sessionId)
    await client?.close()
  }
}

/** What was acknowledged has left Redis's own buffer; the flush of the volume takes it from there. */
async function appended(client: ClientProcess, { signal }: WriterContext): Promise<void> {
  for (;;) {
    const info = await infoOf(client, 'persistence')
    if (info.get('aof_last_write_status') !== 'ok') {
      throw new UmbraError('WRITER_FAILED', 'Redis cannot write its append-only file')
    }
    if (info.get('aof_buffer_length') === '0' && info.get('aof_pending_bio_fsync') === '0') return
    await sleep(POLL_MS, undefined, { signal })
  }
}

async function dumped(client: ClientProcess, context: WriterContext): Promise<void> {
  await client.ask('BGSAVE')
  const info = await waitFor(client, 'rdb_bgsave_in_progress', context)
  if (info.get('rdb_last_bgsave_status') !== 'ok') {
    throw new UmbraError('WRITER_FAILED', 'Redis could not make its dump')
  }
}

/** Until a flag of INFO is down. */
async function waitFor(
  client: ClientProcess,
  flag: string,
  { signal }: WriterContext,
): Promise<Map<string, string>> {
  for (;;) {
    const info = await infoOf(client, 'persistence')
    if (info.get(flag) !== '1') return info
    await sleep(POLL_MS * 4, undefined, { signal })
  }
}

async function infoOf(client: ClientProcess, section: string): Promise<Map<string, string>> {
  const lines = await client.ask(`INFO ${section}`)
  return new Map(
    lines.flatMap((line) => {
      const [key, value] = line.trim().split(':', 2)
      return key !== undefined && value !== undefined ? [[key, value]] : []
    }),
  )
}

async function setting(client: ClientProcess, name: string): Promise<string> {
  const [, value] = await client.ask(`CONFIG GET ${name}`)
  if (value === undefined) throw new UmbraError('WRITER_FAILED', `Redis does not tell its setting ${name}`)
  return value.trim()
}
