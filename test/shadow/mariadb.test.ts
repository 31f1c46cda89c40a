// The writer for MariaDB against the real server under a writing load and a ledger: chains of every
// type, restored into fresh places, the server started on them and its rows held against what was acknowledged.

// deadline 600

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { run, until } from '../support/run.ts'
import { umbra } from '../support/umbra.ts'
import { initMariadb, MariadbServer, needsMariadb, ownFolder } from './mariadb-server.ts'
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
} from './server-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = { ...needsMariadb(), timeout: 590_000 }
const LEDGER_WORKERS = 3
/** What the writer leaves out, as rsync says it. */
const EXCLUDES = ['/*.pid', '/*.sock', '/ibtmp*', '/*.err']
const ROWS = 200_000

async function stage(
  t: Assertion,
  configuration: Record<string, unknown> = {},
  settings: readonly string[] = ['--log-bin=mysql-bin'],
) {
  const lab = await serverLab(t, '2G')
  const data = join(lab.mountPoint, 'my')
  await initMariadb(data)
  const server = await startFilled(t, data, settings)
  await lab.addWriter('main', { kind: 'mariadb', dataFolder: data, client: server.client, ...configuration })
  return { lab, data, server }
}

async function startFilled(t: Assertion, data: string, settings: readonly string[]): Promise<MariadbServer> {
  const server = await MariadbServer.start(t, data, settings)
  await server.query(`CREATE DATABASE lab; USE lab;
    CREATE TABLE ledger (k VARCHAR(40) PRIMARY KEY) ENGINE=InnoDB;
    CREATE TABLE notes (k VARCHAR(40), KEY (k)) ENGINE=Aria TRANSACTIONAL=0;
    CREATE TABLE old (k VARCHAR(40), KEY (k)) ENGINE=MyISAM;
    CREATE TABLE pairs (id INT PRIMARY KEY, v INT NOT NULL, filler CHAR(60) NOT NULL) ENGINE=InnoDB;`)
  return server
}

/** Each line in the ledger is a transaction; two workers more keep the tables of other engines busy. */
async function startLedger(server: MariadbServer): Promise<{ ledger: Ledger; others: Ledger }> {
  const [ledger, others] = [new Ledger(), new Ledger()]
  for (let worker = 0; worker < LEDGER_WORKERS; worker++) {
    const client = await server.connect()
    ledger.add(`w${worker}`, (key) => client.ask(`INSERT INTO lab.ledger VALUES ('${key}')`))
  }
  for (const table of ['notes', 'old']) {
    const client = await server.connect()
    others.add(table, (key) => client.ask(`INSERT INTO lab.${table} VALUES ('${key}')`))
  }
  return { ledger, others }
}

/** Moves amounts between rows in transactions: their sum stays. */
async function startTransfers(server: MariadbServer): Promise<Ledger> {
  await server.query(`INSERT INTO lab.pairs SELECT seq, 100, REPEAT('x', 60) FROM lab.seq_1_to_${ROWS}`)
  const transfers = new Ledger()
  const client = await server.connect()
  let count = 0
  transfers.add('transfer', async () => {
    count++
    const [from, to] = [1 + ((count * 7919) % ROWS), 1 + ((count * 104_729) % ROWS)]
    await client.ask('BEGIN')
    await client.ask(`UPDATE lab.pairs SET v = v - 1 WHERE id = ${from}`)
    await client.ask(`UPDATE lab.pairs SET v = v + 1 WHERE id = ${to}`)
    await client.ask('COMMIT')
  })
  return transfers
}

/** Starts a server on restored files and judges it. */
async function judge(
  t: Assertion,
  data: string,
  ledger: Ledger,
  point: Point,
  what: string,
  isCrash = false,
): Promise<void> {
  const server = await MariadbServer.start(t, data, ['--log-bin=mysql-bin'])
  const keys = await server.query('SELECT k FROM lab.ledger')
  t.alike(ledger.judge(keys, point.window), [], `${what}: the ledger's ${keys.length} rows are exact`)
  t.alike(
    await server.query('SELECT SUM(v) FROM lab.pairs'),
    [String(100 * ROWS)],
    `${what}: no transfer is cut`,
  )
  // After a crash only engines that recover by themselves are whole: what the writer is for.
  const found = await server.check(isCrash ? ['lab', 'ledger', 'pairs'] : ['--all-databases'])
  t.alike(found, [], `${what}: mariadb-check finds nothing`)
  t.is(await server.stop(), 0, `${what}: the server ends in order`)
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

test('row 65: full, incremental and differential backups of MariaDB under load', NEEDS, async (t) => {
  const { lab, data, server } = await stage(t)
  const transfers = await startTransfers(server)
  const { ledger, others } = await startLedger(server)
  const points: Point[] = []
  for (const type of ROUNDS) {
    const point = await lab.backup(type)
    t.comment(timesText(point, 'databases'))
    t.absent(point.isPartial, `${point.id} is whole`)
    points.push(point)
  }
  const crash = await lab.backup('copy', ['--without-writers', '--images'])
  await Promise.all([ledger.stop(), others.stop(), transfers.stop()])
  await server.end('SIGKILL')
  const [full] = points
  if (!full) throw new Error('no backup')
  const imageOf = (point: Point): number => point.images[0]?.dataBytes ?? 0
  const sizeOf = (point: Point): number => componentOf(point, 'databases').bytes
  // How much changes depends on the machine's speed; what is saved may not be more than what changed.
  for (const point of points.filter(({ type }) => type !== 'full' && type !== 'copy'))
    t.ok(
      sizeOf(point) <= imageOf(point) && sizeOf(point) < sizeOf(full),
      `${point.id}: ${sizeOf(point)} bytes; changed in the volume ${imageOf(point)}, the full ${sizeOf(full)}`,
    )
  const chosen = isLong ? points : points.filter((_, index) => index >= 10)
  for (const point of chosen) {
    const rebuilt = lab.at(`${point.id}.files`)
    // One by a judge of its own, the others by the command.
    if (point === chosen[0]) rebuildFiles(lab.repository, point.id, 'databases', { [data]: rebuilt })
    else {
      const restored = await lab.restore(point.id, 'MariaDB', { [data]: rebuilt })
      t.is(restored.code, 0, `${point.id} is restored ${restored.stderr}`)
    }
    const image = join(await lab.imageOf(point), 'my')
    t.alike(
      await treeDifferences(image, rebuilt, EXCLUDES),
      [],
      `${point.id}: files equal those of the image`,
    )
    await judge(t, rebuilt, ledger, point, point.id)
  }
  const copy = lab.at('crash')
  await run('cp', ['-a', join(await lab.imageOf(crash), 'my'), copy], { timeoutMs: 120_000 })
  await judge(t, copy, ledger, crash, 'without writers', true)
})

async function moreRows(ledger: Ledger, count: number): Promise<void> {
  const goal = ledger.acknowledged + count
  await until('the ledger goes on', () => ledger.acknowledged >= goal, 60_000)
}

test('row 76: log backups of MariaDB: purged after success alone, replayed', NEEDS, async (t) => {
  const { lab, data, server, binlog } = await stageWithBinaryLog(t)
  const { ledger, others } = await startLedger(server)
  await moreRows(ledger, 50)
  const full = await lab.backup('full')
  await moreRows(ledger, 100)
  await server.query('FLUSH BINARY LOGS')
  const names = (): Promise<string[]> => server.query('SHOW BINARY LOGS')
  const oldest = async (): Promise<string> => (await names())[0]?.split('\t')[0] ?? ''
  const before = await oldest()
  await accident(lab, 'prepare-for-backup', 'exit 1')
  t.not((await lab.tryBackup('log', ['--all-components'])).code, 0, 'a log backup fails')
  await umbra(['writer', 'remove', 'accident'])
  await lab.backup('copy', ['--components', 'MariaDB:databases'])
  t.is(await oldest(), before, 'neither a copy nor what failed purges')
  const LOG = ['--components', 'MariaDB']
  t.absent((await lab.backup('log', LOG)).isPartial)
  t.not(await oldest(), before, 'a log backup that succeeded purges')
  await moreRows(ledger, 100)
  const fromMs = Date.now()
  const second = await lab.backup('log', LOG)
  const toMs = Date.now()
  await moreRows(ledger, 20)
  await Promise.all([ledger.stop(), others.stop()])
  await server.end('SIGKILL')

  const [to, logs] = [lab.at('replayed'), lab.at('replayed-log')]
  const restored = await lab.restore(second.id, 'MariaDB', { [data]: to, [binlog]: logs })
  t.is(restored.code, 0, `restored ${restored.stderr}`)
  const fresh = await MariadbServer.start(t, to)
  const stamp = stampOf(full, 'databases') as { logFile: string; logPosition: number }
  const files = readdirSync(logs)
    .filter((name) => /^mysql-bin\.\d+$/.test(name) && name >= stamp.logFile)
    .sort()
  const words = [
    '--no-defaults',
    `--start-position=${stamp.logPosition}`,
    ...files.map((name) => join(logs, name)),
  ]
  await fresh.feed((await run('mariadb-binlog', words)).bytes)
  const keys = await fresh.query('SELECT k FROM lab.ledger')
  t.alike(ledger.judge(keys, { fromMs, toMs }), [], `replayed to the end: ${keys.length} rows are exact`)
  t.is(await fresh.stop(), 0)
})

async function stageWithBinaryLog(t: Assertion) {
  const lab = await serverLab(t, '2G')
  const [data, binlog] = [join(lab.mountPoint, 'my'), join(lab.mountPoint, 'binlog')]
  await initMariadb(data)
  ownFolder(binlog)
  const server = await startFilled(t, data, [`--log-bin=${join(binlog, 'mysql-bin')}`])
  await lab.addWriter('main', {
    kind: 'mariadb',
    dataFolder: data,
    client: server.client,
    binaryLog: { folder: binlog, baseName: 'mysql-bin' },
    purgeBinaryLogs: true,
  })
  return { lab, data, server, binlog }
}

function stampOf({ folder }: Point, name: string): unknown {
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as {
    writers: { components: { name: string; stamp: string }[] }[]
  }
  const found = manifest.writers.flatMap(({ components }) => components).find((own) => own.name === name)
  return JSON.parse(found?.stamp ?? 'null')
}

test('row 46: MariaDB and its writer fail in the middle of a shadow copy', NEEDS, async (t) => {
  const { lab, server } = await stage(t, { freezeTimeoutMs: 4000 })
  const full = await lab.backup('full')
  const refused = await lab.restore(full.id, 'MariaDB', {})
  t.not(refused.code, 0, `a running server is not restored over: ${refused.stderr.trim()}`)
  t.ok(/server runs on/.test(refused.stderr + refused.stdout))

  const held = await lab.snapshots()
  const fails = async (what: string): Promise<void> => {
    const result = await lab.tryBackup('incremental')
    t.not(result.code, 0, `${what}: exit code ${result.code}: ${result.stderr.trim().split('\n').at(-1)}`)
    t.alike(await lab.snapshots(), held, `${what}: no shadow copy is left`)
  }
  const { ledger, others } = await startLedger(server)
  await accident(lab, 'freeze', killWriter('main'))
  await fails('the writer is killed while it is frozen')
  await moreRows(ledger, 20)
  await moreRows(others, 20)
  t.pass('the server goes on')
  await umbra(['writer', 'remove', 'accident'])
  t.absent((await lab.backup('incremental')).isPartial, 'the next backup has a writer again')
  await others.stop()

  const blocker = await server.connect()
  await blocker.ask('LOCK TABLES lab.old WRITE')
  await fails('a table is locked for longer than a freeze may wait')
  await moreRows(ledger, 20)
  t.pass('the server goes on')
  await blocker.close()
  await ledger.stop()

  await accident(lab, 'freeze', `kill -9 ${server.pid}; while kill -0 ${server.pid}; do sleep 0.05; done`)
  await fails('the server dies while it is frozen')
  await umbra(['writer', 'remove', 'accident'])
  t.absent((await lab.backup('incremental')).isPartial, 'a stopped server is backed up as it is')
})
