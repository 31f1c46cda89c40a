// Ends a hook's freeze when the process that froze it dies: a hook is not there between two events, so
// nobody else would.
//
// Always true: the guard is a shell in a process group of its own that waits on a pipe from this process;
// told `done` it ends, and when the pipe closes without it, it runs the hook with the event that undoes the freeze:
// after the end of the freeze itself, which would else freeze once more when nobody is left to undo it.

import { type ChildProcess, spawn } from 'node:child_process'
import { cleanEnvironment } from './run-command.ts'

/** Its arguments: the hook, the event; the request comes by environment, which a shell need not quote. */
const SCRIPT = `
while read -r word pid; do
  case $word in
    done) exit 0 ;;
    runs) running=$pid ;;
    ended) running= ;;
  esac
done
if [ "$running" ]; then
  kill -9 "-$running" 2>/dev/null
  tries=0
  while kill -0 "-$running" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
fi
printf %s "$UMBRA_GUARD_REQUEST" | exec "$1" "$2"`

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

  /** The hook's freeze runs, in a process group of this number. */
  freezeRuns(pid: number): void {
    this.#child.stdin?.write(`runs ${pid}\n`)
  }

  /** What it has left running holds its lock until it is told to let go. */
  freezeEnded(): void {
    this.#child.stdin?.write('ended\n')
  }

  /** The freeze has ended in order. */
  release(): void {
    this.#child.stdin?.end('done\n')
  }
}
