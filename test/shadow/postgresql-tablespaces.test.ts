// PostgreSQL with tablespaces outside of its data directory, against the real server: every type of backup,
// restored elsewhere while the first server goes on, and in place; and what must be refused, because half of
// a cluster, or two servers on the same files, is worse than no backup.

// deadline 600

import { existsSync, mkdirSync, readdirSync, readlinkSync, renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra } from '../support/umbra.ts'
import {
  initPostgresql,
  needsPostgresql,
  ownFolder,
  PostgresqlServer,
  postgres,
} from './postgresql-server.ts'
import { accident, Ledger, type Point, type ServerLab, serverLab } from './server-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = { ...needsPostgresql(), timeout: 590_000 }
const TABLES = ['ledger', 'ledger_one', 'ledger_linked', 'ledger_far'] as const

interface Stage {
  readonly lab: ServerLab
  readonly data: string
  readonly server: PostgresqlServer
}

async function stage(t: Assertion): Promise<Stage> {
  const lab = await serverLab(t, '2G')
  const data = join(lab.mountPoint, 'pg')
  await initPostgresql(data)
  const server = await PostgresqlServer.start(t, data)
  await lab.addWriter('main', { kind: 'postgresql', dataFolder: data, client: server.client })
  return { lab, data, server }
}

async function makeSpace(server: PostgresqlServer, name: string, location: string): Promise<void> {
  await server.query(`CREATE TABLESPACE ${name} LOCATION '${location}'`)
  await server.query(
    `CREATE TABLE ledger_${name} (key text PRIMARY KEY USING INDEX TABLESPACE ${name}) TABLESPACE ${name}`,
  )
}

async function startLedger(server: PostgresqlServer): Promise<Ledger> {
  const ledger = new Ledger()
  for (const name of ['a', 'b']) {
    const client = await server.connect()
    // One transaction over all tablespaces.
    const inserts = TABLES.map((table, index) => [`i${index}`, table] as const)
    ledger.add(name, (key) => {
      const parts = inserts.map(([alias, table]) => `${alias} AS (INSERT INTO ${table} VALUES ('${key}'))`)
      return client.ask(`WITH ${parts.join(', ')} SELECT 1`)
    })
  }
  return ledger
}

async function judge(t: Assertion, data: string, ledger: Ledger, point: Point, what: string): Promise<void> {
  const server = await PostgresqlServer.start(t, data)
  for (const table of TABLES) {
    const keys = await server.query(`SELECT key FROM ${table}`)
    t.alike(ledger.judge(keys, point.window), [], `${what}: the ${keys.length} rows of ${table} are exact`)
  }
  t.alike(await server.query('SELECT key FROM ledger_later'), ['later'], `${what}: the tablespace made later`)
  const check = ['--install-missing', '--heapallindexed', '-d', 'postgres']
  await postgres('pg_amcheck', ['-h', server.socket, ...check])
  t.is(await server.stop(), 0, `${what}: pg_amcheck finds nothing, the server ends in order`)
  await postgres('pg_checksums', ['--check', '-D', data])
}

function linksOf(data: string): string[] {
  const folder = join(data, 'pg_tblspc')
  return readdirSync(folder)
    .map((name) => readlinkSync(join(folder, name)))
    .sort()
}

test('row 65: tablespaces outside of the data directory', NEEDS, async (t) => {
  const { lab, data, server } = await stage(t)
  const second = lab.at('second')
  await umbra(['create', lab.at('w.umbra'), '--size', '1G'])
  mkdirSync(second)
  await mountVolume(t, lab.at('w.umbra'), second)
  const spaces = {
    one: ownFolder(join(lab.mountPoint, 'the one')),
    linked: ownFolder(join(lab.mountPoint, 'real')),
    far: ownFolder(join(second, 'far')),
    later: ownFolder(join(lab.mountPoint, 'later')),
  }
  const link = join(lab.mountPoint, 'link')
  symlinkSync(spaces.linked, link)
  await makeSpace(server, 'one', spaces.one)
  await makeSpace(server, 'linked', link)
  await makeSpace(server, 'far', spaces.far)
  await server.query('CREATE TABLE ledger (key text PRIMARY KEY)')
  // A server of another version may have the same folders.
  ownFolder(join(spaces.one, 'PG_9.6_201608131'))
  const ledger = await startLedger(server)

  const points = [await lab.backup('full'), await lab.backup('incremental')]
  await makeSpace(server, 'later', spaces.later)
  await server.query("INSERT INTO ledger_later VALUES ('later')")
  points.push(await lab.backup('incremental'))
  if (isLong) points.push(await lab.backup('differential'), await lab.backup('incremental'))
  await ledger.stop()

  for (const [index, point] of points.slice(2).entries()) {
    const to = (name: string): string => lab.at(`${index}-${name}`)
    const moved = {
      [data]: to('data'),
      ...Object.fromEntries(Object.entries(spaces).map(([name, folder]) => [folder, to(name)])),
    }
    const { [spaces.later]: _, ...forgotten } = moved
    const refused = await lab.restore(point.id, 'PostgreSQL', forgotten)
    t.not(refused.code, 0, `${point.type}: over the first server's tablespace: ${refused.stderr.trim()}`)
    t.ok(refused.stderr.includes(`${spaces.later}/PG_`), 'the folder is named')
    t.absent(existsSync(to('data')), 'nothing was restored')
    const restored = await lab.restore(point.id, 'PostgreSQL', moved)
    t.is(restored.code, 0, `${point.type} is restored elsewhere ${restored.stderr}`)
    t.alike(linksOf(to('data')), Object.keys(spaces).map(to).sort(), 'links lead to what was restored')
    t.absent(existsSync(join(to('one'), 'PG_9.6_201608131')), "another version's files are not in it")
    await judge(t, to('data'), ledger, point, `${point.type}, elsewhere`)
  }

  const before = linksOf(data)
  const last = points.at(-1) as Point
  await server.stop()
  const over = await lab.restore(last.id, 'PostgreSQL', {})
  t.not(over.code, 0, `in place, but not over what is there: ${over.stderr.trim()}`)
  for (const folder of [data, ...Object.values(spaces)]) renameSync(folder, `${folder}.old`)
  const lost = await lab.tryBackup('full')
  t.not(lost.code, 0, `a lost cluster is not backed up: ${lost.stderr.trim().split('\n').at(-1)}`)
  const images = await lab.tryBackup('copy', ['--images'])
  t.not(images.code, 0, `nor left out in silence: ${images.stderr.trim().split('\n').at(-1)}`)
  const restored = await lab.restore(last.id, 'PostgreSQL', {})
  t.is(restored.code, 0, `restored in place ${restored.stderr}`)
  t.alike(linksOf(data), before, 'links are what they were')
  await judge(t, data, ledger, last, 'in place')
})

test('row 45: a tablespace that cannot be in the backup refuses it', NEEDS, async (t) => {
  const { lab, server } = await stage(t)
  const command = (name: string, location: string): string =>
    `${server.client.join(' ')} -c "CREATE TABLESPACE ${name} LOCATION '${location}'"`
  const refused = async (what: string, why: RegExp, options?: readonly string[]): Promise<void> => {
    const held = await lab.snapshots()
    const result = await lab.tryBackup('full', options)
    t.not(result.code, 0, `${what}: ${result.stderr.trim().split('\n').at(-1)}`)
    t.ok(why.test(result.stderr), `it says why, as ${why}`)
    t.alike(await lab.snapshots(), held, 'no shadow copy is left')
    t.alike(await backups(lab), [], 'no backup is there')
  }
  for (const event of ['prepare-for-backup', 'freeze']) {
    const location = ownFolder(join(lab.mountPoint, event))
    await accident(lab, event, command(`made_${event.replaceAll('-', '_')}`, location))
    await refused(`made in ${event}`, /PostgreSQL[^\n]*(during the backup)/)
    await umbra(['writer', 'remove', 'accident'])
  }
  const drop = `${server.client.join(' ')} -c "DROP TABLESPACE made_freeze"`
  await accident(lab, 'freeze', drop)
  await refused('dropped in freeze', /made or dropped during the backup/)
  await umbra(['writer', 'remove', 'accident'])

  const outside = ownFolder(`${tempFolder(t)}-outside`)
  await server.query(`CREATE TABLESPACE outside LOCATION '${outside}'`)
  await refused('on no volume', /not on a volume|no volume/)
  await refused('on no volume, images alone', /not on a volume/, ['--images'])
  const images = await lab.tryBackup('full', ['--images', '--exclude-writer', 'PostgreSQL'])
  t.is(images.code, 0, `without the writer images can be taken ${images.stderr}`)
  await server.query('DROP TABLESPACE outside')

  renameSync(join(lab.mountPoint, 'prepare-for-backup'), join(lab.mountPoint, 'gone'))
  const lost = await lab.tryBackup('full', ['--components', 'PostgreSQL'])
  t.not(lost.code, 0, `a link that leads nowhere: ${lost.stderr.trim().split('\n').at(-1)}`)
  renameSync(join(lab.mountPoint, 'gone'), join(lab.mountPoint, 'prepare-for-backup'))
  t.absent((await lab.backup('full')).isPartial, 'what is left is backed up')
})

async function backups(lab: ServerLab): Promise<string[]> {
  return existsSync(lab.repository) ? readdirSync(lab.repository).filter((name) => /^\d{4}/.test(name)) : []
}
