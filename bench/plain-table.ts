// A table of text without borders or colours, so that a bench's output can be kept and compared.

import Table from 'cli-table3'

const NO_BORDERS = Object.fromEntries(
  [
    'top',
    'top-mid',
    'top-left',
    'top-right',
    'bottom',
    'bottom-mid',
    'bottom-left',
    'bottom-right',
    'left',
    'left-mid',
    'mid',
    'mid-mid',
    'right',
    'right-mid',
  ].map((part) => [part, '']),
)

/** @param rows the first one is the head; the first column is left aligned, the others right */
export function plainTable(rows: readonly (readonly string[])[]): string {
  const width = rows[0]?.length ?? 0
  const table = new Table({
    chars: { ...NO_BORDERS, middle: '  ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    colAligns: Array.from({ length: width }, (_, i) => (i === 0 ? 'left' : 'right')),
  })
  table.push(...rows.map((row) => [...row]))
  return table.toString()
}
