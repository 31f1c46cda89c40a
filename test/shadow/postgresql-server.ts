// A PostgreSQL server of a test's own, run as its user: on a mount, or on what was restored.
//
// Always true: what was started is ended at teardown with all its children; connections are psql
// conversations, one for each worker, and an answer is the server's acknowledgement.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { PSQL, PSQL_LOOKS } from '../../src/shadow/shipped/client-dialects.ts'
import { ClientProcess } from '../../src/shadow/shipped/client-process.ts'
import { requires } from '../support/requires.ts'
import { type RunResult, run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const VERSIONS = '/usr/lib/postgresql'

/** Folder of the newest PostgreSQL's programs. */
function binFolder(): string {
  if (!existsSync(VERSIONS)) return VERSIONS
  const newest = readdirSync(VERSIONS).sort((a, b) => Number(b) - Number(a))[0] ?? ''
  return join(VERSIONS, newest, 'bin')
}

const BIN = binFolder()
export const needsPostgresql = (): ReturnType<typeof requires> =>
  requires(
    'root',
    '/dev/fuse',
    'runuser',
    'rsync',
    'qemu-img',
    join(BIN, 'postgres'),
    join(BIN, 'pgbench'),
    join(BIN, 'pg_amcheck'),
  )

export function own(path: string): void {
  const ids = (['-u', '-g'] as const).map((what) =>
    Number(spawnSync('id', [what, 'postgres'], { encoding: 'utf8' }).stdout),
  )
  chownSync(path, ids[0] as number, ids[1] as number)
}

/** A folder of the server's user. */
export function ownFolder(path: string): string {
  mkdirSync(path, { mode: 0o700 })
  own(path)
  return path
}

/** Runs one of PostgreSQL's programs as its user. */
export function postgres(
  program: string,
  args: readonly string[],
  options: { readonly check?: boolean; readonly timeoutMs?: number } = {},
): Promise<RunResult> {
  const words = ['-u', 'postgres', '--', join(BIN, program), ...args]
  return run('runuser', words, { cwd: '/', env: { HOME: '/tmp' }, timeoutMs: 120_000, ...options })
}

/** Small segments, so that the log does not outweigh a small database. */
export async function initPostgresql(data: string): Promise<void> {
  ownFolder(data)
  const looks = [
    '-A',
    'trust',
    '-E',
    'UTF8',
    '--no-locale',
    '--data-checksums',
    '--wal-segsize=1',
    '--no-sync',
  ]
  await postgres('initdb', ['-D', data, ...looks])
}

const SETTINGS = [
  'listen_addresses=',
  'shared_buffers=16MB',
  'max_connections=30',
  'autovacuum_naptime=1s',
  'checkpoint_timeout=30s',
  'max_wal_size=16MB',
  'min_wal_size=2MB',
]

export class PostgresqlServer {
  readonly data: string
  readonly socket: string
  readonly #t: Pick<Assertion, 'teardown'>
  readonly #process: ChildProcess
  #said = ''

  private constructor(
    t: Pick<Assertion, 'teardown'>,
    data: string,
    socket: string,
    settings: readonly string[],
  ) {
    this.#t = t
    this.data = data
    this.socket = socket
    const words = [...SETTINGS, ...settings].flatMap((setting) => ['-c', setting])
    const argv = ['--reuid=postgres', '--regid=postgres', '--clear-groups', '--', join(BIN, 'postgres')]
    // By setpriv, which becomes the server: a signal reaches it.
    this.#process = spawn('setpriv', [...argv, '-D', data, '-k', socket, ...words], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#said += text
      })
    }
  }

  /** @throws Error with what it said, when it ends before it answers */
  static async start(
    t: Pick<Assertion, 'teardown'>,
    data: string,
    settings: readonly string[] = [],
  ): Promise<PostgresqlServer> {
    const socket = tempFolder(t)
    chmodSync(socket, 0o755)
    own(socket)
    const server = new PostgresqlServer(t, data, socket, settings)
    // SIGQUIT ends it at once with its children; a SIGKILL would leave those.
    t.teardown(() => server.end('SIGQUIT'), { order: -1 })
    await until(
      `the server on ${data} answers`,
      async () => {
        if (!server.isRunning) throw new Error(`The server has ended:\n${server.log}`)
        const { stdout } = await postgres(
          'psql',
          ['-X', '-tA', '-h', socket, '-d', 'postgres', '-c', 'SELECT pg_is_in_recovery()'],
          { check: false },
        )
        return stdout.trim() === 'f'
      },
      60_000,
    )
    return server
  }

  get log(): string {
    return this.#said
  }

  get pid(): number {
    return this.#process.pid as number
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  /** What a writer is configured with. */
  get client(): string[] {
    return ['runuser', '-u', 'postgres', '--', 'psql', '-h', this.socket, '-d', 'postgres']
  }

  async connect(): Promise<ClientProcess> {
    const client = await ClientProcess.start([...this.client, ...PSQL_LOOKS], PSQL)
    this.#t.teardown(() => client.kill(), { order: -2 })
    return client
  }

  async query(sql: string): Promise<string[]> {
    const { stdout } = await postgres('psql', ['-X', '-h', this.socket, '-d', 'postgres', '-tA', '-c', sql])
    return stdout.split('\n').filter((line) => line !== '')
  }

  /** Ends it in order. */
  stop(): Promise<number | null> {
    return this.end('SIGINT')
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (!this.isRunning) return this.#process.exitCode
    const exited = once(this.#process, 'exit')
    this.#process.kill(signal)
    const [code] = (await exited) as [number | null]
    return code
  }
}
