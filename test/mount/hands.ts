// Another process that touches a mount: one command after the other, each waited for or not, with
// hands.py behind it.
//
// Always true: every answer has a deadline, unless the test says that it waits for none; the process is
// killed by its id at the test's end.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Assertion } from 'brittle'

const PROGRAM = fileURLToPath(new URL('./hands.py', import.meta.url))
const ANSWER_TIMEOUT_MS = 60_000

export type Answer = { readonly result: unknown } | { readonly errno: string }

export class Hands {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #nextId = 1

  constructor(t: Pick<Assertion, 'teardown'>) {
    this.#child = start(t, [])
    if (!this.#child.stdout) throw new Error('no standard output')
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const { id, ...answer } = JSON.parse(line) as { id: number } & Answer
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    })
  }

  /** What the command gave: a result, or the name of an errno. */
  async ask(command: string, fields: object): Promise<Answer> {
    const id = this.#nextId++
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve))
    this.#child.stdin?.write(`${JSON.stringify({ id, do: command, ...fields })}\n`)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`No answer to ${command} ${JSON.stringify(fields)}`)),
        ANSWER_TIMEOUT_MS,
      )
    })
    try {
      return await Promise.race([answer, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** @throws Error with the errno's name */
  async do(command: string, fields: object): Promise<unknown> {
    const answer = await this.ask(command, fields)
    if ('errno' in answer) throw new Error(`${command} ${JSON.stringify(fields)}: ${answer.errno}`)
    return answer.result
  }

  async errno(command: string, fields: object): Promise<string> {
    const answer = await this.ask(command, fields)
    return 'errno' in answer ? answer.errno : 'none'
  }
}

/** A process that counts up in several files in turn. */
export class Alternating {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess) {
    this.#child = child
    if (!child.stdout) throw new Error('no standard output')
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  static async start(
    t: Pick<Assertion, 'teardown'>,
    mode: 'sync' | 'direct' | 'plain',
    files: readonly string[],
  ): Promise<Alternating> {
    const alternating = new Alternating(start(t, ['alternate', mode, ...files]))
    const { value } = (await alternating.#lines.next()) as { value?: string }
    if (value !== 'ready') throw new Error(`The counting process said ${value}`)
    return alternating
  }

  /** @returns how far it counted */
  async stop(): Promise<number> {
    this.#child.stdin?.end()
    const { value } = (await this.#lines.next()) as { value?: string }
    if (this.#child.exitCode === null) await once(this.#child, 'exit')
    return Number(value)
  }
}

function start(t: Pick<Assertion, 'teardown'>, args: readonly string[]): ChildProcess {
  const child = spawn('python3', [PROGRAM, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.on('error', () => {})
  // Before mounts that it has files open on are taken away.
  t.teardown(() => void child.kill('SIGKILL'), { order: -3 })
  return child
}
