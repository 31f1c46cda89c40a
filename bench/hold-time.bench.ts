// How long a mounted volume's writes are held for a shadow copy, under load and idle, without writers.
//
//   npm run bench -- hold-time [--count 200] [--dir DIR]

import { randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ControlShadowProvider } from '../src/daemon/control-shadow-provider.ts'
import { run } from './contenders.ts'
import { type HoldTimes, measureHolds, type ShadowTimes, startLoad } from './hold-times.ts'
import { plainTable } from './plain-table.ts'

const UMBRA = new URL('../bin/umbra.js', import.meta.url).pathname
const { values } = parseArgs({
  allowPositionals: true,
  options: { count: { type: 'string', default: '200' }, dir: { type: 'string' } },
})
const scratchDir = mkdtempSync(join(values.dir ?? tmpdir(), 'umbra-hold-'))
const mountPoint = join(scratchDir, 'mount')
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

function rowsOf(name: string, times: HoldTimes): string[][] {
  return (['heldMs', 'flushMs', 'totalMs'] as const).map((field) => {
    const { p50, p99, max } = times[field]
    return [`${name}, ${field.replace('Ms', '')}`, ...[p50, p99, max].map(milliseconds)]
  })
}

try {
  const count = Number(values.count)
  const volume = join(scratchDir, 'v.umbra')
  mkdirSync(mountPoint)
  umbra('create', volume, '--size', '8G')
  umbra('mount', volume, mountPoint)
  const idle = await measureHolds(count, shadow)
  const load = await startLoad(mountPoint)
  const loaded = await measureHolds(count, shadow)
  const written = await load.stop()
  console.log(`${count} shadow copies each; under load: O_SYNC, O_DIRECT and buffered, ${written} rounds\n`)
  const head = ['', 'p50', 'p99', 'max']
  console.log(plainTable([head, ...rowsOf('idle', idle), ...rowsOf('under load', loaded)]))
} finally {
  run(UMBRA, ['unmount', '--force', mountPoint], 60_000)
  rmSync(scratchDir, { recursive: true, force: true })
}
