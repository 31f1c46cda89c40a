// The command line's entry: builds the program, runs it, and turns what it throws into one line and an
// exit code.
//
// Always true: a usage error exits with 2 and every other failure with the code of its class (see
// exit-codes.ts); the process ends by itself once its work is done, so output is never cut off.

import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { applyCommand } from './commands/apply.ts'
import { bookmarkCommand } from './commands/bookmark.ts'
import { checkCommand } from './commands/check.ts'
import { createCommand } from './commands/create.ts'
import { diffCommand } from './commands/diff.ts'
import { doctorCommand } from './commands/doctor.ts'
import { exportCommand } from './commands/export.ts'
import { importCommand } from './commands/import.ts'
import { mountCommand } from './commands/mount.ts'
import { snapshotCommand } from './commands/snapshot.ts'
import { statusCommand } from './commands/status.ts'
import { syncCommand } from './commands/sync.ts'
import { unmountCommand } from './commands/unmount.ts'
import { EXIT_CODES, exitCodeOf } from './exit-codes.ts'
import { errorLine } from './output.ts'

const COMMANDS = [
  createCommand,
  mountCommand,
  unmountCommand,
  syncCommand,
  statusCommand,
  snapshotCommand,
  bookmarkCommand,
  diffCommand,
  exportCommand,
  importCommand,
  applyCommand,
  checkCommand,
  doctorCommand,
]

/** The whole program; its help is what docs/CLI.md is checked against. */
export function buildProgram(): Command {
  const program = new Command('umbra')
    .description(
      'A volume in one file with instant shadow copies, exact change tracking, and full, incremental and differential images',
    )
    .version(packageVersion(), '--version', 'print the version')
    .helpCommand(true)
    .showHelpAfterError('(umbra COMMAND --help says more)')
    .addHelpText(
      'after',
      `\nVOLUME is a volume file or a mount point. Sizes take the suffixes K M G T.\n\n${exitCodesText()}`,
    )
  for (const command of COMMANDS) program.addCommand(command())
  for (const command of allCommands(program)) command.exitOverride()
  return program
}

/** `argv` as process.argv. Never throws; sets the exit code. */
export async function runCli(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (umbra ... | head) ends us quietly.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
  try {
    await buildProgram().parseAsync(argv)
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : 2
      return
    }
    process.stderr.write(`${errorLine(error)}\n`)
    if (process.env['UMBRA_DEBUG'] && error instanceof Error) process.stderr.write(`${error.stack}\n`)
    process.exitCode = exitCodeOf(error)
  }
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)]
}

function exitCodesText(): string {
  return `Exit codes:\n${EXIT_CODES.map((entry) => `  ${String(entry.code).padStart(3)}  ${entry.meaning}`).join('\n')}`
}

function packageVersion(): string {
  const parsed = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  return parsed.version
}
