// PostgreSQL on a mount: initialised and run there by a user of its own, loaded by pgbench, a snapshot
// taken under load. Judged by PostgreSQL: page checksums, amcheck, and the sums that every pgbench
// transaction keeps, in the live cluster and in one recovered from a copy of the snapshot.

// deadline 300

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import { makeStage } from './stage.ts'

const VERSIONS = '/usr/lib/postgresql'
/** pgbench's own scale: 200,000 accounts, about 30 MB. */
const SCALE = '2'
const CLIENTS = '4'
const RUN_S = '6'

/** Folder of the newest PostgreSQL's programs. */
function binFolder(): string {
  if (!existsSync(VERSIONS)) return VERSIONS
  const newest = readdirSync(VERSIONS).sort((a, b) => Number(b) - Number(a))[0] ?? ''
  return join(VERSIONS, newest, 'bin')
}

const BIN = binFolder()
const needs = requires('root', '/dev/fuse', 'setpriv', 'e2fsck', join(BIN, 'postgres'), join(BIN, 'pgbench'))

function idOf(user: string, what: '-u' | '-g'): number {
  const { status, stdout } = spawnSync('id', [what, user], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`There is no user ${user}`)
  return Number(stdout)
}

/** The words that run one of PostgreSQL's programs as its user. */
function words(program: string): string[] {
  const uid = idOf('postgres', '-u')
  const gid = idOf('postgres', '-g')
  return [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--', join(BIN, program)]
}

function postgres(
  program: string,
  args: readonly string[],
  timeoutMs = 120_000,
): Promise<{ stdout: string }> {
  return run('setpriv', [...words(program), ...args], { cwd: '/', env: { HOME: '/tmp' }, timeoutMs })
}

class Cluster {
  readonly data: string
  /** Folder of its socket: short, as socket paths must be, and on the host. */
  readonly socket: string
  readonly #server: ChildProcess
  #said = ''

  private constructor(data: string, socket: string) {
    this.data = data
    this.socket = socket
    const settings = [
      'listen_addresses=',
      'shared_buffers=16MB',
      'max_connections=20',
      'autovacuum_naptime=1s',
      // Several checkpoints in a short run.
      'checkpoint_timeout=30s',
      'max_wal_size=64MB',
    ].flatMap((setting) => ['-c', setting])
    this.#server = spawn('setpriv', [...words('postgres'), '-D', data, '-k', socket, ...settings], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.#server.stdout, this.#server.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#said += text
      })
    }
  }

  static async start(t: Pick<Assertion, 'teardown'>, data: string): Promise<Cluster> {
    const socket = tempFolder(t)
    chownSync(socket, idOf('postgres', '-u'), idOf('postgres', '-g'))
    const cluster = new Cluster(data, socket)
    // SIGQUIT ends it at once with its children; a SIGKILL would leave those.
    t.teardown(() => cluster.#end('SIGQUIT').catch(() => {}), { order: -1 })
    await until(
      `the server on ${data} answers`,
      async () => {
        if (cluster.#server.exitCode !== null) throw new Error(`The server has ended:\n${cluster.#said}`)
        const { code } = await run('setpriv', [...words('pg_isready'), '-q', '-h', socket], { check: false })
        return code === 0
      },
      60_000,
    )
    return cluster
  }

  get log(): string {
    return this.#said
  }

  async query(sql: string, database = 'postgres'): Promise<string> {
    const { stdout } = await postgres('psql', [
      '-X',
      '-h',
      this.socket,
      '-d',
      database,
      '-tA',
      '-v',
      'ON_ERROR_STOP=1',
      '-c',
      sql,
    ])
    return stdout.trim()
  }

  /** Ends it in order, with a checkpoint. */
  stop(): Promise<number | null> {
    return this.#end('SIGINT')
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    if (this.#server.exitCode !== null || this.#server.signalCode !== null) return this.#server.exitCode
    const exited = once(this.#server, 'exit')
    this.#server.kill(signal)
    const [code] = (await exited) as [number | null]
    return code
  }
}

const SUMS = `SELECT (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts),
  (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers),
  (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches),
  (SELECT coalesce(sum(delta), 0) FROM pgbench_history)`

async function assertBalanced(t: Assertion, cluster: Cluster, what: string): Promise<void> {
  const sums = (await cluster.query(SUMS)).split('|')
  t.is(sums.length, 4)
  t.is(new Set(sums).size, 1, `accounts, tellers, branches and history of ${what} agree: ${sums.join(' ')}`)
  await postgres('pg_amcheck', [
    '-h',
    cluster.socket,
    '--install-missing',
    '--heapallindexed',
    '-d',
    'postgres',
  ])
  t.pass(`pg_amcheck finds nothing in ${what}`)
}

test('pgbench on a mount, a snapshot under load, and a server on a copy of it', needs, async (t) => {
  const stage = await makeStage(t, '4G')
  const data = join(stage.dir, 'pg')
  mkdirSync(data, { mode: 0o700 })
  chownSync(data, idOf('postgres', '-u'), idOf('postgres', '-g'))
  await postgres('initdb', ['-D', data, '-A', 'trust', '-E', 'UTF8', '--no-locale', '--data-checksums'])
  const live = await Cluster.start(t, data)
  await postgres('pgbench', ['-h', live.socket, '-i', '-q', '-s', SCALE, 'postgres'])
  const load = postgres('pgbench', [
    '-h',
    live.socket,
    '-c',
    CLIENTS,
    '-j',
    '2',
    '-T',
    RUN_S,
    '-n',
    'postgres',
  ])
  // A failure is met where it is awaited.
  load.catch(() => {})
  const committed = await until(
    'pgbench works',
    async () => {
      const count = Number(await live.query('SELECT count(*) FROM pgbench_history'))
      return count > 100 && count
    },
    60_000,
  )
  const taken = await umbraJson<{ flushMs: number; cutMs: number }>([
    'snapshot',
    'create',
    stage.dir,
    'during',
  ])
  const { stdout } = await load
  t.comment(`snapshot under load: flush ${taken.flushMs.toFixed(1)} ms, cut ${taken.cutMs.toFixed(1)} ms`)
  t.comment(stdout.split('\n').find((line) => line.startsWith('tps')) ?? stdout)
  t.ok(/number of failed transactions: 0/.test(stdout), 'no transaction failed')
  await assertBalanced(t, live, 'the live cluster')
  t.is(await live.stop(), 0, 'the server ends in order')
  await postgres('pg_checksums', ['--check', '-D', data])
  t.pass('page checksums of the live cluster hold')

  const copy = join(stage.folder, 'copy')
  await run('cp', ['-a', stage.within('during', 'pg'), copy])
  rmSync(join(copy, 'postmaster.pid'))
  const recovered = await Cluster.start(t, copy)
  t.ok(/automatic recovery/.test(recovered.log), 'it was cut under load, and recovers')
  const kept = Number(await recovered.query('SELECT count(*) FROM pgbench_history'))
  t.ok(kept >= committed, `${kept} transactions, ${committed} were committed before the snapshot`)
  await assertBalanced(t, recovered, 'the snapshot')
  t.is(await recovered.stop(), 0)
  await postgres('pg_checksums', ['--check', '-D', copy])
  t.pass('page checksums of the recovered cluster hold')
  await umbra(['sync', stage.dir])
  await stage.judge()
})
