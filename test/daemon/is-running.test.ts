// Whether a process runs: also for one that has ended and whose parent does not take note of it.

import { spawn } from 'node:child_process'
import test from 'brittle'
import { isRunning } from '../../src/daemon/is-running.ts'
import { until } from '../support/run.ts'

test('a running process, one that is gone, and a zombie', async (t) => {
  t.ok(isRunning(process.pid))
  // It ends when the shell has become a program that never waits for the child that it inherits.
  const script = '(while grep -q "^sh" /proc/$$/comm; do sleep 0.01; done) & echo $!; exec sleep 60'
  const parent = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => parent.kill('SIGKILL'))
  const pid = await new Promise<number>((resolve) => {
    parent.stdout.once('data', (text: Buffer) => resolve(Number(text.toString())))
  })
  await until('the child has ended', () => !isRunning(pid))
  t.execution(() => process.kill(pid, 0), 'the zombie still has its process id')
  parent.kill('SIGKILL')
  await until('the parent has ended', () => !isRunning(parent.pid as number))
})
