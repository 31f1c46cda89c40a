// PostgreSQL's own regression checks on a mount: its server keeps its data there, and pg_regress of
// Debian's package compares what psql answers to every script with what the source says it must.
//
// Always true: the server is Debian's, only the small library of functions that the checks call is
// built; a script without a verdict has failed; the same cluster on the kernel's ext4 is the control,
// asked where a script failed, and in the long run always.

// deadline 900

import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { isLong, makeReference } from '../mount/lab.ts'
import { initPostgresql, own, ownFolder, PostgresqlServer, postgres } from '../shadow/postgresql-server.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { debianSource, partOfSource } from './source.ts'
import { makeStage } from './stage.ts'

/** The one that this source belongs to. */
const VERSION = '15'
const HOME = `/usr/lib/postgresql/${VERSION}`
const DRIVERS = join(HOME, 'lib/pgxs/src/test')
const HEADER = '/usr/include/postgresql/pg_config.h'

/** Groups that run at the same time; those that move, copy, grow and give back files. */
const ORDINARY = `test_setup
tablespace
copy copydml insert insert_conflict
create_table create_index
vacuum truncate temp matview copy2
largeobject cluster sequence indexing
compression fast_default triggers`
  .split('\n')
  .map((group) => `test: ${group}\n`)
  .join('')

const PARTS = ['src/test/regress', 'src/test/isolation', 'src/include', 'src/backend/*.h'].map(
  (path) => `*/${path}`,
)

type Verdicts = ReadonlyMap<string, string>

interface Kit {
  /** What the checks read, in the source's own layout. */
  readonly source: string
  /** Folder of the library of functions. */
  readonly libraries: string
}

const source = await debianSource(`postgresql-${VERSION}`)
const needs = requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'cc', 'bzip2', 'runuser', HEADER, DRIVERS)

test("PostgreSQL's own checks pass on a mount", {
  ...(source === undefined ? { skip: true } : needs),
  timeout: 3_600_000,
}, async (t) => {
  const kit = await makeKit(t, source as string)
  const stage = await makeStage(t, '8G')
  const onMount = await runChecks(t, kit, join(stage.dir, 'postgresql'))
  const failed = [...onMount].filter(([, verdict]) => verdict !== 'ok')
  t.comment(`on the mount: ${onMount.size - failed.length} scripts passed, ${failed.length} failed`)
  t.ok(onMount.size - failed.length >= (isLong ? 330 : 20), 'the scripts were run')
  if (failed.length > 0 || isLong) {
    const folder = await makeReference(t, stage.folder, 8 * 2 ** 30)
    const onControl = await runChecks(t, kit, join(folder, 'postgresql'))
    const failures = [...onControl.values()].filter((verdict) => verdict !== 'ok').length
    t.comment(`on ext4: ${onControl.size - failures} scripts passed, ${failures} failed`)
    for (const [name, verdict] of failed) t.comment(`${name}: ${verdict}, on ext4 ${onControl.get(name)}`)
    const worse = [...onControl.keys()].filter(
      (name) => onControl.get(name) === 'ok' && onMount.get(name) !== 'ok',
    )
    t.alike(worse, [], 'no script ends worse on the mount than on ext4')
  }
  await stage.judge()
})

/** The small library built beside headers that Debian's package does not bring without a compiler's. */
async function makeKit(t: Assertion, dsc: string): Promise<Kit> {
  const part = await partOfSource(dsc, PARTS)
  const libraries = tempFolder(t)
  ownFolder(join(libraries, 'of-server'))
  const names = join(libraries, 'storage')
  mkdirSync(names)
  cpSync(join(part, 'src/backend/storage/lmgr/lwlocknames.h'), join(names, 'lwlocknames.h'))
  const includes = [
    '/usr/include/postgresql',
    join(part, 'src/include'),
    join(part, 'src/backend'),
    libraries,
  ]
  const library = join(libraries, 'of-server/regress.so')
  const flags = ['-O0', '-fPIC', '-shared', '-w', '-D_GNU_SOURCE', ...includes.map((folder) => `-I${folder}`)]
  await run('cc', [...flags, '-o', library, join(part, 'src/test/regress/regress.c')])
  for (const name of ['autoinc.so', 'refint.so'])
    cpSync(join(HOME, 'lib', name), join(libraries, 'of-server', name))
  own(libraries)
  return { source: part, libraries: join(libraries, 'of-server') }
}

/** A cluster in a new folder and all checks on it; the server's pages and indexes are judged after. */
async function runChecks(t: Assertion, kit: Kit, folder: string): Promise<Verdicts> {
  ownFolder(folder)
  const data = join(folder, 'data')
  await initPostgresql(data)
  // What pg_regress itself would set, and enough checkpoints.
  const server = await PostgresqlServer.start(t, data, [
    'max_prepared_transactions=2',
    'max_connections=40',
    'autovacuum_naptime=1min',
    'log_min_messages=panic',
  ])
  const verdicts = new Map<string, string>()
  for (const driver of isLong ? ['regress', 'isolation'] : ['regress']) {
    await run('cp', ['-r', join(kit.source, 'src/test', driver), folder])
    await run('chown', ['-R', 'postgres:', join(folder, driver)])
    const checks = await drive(kit, server, join(folder, driver), driver)
    for (const [name, verdict] of checks) verdicts.set(`${driver}: ${name}`, verdict)
    const diffs = join(folder, driver, 'regression.diffs')
    if (existsSync(diffs)) t.comment(readFileSync(diffs, 'utf8').slice(0, 20_000))
  }
  await postgres('pg_amcheck', ['-h', server.socket, '--install-missing', '-d', 'regression'], {
    timeoutMs: 600_000,
  })
  t.is(await server.stop(), 0, 'pg_amcheck finds nothing, and the server ends in order')
  await postgres('pg_checksums', ['--check', '-D', data])
  t.pass('the checksums of all pages hold')
  return verdicts
}

async function drive(kit: Kit, server: PostgresqlServer, at: string, driver: string): Promise<Verdicts> {
  const part = join(at, 'ordinary_schedule')
  writeFileSync(part, ORDINARY)
  const whole = join(at, driver === 'regress' ? 'parallel_schedule' : 'isolation_schedule')
  const program = join(DRIVERS, driver, driver === 'regress' ? 'pg_regress' : 'pg_isolation_regress')
  const args = [
    `--bindir=${join(HOME, 'bin')}`,
    `--dlpath=${kit.libraries}`,
    `--inputdir=${at}`,
    `--outputdir=${at}`,
    `--host=${server.socket}`,
    '--user=postgres',
    `--dbname=${driver === 'regress' ? 'regression' : 'isolation_regression'}`,
    `--schedule=${isLong ? whole : part}`,
  ]
  const { stdout, stderr, code } = await run('runuser', ['-u', 'postgres', '--', program, ...args], {
    cwd: at,
    timeoutMs: 1_800_000,
    check: false,
  })
  const planned = readFileSync(isLong ? whole : part, 'utf8')
  const names = [...planned.matchAll(/^test: +(.*)$/gm)].flatMap(([, group]) => (group ?? '').split(/ +/))
  const said = new Map(
    [...stdout.matchAll(/^(?:test| {4}) +(\S+) +\.\.\. (.*?) +\d+ ms/gm)].map(
      ([, name, word]) => [name as string, word as string] as const,
    ),
  )
  const verdicts = new Map(names.map((name) => [name, said.get(name) ?? 'no verdict']))
  const isWhole = code === 0 && [...verdicts.values()].every((verdict) => verdict === 'ok')
  if (!isWhole && code !== 1) throw new Error(`${program}: exit code ${code}\n${stdout}${stderr}`)
  return verdicts
}
