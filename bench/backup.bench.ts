// What a backup costs as the whole command: an incremental with nothing changed and one with a little changed, beside a
// full, of a mounted volume with much written.
//
//   npm run bench -- backup [--gib 8] [--changed-mib 10] [--rounds 5] [--dir DIR]

import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { run } from './contenders.ts'
import { plainTable } from './plain-table.ts'

const UMBRA = new URL('../bin/umbra.js', import.meta.url).pathname
const LIMIT_MS = 1000
const { values } = parseArgs({
  allowPositionals: true,
  options: {
    gib: { type: 'string', default: '8' },
    'changed-mib': { type: 'string', default: '10' },
    rounds: { type: 'string', default: '5' },
    dir: { type: 'string' },
  },
})
const gib = Number(values.gib)
const changedMib = Number(values['changed-mib'])
const rounds = Number(values.rounds)
const scratchDir = mkdtempSync(join(values.dir ?? tmpdir(), 'umbra-backup-'))
const mountPoint = join(scratchDir, 'mount')
const volume = join(scratchDir, 'v.umbra')
const repository = join(scratchDir, 'repository')
process.env['UMBRA_RUNTIME_DIR'] = join(scratchDir, 'run')
process.env['UMBRA_CONFIG_DIR'] = join(scratchDir, 'config')

const umbra = (...args: string[]) => run(UMBRA, args, 1_800_000)

interface Took {
  readonly ms: number
  readonly fileBytes: number
}

/** The whole process, from its start to its end. */
function backup(type: string): Took {
  const startedAtMs = performance.now()
  const out = umbra('backup', volume, '--to', repository, '--type', type, '--json')
  const ms = performance.now() - startedAtMs
  const { folder, images } = JSON.parse(out) as { folder: string; images: { file: string }[] }
  const fileBytes = images.reduce((sum, { file }) => sum + statSync(join(folder, file)).blocks * 512, 0)
  return { ms, fileBytes }
}

function row(name: string, all: readonly Took[]): string[] {
  const times = all.map(({ ms }) => ms).sort((a, b) => a - b)
  const median = times[Math.floor(times.length / 2)] ?? 0
  const text = (ms: number) => `${ms.toFixed(0)} ms`
  const mib = ((all[0]?.fileBytes ?? 0) / 2 ** 20).toFixed(2)
  return [name, text(times[0] ?? 0), text(median), text(times.at(-1) ?? 0), `${mib} MiB`]
}

try {
  mkdirSync(mountPoint)
  umbra('create', volume, '--size', `${gib * 2}G`)
  umbra('mount', volume, mountPoint)
  for (let i = 0; i < gib; i++)
    run('dd', ['if=/dev/urandom', `of=${mountPoint}/f${i}`, 'bs=4M', 'count=256', 'status=none'], 1_800_000)
  umbra('sync', mountPoint)
  const full = backup('full')
  const unchanged: Took[] = []
  const changed: Took[] = []
  for (let i = 0; i < rounds; i++) {
    unchanged.push(backup('incremental'))
    run(
      'dd',
      [
        'if=/dev/urandom',
        `of=${mountPoint}/f0`,
        'bs=1M',
        `count=${changedMib}`,
        `seek=${i * changedMib}`,
        'conv=notrunc,fsync',
        'status=none',
      ],
      600_000,
    )
    changed.push(backup('incremental'))
  }
  const head = ['', 'least', 'median', 'most', 'image']
  console.log(`A mounted volume with ${gib} GiB written; the whole command, ${rounds} rounds\n`)
  console.log(
    plainTable([
      head,
      row('full', [full]),
      row(`incremental, ${changedMib} MiB changed`, changed),
      row('incremental, nothing changed', unchanged),
    ]),
  )
  const most = Math.max(...unchanged.map(({ ms }) => ms))
  console.log(`\nNothing changed: ${most < LIMIT_MS ? 'always under' : 'not always under'} ${LIMIT_MS} ms`)
} finally {
  run(UMBRA, ['unmount', '--force', mountPoint], 60_000)
  rmSync(scratchDir, { recursive: true, force: true })
}
