// Test options that skip a test when a program or file it needs is not there, and say so.
//
// Always true: a skip is never silent; the suite's runner collects the `# missing:` lines.

import { accessSync, constants, existsSync } from 'node:fs'
import { join } from 'node:path'
import type { TestOptions } from 'brittle'

const SYSTEM_FOLDERS = '/usr/local/sbin:/usr/sbin:/sbin'

/** As patience.mjs has it: what the runner gives the file, in the long mode three times as much. */
const TIMEOUT_MS = Number(process.env['UMBRA_TEST_TIMEOUT_MS'] ?? 170_000)

/** The full path of a program, or undefined. */
export function findProgram(name: string): string | undefined {
  for (const folder of `${process.env['PATH'] ?? ''}:${SYSTEM_FOLDERS}`.split(':')) {
    const path = join(folder, name)
    try {
      if (folder === '') continue
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not in this folder.
    }
  }
  return undefined
}

/**
 * For `test(name, requires('qemu-img', '/dev/fuse', 'root'), body)`: programs by name, files by
 * absolute path, and the word `root`. Such tests run programs: they get more than brittle's 30 s, as
 * the machine may be busy.
 */
export function requires(...needs: string[]): TestOptions {
  const missing = needs.filter((need) => !isThere(need))
  for (const need of missing) console.log(`# missing: ${need}`)
  return missing.length > 0 ? { skip: true } : { timeout: TIMEOUT_MS }
}

function isThere(need: string): boolean {
  if (need === 'root') return process.getuid?.() === 0
  return need.startsWith('/') ? existsSync(need) : findProgram(need) !== undefined
}
