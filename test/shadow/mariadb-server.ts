// A MariaDB server of a test's own, run as its user: on a mount, or on what was restored.
//
// Always true: what was started is ended at teardown; connections are conversations with the mariadb
// client, one for each worker, and an answer is the server's acknowledgement.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { MARIADB, MARIADB_LOOKS } from '../../src/shadow/shipped/client-dialects.ts'
import { ClientProcess } from '../../src/shadow/shipped/client-process.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

export const needsMariadb = (): ReturnType<typeof requires> =>
  requires('root', '/dev/fuse', 'setpriv', 'rsync', 'qemu-img', 'mariadbd', 'mariadb', 'mariadb-binlog')

const SETTINGS = [
  '--no-defaults',
  '--skip-networking',
  '--innodb-buffer-pool-size=32M',
  '--innodb-log-file-size=8M',
  '--innodb-flush-log-at-trx-commit=1',
  '--sync-binlog=1',
]

function own(path: string): void {
  const ids = (['-u', '-g'] as const).map((what) =>
    Number(spawnSync('id', [what, 'mysql'], { encoding: 'utf8' }).stdout),
  )
  chownSync(path, ids[0] as number, ids[1] as number)
}

export function ownFolder(path: string): string {
  mkdirSync(path, { mode: 0o700 })
  own(path)
  return path
}

export async function initMariadb(data: string): Promise<void> {
  ownFolder(data)
  await run(
    'mariadb-install-db',
    [
      '--no-defaults',
      '--user=mysql',
      `--datadir=${data}`,
      '--auth-root-authentication-method=normal',
      '--skip-test-db',
      '--innodb-log-file-size=8M',
    ],
    { timeoutMs: 120_000 },
  )
}

export class MariadbServer {
  readonly data: string
  readonly socket: string
  readonly #t: Pick<Assertion, 'teardown'>
  readonly #process: ChildProcess
  #said = ''

  private constructor(
    t: Pick<Assertion, 'teardown'>,
    data: string,
    folder: string,
    settings: readonly string[],
  ) {
    this.#t = t
    this.data = data
    this.socket = join(folder, 'socket')
    const argv = ['--reuid=mysql', '--regid=mysql', '--clear-groups', '--', 'mariadbd', ...SETTINGS]
    const places = [`--datadir=${data}`, `--socket=${this.socket}`, `--pid-file=${join(folder, 'pid')}`]
    this.#process = spawn('setpriv', [...argv, ...places, ...settings], {
      cwd: '/',
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
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
  ): Promise<MariadbServer> {
    const folder = tempFolder(t)
    chmodSync(folder, 0o755)
    own(folder)
    const server = new MariadbServer(t, data, folder, settings)
    t.teardown(() => server.end('SIGKILL'), { order: -1 })
    await until(
      `the server on ${data} answers`,
      async () => {
        if (!server.isRunning) throw new Error(`The server has ended:\n${server.log}`)
        const { code } = await run('mariadb-admin', [...server.#where, 'ping'], { check: false })
        return code === 0
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

  get #where(): string[] {
    return ['--no-defaults', '-u', 'root', '-S', this.socket]
  }

  /** What a writer is configured with. */
  get client(): string[] {
    return ['mariadb', ...this.#where]
  }

  async connect(): Promise<ClientProcess> {
    const client = await ClientProcess.start([...this.client, ...MARIADB_LOOKS], MARIADB)
    this.#t.teardown(() => client.kill(), { order: -2 })
    return client
  }

  async query(sql: string): Promise<string[]> {
    const { stdout } = await run('mariadb', [...this.#where, '--batch', '--skip-column-names', '-e', sql])
    return stdout.split('\n').filter((line) => line !== '')
  }

  /** Feeds statements, as `mariadb-binlog ... | mariadb` does. */
  async feed(sql: Uint8Array): Promise<void> {
    await run('mariadb', [...this.#where, '--binary-mode'], { input: sql, timeoutMs: 120_000 })
  }

  /** What mariadb-check says of tables, but for those that are well. */
  async check(what: readonly string[]): Promise<string[]> {
    const words = [...this.#where, '--check', '--extended', ...what]
    const { stdout } = await run('mariadb-check', words, { check: false, timeoutMs: 120_000 })
    const lines = stdout.split('\n').filter((line) => line !== '')
    if (lines.length === 0) throw new Error('mariadb-check said nothing')
    return lines.filter((line) => !/\sOK$/.test(line))
  }

  /** Ends it in order. */
  stop(): Promise<number | null> {
    return this.end('SIGTERM')
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    if (!this.isRunning) return this.#process.exitCode
    const exited = once(this.#process, 'exit')
    this.#process.kill(signal)
    const [code] = (await exited) as [number | null]
    return code
  }
}
