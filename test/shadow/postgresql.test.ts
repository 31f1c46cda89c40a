// The writer for PostgreSQL against the real server under pgbench and a ledger: chains of every type,
// restored into fresh places, the server started on them and its rows held against what was acknowledged.

// deadline 600

import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { run } from '../support/run.ts'
import { initPostgresql, needsPostgresql, PostgresqlServer, postgres } from './postgresql-server.ts'
import { rebuildFiles } from './rebuild-files.ts'
import { componentOf, Ledger, type Point, serverLab, timesText, treeDifferences } from './server-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = { ...needsPostgresql(), timeout: 590_000 }
const LEDGER_WORKERS = 3
/** What the writer leaves out, as rsync says it. */
const EXCLUDES = [
  '/postmaster.pid',
  '/postmaster.opts',
  'pg_internal.init*',
  'pgsql_tmp*',
  ...[
    'pg_dynshmem',
    'pg_notify',
    'pg_replslot',
    'pg_serial',
    'pg_snapshots',
    'pg_stat_tmp',
    'pg_subtrans',
  ].map((name) => `/${name}/*`),
]

async function stage(t: Assertion, configuration: Record<string, unknown> = {}, settings: string[] = []) {
  const lab = await serverLab(t, '2G')
  const data = join(lab.mountPoint, 'pg')
  await initPostgresql(data)
  const server = await PostgresqlServer.start(t, data, settings)
  await server.query('CREATE TABLE ledger (key text PRIMARY KEY)')
  await lab.addWriter('main', {
    kind: 'postgresql',
    dataFolder: data,
    client: server.client,
    ...configuration,
  })
  return { lab, data, server }
}

async function startLedger(server: PostgresqlServer): Promise<Ledger> {
  const ledger = new Ledger()
  for (let worker = 0; worker < LEDGER_WORKERS; worker++) {
    const client = await server.connect()
    ledger.add(`w${worker}`, (key) => client.ask(`INSERT INTO ledger VALUES ('${key}')`))
  }
  return ledger
}

/** Starts a server on restored files and judges it. */
async function judge(t: Assertion, data: string, ledger: Ledger, point: Point, what: string): Promise<void> {
  const server = await PostgresqlServer.start(t, data)
  const keys = await server.query('SELECT key FROM ledger')
  t.alike(ledger.judge(keys, point.window), [], `${what}: the ledger's ${keys.length} rows are exact`)
  const sums = await server.query(
    'SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)',
  )
  t.is(new Set(sums[0]?.split('|')).size, 1, `${what}: pgbench's sums agree: ${sums[0]}`)
  await postgres('pg_amcheck', [
    '-h',
    server.socket,
    '--install-missing',
    '--heapallindexed',
    '-d',
    'postgres',
  ])
  t.pass(`${what}: pg_amcheck finds nothing`)
  t.is(await server.stop(), 0, `${what}: the server ends in order`)
  await postgres('pg_checksums', ['--check', '-D', data])
  t.pass(`${what}: page checksums hold`)
}

const ROUNDS: readonly BackupType[] = [
  'full',
  'incremental',
  'differential',
  'incremental',
  'differential',
  'copy',
  'incremental',
  'differential',
  'incremental',
  'differential',
  'incremental',
  'differential',
]

test('row 65: full, incremental and differential backups of PostgreSQL under load', NEEDS, async (t) => {
  const { lab, data, server } = await stage(t)
  await postgres('pgbench', ['-h', server.socket, '-i', '-q', '-s', '1', 'postgres'])
  const ledger = await startLedger(server)
  const load = postgres(
    'pgbench',
    ['-h', server.socket, '-n', '-c', '2', '-R', '60', '-T', '600', 'postgres'],
    {
      check: false,
      timeoutMs: 600_000,
    },
  )
  const points: Point[] = []
  for (const type of ROUNDS) {
    const point = await lab.backup(type)
    t.comment(timesText(point, 'cluster'))
    t.absent(point.isPartial, `${point.id} is whole`)
    points.push(point)
  }
  const crash = await lab.backup('copy', ['--without-writers', '--images'])
  t.comment(`without writers: held ${crash.times.heldMs} ms`)
  await ledger.stop()
  await server.end('SIGQUIT')
  await load
  const [full] = points
  if (!full) throw new Error('no backup')
  const sizeOf = (point: Point): number => componentOf(point, 'cluster').bytes
  for (const point of points.filter(({ type }) => type !== 'full' && type !== 'copy'))
    t.ok(sizeOf(point) < sizeOf(full) / 2, `${point.id} is small: ${sizeOf(point)} of ${sizeOf(full)} bytes`)

  const chosen = isLong ? points : points.filter((_, index) => [5, 10, 11].includes(index))
  for (const point of chosen) {
    const rebuilt = lab.at(`${point.id}.files`)
    rebuildFiles(lab.repository, point.id, 'cluster', { [data]: rebuilt })
    const image = join(await lab.imageOf(point), 'pg')
    t.alike(
      await treeDifferences(image, rebuilt, EXCLUDES),
      [],
      `${point.id}: files equal those of the image`,
    )
    await judge(t, rebuilt, ledger, point, point.id)
  }
  const copy = lab.at('crash')
  await copyTree(join(await lab.imageOf(crash), 'pg'), copy)
  await judge(t, copy, ledger, crash, 'without writers')
})

async function copyTree(from: string, to: string): Promise<void> {
  await run('cp', ['-a', from, to], { timeoutMs: 120_000 })
  await run('rm', ['-f', join(to, 'postmaster.pid')])
}
