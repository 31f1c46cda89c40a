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

/** The ways in which 10 MiB are changed: one 4 KiB block in a place, or runs of 64 KiB. */
const CHANGES = [
  { name: '160 x 64 KiB', operation: 'randruns', count: 160 },
  { name: '2,560 x 4 KiB', operation: 'randwrite', count: 2560 },
] as const

interface Exported {
  readonly ms: number
  readonly bytes: number
}

function exportQcow2(dir: string, ...args: string[]): Exported {
  const file = join(scratchDir, 'export.qcow2')
  const ms = elapsedMs(() => umbra('export', dir, ...args, '--format', 'qcow2', '-o', file))
  const bytes = onDiskBytes(file)
  rmSync(file)
  return { ms, bytes }
}

function increments(): void {
  const rows = [['written', 'changed', 'image', 'exported in', 'unchanged in', 'full in', 'daemon peak']]
  for (const gib of values.gib.split(',').map(Number)) {
    const volume = join(scratchDir, `written-${gib}.umbra`)
    const dir = join(scratchDir, `written-${gib}`)
    const data = join(dir, 'data')
    mkdirSync(dir)
    umbra('create', volume, '--size', `${gib * 2 + 4}G`)
    umbra('mount', volume, dir)
    run(client, ['seqwrite', data, `${gib * 1024}`], 600_000)
    run(client, ['seqread', data, `${gib * 1024}`], 600_000)
    const peakMiB = residentMiB(daemonPid(volume), 'VmHWM')
    snapshot(dir, 'base')
    const fullMs = exportQcow2(dir, 'base').ms
    let before = 'base'
    for (const { name, operation, count } of CHANGES) {
      run(client, [operation, data, `${gib * 1024}`, `${count}`])
      snapshot(dir, operation)
      snapshot(dir, `${operation}-again`)
      const changed = exportQcow2(dir, operation, '--since', before)
      const unchanged = exportQcow2(dir, `${operation}-again`, '--since', operation)
      before = `${operation}-again`
      rows.push([
        `${gib} GiB`,
        name,
        mebibytes(changed.bytes),
        milliseconds(changed.ms),
        milliseconds(unchanged.ms),
        milliseconds(fullMs),
        `${peakMiB.toFixed(0)} MiB`,
      ])
    }
    umbra('unmount', dir)
    rmSync(volume)
  }
  console.log(
    `\nIncremental qcow2 of 10 MiB changed at random (times include starting the process; each 4 KiB block alone in its 2 MiB also takes an L2 table)\n${plainTable(rows)}`,
  )
}

try {
  run('cc', ['-O2', '-o', client, new URL('client.c', import.meta.url).pathname])
  creation()
  increments()
} finally {
  rmSync(scratchDir, { recursive: true, force: true })
}
