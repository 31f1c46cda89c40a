// Ending an environment while native calls are unfinished: exit, worker termination, exceptions.
// Each case is a process of its own, judged by how it ends.

import test from 'brittle'
import { startChild } from '../support/child.ts'
import { requires } from '../support/requires.ts'

const PROGRAM = new URL('./environment-end-child.ts', import.meta.url)

const CASES: readonly (readonly [name: string, what: string, code: number])[] = [
  ['exit-at-load', 'exit right after loading', 0],
  ['exit-with-reads', 'exit with reads queued and running', 0],
  ['exit-with-flush', 'exit with a flush running', 0],
  ['exit-in-callback', 'exit inside a late callback', 0],
  ['fall-off-the-end', 'the loop waits for late calls, then ends', 0],
  ['worker-terminated', 'workers terminated with reads running', 0],
  ['worker-ends', 'workers end by themselves with reads running', 0],
  ['throw-in-callback', 'an exception in a callback ends the process', 1],
  ['caught-in-callback', 'an exception in a callback reaches uncaughtException and the rest goes on', 0],
]

for (const [name, what, code] of CASES)
  test(`environment end: ${what}`, async (t) => {
    const child = startChild(t, PROGRAM, { args: [name] })
    const ended = await child.exit()
    t.alike(ended, { code, signal: null }, child.stderr)
    if (code !== 0) t.ok(child.stderr.includes('thrown on purpose'), 'it says why')
  })

for (const name of ['fuse-exit', 'fuse-worker-terminated', 'fuse-closed-twice'])
  test(`environment end: ${name}`, requires('root', '/dev/fuse'), async (t) => {
    const child = startChild(t, PROGRAM, { args: [name] })
    t.alike(await child.exit(), { code: 0, signal: null }, child.stderr)
  })
