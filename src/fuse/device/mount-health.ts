// Whether a FUSE mount answers: asked before a mount is cleared or called busy.
//
// Always true: the question is statfs, which is never answered from a cache (attributes would be, even
// after the server's end); a child process asks it, which may hang in this one's place, so that neither
// this process nor its exit waits longer than the deadline. Not for the process that serves the mount.

import { spawn } from 'node:child_process'

/** `hanging`: a request was sent and nobody has answered it yet. */
export type MountHealth = 'alive' | 'dead' | 'hanging'

const PROBE_TIMEOUT_MS = 5_000
const EXIT_DEAD = 3
const PROGRAM = `require('fs').statfs(process.argv[1], (e) =>
  process.exit(e && ['ENOTCONN', 'ECONNABORTED', 'ENODEV'].includes(e.code) ? ${EXIT_DEAD} : 0))`

export function probeMount(mountPoint: string): Promise<MountHealth> {
  return new Promise((done) => {
    const child = spawn(process.execPath, ['-e', PROGRAM, mountPoint], {
      stdio: 'ignore',
      cwd: '/',
      // What this process was started with may not be found from there.
      env: { ...process.env, NODE_OPTIONS: '' },
    })
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      child.unref()
      done('hanging')
    }, PROBE_TIMEOUT_MS)
    child.once('error', () => {
      clearTimeout(timer)
      done('hanging')
    })
    child.once('exit', (code) => {
      clearTimeout(timer)
      done(code === EXIT_DEAD ? 'dead' : 'alive')
    })
  })
}
