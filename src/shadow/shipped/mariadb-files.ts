// Where a MariaDB or MySQL server keeps its files, and whether one runs on them.
//
// Always true: whether a server runs is told by the lock it holds on its own files, so that it is right for any
// folder, restored ones too, and needs no password. (proc(5), /proc/locks.)

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'

/** Files that a server locks as long as it runs: Aria's log control, InnoDB's system tablespace. */
const LOCKED = ['aria_log_control', 'ibdata1']

/** @throws Error when /proc/locks cannot be read */
export function isMariadbRunning(dataFolder: string): boolean {
  const locks = readFileSync('/proc/locks', 'utf8')
  return LOCKED.some((name) => {
    const stats = statSync(join(dataFolder, name), { throwIfNoEntry: false })
    if (!stats) return false
    // 1: POSIX  ADVISORY  WRITE 812 08:01:3145 0 EOF, the device in hex.
    const major = ((stats.dev >>> 8) & 0xfff).toString(16).padStart(2, '0')
    const minor = ((stats.dev & 0xff) | ((stats.dev >>> 12) & 0xfff00)).toString(16).padStart(2, '0')
    return locks.includes(` ${major}:${minor}:${stats.ino} `)
  })
}

/** A variable's folder as the server means it: below the data directory unless absolute; empty is the data directory. */
export function folderOf(dataFolder: string, value: string): string {
  if (value === '' || value === 'NULL') return dataFolder
  return (isAbsolute(value) ? value : join(dataFolder, value)).replace(/(?<=.)\/+$/, '')
}

/** Files of the binary log, `mysql-bin.000123`, in their order. */
export function binaryLogs(folder: string, baseName: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.startsWith(`${baseName}.`) && /^\d{6,}$/.test(name.slice(baseName.length + 1)))
    .sort((a, b) => numberOf(a) - numberOf(b))
}

/** What counts the files of the binary log up. */
export function numberOf(name: string): number {
  return Number(name.slice(name.lastIndexOf('.') + 1))
}
