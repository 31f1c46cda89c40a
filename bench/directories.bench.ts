// Directories small and large: does a name cost the same among a million as among a thousand? Beside the
// kernel's ext4 (a loop device on the same medium) and fuse2fs, which slows as a directory grows and is
// asked up to 10,000 names only. Then a tree of files: untar, and rm -rf. All in one run, in turn.
//
//   npm run bench -- directories [--counts 1000,1000000] [--files 20000] [--json]      (as root, for ext4)

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CONTENDERS, type Contender, type Mounted, run } from './contenders.ts'
import { plainTable } from './plain-table.ts'

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    counts: { type: 'string', default: '1000,1000000' },
    files: { type: 'string', default: '20000' },
    dir: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const counts = values.counts.split(',').map(Number)
const files = Number(values.files)
const FUSE2FS_COUNT_MAX = 10_000
const TIMEOUT_MS = 3_600_000
const OPERATIONS = ['create', 'stat', 'list', 'unlink'] as const

const ext4: Contender = {
  name: 'ext4',
  missing: () => (process.getuid?.() === 0 ? undefined : 'only root mounts it'),
  mount(scratchDir) {
    const image = join(scratchDir, 'ext4.img')
    const dir = join(scratchDir, 'ext4')
    mkdirSync(dir)
    run('truncate', ['-s', '16G', image])
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', image])
    run('mount', ['-o', 'loop', image, dir])
    return Promise.resolve({ dir, pids: [], unmount: () => Promise.resolve(void run('umount', [dir])) })
  },
}

const contenders = [ext4, ...CONTENDERS.filter(({ name }) => name === 'fuse2fs' || name === 'umbra')]
const scratchDir = mkdtempSync(join(values.dir ?? tmpdir(), 'umbra-directories-'))
const client = join(scratchDir, 'client')

/** Seconds, or undefined when it failed. */
function timed(command: string, args: readonly string[]): number | undefined {
  const begin = process.hrtime.bigint()
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: TIMEOUT_MS })
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9
  if (done.status !== 0) process.stderr.write(`${command} ${args.join(' ')}: ${done.stderr}\n`)
  return done.status === 0 ? Number(done.stdout) || seconds : undefined
}

/** Row to contender to names (or files) in a second. */
type Figures = Map<string, Map<string, number>>

function record(
  figures: Figures,
  row: string,
  contender: string,
  count: number,
  seconds: number | undefined,
) {
  if (seconds === undefined) return
  const byName = figures.get(row) ?? new Map<string, number>()
  figures.set(row, byName.set(contender, count / seconds))
}

function measureNames(running: readonly [string, Mounted][], figures: Figures): void {
  for (const count of counts) {
    for (const [name, { dir }] of running) {
      if (name === 'fuse2fs' && count > FUSE2FS_COUNT_MAX) continue
      const folder = join(dir, `names-${count}`)
      mkdirSync(folder)
      for (const operation of OPERATIONS) {
        const args = operation === 'list' ? [operation, folder] : [operation, folder, `${count}`]
        record(figures, `${operation}, ${count} names`, name, count, timed(client, args))
      }
    }
  }
}

function measureTrees(running: readonly [string, Mounted][], figures: Figures): void {
  const source = join(scratchDir, 'tree')
  for (let at = 0; at < files; at++) {
    const folder = join(source, `${at % 100}`, `${at % 7}`)
    if (at < 700) mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `file-${at}`), 'contents of some length\n'.repeat(at % 300))
  }
  const archive = join(scratchDir, 'tree.tar')
  run('tar', ['-C', source, '-cf', archive, '.'])
  for (const [name, { dir }] of running) {
    const folder = join(dir, 'tree')
    mkdirSync(folder)
    record(figures, 'untar (files)', name, files, timed('tar', ['-C', folder, '-xf', archive]))
    record(figures, 'rm -rf (files)', name, files, timed('rm', ['-rf', folder]))
  }
}

try {
  run('cc', ['-O2', '-o', client, new URL('client.c', import.meta.url).pathname])
  const figures: Figures = new Map()
  const running: [string, Mounted][] = []
  try {
    for (const contender of contenders) {
      const why = contender.missing()
      if (why) process.stderr.write(`${contender.name} is left out: ${why}\n`)
      else {
        const place = mkdtempSync(join(scratchDir, `${contender.name}-`))
        running.push([contender.name, await contender.mount(place)])
      }
    }
    measureNames(running, figures)
    measureTrees(running, figures)
  } finally {
    for (const [, mounted] of running) await mounted.unmount()
  }
  if (values.json) {
    const plain = Object.fromEntries([...figures].map(([row, byName]) => [row, Object.fromEntries(byName)]))
    process.stdout.write(`${JSON.stringify({ counts, files, perSecond: plain }, null, 2)}\n`)
  } else {
    const names = contenders.map(({ name }) => name)
    const shown = (byName: Map<string, number>, name: string) =>
      byName.has(name) ? `${Math.round(byName.get(name) as number)} /s` : '-'
    const rows = [...figures].map(([row, byName]) => [row, ...names.map((name) => shown(byName, name))])
    console.log(plainTable([['operation', ...names], ...rows]))
  }
} finally {
  rmSync(scratchDir, { recursive: true, force: true })
}
