// What is no database is not waited for: a fifo may take the place of a file between the listing and the look.

import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { findSqliteDatabases, readSqliteHeader } from '../../src/shadow/shipped/sqlite-files.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

test('only regular files are databases', async (t) => {
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  const header = Buffer.alloc(100)
  header.write('SQLite format 3\0')
  header.writeUInt16BE(4096, 16)
  writeFileSync(at('one.db'), header)
  symlinkSync(at('one.db'), at('link.db'))
  await run('mkfifo', [at('fifo.db')])
  t.is(readSqliteHeader(at('one.db'))?.pageBytes, 4096)
  for (const name of ['fifo.db', 'link.db', '.', 'nothing.db'])
    t.is(readSqliteHeader(at(name)), undefined, name)
  t.alike(
    findSqliteDatabases(folder).map(({ fileName }) => fileName),
    ['one.db'],
  )
})
