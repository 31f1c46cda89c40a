// Stopping and starting services for a restore: by systemctl, or by what the user says.
//
// Always true: the command is run without a shell, as COMMAND... stop|start NAME, in a process group of its
// own, so that Ctrl-C does not end it half way; a name that begins with a dash is refused; a command that
// fails, or takes longer than its time, is an error.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../base/errors.ts'
import type { ServiceControl } from '../shadow/requester/restore/component-restore-types.ts'
import { configurationFolder } from '../shadow/writers/writer-configuration.ts'

const FILE_NAME = 'services.json'
const SYSTEMCTL = ['systemctl']
/** systemd itself kills what does not stop within 90 s. */
const TIMEOUT_MS = 180_000
const SHOWN_MAX = 500

/**
 * @param command words of a command line; undefined: `command` of services.json in the configuration
 *   folder, or systemctl
 */
export function serviceControl(command?: readonly string[]): ServiceControl {
  return {
    stop: (name) => control(command, 'stop', name),
    start: (name) => control(command, 'start', name),
    startCommand: (name) => [...commandOf(command), 'start', name].join(' '),
  }
}

async function control(
  given: readonly string[] | undefined,
  action: 'stop' | 'start',
  name: string,
): Promise<void> {
  if (!/^[A-Za-z0-9_@.:\\][A-Za-z0-9_@.:\\-]*$/.test(name))
    throw new UmbraError('INVALID_NAME', `Not a service's name: ${JSON.stringify(name)}`)
  const [program = '', ...args] = commandOf(given)
  const child = spawn(program, [...args, action, name], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  })
  let said = ''
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text: string) => {
    said = (said + text).slice(-SHOWN_MAX)
  })
  const timer = setTimeout(() => killGroup(child.pid), TIMEOUT_MS)
  try {
    const end = await new Promise<string>((resolve) => {
      child.once('error', ({ message }) => resolve(message))
      child.once('close', (code, signal) => resolve(code === 0 ? '' : (signal ?? `exit code ${code}`)))
    })
    if (end === '') return
    throw new UmbraError(
      'RESTORE_REFUSED',
      `The service ${name} does not ${action}: ${[end, said.trim()].filter((text) => text !== '').join(': ')}`,
      { service: name },
    )
  } finally {
    clearTimeout(timer)
  }
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL')
  } catch {
    // It has just ended.
  }
}

/** @throws UmbraError INVALID_DOCUMENT */
function commandOf(given: readonly string[] | undefined): readonly string[] {
  return given ?? configured() ?? SYSTEMCTL
}

/** @throws UmbraError INVALID_DOCUMENT */
function configured(): readonly string[] | undefined {
  const path = join(configurationFolder(), FILE_NAME)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    const { command } = JSON.parse(text) as { command?: unknown }
    if (isCommand(command)) return command
  } catch {
    // Told below.
  }
  throw new UmbraError('INVALID_DOCUMENT', `${path} does not say {"command": ["PROGRAM", "ARGUMENT", ...]}`)
}

function isCommand(value: unknown): value is string[] {
  return Array.isArray(value) && value.length > 0 && value.every((word) => typeof word === 'string')
}
