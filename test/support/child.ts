// Child processes of tests: whatever serves a mount, or must die in some way, runs in one.
//
// Always true: every wait has a deadline; a child that still runs at teardown is killed by its own
// process id and waited for; what it wrote to standard error is in every failure's message.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Assertion } from 'brittle'

export interface ChildExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface ChildOptions {
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Words before node's own path: taskset, unshare... */
  readonly prefix?: readonly string[]
  /** For every wait that names none. Default 20 s. */
  readonly timeoutMs?: number
}

export interface ChildMessage {
  readonly type: string
  readonly [field: string]: unknown
}

export class Child {
  readonly process: ChildProcess
  readonly #timeoutMs: number
  readonly #messages: ChildMessage[] = []
  readonly #exited: Promise<ChildExit>
  #ended: ChildExit | undefined
  #wake: () => void = () => {}
  #said = ''
  #dropped = ''

  constructor(process: ChildProcess, timeoutMs: number) {
    this.process = process
    this.#timeoutMs = timeoutMs
    process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text
    })
    process.on('message', (message) => {
      this.#messages.push(message as ChildMessage)
      this.#wake()
    })
    this.#exited = new Promise((resolve) => {
      process.once('exit', (code, signal) => {
        this.#ended = { code, signal }
        this.#wake()
        resolve(this.#ended)
      })
    })
  }

  get pid(): number {
    return this.process.pid as number
  }

  get stderr(): string {
    return this.#said
  }

  /** The next message of this type, dropping others before it; a child that ends first is an error. */
  async message(type: string, timeoutMs = this.#timeoutMs): Promise<ChildMessage> {
    const deadlineMs = Date.now() + timeoutMs
    for (;;) {
      for (let next = this.#messages.shift(); next; next = this.#messages.shift())
        if (next.type === type) return next
        else this.#dropped += `${JSON.stringify(next)} `
      if (this.#ended) throw new Error(`The child ended before "${type}": ${this.#describe()}`)
      const leftMs = deadlineMs - Date.now()
      if (leftMs <= 0) throw new Error(`No "${type}" from the child in ${timeoutMs} ms: ${this.#describe()}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  send(message: ChildMessage): void {
    this.process.send?.(message)
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.process.kill(signal)
  }

  async exit(timeoutMs = this.#timeoutMs): Promise<ChildExit> {
    const late = timeout(timeoutMs)
    const result = await Promise.race([this.#exited, late.promise])
    late.clear()
    if (result) return result
    throw new Error(`The child did not end in ${timeoutMs} ms: ${this.#describe()}`)
  }

  /** Kills it if it runs, and waits for its end. */
  async dispose(): Promise<void> {
    if (!this.#ended) this.kill()
    await this.exit()
  }

  #describe(): string {
    return `${JSON.stringify(this.#ended ?? 'still running')} ${this.#dropped}${this.#said}`
  }
}

function timeout(ms: number): { promise: Promise<undefined>; clear: () => void } {
  let timer: NodeJS.Timeout | undefined
  const promise = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  return { promise, clear: () => clearTimeout(timer) }
}

/** Starts a TypeScript program with an IPC channel: its `process.send({ type, ... })` arrives here. */
export function startChild(
  t: Pick<Assertion, 'teardown'>,
  program: string | URL,
  options: ChildOptions = {},
): Child {
  const path = typeof program === 'string' ? program : program.pathname
  const words = [
    ...(options.prefix ?? []),
    process.execPath,
    '--import',
    'tsx',
    path,
    ...(options.args ?? []),
  ]
  const spawned = spawn(words[0] as string, words.slice(1), {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const child = new Child(spawned, options.timeoutMs ?? 20_000)
  t.teardown(() => child.dispose(), { order: -1 })
  return child
}
