// What size costs: creating a volume, taking a snapshot, exporting an increment, and the daemon's
// memory, at several sizes in one run. What must not grow with the volume is shown side by side.
//
//   npm run bench -- cost [--gib 1,8] [--dir DIR]

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from './contenders.ts'
import { plainTable } from './plain-table.ts'

const UMBRA = new URL('../bin/umbra.js', import.meta.url).pathname
const { values } = parseArgs({
  allowPositionals: true,
  options: { gib: { type: 'string', default: '1,8' }, dir: { type: 'string' } },
})
const scratchDir = mkdtempSync(join(values.dir ?? tmpdir(), 'umbra-cost-'))
const client = join(scratchDir, 'client')

const umbra = (...args: string[]) => run(UMBRA, args, 600_000)

/** Milliseconds that `work` takes, process start included. */
function elapsedMs(work: () => unknown): number {
  const start = performance.now()
  work()
  return performance.now() - start
}

function onDiskBytes(path: string): number {
  return statSync(path).blocks * 512
}

function residentMiB(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1]) / 1024
}

function daemonPid(volume: string): number {
  return (JSON.parse(umbra('status', volume, '--json')) as { daemon: { pid: number } }).daemon.pid
}

interface SnapshotTimes {
  readonly flushMs: number
  readonly cutMs: number
}

function snapshot(volume: string, name: string): SnapshotTimes {
  return JSON.parse(umbra('snapshot', 'create', volume, name, '--json')) as SnapshotTimes
}

const milliseconds = (ms: number) => `${ms.toFixed(1)} ms`
const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(2)} MiB`

function creation(): void {
  const rows = [['volume', 'created in', 'on disk', 'flush', 'cut']]
  for (const size of ['1G', '64G', '1T', '16T']) {
    const volume = join(scratchDir, `empty-${size}.umbra`)
    const dir = join(scratchDir, `mount-${size}`)
    mkdirSync(dir)
    const createMs = elapsedMs(() => umbra('create', volume, '--size', size))
    const disk = onDiskBytes(volume)
    umbra('mount', volume, dir)
    const times = Array.from({ length: 5 }, (_, i) => snapshot(dir, `s${i}`)).sort(
      (a, b) => a.cutMs - b.cutMs,
    )
    umbra('unmount', dir)
    rows.push([
      size,
      milliseconds(createMs),
      mebibytes(disk),
      milliseconds(times[2]?.flushMs ?? Number.NaN),
      milliseconds(times[2]?.cutMs ?? Number.NaN),
    ])
    rmSync(volume)
  }
  console.log(`\nCreating a volume and taking a snapshot (median of 5), by virtual size\n${plainTable(rows)}`)
}

function increments(): void {
  const rows = [
    [
      'written',
      'changed',
      'incremental image',
      'exported in',
      'unchanged exported in',
      'full exported in',
      'daemon peak',
    ],
  ]
  for (const gib of values.gib.split(',').map(Number)) {
    const volume = join(scratchDir, `written-${gib}.umbra`)
    const dir = join(scratchDir, `written-${gib}`)
    mkdirSync(dir)
    umbra('create', volume, '--size', `${gib * 2 + 4}G`)
    umbra('mount', volume, dir)
    run(client, ['seqwrite', join(dir, 'data'), `${gib * 1024}`], 600_000)
    run(client, ['seqread', join(dir, 'data'), `${gib * 1024}`], 600_000)
    const peakMiB = residentMiB(daemonPid(volume), 'VmHWM')
    snapshot(dir, 'base')
    run(client, ['randwrite', join(dir, 'data'), `${gib * 1024}`, '2560'])
    snapshot(dir, 'changed')
    snapshot(dir, 'unchanged')
    const exported = (name: string, ...args: string[]) => {
      const file = join(scratchDir, `${name}-${gib}.qcow2`)
      const ms = elapsedMs(() => umbra('export', dir, ...args, '--format', 'qcow2', '-o', file))
      const bytes = onDiskBytes(file)
      rmSync(file)
      rmSync(`${file}.umbra.json`, { force: true })
      return { ms, bytes }
    }
    const increment = exported('increment', 'changed', '--since', 'base')
    const nothing = exported('nothing', 'unchanged', '--since', 'changed')
    const full = exported('full', 'changed')
    umbra('unmount', dir)
    rmSync(volume)
    rows.push([
      `${gib} GiB`,
      '10 MiB',
      mebibytes(increment.bytes),
      milliseconds(increment.ms),
      milliseconds(nothing.ms),
      milliseconds(full.ms),
      `${peakMiB.toFixed(0)} MiB`,
    ])
  }
  console.log(
    `\nIncremental export after 2,560 random 4 KiB writes (times include starting the process)\n${plainTable(rows)}`,
  )
}

try {
  run('cc', ['-O2', '-o', client, new URL('client.c', import.meta.url).pathname])
  creation()
  increments()
} finally {
  rmSync(scratchDir, { recursive: true, force: true })
}
