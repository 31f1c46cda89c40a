// How long a mounted volume's writes are held for a shadow copy, idle and under load, without writers and
// with them, and how long a program's commits took meanwhile.
//
//   npm run bench -- hold-time [--count 200] [--dir DIR]

import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ControlShadowProvider } from '../src/daemon/control-shadow-provider.ts'
import { run } from './contenders.ts'
import {
  type HoldTimes,
  measureHolds,
  type Percentiles,
  percentiles,
  type ShadowTimes,
  startLoad,
} from './hold-times.ts'
import { shadowsWithWriters, startCommits } from './hold-writers.ts'
import { plainTable } from './plain-table.ts'

const UMBRA = new URL('../bin/umbra.js', import.meta.url).pathname
const { values } = parseArgs({
  allowPositionals: true,
  options: { count: { type: 'string', default: '200' }, dir: { type: 'string' } },
})
const scratchDir = mkdtempSync(join(values.dir ?? tmpdir(), 'umbra-hold-'))
const mountPoint = join(scratchDir, 'mount')
process.env['UMBRA_RUNTIME_DIR'] = join(scratchDir, 'run')
process.env['UMBRA_CONFIG_DIR'] = join(scratchDir, 'config')
const provider = new ControlShadowProvider()

const umbra = (...args: string[]) => run(UMBRA, args, 600_000)

async function shadow(name: string): Promise<ShadowTimes> {
  const startedAtMs = performance.now()
  const request = { snapshotSetId: randomUUID(), attributes: 0, setCount: 1, snapshotName: name }
  const sequence = await provider.begin(mountPoint, request)
  await sequence.endPrepare({ setCount: 1 })
  await sequence.preCommit()
  const { flushMs } = await sequence.flushAndHold()
  await sequence.commit()
  const { heldMs } = await sequence.release()
  await sequence.postCommit()
  await sequence.preFinalCommit()
  await sequence.seal()
  await sequence.end({ keepBookmark: false })
  return { heldMs, flushMs, totalMs: performance.now() - startedAtMs }
}

const milliseconds = (ms: number) => `${ms.toFixed(2)} ms`

function row(name: string, { p50, p99, max }: Percentiles): string[] {
  return [name, ...[p50, p99, max].map(milliseconds)]
}

function rowsOf(name: string, times: HoldTimes): string[][] {
  return (['heldMs', 'flushMs', 'totalMs'] as const).map((field) =>
    row(`${name}, ${field.replace('Ms', '')}`, times[field]),
  )
}

/** The load writes all the time, and a program commits into a database; commits are measured without shadow copies, too. */
async function underLoad(count: number): Promise<string[][]> {
  const folder = join(mountPoint, 'database')
  mkdirSync(folder)
  const database = join(folder, 'bench.db')
  const load = await startLoad(mountPoint)
  const alone = await startCommits(database)
  await new Promise((resolve) => setTimeout(resolve, 10_000))
  const rows = [row('commits, no shadow copies', await alone.stop())]
  const unasked = await startCommits(database)
  rows.push(...rowsOf('under load, without writers', await measureHolds(count, shadow)))
  rows.push(row('  commits meanwhile', await unasked.stop()))
  const writers = shadowsWithWriters(mountPoint, folder, join(scratchDir, 'hooks.d'))
  const frozen: number[] = []
  const asked = await startCommits(database)
  const held = await measureHolds(count, async (name) => {
    const times = await writers.make(name)
    frozen.push(times.frozenMs)
    return times
  })
  rows.push(...rowsOf('under load, SQLite writer and hook', held))
  rows.push(row('  frozen', percentiles(frozen)), row('  commits meanwhile', await asked.stop()))
  await writers.close()
  console.log(`Load: O_SYNC, O_DIRECT and buffered, ${await load.stop()} rounds`)
  return rows
}

try {
  const count = Number(values.count)
  const volume = join(scratchDir, 'v.umbra')
  mkdirSync(mountPoint)
  umbra('create', volume, '--size', '8G')
  umbra('mount', volume, mountPoint)
  const idle = await measureHolds(count, shadow)
  const loaded = await underLoad(count)
  console.log(`${count} shadow copies each\n`)
  console.log(plainTable([['', 'p50', 'p99', 'max'], ...rowsOf('idle', idle), ...loaded]))
} finally {
  run(UMBRA, ['unmount', '--force', mountPoint], 60_000)
  rmSync(scratchDir, { recursive: true, force: true })
}
