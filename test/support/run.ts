// Runs a program to its end within a deadline and gives back what it said.
//
// Always true: no test waits for a program without a deadline, and a program past it is ended
// together with its process group.

import { spawn } from 'node:child_process'

export interface RunResult {
  /** Exit code; 128 + signal number where a signal ended it. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  readonly bytes: Buffer
}

export interface RunOptions {
  readonly timeoutMs?: number
  readonly input?: string | Uint8Array
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Reject unless the exit code is 0. Default true. */
  readonly check?: boolean
}

/** @throws Error with the program's output when it fails (unless `check: false`) or passes its deadline */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const timeoutMs = options.timeoutMs ?? 60_000
  const child = spawn(command, args, {
    detached: true,
    cwd: options.cwd,
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, LC_ALL: 'C', ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk))
  // A program that ends without reading its input is judged by its exit code.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input)
  const code = await new Promise<number>((resolve, reject) => {
    const timer = setTimeout(() => {
      killGroup(child.pid)
      reject(new Error(`${command} ${args.join(' ')}: no end after ${timeoutMs} ms\n${Buffer.concat(err)}`))
    }, timeoutMs)
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      resolve(status ?? (signal ? 128 : -1))
    })
  })
  const bytes = Buffer.concat(out)
  const result = { code, bytes, stdout: bytes.toString(), stderr: Buffer.concat(err).toString() }
  if (code !== 0 && options.check !== false) {
    throw new Error(`${command} ${args.join(' ')}: exit code ${code}\n${result.stdout}${result.stderr}`)
  }
  return result
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It has just ended.
  }
}

/**
 * Calls `probe` until it gives something other than undefined or false. The pauses are longer than the
 * calls: a probe that starts a program must not take the processor from what it waits for.
 *
 * @throws after the deadline
 */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = 60_000,
): Promise<Exclude<T, undefined | false | null>> {
  const deadlineMs = Date.now() + timeoutMs
  for (;;) {
    const startedMs = Date.now()
    const result = await probe()
    if (result !== undefined && result !== false && result !== null) {
      return result as Exclude<T, undefined | false | null>
    }
    if (Date.now() > deadlineMs) throw new Error(`Not within ${timeoutMs} ms: ${what}`)
    const pauseMs = Math.min(500, 20 + 2 * (Date.now() - startedMs))
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}
