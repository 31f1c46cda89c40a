// Writes docs/CLI.md from the commands themselves, the table of exit codes and the table of JSON shapes.
// A test compares the file with what this makes.
//
// Usage: node --import tsx scripts/cli-document.ts

import { writeFileSync } from 'node:fs'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Command } from 'commander'
import { EXIT_CODES } from '../src/cli/exit-codes.ts'
import { buildProgram } from '../src/cli/main.ts'
import { JSON_SHAPES, type Shape } from './cli-json-shapes.ts'

export const DOCUMENT_PATH = fileURLToPath(new URL('../docs/CLI.md', import.meta.url))

const OPENING = `# The command line

<!-- Made by "node --import tsx scripts/cli-document.ts" from the commands themselves: change those. -->

\`umbra COMMAND\`. VOLUME is a volume file or a mount point; both mean the same volume, and a command asks
the daemon that serves it where there is one. Sizes are bytes, or take the binary suffixes K M G T. Names of
snapshots and bookmarks have 1 to 255 bytes and hold no \`/\`.

Results go to standard output, as text or, with \`--json\`, as one JSON value; errors go to standard error in
one line that begins with \`umbra:\`. In JSON, what ends in \`Bytes\` is bytes and in \`Ms\` milliseconds. Fields may be
added; those listed here stay. Long work shows a progress bar when a person watches, and Ctrl-C ends it with
nothing half made left behind.

Environment: \`UMBRA_RUNTIME_DIR\` is the folder of control sockets and logs (else /run/umbra,
$XDG_RUNTIME_DIR/umbra or /tmp/umbra-UID), \`UMBRA_CONFIG_DIR\` that of hooks and configured writers (else /etc/umbra for root,
~/.config/umbra), \`UMBRA_NATIVE\` the path of the native addon, \`UMBRA_LOG\` the daemon's log
level, \`UMBRA_DEBUG=1\` prints where an error comes from.
`

export async function cliDocument(): Promise<string> {
  const program = await buildProgram()
  const leaves = program.commands.flatMap((command) => leavesOf(command, ''))
  return [OPENING, exitCodes(), '## Commands\n', ...leaves.map(section)].join('\n')
}

interface Leaf {
  readonly path: string
  readonly command: Command
}

/** Commands without subcommands, with their whole names. */
function leavesOf(command: Command, prefix: string): Leaf[] {
  const path = prefix === '' ? command.name() : `${prefix} ${command.name()}`
  if (command.commands.length === 0) return [{ path, command }]
  return command.commands.flatMap((child) => leavesOf(child, path))
}

function exitCodes(): string {
  const rows = EXIT_CODES.map(({ code, meaning }) => `| ${code} | ${meaning} |`)
  return ['## Exit codes\n', '| code | meaning |', '|---|---|', ...rows, ''].join('\n')
}

function section({ path, command }: Leaf): string {
  const words = command.registeredArguments.map((argument) => {
    const name = argument.variadic ? `${argument.name()}...` : argument.name()
    return argument.required ? name : `[${name}]`
  })
  const options = command.options.filter((option) => !option.hidden)
  const usage = ['umbra', path, ...words, ...(options.length > 0 ? ['[options]'] : [])].join(' ')
  const rows = [
    ...command.registeredArguments.map((argument) => row(argument.name(), argument.description)),
    ...options.map((option) => {
      const choices = option.argChoices ? ` (${option.argChoices.join(', ')})` : ''
      const standard = option.defaultValue === undefined ? '' : `; default ${String(option.defaultValue)}`
      const must = option.mandatory && option.defaultValue === undefined ? '; must be given' : ''
      return row(option.flags, `${option.description}${choices}${standard}${must}`)
    }),
  ]
  const table = ['| | |', '|---|---|', ...rows].join('\n')
  return `### ${path}\n\n    ${usage}\n\n${sentence(command.description())}\n\n${table}\n${shapeText(JSON_SHAPES[path])}`
}

function row(name: string, meaning: string): string {
  return `| \`${name}\` | ${meaning.replaceAll('|', '\\|')} |`
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}

function shapeText(shape: Shape | undefined): string {
  if (shape === undefined) return ''
  const rows = shape.fields.map(
    ([name, type, meaning]) => `| \`${name}\` | ${escaped(type)} | ${escaped(meaning)} |`,
  )
  const what = shape.list ? 'an array of objects' : 'an object'
  return `\nWith \`--json\`, ${what}${shape.note ? ` (${shape.note})` : ''}:\n\n| field | type | |\n|---|---|---|\n${rows.join('\n')}\n`
}

function escaped(text: string): string {
  return text.replaceAll('|', '\\|')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(DOCUMENT_PATH, await cliDocument())
}
