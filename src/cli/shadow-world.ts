// What commands about shadow copies work with: the coordinator, the volumes, the store, and programs that
// they run for the user.
//
// Always true: a program gets the user's environment with what is added to it, and ends when the user gives
// up; with --json its output goes to standard error, where no result is; when the user gives up, what hangs in
// a call to the coordinator is given up too after a moment, which is the end of its session.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { UmbraError } from '../base/errors.ts'
import { volumeAccess } from '../daemon/backup-surroundings.ts'
import { LazyCoordinator } from '../daemon/lazy-coordinator.ts'
import { VolumeShadowStore } from '../daemon/volume-shadow-store.ts'
import type { ShellWorld } from '../shadow/requester/shadow-shell/shadow-shell.ts'
import { visibleText } from './output.ts'
import { traceLine } from './shadow-text.ts'

const ABORT_GRACE_MS = 3000

export interface WorldOptions {
  readonly json: boolean
  /** Asked at each step. */
  readonly isVerbose: () => boolean
  readonly signal: AbortSignal
}

export type CommandWorld = ShellWorld & Disposable

export function commandWorld({ json, isVerbose, signal }: WorldOptions): CommandWorld {
  const coordinator = new LazyCoordinator((entry) => {
    if (isVerbose()) process.stderr.write(`${traceLine(entry)}\n`)
  })
  let timer: NodeJS.Timeout | undefined
  const giveUp = (): void => {
    timer = setTimeout(() => coordinator[Symbol.dispose](), ABORT_GRACE_MS)
  }
  signal.addEventListener('abort', giveUp, { once: true })
  return {
    coordinator,
    volumes: volumeAccess,
    store: new VolumeShadowStore(),
    signal,
    run: (program, args, environment) => runProgram(program, args, { environment, json, signal }),
    onNote: (note) => process.stderr.write(`umbra: ${visibleText(note)}\n`),
    [Symbol.dispose]() {
      clearTimeout(timer)
      signal.removeEventListener('abort', giveUp)
      coordinator[Symbol.dispose]()
    },
  }
}

interface RunOptions {
  readonly environment: Readonly<Record<string, string>>
  readonly json: boolean
  readonly signal: AbortSignal
}

/** A file here comes before one of the same name in PATH. */
function runProgram(
  program: string,
  args: readonly string[],
  { environment, json, signal }: RunOptions,
): Promise<number> {
  const path = existsSync(program) ? resolve(program) : program
  return new Promise((settle, reject) => {
    if (signal.aborted) {
      reject(new UmbraError('ABORTED', 'The work was interrupted'))
      return
    }
    const child = spawn(path, args, {
      env: { ...process.env, ...environment },
      stdio: ['ignore', json ? 2 : 'inherit', 'inherit'],
    })
    const stop = (): void => void child.kill('SIGTERM')
    signal.addEventListener('abort', stop, { once: true })
    child.once('error', (error) => {
      signal.removeEventListener('abort', stop)
      reject(new UmbraError('NOT_FOUND', `Cannot run ${program}: ${error.message}`, { program }, error))
    })
    child.once('exit', (code) => {
      signal.removeEventListener('abort', stop)
      if (signal.aborted) reject(new UmbraError('ABORTED', `${program} was interrupted`))
      // Ended by a signal: as a shell tells it.
      else settle(code ?? 128)
    })
  })
}
