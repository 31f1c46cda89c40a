// Ends a hook's freeze when the process that froze it dies: a hook is not there between two events, so
// nobody else would.
//
// Always true: the guard is a shell in a process group of its own that waits on a pipe from this process;
// told `done` it ends, and when the pipe closes without it, it runs the hook with the event that undoes the freeze.

import { type ChildProcess, spawn } from 'node:child_process'
import { cleanEnvironment } from './run-command.ts'

/** Its arguments: the hook, the event; the request comes by environment, which a shell need not quote. */
const SCRIPT = 'read -r word; [ "$word" = done ] && exit 0; printf %s "$UMBRA_GUARD_REQUEST" | exec "$1" "$2"'

export class FreezeGuard {
  readonly #child: ChildProcess

  /** @param request JSON text, small enough for an environment variable (128 KiB) */
  constructor(program: string, event: 'abort' | 'thaw', request: string) {
    this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'umbra-freeze-guard', program, event], {
      cwd: '/',
      env: cleanEnvironment({ UMBRA_EVENT: event, UMBRA_GUARD_REQUEST: request }),
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    this.#child.on('error', () => {})
    this.#child.stdin?.on('error', () => {})
    this.#child.unref()
  }

  /** The freeze has ended in order. */
  release(): void {
    this.#child.stdin?.end('done\n')
  }
}
