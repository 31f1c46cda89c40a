// Programs that write SQLite databases for tests, and what a restored database says of itself.
//
// Always true: every database is written and read by SQLite itself, in processes of their own that are
// gone at teardown.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Assertion } from 'brittle'
import { run } from '../support/run.ts'

const LOAD = fileURLToPath(new URL('./sqlite-load.py', import.meta.url))

export type JournalMode = 'wal' | 'delete' | 'persist'

export interface SqliteProgram {
  /** Commits the key in a transaction of its own; `begin` and `end` hold one open. */
  insert(key: string): Promise<string>
  /** By itself: its connection is closed. */
  stop(): Promise<void>
  /** As when the machine goes down: its files stay as they are. */
  kill(): Promise<void>
}

export async function startProgram(
  t: Pick<Assertion, 'teardown'>,
  path: string,
  mode: JournalMode,
): Promise<SqliteProgram> {
  const child = spawn('python3', [LOAD, path, mode], { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const answer = async (): Promise<string> => {
    const { value, done } = await lines.next()
    if (done) throw new Error(`The program that writes ${path} has ended`)
    return value
  }
  child.stdin.on('error', () => {})
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  t.teardown(kill, { order: -2 })
  await answer()
  return {
    insert(key) {
      child.stdin.write(`${key}\n`)
      return answer()
    },
    async stop() {
      child.stdin.end()
      await ended
    },
    kill,
  }
}

/** Changes nothing but what SQLite's recovery does: give it a copy. */
export async function ask(path: string, question: string): Promise<string[]> {
  const { stdout } = await run('sqlite3', ['-init', '/dev/null', '-batch', '-list', path, question])
  return stdout.split('\n').filter((line) => line !== '')
}

export function keysOf(path: string): Promise<string[]> {
  return ask(path, 'SELECT key FROM ledger')
}
