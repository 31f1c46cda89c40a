// Real Redis servers for tests, and connections to them.
//
// Always true: a server listens on a socket file alone and is gone at teardown; what a folder holds is
// judged by redis-check-aof, redis-check-rdb and a server that loads it.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { run, until } from '../support/run.ts'

export interface RedisServer {
  readonly socket: string
  readonly dir: string
  cli(...words: readonly string[]): Promise<string>
  connect(): Promise<RedisConnection>
  /** Waits for its end. */
  stop(signal?: NodeJS.Signals): Promise<void>
}

export type Persistence = 'always' | 'everysec' | 'dump'

/** @param socket where it is to listen; must not lie in `dir` */
export async function startRedis(
  t: Pick<Assertion, 'teardown'>,
  dir: string,
  socket: string,
  persistence: Persistence,
): Promise<RedisServer> {
  mkdirSync(dir, { recursive: true })
  const words = ['--port', '0', '--unixsocket', socket, '--dir', dir, '--save', '', '--loglevel', 'warning']
  const appending = [
    ...['--appendonly', 'yes', '--appendfsync', persistence],
    // Small, so that rewrites happen by themselves all the time.
    ...['--auto-aof-rewrite-percentage', '50', '--auto-aof-rewrite-min-size', '256kb'],
  ]
  const child = spawn('redis-server', [...words, ...(persistence === 'dump' ? [] : appending)], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout?.on('data', (text: Buffer) => {
    said += text
  })
  const server: RedisServer = {
    socket,
    dir,
    cli: async (...args) => (await run('redis-cli', ['-s', socket, ...args])).stdout.trim(),
    connect: () => RedisConnection.open(socket),
    stop: (signal = 'SIGTERM') => end(child, signal),
  }
  t.teardown(() => server.stop('SIGKILL'), { order: -2 })
  await until(`Redis in ${dir} answers`, async () => {
    if (child.exitCode !== null) throw new Error(`redis-server ended: ${said}`)
    if (!existsSync(socket)) return undefined
    return (await server.cli('PING').catch(() => '')) === 'PONG'
  })
  return server
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}

/** Pipelined requests, each answered in its turn. */
export class RedisConnection {
  readonly #socket: Socket
  readonly #waiting: { resolve: (line: string) => void; reject: (error: Error) => void }[] = []
  #said = ''

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setEncoding('latin1')
    socket.on('data', (text: string) => this.#hear(text))
    socket.on('error', () => {})
    socket.on('close', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error('Redis closed the connection'))
    })
  }

  static async open(path: string): Promise<RedisConnection> {
    const socket = connect(path)
    await once(socket, 'connect')
    return new RedisConnection(socket)
  }

  /** A request whose answer is one line. */
  ask(...words: readonly string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) return reject(new Error('Redis closed the connection'))
      this.#waiting.push({ resolve, reject })
      const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`)
      this.#socket.write(`*${words.length}\r\n${parts.join('')}`)
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #hear(text: string): void {
    this.#said += text
    for (let at = this.#said.indexOf('\r\n'); at >= 0; at = this.#said.indexOf('\r\n')) {
      const line = this.#said.slice(0, at)
      this.#said = this.#said.slice(at + 2)
      const next = this.#waiting.shift()
      if (line.startsWith('-')) next?.reject(new Error(line))
      else next?.resolve(line.slice(1))
    }
  }
}

/** What Redis's own checkers say against a folder. They may mend it: give them a copy. */
export async function checkRedisFiles(dir: string): Promise<string[]> {
  const problems: string[] = []
  const judge = async (program: string, path: string): Promise<void> => {
    if (!existsSync(path)) return
    const { code, stdout } = await run(program, [path], { check: false })
    if (code !== 0) problems.push(`${program} ${path}: ${stdout}`)
  }
  await judge('redis-check-rdb', join(dir, 'dump.rdb'))
  const folder = join(dir, 'appendonlydir')
  if (existsSync(folder)) await judge('redis-check-aof', join(folder, 'appendonly.aof.manifest'))
  return problems
}

/** Names of the files of a folder and its sub-folders. */
export function filesBelow(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()
}
