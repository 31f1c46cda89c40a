// SQLite in WAL mode on a mount, written by several processes at once (shared memory, byte-range locks)
// while a snapshot is taken; judged by sqlite3's integrity check and by sums that every transaction
// keeps, in the live tree, in a copy of the snapshot, and in the exported image mounted by the kernel.

// deadline 240

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { umbra } from '../support/umbra.ts'
import { makeStage } from './stage.ts'

const WRITERS = 3
const ACCOUNTS = 200
const TOTAL = ACCOUNTS * 1000

const SETUP = `
PRAGMA journal_mode=WAL;
CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE move (writer INTEGER, turn INTEGER, note TEXT, PRIMARY KEY (writer, turn));
CREATE INDEX by_note ON move (note);
WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ${ACCOUNTS})
INSERT INTO account SELECT i, 1000 FROM n;
`

/** Moves money until its input ends; says each turn that is committed, in a line. */
const WRITER = `
import os, random, select, sqlite3, sys
path, writer = sys.argv[1], int(sys.argv[2])
pick = random.Random(writer)
db = sqlite3.connect(path, timeout=60, isolation_level=None)
db.execute('PRAGMA wal_autocheckpoint=50')
turn = 0
while not select.select([0], [], [], 0)[0]:
    turn += 1
    db.execute('BEGIN IMMEDIATE')
    amount = pick.randrange(100)
    db.execute('UPDATE account SET balance = balance - ? WHERE id = ?', (amount, pick.randrange(${ACCOUNTS}) + 1))
    db.execute('UPDATE account SET balance = balance + ? WHERE id = ?', (amount, pick.randrange(${ACCOUNTS}) + 1))
    db.execute('INSERT INTO move VALUES (?, ?, ?)', (writer, turn, 'x' * pick.randrange(2000)))
    db.execute('COMMIT')
    os.write(1, b'%d\\n' % turn)
db.close()
`

class Writer {
  readonly process: ChildProcess
  /** Turns that are committed. */
  turns = 0
  #rest = ''

  constructor(path: string, index: number) {
    this.process = spawn('python3', ['-c', WRITER, path, String(index)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n')
      this.#rest = lines.pop() ?? ''
      const last = lines.at(-1)
      if (last !== undefined) this.turns = Number(last)
    })
  }

  async stop(): Promise<number | null> {
    const exited = once(this.process, 'exit')
    this.process.stdin?.end()
    const [code] = (await exited) as [number | null]
    return code
  }
}

async function query(path: string, sql: string): Promise<string> {
  return (await run('sqlite3', ['-batch', path, sql])).stdout.trim()
}

/** @param turns at least these many of each writer must be there */
async function assertWhole(
  t: Assertion,
  path: string,
  turns: readonly number[],
  what: string,
): Promise<void> {
  t.is(await query(path, 'PRAGMA integrity_check'), 'ok', `integrity of ${what}`)
  t.is(await query(path, 'SELECT sum(balance) FROM account'), String(TOTAL), `balances of ${what}`)
  for (const [index, turn] of turns.entries()) {
    const found = await query(path, `SELECT count(*), max(turn) FROM move WHERE writer = ${index}`)
    const [count, last] = found.split('|').map(Number) as [number, number]
    t.is(count, last, `no turn of writer ${index} is lost in the middle of ${what}`)
    t.ok(count >= turn, `writer ${index} in ${what}: ${count} turns, ${turn} were committed before`)
  }
}

/** The database and its log, without the shared memory, as a restore would have it. */
function copyOut(from: string, to: string): string {
  mkdirSync(to)
  for (const name of ['db', 'db-wal']) {
    if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name))
  }
  return join(to, 'db')
}

test(
  'concurrent writers in WAL mode: whole in the live tree, the snapshot and the image',
  requires('root', '/dev/fuse', 'sqlite3', 'python3', 'e2fsck'),
  async (t) => {
    const stage = await makeStage(t, '1G')
    const path = join(stage.dir, 'db')
    await run('sqlite3', ['-batch', path], { input: SETUP })
    const writers = Array.from({ length: WRITERS }, (_, index) => new Writer(path, index))
    t.teardown(() => writers.forEach((writer) => void writer.process.kill('SIGKILL')), { order: -1 })

    const allPast = (turn: number) => () => writers.every((writer) => writer.turns >= turn)
    await until('each writer has worked', allPast(20), 60_000)
    const before = writers.map((writer) => writer.turns)
    await umbra(['snapshot', 'create', stage.dir, 'during'])
    const after = Math.max(...writers.map((writer) => writer.turns)) + 10
    await until('each writer has gone on', allPast(Math.min(after, 200)), 60_000)
    const codes = await Promise.all(writers.map((writer) => writer.stop()))

    t.alike(codes, [0, 0, 0], 'no writer met an error')
    await assertWhole(t, copyOut(stage.within('during'), join(stage.folder, 'a')), before, 'the snapshot')
    await assertWhole(
      t,
      path,
      writers.map((writer) => writer.turns),
      'the live tree',
    )
    const loop = await mountLoop(t, await stage.image('during'))
    await assertWhole(t, copyOut(loop.folder, join(stage.folder, 'b')), before, 'the image')
    await loop.unmount()
    await stage.judge()
  },
)
