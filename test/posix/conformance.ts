// The POSIX rules of rules/*.py as tests: run by another process in a folder, each line a rule.
//
// Always true: every rule is either expected to hold or named as a difference with its reason; a rule
// that is named and holds is an error as well, and so is a name that no rule has.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Assertion } from 'brittle'
import { run } from '../support/run.ts'

export interface Difference {
  /** A rule's name, less the user that it runs as; a `*` in it stands for any text. */
  readonly rule: string
  readonly reason: string
  /** It may hold: who is first decides. */
  readonly luck?: boolean
}

/** The rules, less those that take long, or for which a volume has to be small and nobody else's. */
export const GROUPS = [
  'paths',
  'names',
  'opens',
  'modes',
  'times',
  'xattrs',
  'data',
  'locks',
  'folders',
  'inodes',
] as const

/** Rules that take long. */
export const LIMITS_GROUP = 'limits'

/** Rules about a full volume. */
export const FULL_GROUP = 'full'

const RUNNER = fileURLToPath(new URL('./rules/run.py', import.meta.url))
const GROUP_TIMEOUT_MS = 280_000

/** One rule a line: `ok [who] name`, or `not ok [who] name -- what went wrong`. */
const LINE = /^(not ok|ok) (\[(?:root|user)\] .*?)(?: -- (.*))?$/

export interface GroupOptions {
  readonly differences?: readonly Difference[]
  /** Default both. */
  readonly who?: 'root' | 'user'
  /** Words before those of each program: they make it another user's, in another namespace. */
  readonly prefix?: readonly string[]
}

/** Makes a folder for a group below `top`, runs its rules there, and removes it. @returns names that were tried */
export async function holdGroup(
  t: Assertion,
  top: string,
  group: string,
  options: GroupOptions = {},
): Promise<string[]> {
  const { differences = [], who, prefix = [] } = options
  const folder = join(top, `rules-${group}`)
  const start = (...words: string[]) => {
    const [command = '', ...args] = [...prefix, ...words]
    return run(command, args, { timeoutMs: GROUP_TIMEOUT_MS })
  }
  await start('mkdir', '-m', '755', folder)
  const { stdout } = await start('python3', RUNNER, folder, ...(who ? ['--who', who] : []), group)
  await start('rmdir', folder)
  const tried: string[] = []
  // A runner that says nothing has held nothing.
  if (stdout === '' && who === undefined) t.fail(`${group}: no rule was tried`)
  for (const line of stdout.split('\n').filter((text) => text !== '')) {
    const [, verdict, name = '', message] = LINE.exec(line) ?? []
    if (verdict === undefined) throw new Error(`Not a rule's line: ${line}`)
    tried.push(name)
    const known = differences.find((difference) => isMeant(difference, name))
    if (known === undefined) t.is(verdict, 'ok', `${name}${message === undefined ? '' : `: ${message}`}`)
    else if (known.luck !== true) t.is(verdict, 'not ok', `${name}: differs, as is known (${known.reason})`)
  }
  return tried
}

function isMeant({ rule }: Difference, name: string): boolean {
  const plain = name.replace(/^\[(root|user)\] /, '')
  const [start = '', end] = rule.split('*')
  if (end === undefined) return plain === rule
  return plain.startsWith(start) && plain.endsWith(end) && plain.length >= start.length + end.length
}

/** Named differences that are no rule's name. */
export function unknownNames(tried: readonly string[], differences: readonly Difference[]): string[] {
  const unknown = differences.filter((difference) => !tried.some((name) => isMeant(difference, name)))
  return unknown.map(({ rule }) => rule)
}
