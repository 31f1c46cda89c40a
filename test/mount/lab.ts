// What the tests of this folder share: a volume on a mount, a random history done on it by another
// process, trees recorded so that they can be compared, and the judges of a volume at its end.
//
// Always true: every volume made here is judged at teardown, by `umbra check` and by e2fsck on an export
// of its last state, unless the test says that it damaged it on purpose.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Assertion } from 'brittle'
import { EXIT_CODES } from '../../src/cli/exit-codes.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { type RunResult, run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { type MountedVolume, mountVolume, umbra, umbraJson } from '../support/umbra.ts'

const WORKLOAD = fileURLToPath(new URL('./workload.py', import.meta.url))
const RECORD = fileURLToPath(new URL('./tree-record.py', import.meta.url))

export const isLong = process.env['UMBRA_LONG'] === '1'
/** A long run asks for ten times as much at once, of trees that have grown. */
const ANSWER_TIMEOUT_MS = isLong ? 1_800_000 : 120_000

/** Looking at a tree must not change it: for links there is no O_NOATIME. */
export const QUIET: readonly string[] = ['--no-access-times']

export interface Lab {
  readonly folder: string
  readonly volume: string
  readonly dir: string
  /** With QUIET unless other arguments are given. */
  mount(args?: readonly string[]): Promise<MountedVolume>
  /** Path of a file of this name in the lab's folder. */
  at(name: string): string
}

/** A fresh volume, and its judgement at teardown. */
export async function makeLab(t: Assertion, size: string): Promise<Lab> {
  const folder = tempFolder(t)
  const at = (name: string) => join(folder, name)
  const lab: Lab = {
    folder,
    volume: at('v.umbra'),
    dir: at('mnt'),
    mount: (args = QUIET) => mountVolume(t, lab.volume, lab.dir, args),
    at,
  }
  mkdirSync(lab.dir)
  await umbra(['create', lab.volume, '--size', size])
  // After mounts are gone, before the folder is.
  t.teardown(() => judgeVolume(lab.volume, at('last-state.img')), { order: 1_000_000 })
  return lab
}

/** @throws Error with what `umbra check` or e2fsck says against the volume's last state */
export async function judgeVolume(volume: string, image: string): Promise<void> {
  await umbra(['check', volume])
  await umbra(['snapshot', 'create', volume, 'last-state'])
  await exportRaw(volume, 'last-state', image)
  await umbra(['snapshot', 'delete', volume, 'last-state'])
  const verdict = e2fsck(image)
  rmSync(image)
  if (!verdict.clean) throw new Error(`e2fsck of the last state of ${volume}:\n${verdict.output}`)
}

export async function exportRaw(volume: string, snapshot: string, image: string): Promise<void> {
  await umbra(['export', volume, snapshot, '--format', 'raw', '--force', '-o', image])
}

const DOCUMENTED = new Set(EXIT_CODES.map(({ code }) => code))

/** In a list of problems, so that thousands of attempts are one assertion. */
export function misbehaviour(what: string, result: RunResult): string[] {
  const { code, stderr } = result
  if (code === 0) return []
  const problems: string[] = []
  if (!DOCUMENTED.has(code)) problems.push(`${what}: exit code ${code} is not in the list: ${stderr}`)
  if (!/^umbra: [^\n]+\n$/.test(stderr)) problems.push(`${what}: not one line: ${stderr}`)
  return problems
}

/** Path to what is recorded of it. */
export type Tree = ReadonlyMap<string, Readonly<Record<string, unknown>>>

export async function recordTree(folder: string): Promise<Tree> {
  const { stdout } = await run('python3', [RECORD, folder], { timeoutMs: ANSWER_TIMEOUT_MS })
  const lines = stdout.split('\n').filter((line) => line !== '')
  return new Map(
    lines.map((line) => {
      const { path, ...rest } = JSON.parse(line) as Record<string, unknown>
      return [Buffer.from(String(path), 'hex').toString('latin1'), rest]
    }),
  )
}

/** What differs, but for the fields named; empty: identical. */
export function treeDifferences(one: Tree, other: Tree, ignored: readonly string[] = []): string[] {
  const shown = (tree: Tree, path: string) =>
    JSON.stringify(tree.get(path), (key, value) => (ignored.includes(key) ? undefined : value))
  return [...new Set([...one.keys(), ...other.keys()])]
    .filter((path) => shown(one, path) !== shown(other, path))
    .map((path) => `${JSON.stringify(path)}\n  ${shown(one, path)}\n  ${shown(other, path)}`)
}

/** Says the first few of them. */
export function assertSameTree(
  t: Assertion,
  one: Tree,
  other: Tree,
  comment: string,
  ignored: readonly string[] = [],
): void {
  const found = treeDifferences(one, other, ignored)
  t.is(found.length, 0, `${comment} (${one.size} paths)`)
  for (const difference of found.slice(0, 3)) t.comment(difference)
}

/** An empty file system of the kernel's own, as the model of what operations do. */
export async function makeReference(
  t: Assertion,
  folder: string,
  sizeBytes = 1 << 30,
  options = 'rw',
): Promise<string> {
  const image = join(folder, 'reference.img')
  writeFileSync(image, '')
  truncateSync(image, sizeBytes)
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-b', '4096', image])
  return (await mountLoop(t, image, options)).folder
}

/** The process that does operations; see workload.py. */
export class Workload {
  /** A subclass may have another that speaks the same language. */
  static readonly script: string = WORKLOAD
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  #said = ''

  constructor(t: Assertion, seed: number, ...roots: string[]) {
    this.#child = spawn('python3', [new.target.script, String(seed), ...roots], {
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child.stdin?.on('error', () => {})
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text
    })
    const { stdout } = this.#child
    if (!stdout) throw new Error('no standard output')
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
    t.teardown(() => void this.#child.kill('SIGKILL'), { order: -1 })
  }

  /** @throws Error when an operation did not end alike in all roots */
  run(count: number): Promise<void> {
    return this.#ask(`run ${count}`)
  }

  /** Runs until its root dies under it. @throws Error when it ended for another reason */
  async runUntilDead(): Promise<void> {
    try {
      for (;;) await this.#ask('run 50')
    } catch (error) {
      await this.quit()
      if (this.#child.exitCode !== 3) throw error
    }
  }

  /** Closes the files that it holds open. */
  release(): Promise<void> {
    return this.#ask('release')
  }

  /** Adds to a file when each operation since the last time began and ended in each root. */
  tellSpans(path: string): Promise<void> {
    return this.#ask(`spans ${path}`)
  }

  async quit(): Promise<void> {
    this.#child.stdin?.end('quit\n')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }

  async #ask(command: string): Promise<void> {
    this.#child.stdin?.write(`${command}\n`)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`No answer to ${command} in ${ANSWER_TIMEOUT_MS} ms`)),
        ANSWER_TIMEOUT_MS,
      )
    })
    try {
      const { value } = (await Promise.race([this.#lines.next(), late])) as { value?: string }
      if (value !== 'done') throw new Error(`${command}: ${value ?? `the workload ended: ${this.#said}`}`)
    } finally {
      clearTimeout(timer)
    }
  }
}

export { type MountedVolume, umbra, umbraJson }
