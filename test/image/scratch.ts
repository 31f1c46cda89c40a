// A folder for one test, and foreign tools run in it with a deadline.

import { join } from 'node:path'
import { type ErrorCode, hasCode } from '../../src/base/errors.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

export function scratchFolder(t: { teardown(fn: () => unknown): void }): (name: string) => string {
  const folder = tempFolder(t)
  return (name) => join(folder, name)
}

/** Runs a tool; @returns its standard output. Throws on a non-zero exit code. */
export async function tool(program: string, ...args: string[]): Promise<string> {
  return (await run(program, args)).stdout
}

/** Awaits `work` and demands an UmbraError of one of these codes. */
export async function rejectsWith(
  t: { fail(comment: string): void; pass(comment: string): void },
  work: () => Promise<unknown>,
  codes: ErrorCode | readonly ErrorCode[],
  comment: string,
): Promise<void> {
  const wanted = typeof codes === 'string' ? [codes] : codes
  try {
    await work()
  } catch (error) {
    if (wanted.some((code) => hasCode(error, code))) t.pass(`${comment}: ${wanted.join(' or ')}`)
    else t.fail(`${comment}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
    return
  }
  t.fail(`${comment}: nothing was thrown`)
}
