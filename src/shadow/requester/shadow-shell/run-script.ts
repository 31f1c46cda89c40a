// A shadow script from its first line to its last, and the interactive shell's lines one by one.
//
// Always true: a line that cannot be read is found before the first one is carried out; the first failure
// ends a script and is told with its file and line; whatever its end, nothing volatile is left.

import { UmbraError } from '../../../base/errors.ts'
import { parseCommand } from './parse-command.ts'
import { hasNames, wordsOf } from './script-line.ts'
import type { ShadowShell } from './shadow-shell.ts'
import type { ShellCommand } from './shell-command.ts'
import type { ShellResult } from './shell-result.ts'

export interface ScriptStep {
  /** From 1. */
  readonly line: number
  readonly command: ShellCommand
  readonly result: ShellResult
}

export interface ScriptOptions {
  /** For messages. */
  readonly name: string
  readonly onStep: (step: ScriptStep) => void
  readonly signal?: AbortSignal
}

/** @throws UmbraError with the first failure's code, and `FILE:LINE:` before its message */
export async function runScript(shell: ShadowShell, script: string, options: ScriptOptions): Promise<void> {
  const { name, onStep, signal } = options
  const lines = script.split(/\r?\n/)
  try {
    checkScript(lines, name)
    for (const [index, line] of lines.entries()) {
      if (shell.hasExited) break
      const number = index + 1
      await at(name, number, async () => {
        if (signal?.aborted) throw new UmbraError('ABORTED', 'The script was interrupted')
        const step = await executeLine(shell, line)
        if (step) onStep({ line: number, ...step })
      })
    }
  } finally {
    await shell.close()
  }
}

/** @returns undefined for an empty line or a comment */
export async function executeLine(
  shell: ShadowShell,
  line: string,
): Promise<Pick<ScriptStep, 'command' | 'result'> | undefined> {
  const words = wordsOf(line, (name) => shell.aliases.value(name) ?? process.env[name])
  if (words.length === 0) return undefined
  const command = parseCommand(words)
  return { command, result: await shell.execute(command) }
}

/** Lines with names are read when these are known. */
function checkScript(lines: readonly string[], name: string): void {
  for (const [index, line] of lines.entries()) {
    try {
      const words = hasNames(line) ? [] : wordsOf(line, null)
      if (words.length === 0) continue
      if (parseCommand(words).verb === 'exit') return
    } catch (error) {
      throw located(name, index + 1, error)
    }
  }
}

async function at(name: string, line: number, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    throw located(name, line, error)
  }
}

function located(name: string, line: number, error: unknown): unknown {
  if (!(error instanceof UmbraError)) return error
  return new UmbraError(error.code, `${name}:${line}: ${error.message}`, { ...error.context, line }, error)
}
