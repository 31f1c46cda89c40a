// How long writes are held while shadow copies are made, whoever makes them: percentiles over many, with a
// load that writes all the time.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const LOAD = fileURLToPath(new URL('../test/mount/hands.py', import.meta.url))

/** What one shadow copy took. */
export interface ShadowTimes {
  readonly heldMs: number
  readonly flushMs: number
  readonly totalMs: number
}

export interface Percentiles {
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export type HoldTimes = Readonly<Record<keyof ShadowTimes, Percentiles>>

/** @param make makes one shadow copy and lets it go again */
export async function measureHolds(
  count: number,
  make: (name: string) => Promise<ShadowTimes>,
): Promise<HoldTimes> {
  const all: ShadowTimes[] = []
  // The first one opens what stays open.
  await make('first')
  for (let i = 0; i < count; i++) all.push(await make(`held-${i}`))
  const of = (field: keyof ShadowTimes) => percentiles(all.map((times) => times[field]))
  return { heldMs: of('heldMs'), flushMs: of('flushMs'), totalMs: of('totalMs') }
}

export function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 }
}

/** Writers that append and overwrite until they are stopped: O_SYNC, O_DIRECT and buffered. */
export async function startLoad(folder: string): Promise<{ stop(): Promise<number> }> {
  const writers: ChildProcess[] = []
  for (const mode of ['sync', 'direct', 'plain']) {
    const child = spawn('python3', [LOAD, 'alternate', mode, join(folder, mode)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    writers.push(child)
    if (child.stdout) await once(child.stdout, 'data')
  }
  return { stop: () => stopAll(writers) }
}

/** @returns how many writes they made */
async function stopAll(writers: readonly ChildProcess[]): Promise<number> {
  let written = 0
  for (const child of writers) {
    child.stdout?.on('data', (text: Buffer) => {
      written += Number(text.toString())
    })
    child.stdin?.end()
    if (child.exitCode === null) await once(child, 'close')
  }
  return written
}
