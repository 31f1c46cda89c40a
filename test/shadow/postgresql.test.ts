// The writer for PostgreSQL against the real server under pgbench and a ledger: chains of every type,
// restored into fresh places, the server started on them and its rows held against what was acknowledged.

// deadline 600

import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { type RunResult, run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { umbra } from '../support/umbra.ts'
import {
  initPostgresql,
  needsPostgresql,
  ownFolder,
  PostgresqlServer,
  postgres,
} from './postgresql-server.ts'
import { rebuildFiles } from './rebuild-files.ts'
import {
  accident,
  componentOf,
  killWriter,
  Ledger,
  type Point,
  serverLab,
  timesText,
  treeDifferences,
  type Window,
} from './server-lab.ts'

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

const ALL_ROUNDS: readonly BackupType[] = [
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
const ROUNDS = isLong ? ALL_ROUNDS : ALL_ROUNDS.slice(0, 8)

test('row 65: full, incremental and differential backups of PostgreSQL under load', NEEDS, async (t) => {
  const { lab, data, server } = await stage(t)
  await postgres('pgbench', ['-h', server.socket, '-i', '-q', '-s', '1', 'postgres'])
  const ledger = await startLedger(server)
  const points: Point[] = []
  for (const type of ROUNDS) {
    // So much work a round, however fast the machine is.
    const load = postgres('pgbench', ['-h', server.socket, '-n', '-c', '2', '-t', '60', 'postgres'])
    load.catch(() => {})
    const point = await lab.backup(type)
    await load
    t.comment(timesText(point, 'cluster'))
    t.absent(point.isPartial, `${point.id} is whole`)
    points.push(point)
  }
  const crash = await lab.backup('copy', ['--without-writers', '--images'])
  t.comment(`without writers: held ${crash.times.heldMs} ms`)
  await ledger.stop()
  await server.end('SIGQUIT')
  const [full] = points
  if (!full) throw new Error('no backup')
  const imageOf = (point: Point): number => point.images[0]?.dataBytes ?? 0
  const sizeOf = (point: Point): number => componentOf(point, 'cluster').bytes
  // How much changes depends on the machine's speed; what is saved may not be more than what changed.
  for (const point of points.filter(({ type }) => type !== 'full' && type !== 'copy'))
    t.ok(
      sizeOf(point) <= imageOf(point) && sizeOf(point) < sizeOf(full),
      `${point.id}: ${sizeOf(point)} bytes; changed in the volume ${imageOf(point)}, the full ${sizeOf(full)}`,
    )

  const chosen = isLong ? points : points.slice(-2)
  for (const point of chosen) {
    const rebuilt = lab.at(`${point.id}.files`)
    // One by a judge of its own, the others by the command.
    if (point === chosen[0]) rebuildFiles(lab.repository, point.id, 'cluster', { [data]: rebuilt })
    else {
      const restored = await lab.restore(point.id, 'PostgreSQL', { [data]: rebuilt })
      t.is(restored.code, 0, `${point.id} is restored ${restored.stderr}`)
    }
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

function segmentsIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => /^[0-9A-F]{24}$/.test(name))
    .sort()
}

async function moreRows(ledger: Ledger, count: number): Promise<void> {
  const goal = ledger.acknowledged + count
  await until('the ledger goes on', () => ledger.acknowledged >= goal, 60_000)
}

test('row 76: log backups of PostgreSQL: truncated after success alone, rolled forward', NEEDS, async (t) => {
  const archive = ownFolder(`${tempFolder(t)}-archive`)
  t.teardown(() => rmSync(archive, { recursive: true, force: true }))
  const { lab, data, server } = await stage(t, { archiveFolder: archive, truncateArchive: true }, [
    'archive_mode=on',
    `archive_command=test ! -f ${archive}/%f && cp %p ${archive}/%f`,
  ])
  const ledger = await startLedger(server)
  await moreRows(ledger, 100)
  await lab.backup('full')
  await moreRows(ledger, 200)
  await server.query('SELECT pg_switch_wal()')
  await until('the log is archived', () => segmentsIn(archive).length > 0)
  const before = segmentsIn(archive)
  await accident(lab, 'prepare-for-backup', 'exit 1')
  t.not((await lab.tryBackup('log', ['--all-components'])).code, 0, 'a log backup fails')
  await umbra(['writer', 'remove', 'accident'])
  await lab.backup('copy', ['--components', 'PostgreSQL:cluster'])
  const kept = new Set(segmentsIn(archive))
  t.ok(
    before.every((name) => kept.has(name)),
    'neither a copy nor what failed removes archived log',
  )

  const LOG = ['--components', 'PostgreSQL']
  const first = await lab.backup('log', LOG)
  t.absent(first.isPartial)
  const left = new Set(segmentsIn(archive))
  t.absent(
    before.some((name) => left.has(name)),
    `${before.length} segments were removed after success`,
  )
  await moreRows(ledger, 150)
  const middleMs = Date.now()
  const beforeMs = Date.now()
  const [position = ''] = await server.query('SELECT pg_current_wal_flush_lsn()')
  const atPosition: Window = { fromMs: beforeMs, toMs: Date.now() + 1 }
  await moreRows(ledger, 150)
  const fromMs = Date.now()
  const second = await lab.backup('log', LOG)
  const toMs = Date.now()
  t.comment(
    `log: ${componentOf(first, 'wal-archive').bytes} and ${componentOf(second, 'wal-archive').bytes} bytes`,
  )
  await moreRows(ledger, 50)
  await ledger.stop()
  await server.end('SIGQUIT')

  const wishes: [string, Window][] = [
    ['all', { fromMs, toMs }],
    [new Date(middleMs).toISOString(), { fromMs: middleMs, toMs: middleMs + 1 }],
    [position, atPosition],
  ]
  for (const [index, [point, window]] of wishes.entries()) {
    const to = { [data]: lab.at(`${index}-data`), [archive]: ownFolder(lab.at(`${index}-log`)) }
    const restored = await lab.restore(second.id, 'PostgreSQL', to, ['--roll-forward', point])
    t.is(restored.code, 0, `restored ${restored.stderr}`)
    const rolled = await PostgresqlServer.start(t, lab.at(`${index}-data`))
    const keys = await rolled.query('SELECT key FROM ledger')
    t.alike(ledger.judge(keys, window), [], `rolled forward to ${point}: ${keys.length} rows are exact`)
    await rolled.stop()
  }
})

test('row 46: PostgreSQL and its writer fail in the middle of a shadow copy', NEEDS, async (t) => {
  const { lab, data, server } = await stage(t)
  const full = await lab.backup('full')
  const refused = await lab.restore(full.id, 'PostgreSQL', {})
  t.not(refused.code, 0, `a running server is not restored over: ${refused.stderr.trim()}`)
  t.ok(/runs in/.test(refused.stderr + refused.stdout))
  t.alike(await server.query('SELECT 1'), ['1'])

  const held = await lab.snapshots()
  const fails = async (what: string, options?: readonly string[]): Promise<RunResult> => {
    const result = await lab.tryBackup('incremental', options)
    t.not(result.code, 0, `${what}: exit code ${result.code}: ${result.stderr.trim().split('\n').at(-1)}`)
    t.alike(await lab.snapshots(), held, `${what}: no shadow copy is left`)
    return result
  }
  const ledger = await startLedger(server)
  await moreRows(ledger, 20)
  await accident(lab, 'freeze', killWriter('main'))
  await fails('the writer is killed while it is frozen')
  await moreRows(ledger, 50)
  t.pass('the server goes on')
  await umbra(['writer', 'remove', 'accident'])
  t.absent((await lab.backup('incremental')).isPartial, 'the next backup has a writer again')

  const elsewhere = lab.at('elsewhere')
  mkdirSync(join(elsewhere, 'pg_wal'), { recursive: true })
  writeFileSync(join(elsewhere, 'PG_VERSION'), '15\n')
  await lab.addWriter('other', { kind: 'postgresql', dataFolder: elsewhere })
  const outside = await fails('a data directory that is on no volume', ['--all-components', '--images'])
  t.ok(/not on a volume|inconsistent/.test(outside.stderr), outside.stderr)
  await umbra(['writer', 'remove', 'other'])

  await ledger.stop()
  await accident(lab, 'freeze', `kill -QUIT ${server.pid}; while kill -0 ${server.pid}; do sleep 0.05; done`)
  await fails('the server dies while it is frozen')
  await umbra(['writer', 'remove', 'accident'])
  const again = await PostgresqlServer.start(t, data)
  const keys = await again.query('SELECT key FROM ledger')
  const now = Date.now()
  t.alike(ledger.judge(keys, { fromMs: now, toMs: now }), [], 'it recovers in its place')
  await again.stop()
  t.absent((await lab.backup('incremental')).isPartial, 'a stopped server is backed up as it is')
})
