// umbra shadow script and umbra shadow shell: diskshadow's commands from a file or from a person.

import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { executeLine, runScript, type ScriptStep } from '../../shadow/requester/shadow-shell/run-script.ts'
import { ShadowShell } from '../../shadow/requester/shadow-shell/shadow-shell.ts'
import { exitCodeOf } from '../exit-codes.ts'
import { withLongWork } from '../long-work.ts'
import { errorLine, type JsonOption, printResult } from '../output.ts'
import { resultText } from '../shadow-text.ts'
import { commandWorld } from '../shadow-world.ts'
import { wholeNumber } from '../whole-number.ts'

interface ShellOptions extends JsonOption {
  readonly autoRetry?: number
}

interface PrintedStep {
  readonly line: number
  readonly command: string
  readonly result: ScriptStep['result']
}

export function shadowScriptCommand(): Command {
  return withShellOptions(
    new Command('script')
      .description(
        "carry out a script of the shadow shell's commands (diskshadow's), up to the first that fails",
      )
      .argument('<FILE>', 'the script, - for standard input'),
  ).action(async (file: string, options: ShellOptions) => {
    const script = readScript(file)
    const steps = await withShell(options, async (shell, signal) => {
      const done: PrintedStep[] = []
      const onStep = (step: ScriptStep): void => {
        done.push(printed(step))
        if (!options.json) print(step)
      }
      await runScript(shell, script, { name: file === '-' ? 'standard input' : file, onStep, signal })
      return done
    })
    if (options.json) printResult(options, steps, () => '')
  })
}

export function shadowShellCommand(): Command {
  return withShellOptions(
    new Command('shell').description(
      "take the shadow shell's commands from standard input one by one; a failure is told and the next one taken",
    ),
  ).action(async (options: ShellOptions) => {
    const steps = await withShell(options, (shell, signal) => interact(shell, options, signal))
    if (options.json) printResult(options, steps, () => '')
  })
}

function withShellOptions(command: Command): Command {
  return command
    .option('--auto-retry <MINUTES>', 'let create wait so long while another set is being made', wholeNumber)
    .option('--json', 'print the results as JSON when all is done')
}

async function withShell<T>(
  { json, autoRetry = 0 }: ShellOptions,
  work: (shell: ShadowShell, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return withLongWork('shadow', async ({ signal }) => {
    let shell: ShadowShell | undefined
    const isVerbose = (): boolean => shell?.isVerbose === true
    using world = commandWorld({ json: json === true, isVerbose, signal })
    shell = new ShadowShell(world, { waitMs: autoRetry * 60_000 })
    try {
      return await work(shell, signal)
    } finally {
      await shell.close()
    }
  })
}

/** Goes on after a failure; the last command's failure is the exit code. */
async function interact(
  shell: ShadowShell,
  options: ShellOptions,
  signal: AbortSignal,
): Promise<PrintedStep[]> {
  const isPerson = process.stdin.isTTY === true
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: isPerson })
  const giveUp = (): void => lines.close()
  signal.addEventListener('abort', giveUp, { once: true })
  lines.on('SIGINT', giveUp)
  lines.setPrompt('shadow> ')
  if (isPerson) lines.prompt()
  const done: PrintedStep[] = []
  let number = 0
  for await (const line of lines) {
    number++
    try {
      const step = await executeLine(shell, line)
      if (step && !options.json) print({ line: number, ...step })
      if (step) done.push(printed({ line: number, ...step }))
      process.exitCode = 0
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
      process.stderr.write(`${errorLine(error)}\n`)
      process.exitCode = exitCodeOf(error)
    }
    if (shell.hasExited || signal.aborted) break
    if (isPerson) lines.prompt()
  }
  signal.removeEventListener('abort', giveUp)
  lines.close()
  if (signal.aborted) throw new UmbraError('ABORTED', 'The shell was interrupted')
  return done
}

function print({ result }: ScriptStep): void {
  printResult({}, result, resultText)
}

function printed({ line, command, result }: ScriptStep): PrintedStep {
  return { line, command: command.verb, result }
}

/** @throws UmbraError NOT_FOUND */
function readScript(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `Cannot read ${file}: ${(error as Error).message}`, {}, error)
  }
}
