// What one request costs through the FUSE device, with and without spinning, with client and server on
// one processor, on two, and as the scheduler likes; medians of interleaved rounds.
//
// The server is the tests' echo file system (one file in memory), so that what is measured is the
// hand-off and our device, not a file system.
//
//   npm run bench -- round-trip [--rounds 5] [--count 8000] [--spin 0,50]

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { run } from './contenders.ts'
import { plainTable } from './plain-table.ts'

const SERVER = fileURLToPath(new URL('../test/fuse/echo-server.ts', import.meta.url))
const { values } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '5' },
    count: { type: 'string', default: '8000' },
    spin: { type: 'string', default: '0,50' },
  },
})
const scratchDir = mkdtempSync(join(tmpdir(), 'umbra-round-trip-'))
const client = join(scratchDir, 'round-trip')
const mountPoint = join(scratchDir, 'mount')

const pin = (cpu: number) => ['taskset', '-c', String(cpu)]
const PLACEMENTS: readonly (readonly [name: string, server: string[], client: string[]])[] = [
  ['one CPU', pin(0), pin(0)],
  ['two CPUs', pin(0), pin(1)],
  ['free', [], []],
]

async function nextMessage(server: ChildProcess, type: string): Promise<void> {
  for (;;) {
    const [message] = (await once(server, 'message', { signal: AbortSignal.timeout(20_000) })) as [
      { type: string; message?: string },
    ]
    if (message.type === type) return
    if (message.type === 'failed') throw new Error(message.message)
  }
}

/** Microseconds: getattr, 4 KiB read, 4 KiB write, 1 MiB read. */
async function measure(spinUs: number, serverPin: string[], clientPin: string[]): Promise<number[]> {
  const options = JSON.stringify({ spinUs })
  const words = [...serverPin, process.execPath, '--import', 'tsx', SERVER, mountPoint, options]
  const server = spawn(words[0] as string, words.slice(1), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  try {
    await nextMessage(server, 'ready')
    const [program, ...rest] = [...clientPin, client, join(mountPoint, 'echo'), values.count]
    const printed = run(program as string, rest, 120_000)
    const ended = once(server, 'exit')
    server.send({ type: 'unmount' })
    await ended
    return printed.trim().split(' ').map(Number)
  } finally {
    server.kill('SIGKILL')
  }
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] as number
}

async function main(): Promise<void> {
  run('cc', ['-O2', '-o', client, fileURLToPath(new URL('round-trip.c', import.meta.url))], 60_000)
  mkdirSync(mountPoint)
  const cells = new Map<string, number[][]>()
  for (let round = 0; round < Number(values.rounds); round++)
    for (const spin of values.spin.split(','))
      for (const [name, serverPin, clientPin] of PLACEMENTS) {
        const key = `${name}, ${spin === '0' ? 'no spin' : `spin ${spin} us`}`
        const results = cells.get(key) ?? []
        results.push(await measure(Number(spin), serverPin, clientPin))
        cells.set(key, results)
      }
  const rows = [...cells].map(([name, results]) => [
    name,
    ...[0, 1, 2, 3].map((i) => median(results.map((result) => result[i] as number)).toFixed(1)),
  ])
  console.log('Round trip of one request, us, median')
  console.log(plainTable([['', 'getattr', 'read 4 KiB', 'write 4 KiB', 'read 1 MiB'], ...rows]))
}

try {
  await main()
} finally {
  rmSync(scratchDir, { recursive: true, force: true })
}
