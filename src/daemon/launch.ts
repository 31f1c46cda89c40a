// Starts a daemon in a session of its own and waits until it serves or says why it cannot.
//
// Always true: when launchDaemon() resolves, the mount is ready; when it rejects, no daemon is left
// behind. The daemon has `/` as its folder, no terminal and no standard streams; what it has to say
// later goes to its log in the runtime folder.

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ERROR_CODES, type ErrorCode, UmbraError } from '../base/errors.ts'

/** What a daemon is told to do; absolute paths. */
export interface DaemonOptions {
  readonly volumePath: string
  /** Null: serve the volume to commands alone, until the last of them has gone. */
  readonly mountPoint: string | null
  readonly readOnly: boolean
  readonly writeThrough: boolean
  readonly allowOther: boolean
  /** Reading moves access times (relatime). */
  readonly accessTimes: boolean
  /** Mount this snapshot by itself, read-only; null: the present. */
  readonly snapshot: string | null
  readonly driver: 'device' | 'fuse-native'
  /** Folder of the mount's hooks; null: the configured ones alone. */
  readonly hooks: string | null
}

export type MountedOptions = DaemonOptions & { readonly mountPoint: string }

/** Whether the kernel keeps dirty pages, and with them sizes and times, of files on this mount. */
export function isWriteBack({ driver, writeThrough }: DaemonOptions): boolean {
  return driver === 'device' && !writeThrough
}

export interface DaemonReady {
  readonly pid: number
  readonly socket: string
}

/** The one message that a starting daemon sends. */
export type DaemonMessage =
  | { readonly ready: DaemonReady }
  | { readonly failed: { readonly code: string; readonly message: string } }

const START_TIMEOUT_MS = 120_000

/** @throws UmbraError as the daemon met it while starting; TIMED_OUT, UNAVAILABLE */
export function launchDaemon(options: DaemonOptions): Promise<DaemonReady> {
  return launchProgram('daemon-main', [JSON.stringify(options)])
}

/**
 * @param program a file of this folder that sends a DaemonMessage once, without its extension
 * @throws UmbraError as launchDaemon()
 */
export async function launchProgram(program: string, args: readonly string[]): Promise<DaemonReady> {
  const isCompiled = import.meta.url.endsWith('.js')
  const entry = new URL(`./${program}.${isCompiled ? 'js' : 'ts'}`, import.meta.url)
  const child = fork(fileURLToPath(entry), [...args], {
    // From source, the loader of TypeScript is found from the working folder; what is compiled needs none.
    ...(isCompiled ? { cwd: '/', execArgv: [] } : {}),
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
  try {
    const message = await firstMessage(child)
    if ('failed' in message) throw failureOf(message.failed)
    return message.ready
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    child.removeAllListeners()
    if (child.connected) child.disconnect()
    child.unref()
  }
}

function firstMessage(child: ChildProcess): Promise<DaemonMessage> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () =>
        reject(new UmbraError('TIMED_OUT', `The daemon was not ready after ${START_TIMEOUT_MS / 1000} s`)),
      START_TIMEOUT_MS,
    )
    const settle = (work: () => void): void => {
      clearTimeout(timer)
      work()
    }
    child.once('message', (message) => settle(() => resolve(message as DaemonMessage)))
    child.once('error', (error) => settle(() => reject(error)))
    child.once('exit', (code, signal) =>
      settle(() =>
        reject(new UmbraError('UNAVAILABLE', `The daemon ended while starting (${signal ?? code})`)),
      ),
    )
  })
}

function failureOf(failed: { code: string; message: string }): UmbraError {
  const code = Object.hasOwn(ERROR_CODES, failed.code) ? (failed.code as ErrorCode) : 'IO_FAILED'
  return new UmbraError(code, failed.message)
}
