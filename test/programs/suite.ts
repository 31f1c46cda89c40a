// A real program is built on the mount from its source and runs its own checks there; the same build,
// copied to the kernel's ext4 and bound over the same path, is the control.
//
// Always true: a check that passes on ext4 and not on the mount fails the test, and so does one that
// is skipped on the mount alone; what ends alike on both is said and held against nobody. The ordinary
// run asks the control only about checks that did not pass; the long one runs every check on both.

import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { isLong, makeReference } from '../mount/lab.ts'
import { withOwnMounts } from '../support/own-mounts.ts'
import { type RunResult, run } from '../support/run.ts'
import { umbra } from '../support/umbra.ts'
import { makeStage, type Stage } from './stage.ts'

const HOUR_MS = 3_600_000

export type Outcome = 'passed' | 'skipped' | 'failed'
export type Outcomes = ReadonlyMap<string, Outcome>

export interface Suite {
  /** A `.dsc` file; see source.ts. */
  readonly source: string
  /** Shell commands that build it, in the unpacked source. */
  readonly build: string
  /** Files of checks: what `command` is called for one after the other. */
  readonly checks: readonly string[]
  /** Shell command that runs one file of checks (`$1`) in the built tree. */
  readonly command: string
  /** What it said, check by check; names need to be unique within the file. */
  parse(check: string, result: RunResult): Outcomes
  /** Who runs them; default: root. Some checks are for root alone, more for everybody else. */
  readonly users?: readonly ('root' | 'nobody')[]
  /** Fewer passed checks than this on the mount: the suite did not do its work. */
  readonly atLeast: number
  /** After this time the first user begins no further file; all others run what the first did. */
  readonly limitMs?: number
  /** Checks that fail now and then on ext4, too, with the reason. */
  readonly unsteady?: ReadonlyMap<string, string>
}

/** Builds, runs, compares; the volume is judged afterwards. */
export async function runSuite(t: Assertion, suite: Suite): Promise<void> {
  const stage = await makeStage(t, '16G')
  const tree = join(stage.dir, 'work')
  await run('dpkg-source', ['--no-check', '-x', suite.source, tree], { timeoutMs: HOUR_MS })
  await run('sh', ['-e', '-c', suite.build], { cwd: tree, timeoutMs: HOUR_MS, env: BUILD_ENV })
  await umbra(['snapshot', 'create', stage.dir, 'built'])
  const control = await controlFor(t, stage, tree)

  const onMount = await runChecks(suite, suite.checks, tree, [])
  const begun = new Set([...onMount.keys()].map(fileOf))
  if (begun.size < suite.checks.length) {
    t.comment(`time for ${begun.size} of ${suite.checks.length} files of checks`)
  }
  const unpassed = new Set([...onMount].filter(([, it]) => it !== 'passed').map(([name]) => fileOf(name)))
  const onControl = await runChecks(
    { ...suite, limitMs: Number.POSITIVE_INFINITY },
    isLong ? begun : unpassed,
    tree,
    control,
  )
  compare(t, suite, onMount, onControl)
  await stage.judge()
}

const BUILD_ENV = { CFLAGS: '-O0 -g0', FORCE_UNSAFE_CONFIGURE: '1' }

/** A command that runs what follows with the control's tree at the path of the one on the mount. */
async function controlFor(t: Assertion, stage: Stage, tree: string): Promise<readonly string[]> {
  const root = await makeReference(t, stage.folder, 16 * 2 ** 30)
  chmodSync(root, 0o755)
  const copy = join(root, 'work')
  mkdirSync(copy)
  await run('cp', ['-a', `${tree}/.`, copy], { timeoutMs: HOUR_MS })
  const bind = 'mount --make-rprivate / && mount --bind "$1" "$2" && cd "$3" && shift 3 && exec "$@"'
  return [...withOwnMounts([root, stage.dir]), 'sh', '-e', '-c', bind, 'sh', root, stage.dir, tree]
}

/** Every file of checks as each user, who owns the tree meanwhile. */
async function runChecks(
  suite: Suite,
  checks: Iterable<string>,
  tree: string,
  prefix: readonly string[],
): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>()
  const call = (...args: string[]) => {
    const [program = 'sh', ...rest] = [...prefix, ...args]
    return run(program, rest, { cwd: tree, timeoutMs: HOUR_MS, check: false })
  }
  const begun = new Set<string>()
  for (const user of suite.users ?? ['root']) {
    await call('chown', '-R', `${user}:`, tree)
    const become = user === 'root' ? [] : ['setpriv', `--reuid=${user}`, '--regid=nogroup', '--clear-groups']
    const isFirst = begun.size === 0
    const endMs = Date.now() + (suite.limitMs ?? Number.POSITIVE_INFINITY)
    for (const check of isFirst ? checks : [...begun]) {
      if (isFirst && Date.now() > endMs) break
      begun.add(check)
      const result = await call(...become, 'sh', '-c', suite.command, 'sh', check)
      for (const [name, outcome] of suite.parse(check, result)) {
        outcomes.set(`${check}: ${name}, as ${user}`, outcome)
      }
    }
  }
  return outcomes
}

const fileOf = (name: string): string => name.slice(0, name.indexOf(': '))

function compare(t: Assertion, suite: Suite, onMount: Outcomes, onControl: Outcomes): void {
  const count = (outcomes: Outcomes, wanted: Outcome) =>
    [...outcomes.values()].filter((outcome) => outcome === wanted).length
  const sum = (outcomes: Outcomes) =>
    `${count(outcomes, 'passed')} passed, ${count(outcomes, 'skipped')} skipped, ${count(outcomes, 'failed')} failed`
  t.comment(`on the mount: ${sum(onMount)}`)
  t.comment(`on ext4${isLong ? '' : ' (files with a check that did not pass)'}: ${sum(onControl)}`)
  t.ok(count(onMount, 'passed') >= suite.atLeast, `at least ${suite.atLeast} checks pass on the mount`)
  const worse: string[] = []
  for (const [name, outcome] of onMount) {
    if (outcome === 'passed') continue
    const there = onControl.get(name) ?? 'not run'
    if (outcome === there) t.comment(`${outcome} on ext4, too: ${name}`)
    else if (suite.unsteady?.has(name)) t.comment(`${name}: ${suite.unsteady.get(name)}`)
    else worse.push(`${name}: ${outcome} here, ${there} on ext4`)
  }
  for (const [name, outcome] of onControl) {
    if (outcome === 'passed' && !onMount.has(name)) worse.push(`${name}: not run here, passed on ext4`)
  }
  t.alike(worse, [], 'no check ends worse on the mount than on ext4')
}

/** Lines of the Test Anything Protocol; a check that is expected to fail counts as passed when it does. */
export function parseTap(result: RunResult): Outcomes {
  const outcomes = new Map<string, Outcome>()
  for (const line of result.stdout.split('\n')) {
    const match = /^(not )?ok (\d+)(?: - ([^#]*))?(?:# (skip|TODO))?/.exec(line)
    if (!match) continue
    const [, not, number, title = '', directive] = match
    const outcome = directive === 'skip' ? 'skipped' : not && directive !== 'TODO' ? 'failed' : 'passed'
    outcomes.set(`${number} ${title.trim()}`, outcome)
  }
  if (outcomes.size === 0) {
    const isSkipped = /^1\.\.0 # SKIP/m.test(result.stdout)
    outcomes.set('the whole file', isSkipped ? 'skipped' : 'failed')
  }
  return outcomes
}
