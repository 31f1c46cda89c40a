// What the Redis writer asks of a server: where its files are, what it still has to write, and at which
// moment of its history it stands.
//
// Always true: nothing here changes the server's settings; every wait ends with the event's signal.

import { setTimeout as sleep } from 'node:timers/promises'
import { UmbraError } from '../../base/errors.ts'
import type { ClientProcess } from './client-process.ts'

/** Where Redis keeps what lasts. */
export interface RedisFiles {
  readonly folder: string
  readonly dumpName: string
  readonly appendFolderName: string
}

/** A point of a server's history; two with the same run and the same changes have the same data. */
export interface RedisMoment {
  /** New at every start. */
  readonly runId: string
  readonly version: string
  readonly appendOnly: boolean
  /** Changes since the last dump: falls when a dump ends, grows with every write. */
  readonly changes: number
  readonly replicationId: string
  readonly replicationOffset: number
}

export type RedisInfo = ReadonlyMap<string, string>

const POLL_MS = 5

/** @throws UmbraError WRITER_FAILED for a server older than Redis 7 */
export async function redisFiles(client: ClientProcess): Promise<RedisFiles> {
  return {
    folder: await setting(client, 'dir'),
    dumpName: await setting(client, 'dbfilename'),
    appendFolderName: await setting(client, 'appenddirname'),
  }
}

export async function redisMoment(client: ClientProcess): Promise<RedisMoment> {
  const server = await infoOf(client, 'server')
  const persistence = await infoOf(client, 'persistence')
  const replication = await infoOf(client, 'replication')
  return {
    runId: server.get('run_id') ?? '',
    version: server.get('redis_version') ?? '',
    appendOnly: isAppending(persistence),
    changes: Number(persistence.get('rdb_changes_since_last_save') ?? 0),
    replicationId: replication.get('master_replid') ?? '',
    replicationOffset: Number(replication.get('master_repl_offset') ?? 0),
  }
}

export async function infoOf(client: ClientProcess, section: string): Promise<RedisInfo> {
  const lines = await client.ask(`INFO ${section}`)
  return new Map(
    lines.flatMap((line) => {
      const [key, value] = line.trim().split(':', 2)
      return key !== undefined && value !== undefined ? [[key, value]] : []
    }),
  )
}

export function isAppending(persistence: RedisInfo): boolean {
  return persistence.get('aof_enabled') === '1'
}

/** No child of the server is writing, and none is to start. */
export async function settled(client: ClientProcess, signal: AbortSignal): Promise<void> {
  const flags = ['rdb_bgsave_in_progress', 'aof_rewrite_in_progress', 'aof_rewrite_scheduled']
  for (;;) {
    const info = await infoOf(client, 'persistence')
    if (flags.every((flag) => info.get(flag) !== '1')) return
    await sleep(POLL_MS * 4, undefined, { signal })
  }
}

/** What was acknowledged has left Redis's own buffer; the flush of the volume takes it from there. */
export async function appended(client: ClientProcess, signal: AbortSignal): Promise<void> {
  for (;;) {
    const info = await infoOf(client, 'persistence')
    if (info.get('aof_last_write_status') !== 'ok') {
      throw new UmbraError('WRITER_FAILED', 'Redis cannot write its append-only file')
    }
    if (info.get('aof_buffer_length') === '0' && info.get('aof_pending_bio_fsync') === '0') return
    await sleep(POLL_MS, undefined, { signal })
  }
}

/** Makes a dump of everything; writes wait, so that nothing is left to be dumped when it is there. */
export async function dumped(client: ClientProcess, signal: AbortSignal): Promise<void> {
  for (;;) {
    // One that began by itself before the writes waited does not have all of them.
    await settled(client, signal)
    try {
      await client.ask('BGSAVE')
    } catch (error) {
      if (error instanceof UmbraError && /in progress/.test(error.message)) continue
      throw error
    }
    await settled(client, signal)
    const info = await infoOf(client, 'persistence')
    if (info.get('rdb_last_bgsave_status') !== 'ok') {
      throw new UmbraError('WRITER_FAILED', 'Redis could not make its dump')
    }
    if (info.get('rdb_changes_since_last_save') === '0') return
    throw new UmbraError('WRITER_FAILED', 'Redis took writes while its clients were paused')
  }
}

async function setting(client: ClientProcess, name: string): Promise<string> {
  const [, value] = await client.ask(`CONFIG GET ${name}`)
  if (value !== undefined) return value.trim()
  throw new UmbraError('WRITER_FAILED', `Redis does not tell its setting ${name}: it is older than Redis 7`)
}
