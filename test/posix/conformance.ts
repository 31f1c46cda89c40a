// The POSIX rules of rules/*.py as tests: run by another process in a folder, each line a rule.
//
// Always true: every rule is either expected to hold or named as a difference with its reason; a rule
// that is named and holds is an error as well, and so is a name that no rule has.

import { chmodSync, mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Assertion } from 'brittle'
import { run } from '../support/run.ts'

export interface Difference {
  /** A rule's name, less the user that it runs as; one that ends with `*` stands for all that begin so. */
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

/** Makes a folder for a group below `top`, runs its rules there, and removes it. @returns names that were tried */
export async function holdGroup(
  t: Assertion,
  top: string,
  group: string,
  differences: readonly Difference[] = [],
  who?: 'root' | 'user',
): Promise<string[]> {
  const folder = join(top, `rules-${group}`)
  mkdirSync(folder)
  chmodSync(folder, 0o755)
  const { stdout } = await run('python3', [RUNNER, folder, ...(who ? ['--who', who] : []), group], {
    timeoutMs: GROUP_TIMEOUT_MS,
  })
  rmdirSync(folder)
  const tried: string[] = []
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
  return rule.endsWith('*') ? plain.startsWith(rule.slice(0, -1)) : plain === rule
}

/** Named differences that are no rule's name. */
export function unknownNames(tried: readonly string[], differences: readonly Difference[]): string[] {
  const unknown = differences.filter((difference) => !tried.some((name) => isMeant(difference, name)))
  return unknown.map(({ rule }) => rule)
}
