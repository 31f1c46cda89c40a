// Compares Umbra with libfuse's passthrough_ll, fuse2fs and the host's own file system, on the same
// medium, in turn, in one run. Absolute times of a shared machine say little: read the ratios.
//
//   npm run bench -- file-systems [--rounds 3] [--mib 256] [--files 5000] [--only umbra,host] [--json]

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CONTENDERS, type Mounted, run } from './contenders.ts'
import { plainTable } from './plain-table.ts'

interface Operation {
  readonly name: string
  readonly unit: string
  args(dir: string): string[]
  /** From seconds to the figure shown (higher is better). */
  figure(seconds: number): number
}

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    mib: { type: 'string', default: '256' },
    files: { type: 'string', default: '5000' },
    only: { type: 'string' },
    dir: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const rounds = Number(values.rounds)
const mib = Number(values.mib)
const files = Number(values.files)
const accesses = 5000
const appends = 300

function operations(): Operation[] {
  const data = (dir: string) => join(dir, 'data')
  const names = (dir: string) => join(dir, 'names')
  const per = (count: number) => (seconds: number) => count / seconds
  return [
    {
      name: 'sequential write 1 MiB',
      unit: 'MiB/s',
      args: (d) => ['seqwrite', data(d), `${mib}`],
      figure: per(mib),
    },
    {
      name: 'sequential read 1 MiB',
      unit: 'MiB/s',
      args: (d) => ['seqread', data(d), `${mib}`],
      figure: per(mib),
    },
    {
      name: 'random read 4 KiB',
      unit: '/s',
      args: (d) => ['randread', data(d), `${mib}`, `${accesses}`],
      figure: per(accesses),
    },
    {
      name: 'random write 4 KiB, fsync',
      unit: '/s',
      args: (d) => ['randwrite', data(d), `${mib}`, `${accesses}`],
      figure: per(accesses),
    },
    {
      name: 'direct read 4 KiB',
      unit: '/s',
      args: (d) => ['directread', data(d), `${mib}`, `${accesses}`],
      figure: per(accesses),
    },
    {
      name: 'direct write 4 KiB',
      unit: '/s',
      args: (d) => ['directwrite', data(d), `${mib}`, `${accesses}`],
      figure: per(accesses),
    },
    {
      name: 'append 4 KiB + fsync',
      unit: '/s',
      args: (d) => ['append', join(d, 'log'), `${appends}`],
      figure: per(appends),
    },
    { name: 'create', unit: '/s', args: (d) => ['create', names(d), `${files}`], figure: per(files) },
    { name: 'stat', unit: '/s', args: (d) => ['stat', names(d), `${files}`], figure: per(files) },
    { name: 'list + stat', unit: '/s', args: (d) => ['list', names(d)], figure: per(files) },
    { name: 'unlink', unit: '/s', args: (d) => ['unlink', names(d), `${files}`], figure: per(files) },
  ]
}

const scratchDir = mkdtempSync(join(values.dir ?? tmpdir(), 'umbra-bench-'))
const client = join(scratchDir, 'client')

function timed(operation: Operation, dir: string, pinned: boolean): number | undefined {
  const args = operation.args(dir)
  const [command, rest] = pinned ? ['taskset', ['-c', '0', client, ...args]] : [client, args]
  const done = spawnSync(command, rest, { encoding: 'utf8', timeout: 300_000 })
  return done.status === 0 ? Number(done.stdout) : undefined
}

function pin(mounted: Mounted, cpus: string): void {
  for (const pid of mounted.pids) spawnSync('taskset', ['-a', '-c', '-p', cpus, `${pid}`])
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

type Figures = Map<string, Map<string, number[]>>

function record(figures: Figures, operation: Operation, contender: string, seconds: number): void {
  const byName = figures.get(operation.name) ?? new Map<string, number[]>()
  byName.set(contender, [...(byName.get(contender) ?? []), operation.figure(seconds)])
  figures.set(operation.name, byName)
}

/** One round: each operation on every contender in turn, so that a slow minute hits all alike. */
function playRound(
  round: number,
  running: readonly [string, Mounted][],
  pinned: boolean,
  figures: Figures,
): void {
  const dirOf = (mounted: Mounted) => join(mounted.dir, `round-${round}`)
  for (const [, mounted] of running) mkdirSync(join(dirOf(mounted), 'names'), { recursive: true })
  for (const operation of operations()) {
    for (const [name, mounted] of running) {
      const seconds = timed(operation, dirOf(mounted), pinned)
      if (seconds !== undefined) record(figures, operation, name, seconds)
    }
  }
  for (const [, mounted] of running) rmSync(dirOf(mounted), { recursive: true })
}

async function mountAll(): Promise<[string, Mounted][]> {
  const running: [string, Mounted][] = []
  for (const contender of CONTENDERS) {
    if (values.only && !values.only.split(',').includes(contender.name)) continue
    const why = contender.missing()
    if (why) process.stderr.write(`${contender.name} is left out: ${why}\n`)
    else
      running.push([
        contender.name,
        await contender.mount(mkdtempSync(join(scratchDir, `${contender.name}-`))),
      ])
  }
  return running
}

async function measure(pinned: boolean): Promise<Map<string, Map<string, number>>> {
  const figures: Figures = new Map()
  const running = await mountAll()
  try {
    for (const [, mounted] of running) pin(mounted, pinned ? '0' : '0-1')
    for (let round = 0; round < rounds; round++) playRound(round, running, pinned, figures)
  } finally {
    for (const [, mounted] of running) await mounted.unmount()
  }
  const medians = (byName: Map<string, number[]>) =>
    new Map([...byName].map(([name, all]) => [name, median(all)]))
  return new Map([...figures].map(([operation, byName]) => [operation, medians(byName)]))
}

function ratio(of: number | undefined, to: number | undefined): string {
  return of === undefined || to === undefined ? '-' : `${(of / to).toFixed(2)}x`
}

function print(title: string, result: Map<string, Map<string, number>>): void {
  const names = CONTENDERS.map((c) => c.name)
  const rows: string[][] = [['operation', ...names, 'umbra/passthrough_ll', 'umbra/fuse2fs']]
  for (const operation of operations()) {
    const figures = result.get(operation.name) ?? new Map<string, number>()
    const shown = names.map((name) =>
      figures.has(name) ? `${Math.round(figures.get(name) as number)} ${operation.unit}` : '-',
    )
    const mine = figures.get('umbra')
    rows.push([
      operation.name,
      ...shown,
      ratio(mine, figures.get('passthrough_ll')),
      ratio(mine, figures.get('fuse2fs')),
    ])
  }
  console.log(
    `\n${title}: medians of ${rounds} rounds, ${mib} MiB of data, ${files} files\n${plainTable(rows)}`,
  )
}

try {
  run('cc', ['-O2', '-o', client, new URL('client.c', import.meta.url).pathname])
  const pinned = await measure(true)
  const free = await measure(false)
  if (values.json) {
    const plain = (m: Map<string, Map<string, number>>) =>
      Object.fromEntries([...m].map(([k, v]) => [k, Object.fromEntries(v)]))
    writeFileSync(
      1,
      `${JSON.stringify({ rounds, mib, files, pinned: plain(pinned), free: plain(free) }, null, 2)}\n`,
    )
  } else {
    print('Client and server on one CPU', pinned)
    print('Free to use both CPUs', free)
  }
} finally {
  rmSync(scratchDir, { recursive: true, force: true })
}
