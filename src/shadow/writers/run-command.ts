// Runs a hook or a configured command: input in, bounded output out, an end at its deadline.
//
// Always true: the program runs in a process group of its own, in `/`, with a clean environment, and is
// killed with its whole group at its deadline or when it says more than a document may hold. What it leaves running
// after a timely end (a client that holds a lock until Thaw) is left alone, and is not waited for.

import { type ChildProcess, spawn } from 'node:child_process'
import { UmbraError } from '../../base/errors.ts'
import { DOCUMENT_MAX_BYTES } from '../documents/canonical-json.ts'

export interface CommandOptions {
  readonly program: string
  readonly args: readonly string[]
  readonly input: string
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  readonly environment?: Readonly<Record<string, string>>
  /** A line of the program's standard error. */
  readonly onLine?: (line: string) => void
  /** Right after the start; its process group has the same number. */
  readonly onStart?: (pid: number) => void
}

export interface CommandEnd {
  /** Null where a signal ended it. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly output: Buffer
  /** The last line of standard error, '' for none. */
  readonly lastLine: string
}

/** For output that is under way when the program ends, while something that it left behind keeps the pipe open. */
const DRAIN_MS = 250
const LINE_CHARACTERS_MAX = 2000
const LINES_MAX = 1000

/** What hooks and commands find; nothing of the coordinator's own. */
export function cleanEnvironment(more: Readonly<Record<string, string>> = {}): Record<string, string> {
  const home = process.env['HOME']
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LANG: 'C.UTF-8',
    ...(home ? { HOME: home } : {}),
    ...more,
  }
}

/** @throws UmbraError TIMED_OUT, UNAVAILABLE: it cannot be started, INVALID_DOCUMENT: it says too much */
export function runCommand(options: CommandOptions): Promise<CommandEnd> {
  const child = spawn(options.program, [...options.args], {
    cwd: '/',
    env: cleanEnvironment(options.environment),
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  if (child.pid !== undefined) options.onStart?.(child.pid)
  const { program, timeoutMs, signal } = options
  return new Promise((resolve, reject) => {
    const lines = new Lines(options.onLine)
    const chunks: Buffer[] = []
    let size = 0
    const settle = (work: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
      child.removeAllListeners('close')
      for (const stream of child.stdio) stream?.destroy()
      lines.end()
      work()
    }
    const fail = (error: UmbraError): void => {
      killGroup(child)
      settle(() => reject(error))
    }
    const stop = (): void =>
      fail(new UmbraError('TIMED_OUT', `${program} did not end in ${timeoutMs} ms and was killed`))
    const timer = setTimeout(stop, timeoutMs)
    signal?.addEventListener('abort', stop, { once: true })
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size <= DOCUMENT_MAX_BYTES) chunks.push(chunk)
      else fail(new UmbraError('INVALID_DOCUMENT', `${program} says more than ${DOCUMENT_MAX_BYTES} bytes`))
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => lines.add(text))
    // A program need not read its input.
    child.stdin.on('error', () => {})
    child.stdin.end(options.input)
    child.once('error', (error) =>
      settle(() =>
        reject(new UmbraError('UNAVAILABLE', `Cannot run ${program}: ${error.message}`, {}, error)),
      ),
    )
    child.once('exit', (code, endSignal) => {
      const end = (): void =>
        settle(() =>
          resolve({ code, signal: endSignal, output: Buffer.concat(chunks), lastLine: lines.last }),
        )
      const drain = setTimeout(end, DRAIN_MS)
      child.once('close', () => {
        clearTimeout(drain)
        end()
      })
    })
  })
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It has ended meanwhile.
  }
}

/** Cuts a stream into lines, of bounded length and number. */
class Lines {
  readonly #onLine: ((line: string) => void) | undefined
  #pending = ''
  #count = 0
  last = ''

  constructor(onLine: ((line: string) => void) | undefined) {
    this.#onLine = onLine
  }

  add(text: string): void {
    const parts = (this.#pending + text).split('\n')
    this.#pending = (parts.pop() ?? '').slice(0, LINE_CHARACTERS_MAX)
    for (const part of parts) this.#take(part)
  }

  end(): void {
    if (this.#pending !== '') this.#take(this.#pending)
    this.#pending = ''
  }

  #take(line: string): void {
    const shown = line.trimEnd().slice(0, LINE_CHARACTERS_MAX)
    if (shown === '') return
    this.last = shown
    if (++this.#count <= LINES_MAX) this.#onLine?.(shown)
  }
}
