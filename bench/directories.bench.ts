// Directories small and large: does a name cost the same among a million as among a thousand? Beside the
// kernel's ext4 (a loop device on the same medium) and fuse2fs, which slows as a directory grows and is
// asked up to 10,000 names only. Then trees: untar, and rm -rf of many, wide and deep ones; and how much
// memory the server takes for a million inodes that the kernel knows. All in one run, in turn.
//
// Small counts are played in rounds: the first shows a server that has just started, whose JIT compiler is
// still at work. CPU time is the server's own, which says more than the clock where others work as well.
//
//   npm run bench -- directories [--counts 1000,10000,1000000] [--files 20000] [--wide 200000] [--json]   (as root)

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CONTENDERS, type Contender, type Mounted, run } from './contenders.ts'
import { plainTable } from './plain-table.ts'
import { cpuSeconds, residentBytes } from './server-cost.ts'

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    counts: { type: 'string', default: '1000,10000,1000000' },
    files: { type: 'string', default: '20000' },
    wide: { type: 'string', default: '200000' },
    dir: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const counts = values.counts.split(',').map(Number)
const files = Number(values.files)
const wide = Number(values.wide)
const FUSE2FS_COUNT_MAX = 10_000
/** Counts up to this are played so many times. */
const SMALL_COUNT = 10_000
const ROUNDS = 5
const DEPTH = 1000
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

interface Figure {
  readonly perSecond: number
  /** Of the server's CPU time, for one name; undefined where the server is the kernel. */
  readonly cpuUs: number | undefined
}

/** Row to contender to what was measured, in order. */
type Figures = Map<string, Map<string, Figure[]>>

/** Runs a program for `count` names and notes what it took; a failure is told and left out. */
function measure(
  figures: Figures,
  row: string,
  [name, { pids }]: readonly [string, Mounted],
  count: number,
  command: string,
  args: readonly string[],
): void {
  const cpuBefore = cpuSeconds(pids)
  const begin = process.hrtime.bigint()
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: TIMEOUT_MS })
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9
  const cpu = cpuSeconds(pids) - cpuBefore
  if (done.status !== 0) {
    process.stderr.write(`${command} ${args.join(' ')}: ${done.stderr}\n`)
    return
  }
  const byName = figures.get(row) ?? new Map<string, Figure[]>()
  const figure = {
    perSecond: count / (Number(done.stdout) || seconds),
    cpuUs: pids.length > 0 ? (cpu * 1e6) / count : undefined,
  }
  figures.set(row, byName.set(name, [...(byName.get(name) ?? []), figure]))
}

/** A small directory, in rounds: the first by itself. */
function measureSmall(running: readonly [string, Mounted][], count: number, figures: Figures): void {
  for (let round = 0; round < ROUNDS; round++) {
    const note = round === 0 ? ', first' : ''
    for (const contender of running) playNames(figures, contender, `${count}-${round}`, count, note)
  }
}

function measureLarge(
  running: readonly [string, Mounted][],
  count: number,
  figures: Figures,
  memory: string[][],
): void {
  for (const contender of running) {
    if (contender[0] === 'fuse2fs' && count > FUSE2FS_COUNT_MAX) continue
    const watch = contender[0] === 'umbra' ? memory : undefined
    playNames(figures, contender, `${count}`, count, '', watch)
  }
}

/** Each operation on `count` names in an empty folder. @param memory where the server's is noted, if anywhere */
function playNames(
  figures: Figures,
  contender: readonly [string, Mounted],
  name: string,
  count: number,
  note: string,
  memory?: string[][],
): void {
  const folder = join(contender[1].dir, `names-${name}`)
  mkdirSync(folder)
  for (const operation of OPERATIONS) {
    const args = operation === 'list' ? [operation, folder] : [operation, folder, `${count}`]
    measure(figures, `${operation}, ${count} names${note}`, contender, count, client, args)
    if (!memory) continue
    noteMemory(memory, `${count} names: ${operation}`, contender)
    if (operation === 'list') forgetAll(memory, count, contender)
  }
}

function noteMemory(memory: string[][], what: string, [, { pids }]: readonly [string, Mounted]): number {
  const { residentNow, residentPeak } = residentBytes(pids[0] as number)
  const mib = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`
  memory.push([what, mib(residentNow), mib(residentPeak)])
  return residentNow
}

/** Makes the kernel drop the inodes that it knows of, and waits until the server has forgotten them. */
function forgetAll(memory: string[][], count: number, contender: readonly [string, Mounted]): void {
  if (process.getuid?.() !== 0) return
  const { pids } = contender[1]
  writeFileSync('/proc/sys/vm/drop_caches', '2')
  let before = -1
  for (let at = cpuSeconds(pids); at > before + 0.02; at = cpuSeconds(pids)) {
    before = at
    run('sleep', ['0.5'])
  }
  noteMemory(memory, `${count} names: forgotten`, contender)
}

function makeArchive(): string {
  const source = join(scratchDir, 'tree')
  for (let at = 0; at < files; at++) {
    const folder = join(source, `${at % 100}`, `${at % 7}`)
    if (at < 700) mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, `file-${at}`), 'contents of some length\n'.repeat(at % 300))
  }
  const archive = join(scratchDir, 'tree.tar')
  run('tar', ['-C', source, '-cf', archive, '.'])
  return archive
}

function measureTrees(running: readonly [string, Mounted][], figures: Figures): void {
  const archive = makeArchive()
  for (const contender of running) {
    const [name, { dir }] = contender
    const folder = join(dir, 'tree')
    mkdirSync(folder)
    measure(figures, `untar, ${files} files`, contender, files, 'tar', ['-C', folder, '-xf', archive])
    measure(figures, `rm -rf, ${files} files`, contender, files, 'rm', ['-rf', folder])
    // It walks each path from the root: a deep tree costs it the square of the depth.
    if (name === 'fuse2fs') continue
    mkdirSync(folder)
    run(client, ['deep', folder, `${DEPTH}`], TIMEOUT_MS)
    measure(figures, `rm -rf, ${DEPTH} deep`, contender, 2 * DEPTH, 'rm', ['-rf', folder])
    mkdirSync(folder)
    run(client, ['create', folder, `${wide}`], TIMEOUT_MS)
    measure(figures, `rm -rf, ${wide} in one`, contender, wide, 'rm', ['-rf', folder])
  }
}

function median(figures: readonly Figure[] | undefined, of: (figure: Figure) => number | undefined) {
  const found = (figures ?? []).map(of).filter((figure) => figure !== undefined)
  return found.sort((a, b) => a - b)[Math.floor(found.length / 2)]
}

function ratio(of: number | undefined, to: number | undefined): string {
  return of === undefined || to === undefined ? '-' : `${(of / to).toFixed(2)}x`
}

function print(figures: Figures, memory: readonly string[][]): void {
  const names = contenders.map(({ name }) => name)
  const heads = ['operation', ...names, 'umbra/fuse2fs', 'CPU: fuse2fs', 'CPU: umbra']
  const rows = [...figures].map(([row, byName]) => {
    const speed = (name: string) => median(byName.get(name), ({ perSecond }) => perSecond)
    const cpu = (name: string) => median(byName.get(name), ({ cpuUs }) => cpuUs)
    const shown = (figure: number | undefined, unit: string) =>
      figure === undefined ? '-' : `${Math.round(figure)} ${unit}`
    return [
      row,
      ...names.map((name) => shown(speed(name), '/s')),
      ratio(speed('umbra'), speed('fuse2fs')),
      shown(cpu('fuse2fs'), 'us'),
      shown(cpu('umbra'), 'us'),
    ]
  })
  console.log(`Names a second, and the server's CPU time for one\n${plainTable([heads, ...rows])}`)
  if (memory.length > 0)
    console.log(
      `\nMemory of umbra's daemon\n${plainTable([['after', 'resident', 'most so far'], ...memory])}`,
    )
}

try {
  run('cc', ['-O2', '-o', client, new URL('client.c', import.meta.url).pathname])
  const figures: Figures = new Map()
  const memory: string[][] = []
  const running: [string, Mounted][] = []
  try {
    for (const contender of contenders) {
      const why = contender.missing()
      if (why) process.stderr.write(`${contender.name} is left out: ${why}\n`)
      else {
        const place = mkdtempSync(join(scratchDir, `${contender.name}-`))
        const mounted = await contender.mount(place)
        running.push([contender.name, mounted])
        if (contender.name === 'umbra') noteMemory(memory, 'mount', [contender.name, mounted])
      }
    }
    for (const count of counts) {
      if (count <= SMALL_COUNT) measureSmall(running, count, figures)
      else measureLarge(running, count, figures, memory)
    }
    measureTrees(running, figures)
  } finally {
    for (const [, mounted] of running) await mounted.unmount()
  }
  if (values.json) {
    const plain = Object.fromEntries([...figures].map(([row, byName]) => [row, Object.fromEntries(byName)]))
    process.stdout.write(`${JSON.stringify({ counts, files, figures: plain, memory }, null, 2)}\n`)
  } else print(figures, memory)
} finally {
  rmSync(scratchDir, { recursive: true, force: true })
}
