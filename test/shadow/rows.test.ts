// docs/VSS.md's table of rows is what the tests hold it to: every row of A and B has a test with its number,
// and no test names a row that is not there.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'

const TESTS = fileURLToPath(new URL('..', import.meta.url))
const DOCUMENT = fileURLToPath(new URL('../../docs/VSS.md', import.meta.url))

/** Number to priority. */
function rowsOf(document: string): Map<number, string> {
  const rows = document.matchAll(/^\| (\d+) \| ([ABC]) \|/gm)
  return new Map([...rows].map(([, number, priority]) => [Number(number), priority ?? '']))
}

/** `row 7:`, `rows 46, 49:` or `row 60 and 40:` at the head of a string, which is a test's title. */
function namedIn(source: string): number[] {
  const heads = source.matchAll(/['"`]rows? (\d+(?:(?:, | and )\d+)*)[:,]/g)
  return [...heads].flatMap(([, list = '']) => list.split(/, | and /).map(Number))
}

test('rows are found in titles and nowhere else', (t) => {
  t.alike(namedIn("test('row 7: x')\ntest(`rows 46, 49: y`)"), [7, 46, 49])
  t.alike(namedIn("test('row 60 and 40: x')"), [60, 40])
  t.alike(namedIn('// row 7: a comment\nconst row = 8'), [])
  t.alike(
    [...rowsOf('| 7 | A | hold |\n| 8 | C | x |\n| x | A |')],
    [
      [7, 'A'],
      [8, 'C'],
    ],
  )
})

test('every row of A and B has a test, and every test names a row that is there', (t) => {
  const rows = rowsOf(readFileSync(DOCUMENT, 'utf8'))
  t.alike(
    [...rows.keys()],
    Array.from({ length: 80 }, (_, index) => index + 1),
    'the 80 rows, in order',
  )
  const named = new Map<number, string>()
  for (const file of readdirSync(TESTS, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.test.ts') || file.endsWith('rows.test.ts')) continue
    for (const row of namedIn(readFileSync(join(TESTS, file), 'utf8'))) named.set(row, file)
  }
  const needed = [...rows].filter(([, priority]) => priority !== 'C').map(([row]) => row)
  t.alike(
    needed.filter((row) => !named.has(row)),
    [],
    'rows without a test',
  )
  t.alike(
    [...named].filter(([row]) => !rows.has(row)),
    [],
    'tests of rows that are not there',
  )
})
