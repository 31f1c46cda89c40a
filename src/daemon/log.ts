// Where a daemon says what nobody is there to hear: a file in the runtime folder, or the terminal.
//
// Always true: the file belongs to one daemon, begins anew with it, and is written at once, so that
// the last line before an end is there.

import { join } from 'node:path'
import { destination, type Logger, pino } from 'pino'
import { runtimeFolderPath } from './runtime-folder.ts'

export type Log = Pick<Logger, 'info' | 'warn' | 'error'>

/** @param key as for the control socket, or null for the terminal */
export function openLog(key: string | null): Log {
  const dest = key === null ? 2 : join(runtimeFolderPath(), `${key}.log`)
  const level = process.env['UMBRA_LOG'] ?? (key === null ? 'warn' : 'info')
  return pino(
    { level, base: { pid: process.pid } },
    destination({ dest, sync: true, append: false, mode: 0o600 }),
  )
}
