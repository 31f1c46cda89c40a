// How commands speak: results on standard output, as text or as one JSON value, errors in one line on
// standard error.
//
// Always true: with --json standard output holds exactly one JSON value and a newline; numbers in it
// are bytes and milliseconds; nothing but a result ever goes to standard output.

import { createRequire } from 'node:module'
import { UmbraError } from '../base/errors.ts'

export interface JsonOption {
  readonly json?: boolean
}

/** Prints a result: `value` with --json, else what `text` makes of it. */
export function printResult<T>(options: JsonOption, value: T, text: (value: T) => string): void {
  const shown = options.json ? JSON.stringify(value, null, 2) : text(value)
  if (shown !== '') process.stdout.write(`${shown}\n`)
}

/** Names may hold any byte but '/' and NUL: what would move the cursor is shown as `\\x0a`. */
export function visibleText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
}

/** `1 backup`, `2 backups`. */
export function countText(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? '' : 's'}`
}

/** A plain table without borders. */
export function tableText(head: readonly string[], rows: readonly (readonly string[])[]): string {
  // Loaded when there is a table to print: most commands end without one.
  const Table = createRequire(import.meta.url)('cli-table3') as typeof import('cli-table3')
  const table = new Table({
    head: [...head],
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: {
      top: '',
      'top-mid': '',
      'top-left': '',
      'top-right': '',
      bottom: '',
      'bottom-mid': '',
      'bottom-left': '',
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: '',
    },
  })
  for (const row of rows) table.push(row.map(visibleText))
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
}

/** Names with their values, one a line. */
export function listText(entries: readonly (readonly [string, string])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length))
  return entries.map(([name, value]) => `${name.padEnd(width)}  ${visibleText(value)}`).join('\n')
}

export function dateText(ms: number): string {
  return new Date(ms)
    .toISOString()
    .replace('T', ' ')
    .replace(/\.\d+Z$/, 'Z')
}

export function millisecondsText(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`
}

/** One line for any failure; a system error is told by its sentence, a bug by its message. */
export function errorLine(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  const line = message.trim().replace(/\s*\n\s*/g, '; ')
  const hint =
    thrown instanceof UmbraError || process.env['UMBRA_DEBUG'] ? '' : ' (UMBRA_DEBUG=1 shows where)'
  return `umbra: ${line}${hint}`
}
