// The conversation with a database's client: answers end at their mark, errors are told from answers, a
// client that dies or is silent ends the conversation. Judged with sqlite3, the lightest of the four.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { SQLITE, SQLITE_LOOKS } from '../../src/shadow/shipped/client-dialects.ts'
import { ClientProcess } from '../../src/shadow/shipped/client-process.ts'
import { requires } from '../support/requires.ts'

const needs = requires('sqlite3')

function scratch(t: Assertion): string {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-client-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return join(folder, 'a.db')
}

async function start(t: Assertion, file: string): Promise<ClientProcess> {
  const client = await ClientProcess.start(['sqlite3', ...SQLITE_LOOKS, file], SQLITE)
  t.teardown(() => client.close())
  return client
}

test('each question gets its own answer, also a long and an empty one', needs, async (t) => {
  const client = await start(t, scratch(t))
  t.alike(await client.ask('CREATE TABLE t(a, b)'), [])
  t.alike(await client.ask("INSERT INTO t VALUES (1, 'x'), (2, NULL)"), [])
  t.alike(await client.ask('SELECT * FROM t ORDER BY a'), ['1\tx', '2\t'])
  const many = await client.ask(
    'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT i FROM n',
  )
  t.is(many.length, 50_000)
  t.is(many.at(-1), '50000')
})

test('an error is told from an answer and ends nothing', needs, async (t) => {
  const client = await start(t, scratch(t))
  await t.exception(client.ask('SELEC 1'), /sqlite3 answered SELEC 1: Parse error/)
  t.alike(await client.ask('SELECT 1'), ['1'])
})

test('a lock lasts from one question to another, and ends with the client', needs, async (t) => {
  const file = scratch(t)
  const holder = await start(t, file)
  const other = await start(t, file)
  await holder.ask('CREATE TABLE t(a)')
  await holder.ask('BEGIN IMMEDIATE')
  await t.exception(other.ask('INSERT INTO t VALUES (1)'), /locked/)
  holder.kill()
  await holder.whenEnded
  t.alike(await other.ask('INSERT INTO t VALUES (1)'), [])
  await t.exception(holder.ask('SELECT 1'), /has ended/)
})

test('a client that does not answer in time is ended', needs, async (t) => {
  const client = await start(t, scratch(t))
  const endless = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n'
  await t.exception(client.ask(endless, 300), /did not answer within 300 ms/)
  await client.whenEnded
  t.ok(client.isEnded)
})

test('a program that cannot start says why', async (t) => {
  await t.exception(ClientProcess.start(['/nonexistent/sqlite3'], SQLITE), /has ended: .*not found/)
})
