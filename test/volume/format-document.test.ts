// docs/FORMAT.md says what the code does: every table in it is that of a structure.

import { readFileSync } from 'node:fs'
import test from 'brittle'
import type { FieldKind } from '../../src/base/struct.ts'
import { LIST_CHILD, LIST_NODE_HEADER } from '../../src/volume/block-list.ts'
import { CATALOG_RECORD } from '../../src/volume/catalog.ts'
import { BUCKET_RECORD } from '../../src/volume/dead-list.ts'
import { GROUP_RECORD } from '../../src/volume/group-table.ts'
import { SUPERBLOCK, TABLE_ENTRY, TREE_ROOT } from '../../src/volume/superblock.ts'
import { WINDOW_RUN } from '../../src/volume/window-list.ts'

const STRUCTURES = [
  SUPERBLOCK,
  TREE_ROOT,
  TABLE_ENTRY,
  GROUP_RECORD,
  CATALOG_RECORD,
  BUCKET_RECORD,
  LIST_NODE_HEADER,
  LIST_CHILD,
  WINDOW_RUN,
]

function rowsOf(document: string, heading: string): string[] {
  const [, after] = document.split(`### ${heading}\n`)
  const rows = (after?.split(/\n#/)[0] ?? '').split('\n').filter((line) => /^\| \d/.test(line))
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, 5)
      .map((cell) => cell.trim())
      .join(' '),
  )
}

test('docs/FORMAT.md has every structure as it is in the code', (t) => {
  const document = readFileSync(new URL('../../docs/FORMAT.md', import.meta.url), 'utf8')
  for (const { name, sizeBytes, fields } of STRUCTURES) {
    const expected = Object.entries<FieldKind<unknown>>(fields).map(
      ([field, kind]) => `${kind.offsetBytes} ${kind.sizeBytes} ${kind.type} ${field}`,
    )
    t.alike(rowsOf(document, `${name} (${sizeBytes} bytes)`), expected, name)
  }
})
