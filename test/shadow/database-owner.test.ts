// Root opens a user's database as that user: a journal beside it could else make root delete any file.

import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { SQLITE, SQLITE_LOOKS } from '../../src/shadow/shipped/client-dialects.ts'
import { ClientProcess } from '../../src/shadow/shipped/client-process.ts'
import { databaseOwner } from '../../src/shadow/shipped/database-owner.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'

const USER = 1000

test('a database is opened as its owner', requires('root', 'sqlite3'), async (t) => {
  const folder = join(tempFolder(t), 'home')
  mkdirSync(folder)
  chmodSync(join(folder, '..'), 0o755)
  const path = join(folder, 'a.db')
  writeFileSync(path, '')
  t.is(databaseOwner(path), undefined, 'what is root’s in a folder of root’s is opened by root')
  chownSync(folder, USER, USER)
  t.exception(() => databaseOwner(path), /others may write to its folder/)
  chownSync(path, USER, USER)
  const runAs = databaseOwner(path)
  t.alike(runAs, { uid: USER, gid: USER })
  const client = await ClientProcess.start(['sqlite3', ...SQLITE_LOOKS, path], SQLITE, { runAs })
  t.teardown(() => client.close())
  const groups = await client.ask('.shell id -u; id -G')
  t.alike(groups.slice(0, 2), [String(USER), String(USER)], 'with no group but its own')
  symlinkSync('/etc/passwd', join(folder, 'b.db'))
  t.exception(() => databaseOwner(join(folder, 'b.db')), /is no file/)
})
