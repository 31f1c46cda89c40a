// A descriptor over a socket, sent by a program that we did not write.

import { spawn } from 'node:child_process'
import { closeSync, readSync } from 'node:fs'
import { constants } from 'node:os'
import test from 'brittle'
import { requireAddon } from '../../src/base/addon.ts'
import { requires } from '../support/requires.ts'

const addon = requireAddon()
const { EBADMSG, ECONNRESET, ETIMEDOUT } = constants.errno

/** Runs a Python program with the far end as its descriptor 3, and closes that end here. */
function runPython(program: string, theirs: number): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn('python3', ['-c', program], { stdio: ['ignore', 'inherit', 'inherit', theirs] })
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    closeSync(theirs)
    child.once('error', fail)
    child.once('exit', (code) => {
      clearTimeout(timer)
      if (code === 0) done()
      else fail(new Error(`python3 ended with ${code}`))
    })
  })
}

test('receiveDescriptor gets the sender’s open file', requires('python3'), async (t) => {
  const [ours, theirs] = addon.socketPair() as [number, number]
  t.teardown(() => closeSync(ours))
  const program = `import os, socket
r, w = os.pipe(); os.write(w, b'through the pipe')
socket.send_fds(socket.socket(fileno=3), [b'x'], [r])`
  await runPython(program, theirs)
  const fd = addon.receiveDescriptor(ours, 1000)
  t.ok(fd > 2, `a descriptor: ${fd}`)
  t.teardown(() => closeSync(fd))
  const bytes = Buffer.alloc(64)
  t.is(bytes.toString('utf8', 0, readSync(fd, bytes)), 'through the pipe')
})

test(
  'receiveDescriptor: plain bytes, a closed socket and silence are told apart',
  requires('python3'),
  async (t) => {
    const [ours, theirs] = addon.socketPair() as [number, number]
    t.is(addon.receiveDescriptor(ours, 10), -ETIMEDOUT)
    await runPython("import os; os.write(3, b'x')", theirs)
    t.is(addon.receiveDescriptor(ours, 1000), -EBADMSG)
    t.is(addon.receiveDescriptor(ours, 1000), -ECONNRESET)
    closeSync(ours)
  },
)
