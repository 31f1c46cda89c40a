// The writer for MariaDB against the real server under a writing load and a ledger: chains of every
// type, restored into fresh places, the server started on them and its rows held against what was acknowledged.

// deadline 600

import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { run } from '../support/run.ts'
import { initMariadb, MariadbServer, needsMariadb } from './mariadb-server.ts'
import { rebuildFiles } from './rebuild-files.ts'
import { componentOf, Ledger, type Point, serverLab, timesText, treeDifferences } from './server-lab.ts'

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
  const server = await MariadbServer.start(t, data, settings)
  await server.query(`CREATE DATABASE lab; USE lab;
    CREATE TABLE ledger (k VARCHAR(40) PRIMARY KEY) ENGINE=InnoDB;
    CREATE TABLE notes (k VARCHAR(40), KEY (k)) ENGINE=Aria TRANSACTIONAL=0;
    CREATE TABLE old (k VARCHAR(40), KEY (k)) ENGINE=MyISAM;
    CREATE TABLE pairs (id INT PRIMARY KEY, v INT NOT NULL, filler CHAR(60) NOT NULL) ENGINE=InnoDB;`)
  await lab.addWriter('main', { kind: 'mariadb', dataFolder: data, client: server.client, ...configuration })
  return { lab, data, server }
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
  const sizeOf = (point: Point): number => componentOf(point, 'databases').bytes
  for (const point of points.filter(({ type }) => type !== 'full' && type !== 'copy'))
    t.ok(sizeOf(point) < sizeOf(full) / 2, `${point.id} is small: ${sizeOf(point)} of ${sizeOf(full)} bytes`)
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
