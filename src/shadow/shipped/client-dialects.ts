// How each database's client is made to answer so that a program can read it.
//
// Always true: no client reads the user's start-up file for its looks, prints headers or pages; the
// mark comes after everything that the question caused, errors included.

import type { ClientDialect } from './client-process.ts'

/** psql: `psql -X -q -A -t -F TAB` and what says where the server is. */
export const PSQL: ClientDialect = {
  program: 'psql',
  question: (text, mark) => `${text === '' ? '' : `${text}\n;\n`}\\echo ${mark}\n`,
  errorIn: (lines) => lines.find((line) => /^(?:psql:.*)?(?:ERROR|FATAL|PANIC): {2}/.test(line)),
  farewell: '\\q\n',
}
export const PSQL_LOOKS: readonly string[] = ['-X', '-q', '-A', '-t', '-F', '\t']

/** mariadb or mysql. */
export const MARIADB: ClientDialect = {
  program: 'mariadb',
  question: (text, mark) => `${text === '' ? '' : `${text}\n;\n`}SELECT '${mark}';\n`,
  errorIn: (lines) => lines.find((line) => /^ERROR \d+ \(/.test(line)),
  farewell: 'quit\n',
}
export const MARIADB_LOOKS: readonly string[] = [
  '--batch',
  '--raw',
  '--skip-column-names',
  '--unbuffered',
  '--force',
]

/** sqlite3 -batch FILE. */
export const SQLITE: ClientDialect = {
  program: 'sqlite3',
  question: (text, mark) => `${text === '' ? '' : `${text}\n;\n`}.print ${mark}\n`,
  errorIn: (lines) => lines.find((line) => /^(?:Error:|Parse error|Runtime error)/.test(line)),
  farewell: '.quit\n',
}
export const SQLITE_LOOKS: readonly string[] = ['-init', '/dev/null', '-batch', '-list', '-separator', '\t']

/** redis-cli, one command a question. */
export const REDIS: ClientDialect = {
  program: 'redis-cli',
  question: (text, mark) => `${text === '' ? '' : `${text}\n`}ECHO ${mark}\n`,
  errorIn: (lines) =>
    lines.find((line) =>
      /^(?:\(error\) )?(?:ERR|NOAUTH|WRONGPASS|NOPERM|BUSY|LOADING|MISCONF|READONLY) /.test(line),
    ),
  lost: /^(?:Could not connect to Redis|Error: )/m,
  farewell: 'QUIT\n',
}
