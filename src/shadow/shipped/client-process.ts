// A database's own command-line client, held open as a conversation: psql, mariadb, sqlite3, redis-cli.
// What Freeze begins and Thaw ends must live in one connection, and the client that comes with the
// server speaks its protocol, its authentication and its configuration files better than we could.
//
// Always true: one question at a time; every answer ends at a mark that the client itself prints, and
// what came before it is the answer, so nothing is guessed from silence; a client that dies or does not answer
// in time ends the conversation, and with it whatever lock its connection held.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { UmbraError } from '../../base/errors.ts'

/** How one client program is talked to. */
export interface ClientDialect {
  /** For messages. */
  readonly program: string
  /** Sends text so that the client prints `mark` alone on a line after all it had to say to it. */
  question(text: string, mark: string): string
  /** The lines of the answer that tell of an error; undefined: it went well. */
  errorIn(lines: readonly string[]): string | undefined
  /** What a client says that goes on without its server, and so never prints the mark; at the beginning of a line. */
  readonly lost?: RegExp
  /** The last word. */
  readonly farewell: string
}

const ANSWER_BYTES_MAX = 64 * 1024 * 1024
const ANSWER_TIMEOUT_MS = 60_000
const END_TIMEOUT_MS = 5000

export interface ClientOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly timeoutMs?: number
  /** Instead of this process's own user; no supplementary groups. */
  readonly runAs?: { readonly uid: number; readonly gid: number } | undefined
}

export class ClientProcess {
  readonly #dialect: ClientDialect
  readonly #child: ChildProcess
  readonly #whenEnded: Promise<void>
  #said = ''
  #onSaid: () => void = () => {}
  #isEnded = false
  #isAsking = false

  private constructor(argv: readonly string[], dialect: ClientDialect, options: ClientOptions) {
    const { env = process.env, runAs } = options
    this.#dialect = dialect
    // Errors must keep their place in the answer, so both streams are one.
    this.#child = spawn('/bin/sh', ['-c', 'exec "$@" 2>&1', 'sh', ...argv], {
      cwd: '/',
      env,
      ...runAs,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#said += text
      this.#onSaid()
    })
    // Writing to a client that has ended; its end is what tells.
    this.#child.stdin?.on('error', () => {})
    this.#whenEnded = new Promise((resolve) => {
      const end = (): void => {
        this.#isEnded = true
        this.#onSaid()
        resolve()
      }
      this.#child.once('close', end)
      this.#child.once('error', end)
    })
  }

  /**
   * Starts the client and waits until it answers.
   * @param argv the program with its arguments, looked up on the PATH
   * @throws UmbraError UNAVAILABLE with what the client said, TIMED_OUT
   */
  static async start(
    argv: readonly string[],
    dialect: ClientDialect,
    options: ClientOptions = {},
  ): Promise<ClientProcess> {
    const client = new ClientProcess(argv, dialect, options)
    try {
      await client.ask('', options.timeoutMs)
      return client
    } catch (error) {
      await client.close()
      throw error
    }
  }

  /** Settles when the client has ended, by itself or not. */
  get whenEnded(): Promise<void> {
    return this.#whenEnded
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /**
   * @returns the lines of the answer
   * @throws UmbraError WRITER_FAILED when the server refuses, UNAVAILABLE when the client has gone, TIMED_OUT
   */
  async ask(text: string, timeoutMs: number = ANSWER_TIMEOUT_MS): Promise<string[]> {
    if (this.#isAsking) throw new UmbraError('BAD_STATE', `${this.#dialect.program} is being asked already`)
    this.#isAsking = true
    try {
      const mark = `umbra-${randomBytes(9).toString('hex')}`
      this.#child.stdin?.write(this.#dialect.question(text, mark))
      const lines = await this.#until(mark, timeoutMs)
      const error = this.#dialect.errorIn(lines)
      if (error !== undefined) {
        throw new UmbraError('WRITER_FAILED', `${this.#dialect.program} answered ${oneLine(text)}: ${error}`)
      }
      return lines
    } finally {
      this.#isAsking = false
    }
  }

  /** Ends the conversation; what its connection held is released by the server. Never throws. */
  async close(): Promise<void> {
    if (!this.#isEnded) this.#child.stdin?.end(this.#dialect.farewell)
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS)
    await this.#whenEnded
    clearTimeout(timer)
  }

  /** At once, without a word: as when the machine goes down. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #until(mark: string, timeoutMs: number): Promise<string[]> {
    const { program } = this.#dialect
    return new Promise((resolve, reject) => {
      const settle = (work: () => void): void => {
        clearTimeout(timer)
        this.#onSaid = () => {}
        work()
      }
      const timer = setTimeout(() => {
        // An answer that comes later would be taken for the next one's.
        this.kill()
        settle(() => reject(new UmbraError('TIMED_OUT', `${program} did not answer within ${timeoutMs} ms`)))
      }, timeoutMs)
      this.#onSaid = () => {
        const lines = this.#takeAnswer(mark)
        if (lines) return settle(() => resolve(lines))
        if (this.#isEnded) return settle(() => reject(this.#gone()))
        if (this.#dialect.lost?.test(this.#said)) {
          this.kill()
          return settle(() => reject(this.#gone()))
        }
        if (this.#said.length > ANSWER_BYTES_MAX) {
          this.kill()
          settle(() => reject(new UmbraError('LIMIT_EXCEEDED', `${program} answered too much`)))
        }
      }
      this.#onSaid()
    })
  }

  #takeAnswer(mark: string): string[] | undefined {
    const text = this.#said
    const at = text.startsWith(`${mark}\n`) ? 0 : text.indexOf(`\n${mark}\n`) + 1
    if (at === 0 && !text.startsWith(`${mark}\n`)) return undefined
    this.#said = text.slice(at + mark.length + 1)
    return text.slice(0, at).split('\n').slice(0, -1)
  }

  #gone(): UmbraError {
    const said = oneLine(this.#said)
    return new UmbraError('UNAVAILABLE', `${this.#dialect.program} has ended${said ? `: ${said}` : ''}`)
  }
}

function oneLine(text: string): string {
  const line = text.trim().replaceAll(/\s+/g, ' ')
  return line.length > 300 ? `${line.slice(0, 300)}...` : line
}
