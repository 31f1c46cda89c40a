// The command line's entry: builds the program, runs it, and turns what it throws into one line and an
// exit code.
//
// Always true: a usage error exits with 2 and every other failure with the code of its class (see
// exit-codes.ts); the process ends by itself once its work is done, so output is never cut off.

import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { EXIT_CODES, exitCodeOf } from './exit-codes.ts'
import { errorLine } from './output.ts'

/** Loaded one by one: a command that only asks a daemon should not wait for the image room to load. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  create: async () => (await import('./commands/create.ts')).createCommand(),
  mount: async () => (await import('./commands/mount.ts')).mountCommand(),
  unmount: async () => (await import('./commands/unmount.ts')).unmountCommand(),
  sync: async () => (await import('./commands/sync.ts')).syncCommand(),
  status: async () => (await import('./commands/status.ts')).statusCommand(),
  snapshot: async () => (await import('./commands/snapshot.ts')).snapshotCommand(),
  resize: async () => (await import('./commands/resize.ts')).resizeCommand(),
  policy: async () => (await import('./commands/policy.ts')).policyCommand(),
  bookmark: async () => (await import('./commands/bookmark.ts')).bookmarkCommand(),
  diff: async () => (await import('./commands/diff.ts')).diffCommand(),
  export: async () => (await import('./commands/export.ts')).exportCommand(),
  import: async () => (await import('./commands/import.ts')).importCommand(),
  apply: async () => (await import('./commands/apply.ts')).applyCommand(),
  backup: async () => (await import('./commands/backup.ts')).backupCommand(),
  restore: async () => (await import('./commands/restore.ts')).restoreCommand(),
  verify: async () => (await import('./commands/verify.ts')).verifyCommand(),
  prune: async () => (await import('./commands/prune.ts')).pruneCommand(),
  consolidate: async () => (await import('./commands/consolidate.ts')).consolidateCommand(),
  shadow: async () => (await import('./commands/shadow.ts')).shadowCommand(),
  writer: async () => (await import('./commands/writer.ts')).writerCommand(),
  check: async () => (await import('./commands/check.ts')).checkCommand(),
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand(),
}

/**
 * The program with the named command alone, none for --version, or all where there is no such command.
 * Its help is what docs/CLI.md describes.
 */
export async function buildProgram(name?: string): Promise<Command> {
  const program = new Command('umbra')
    .description(
      'A volume in one file with instant shadow copies, exact change tracking, and full, incremental and differential images',
    )
    .version(packageVersion(), '--version', 'print the version')
    .helpCommand(true)
    .addHelpText(
      'after',
      `\nVOLUME is a volume file or a mount point. Sizes take the suffixes K M G T.\n\n${exitCodesText()}`,
    )
  const isKnown = name !== undefined && Object.hasOwn(COMMANDS, name)
  const wantsNone = name === '--version'
  for (const [key, load] of Object.entries(COMMANDS)) {
    if (isKnown ? key === name : !wantsNone) program.addCommand(await load())
  }
  for (const command of allCommands(program)) {
    command.exitOverride().configureOutput({ outputError: (text, write) => write(usageError(text)) })
  }
  return program
}

/** `argv` as process.argv. Never throws; sets the exit code. */
export async function runCli(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (umbra ... | head) ends us quietly.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
  try {
    const program = await buildProgram(argv[2])
    await program.parseAsync(argv)
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

/** In one line, like every other error. */
function usageError(text: string): string {
  const what = text
    .replace(/^error: /, '')
    .trim()
    .replaceAll('\n', ' ')
  return `umbra: ${what} (umbra COMMAND --help says more)\n`
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
