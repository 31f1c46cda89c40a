// The SQLite writer beside databases that several programs write: what is restored is exactly what was in
// the shadow copy, SQLite finds it whole, and it holds what was committed and nothing later.

// deadline 300

import { randomBytes } from 'node:crypto'
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { EXIT_CODES } from '../../src/cli/exit-codes.ts'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { umbra } from '../support/umbra.ts'
import { holdFreeze, removeHook, writerProcess } from './frozen-writer.ts'
import { rebuildFiles } from './rebuild-files.ts'
import { Ledger, type Point, type ServerLab, serverLab, treeDifferences, type Window } from './server-lab.ts'
import { ask, type JournalMode, keysOf, type SqliteProgram, startProgram } from './sqlite-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const ROUNDS = isLong ? 5 : 1
const WRITER_FAILED = EXIT_CODES.find(({ errors }) => errors.includes('WRITER_FAILED'))?.code

interface Database {
  readonly fileName: string
  readonly mode: JournalMode
  readonly programs: number
}

const DATABASES: readonly Database[] = [
  { fileName: 'one.db', mode: 'wal', programs: 2 },
  { fileName: 'two.sqlite', mode: 'wal', programs: 1 },
  { fileName: 'three.db', mode: 'delete', programs: 2 },
  { fileName: 'no suffix', mode: 'persist', programs: 1 },
]

interface SqliteLab extends ServerLab {
  /** Where the databases are. */
  readonly dir: string
  readonly name: string
}

async function sqliteLab(t: Assertion, options: Readonly<Record<string, unknown>> = {}): Promise<SqliteLab> {
  const lab = await serverLab(t, '512M')
  const dir = join(lab.mountPoint, 'app', 'data')
  mkdirSync(dir, { recursive: true })
  const name = `sqlite-${randomBytes(4).toString('hex')}`
  await lab.addWriter(name, { kind: 'sqlite', paths: [join(lab.mountPoint, 'app')], ...options })
  return { ...lab, dir, name }
}

/** A ledger for each database: its rule holds for each alone. */
async function startLoad(t: Assertion, lab: SqliteLab) {
  const ledgers = new Map<string, Ledger>()
  const programs: SqliteProgram[] = []
  for (const { fileName, mode, programs: count } of DATABASES) {
    const ledger = new Ledger()
    ledgers.set(fileName, ledger)
    for (let i = 0; i < count; i++) {
      const program = await startProgram(t, join(lab.dir, fileName), mode)
      programs.push(program)
      ledger.add(`${i}`, (key) => program.insert(key))
    }
  }
  const stop = async (): Promise<void> => {
    for (const ledger of ledgers.values()) await ledger.stop()
    for (const program of programs) await program.stop()
  }
  return { ledgers, stop }
}

/** Opens copies of the databases, which recovers them, and judges what they hold. */
async function judge(
  t: Assertion,
  what: string,
  files: string,
  ledgers: ReadonlyMap<string, Ledger>,
  window: Window,
): Promise<void> {
  const copy = `${files}.copy`
  cpSync(files, copy, { recursive: true })
  for (const [fileName, ledger] of ledgers) {
    const path = join(copy, fileName)
    t.alike(await ask(path, 'PRAGMA integrity_check'), ['ok'], `${what}: ${fileName} is whole`)
    const keys = await keysOf(path)
    t.ok(keys.length > 0, `${what}: ${fileName} has ${keys.length} rows`)
    t.alike(ledger.judge(keys, window), [], `${what}: ${fileName} has all that was committed, nothing later`)
    t.alike(await ask(path, 'SELECT n FROM counter'), [`${keys.length}`], `${what}: transactions are whole`)
  }
}

async function judgePoint(
  t: Assertion,
  lab: SqliteLab,
  point: Point,
  ledgers: ReadonlyMap<string, Ledger>,
): Promise<void> {
  const image = join(await lab.imageOf(point), 'app', 'data')
  const rebuilt = lab.at(`rebuilt-${point.id}`)
  mkdirSync(rebuilt)
  for (const fileName of ledgers.keys())
    rebuildFiles(lab.repository, point.id, fileName, { [lab.dir]: rebuilt })
  const what = `${point.type} ${point.id}`
  t.alike(await treeDifferences(image, rebuilt, ['*-shm']), [], `${what}: files are the shadow copy's`)
  // The writer recovers what it restores, so it is not asked where bytes are compared.
  const exact = await restore(lab, point, `exact-${point.id}`, ['--without-writers'])
  t.alike(await treeDifferences(image, exact, ['*-shm']), [], `${what}: and so are restored ones`)
  await judge(t, what, exact, ledgers, point.window)
}

/** Restores all databases of a point into a folder of the lab. */
async function restore(
  lab: SqliteLab,
  point: Point,
  name: string,
  options: readonly string[] = [],
): Promise<string> {
  const to = lab.at(name)
  const place = ['--to-folder', `${lab.dir}=${to}`]
  await umbra(['restore', lab.repository, point.id, '--all-components', ...place, ...options])
  return to
}

test('SQLite databases with a write-ahead log and with rollback journals', async (t) => {
  t.timeout(280_000)
  const lab = await sqliteLab(t)
  const { ledgers, stop } = await startLoad(t, lab)
  const points: Point[] = []
  const take = async (type: BackupType): Promise<void> => {
    points.push(await lab.backup(type))
  }
  await take('full')
  for (let round = 1; round <= ROUNDS; round++) {
    await take('incremental')
    await take('differential')
    if (round === Math.ceil(ROUNDS / 2)) await take('copy')
  }
  await take('incremental')
  const without = await lab.backup('copy', ['--without-writers'])
  await stop()
  for (const { type, isPartial, writers } of points) {
    const types = writers.flatMap((writer) => writer.components.map((component) => component.type))
    t.alike([isPartial, types], [false, DATABASES.map(() => type)], `${type} is whole, of its own type`)
  }
  plantFault(t, ledgers, points)
  const deltas = points.filter(({ type }) => type !== 'copy').slice(-2)
  for (const point of isLong ? points : deltas) await judgePoint(t, lab, point, ledgers)
  const unasked = lab.at('without')
  cpSync(join(await lab.imageOf(without), 'app', 'data'), unasked, { recursive: true })
  const fromMs = without.window.fromMs - without.times.heldMs
  await judge(t, 'without writers', unasked, ledgers, { ...without.window, fromMs })
  const frozen = points.map(({ times }) => `${times.frozenMs} (${times.heldMs})`)
  t.comment(`frozen (held) ${frozen.join(', ')} ms`)
})

test('a restored database does not get the log of the one that it replaces', async (t) => {
  t.timeout(280_000)
  const lab = await sqliteLab(t)
  const modes = new Map<string, JournalMode>([
    ['one.db', 'wal'],
    // Its backups hold no log at all: nothing but the writer knows that a later one must go.
    ['two.db', 'delete'],
  ])
  const ledgers = new Map<string, Ledger>()
  const programs: SqliteProgram[] = []
  for (const [fileName, mode] of modes) {
    const [ledger, program] = [new Ledger(), await startProgram(t, join(lab.dir, fileName), mode)]
    ledger.add('0', (key) => program.insert(key))
    ledgers.set(fileName, ledger)
    programs.push(program)
  }
  const full = await lab.backup('full')
  for (const ledger of ledgers.values()) await ledger.stop()
  for (const program of programs) await program.stop()
  const incremental = await lab.backup('incremental')
  for (const fileName of modes.keys()) {
    const later = await startProgram(t, join(lab.dir, fileName), 'wal')
    for (let i = 0; i < 20; i++) await later.insert(`later-${i}`)
    await later.kill()
    t.ok(existsSync(join(lab.dir, `${fileName}-wal`)), 'a later log is left, as after a power cut')
  }
  for (const point of [full, incremental]) {
    const name = `stale-${point.type}`
    cpSync(lab.dir, lab.at(name), { recursive: true })
    await restore(lab, point, name)
    const aside = readdirSync(lab.at(name)).filter((file) => file.includes('before-restore'))
    t.alike(aside, [], 'nothing stays beside it')
    await judge(t, `${point.type} over a later one`, lab.at(name), ledgers, point.window)
  }
  await umbra(['restore', lab.repository, incremental.id, '--all-components'])
  cpSync(lab.dir, lab.at('in-place'), { recursive: true })
  await judge(t, 'in place', lab.at('in-place'), ledgers, incremental.window)
})

/** The judge itself sees what it is to see. */
function plantFault(t: Assertion, ledgers: ReadonlyMap<string, Ledger>, points: readonly Point[]): void {
  const last = points.at(-1)
  const ledger = ledgers.get('one.db')
  if (!last || !ledger) throw new Error('no points')
  t.ok(ledger.judge([], last.window).length > 0, 'planted: missing rows are seen')
  t.ok(ledger.judge(['9-1'], last.window).length > 0, 'planted: rows from nowhere are seen')
}

async function nothingLeft(t: Assertion, lab: SqliteLab, what: string): Promise<void> {
  const { stdout } = await umbra(['snapshot', 'list', lab.volume, '--json'])
  t.alike(JSON.parse(stdout), [], `${what}: no shadow copy is left`)
  t.absent(existsSync(lab.repository), `${what}: no backup is left, nor an empty repository`)
}

test('a transaction that stays open, and too many databases: refused by name', async (t) => {
  t.timeout(280_000)
  const lab = await sqliteLab(t, { lockTimeoutMs: 500, databasesMax: 2 })
  const program = await startProgram(t, join(lab.dir, 'one.db'), 'wal')
  await startProgram(t, join(lab.dir, 'two.db'), 'delete')
  await program.insert('begin')
  const locked = await lab.tryBackup('full')
  t.is(locked.code, WRITER_FAILED, locked.stderr.trim())
  t.ok(
    /retryable\): A transaction keeps .*one\.db locked/.test(locked.stderr),
    'says which, and that it may pass',
  )
  await nothingLeft(t, lab, 'locked')
  t.is(await program.insert('end'), 'end', 'the transaction ends as if nothing had been')
  t.absent((await lab.backup('full')).isPartial, 'and the next backup is whole')

  await startProgram(t, join(lab.dir, 'three.db'), 'wal')
  const tooMany = await lab.tryBackup('copy')
  t.is(tooMany.code, WRITER_FAILED, tooMany.stderr.trim())
  t.ok(
    /out-of-resources\): 3 databases .* databasesMax is 2/.test(tooMany.stderr),
    'says how many, and the limit',
  )
  const chosen = ['app/data/one.db', 'app/data/two.db'].flatMap((path) => [
    '--components',
    `SQLite:${join(lab.mountPoint, '..', 'mnt').slice(1)}/${path}`,
  ])
  t.is((await lab.tryBackup('copy', chosen)).code, 0, 'some of them go')
})

test('the SQLite writer is killed while frozen: writes go on at once, no shadow copy', async (t) => {
  t.timeout(280_000)
  const lab = await sqliteLab(t)
  const programs = [
    await startProgram(t, join(lab.dir, 'one.db'), 'wal'),
    await startProgram(t, join(lab.dir, 'two.db'), 'delete'),
  ]
  const freeze = holdFreeze(lab)
  const failing = lab.tryBackup('full')
  await freeze.reached()
  let answered = 0
  const pending = programs.map((program) => program.insert('held').then(() => answered++))
  await new Promise((resolve) => setTimeout(resolve, 300))
  t.is(answered, 0, 'writes wait while it is frozen')
  process.kill(writerProcess(lab.name), 'SIGKILL')
  await Promise.all(pending)
  t.pass('both go on without the end of the freeze')
  freeze.goOn()
  const { code, stderr } = await failing
  t.is(code, WRITER_FAILED, stderr.trim())
  t.ok(/went away while it was frozen/.test(stderr), 'says why')
  await nothingLeft(t, lab, 'killed')

  const next = holdFreeze(lab)
  const underWay = lab.backup('full')
  await next.reached()
  const late = await startProgram(t, join(lab.dir, 'late.db'), 'wal')
  await late.insert('first')
  next.goOn()
  const full = await underWay
  t.alike(namesOf(full), ['full one.db', 'full two.db'], 'a database that comes meanwhile is not in it')
  const image = join(await lab.imageOf(full), 'app', 'data')
  for (const name of readdirSync(image))
    if (!name.endsWith('-shm')) copyFileSync(join(image, name), lab.at(name))
  t.alike(await ask(lab.at('late.db'), 'PRAGMA integrity_check'), ['ok'], 'in the image as after a power cut')
  removeHook(lab)
  const names = namesOf(await lab.backup('incremental'))
  t.alike(names, ['full late.db', 'incremental one.db', 'incremental two.db'], 'and is whole in the next one')
})

function namesOf({ writers }: Point): string[] {
  return writers
    .filter(({ name }) => name === 'SQLite')
    .flatMap(({ components }) => components.map(({ name, type }) => `${type} ${name}`))
    .sort()
}
