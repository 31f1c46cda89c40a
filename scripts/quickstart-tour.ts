// The main job on real files, start to end, with what it cost: create a volume, mount it, copy a tree
// of several thousand files, snapshot, change, snapshot, export full, incremental and differential
// images, restore the chain elsewhere, compare every file, and let e2fsck judge the exported image.
// Everything happens in one temporary folder, which is removed at the end (also on Ctrl-C).

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import Table from 'cli-table3'

const UMBRA = new URL('../bin/umbra.js', import.meta.url).pathname
const SOURCE = new URL('../node_modules', import.meta.url).pathname
const scratchDir = mkdtempSync(join(process.env['UMBRA_QUICKSTART_DIR'] ?? tmpdir(), 'umbra-quickstart-'))
const at = (name: string) => join(scratchDir, name)
const mounts = new Set<string>()
const rows: string[][] = []

function run(command: string, args: readonly string[]): string {
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: 600_000, maxBuffer: 1 << 28 })
  if (done.status === 0) return done.stdout
  throw new Error(
    `${command} ${args.join(' ')} ended with ${done.status ?? done.signal}: ${done.error?.message ?? ''}${done.stderr}`,
  )
}

/** Runs one step, says so with the command a user would type, and notes its time for the table. */
function step<T>(title: string, work: () => T, note: (result: T) => string = () => ''): T {
  const start = performance.now()
  const result = work()
  const ms = performance.now() - start
  rows.push([title, ms < 10_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`, note(result)])
  return result
}

function umbra(...args: string[]): string {
  console.log(`  $ umbra ${args.map((a) => a.replace(`${scratchDir}/`, '')).join(' ')}`)
  return run(UMBRA, args)
}

function mount(volume: string, dir: string): void {
  mkdirSync(dir, { recursive: true })
  umbra('mount', volume, dir)
  mounts.add(dir)
}

function unmount(dir: string): void {
  umbra('unmount', dir)
  mounts.delete(dir)
}

/** Every path below `dir`, sorted, with what must be the same elsewhere: type, mode, owner, time, content. */
function describeTree(dir: string): string[] {
  const lines: string[] = []
  const visit = (path: string) => {
    for (const name of readdirSync(path).sort()) {
      const child = join(path, name)
      const stat = lstatSync(child)
      const content = stat.isSymbolicLink()
        ? readlinkSync(child)
        : stat.isFile()
          ? createHash('sha256').update(readFileSync(child)).digest('hex')
          : ''
      const size = stat.isDirectory() ? 0 : stat.size
      lines.push(
        [
          relative(dir, child),
          stat.mode,
          stat.uid,
          stat.gid,
          size,
          Math.round(stat.mtimeMs),
          stat.nlink,
          content,
        ].join(' '),
      )
      if (stat.isDirectory()) visit(child)
    }
  }
  visit(dir)
  return lines
}

function compareTrees(expectedDir: string, actualDir: string): number {
  const expected = describeTree(expectedDir)
  const actual = describeTree(actualDir)
  const difference = expected.findIndex((line, i) => line !== actual[i])
  if (difference >= 0 || actual.length !== expected.length) {
    throw new Error(
      `The restored tree differs: expected ${expected[difference]}, found ${actual[difference]}`,
    )
  }
  return expected.length
}

function filesOf(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

/** Edits in place, appends, deletes, renames and truncates files picked by `phase`; returns how many. */
function changeFiles(dir: string, phase: number): number {
  const files = filesOf(dir)
  const actions: ((path: string) => void)[] = [
    (path) => {
      const fd = openSync(path, 'r+')
      writeSync(fd, `edited in phase ${phase}`, Math.floor(statSync(path).size / 2))
      closeSync(fd)
    },
    (path) => appendFileSync(path, `appended in phase ${phase}\n`.repeat(100)),
    (path) => unlinkSync(path),
    (path) => renameSync(path, `${path}.renamed-${phase}`),
    (path) => truncateSync(path, Math.floor(statSync(path).size / 3)),
  ]
  const chosen = files.filter((_, i) => i % 29 === phase)
  chosen.forEach((path, i) => {
    actions[i % actions.length]?.(path)
  })
  return chosen.length
}

const bytesText = (bytes: number) => `${(bytes / 2 ** 20).toFixed(2)} MiB`
const onDisk = (path: string) => statSync(path).blocks * 512

interface DeltaSummary {
  readonly changedBytes: number
}

function exportImage(dir: string, snapshot: string, file: string, ...options: string[]): void {
  umbra('export', dir, snapshot, ...options, '--format', 'qcow2', '-o', file)
}

function changedBytes(dir: string, from: string, to: string): number {
  const parsed = JSON.parse(umbra('diff', dir, from, to, '--json')) as DeltaSummary
  return parsed.changedBytes
}

function takeSnapshot(dir: string, name: string): string {
  return umbra('snapshot', 'create', dir, name).trim().split('\n').at(-1) ?? ''
}

function tour(): void {
  const live = at('live')
  console.log('A volume in one file, mounted as an ordinary file system:')
  step(
    'create a 20 GiB volume',
    () => umbra('create', at('work.umbra'), '--size', '20G'),
    () => `${bytesText(onDisk(at('work.umbra')))} on disk`,
  )
  step('mount it', () => mount(at('work.umbra'), live))
  step(
    'copy a real tree into it',
    () => run('cp', ['-a', SOURCE, join(live, 'tree')]),
    () => `${filesOf(join(live, 'tree')).length} files`,
  )
  console.log('Snapshots, and changes between them:')
  step(
    'snapshot monday',
    () => takeSnapshot(live, 'monday'),
    (text) => text,
  )
  step(
    'change files',
    () => changeFiles(join(live, 'tree'), 1),
    (count) => `${count} files edited, appended, deleted, renamed, truncated`,
  )
  step(
    'snapshot tuesday',
    () => takeSnapshot(live, 'tuesday'),
    (text) => text,
  )
  step(
    'change more files',
    () => changeFiles(join(live, 'tree'), 2),
    (count) => `${count} files`,
  )
  step(
    'snapshot wednesday',
    () => takeSnapshot(live, 'wednesday'),
    (text) => text,
  )
  console.log('Images that qemu reads, while the volume stays in use:')
  const size = (file: string) => () => `${bytesText(onDisk(at(file)))} exported`
  step('full image of monday', () => exportImage(live, 'monday', at('full.qcow2')), size('full.qcow2'))
  for (const [title, name, from, backing] of [
    ['incremental, monday to tuesday', 'tuesday', 'monday', 'full.qcow2'],
    ['incremental, tuesday to wednesday', 'wednesday', 'tuesday', 'tuesday.qcow2'],
  ] as const) {
    const changed = changedBytes(live, from, name)
    step(
      title,
      () => exportImage(live, name, at(`${name}.qcow2`), '--since', from, '--backing', at(backing)),
      () => `${bytesText(changed)} changed, ${size(`${name}.qcow2`)()}`,
    )
  }
  const changed = changedBytes(live, 'monday', 'wednesday')
  step(
    'differential, monday to wednesday',
    () =>
      exportImage(
        live,
        'wednesday',
        at('differential.qcow2'),
        '--since',
        'monday',
        '--backing',
        at('full.qcow2'),
      ),
    () => `${bytesText(changed)} changed, ${size('differential.qcow2')()}`,
  )
  restoreAndJudge(live)
}

function restoreAndJudge(live: string): void {
  console.log('Restored elsewhere from the images alone, and judged by others:')
  const chains: readonly (readonly [string, readonly string[]])[] = [
    ['full + incrementals', ['full.qcow2', 'tuesday.qcow2', 'wednesday.qcow2']],
    ['full + differential', ['full.qcow2', 'differential.qcow2']],
  ]
  for (const [title, images] of chains) {
    const name = title.replaceAll(/\W+/g, '-')
    const dir = at(name)
    step(`restore ${title}`, () => umbra('import', ...images.map(at), '-o', at(`${name}.umbra`)))
    mount(at(`${name}.umbra`), dir)
    step(
      'compare every file with the snapshot',
      () => compareTrees(join(live, '.snapshots', 'wednesday'), dir),
      (count) => `${count} names, all identical`,
    )
    unmount(dir)
  }
  step('raw image of wednesday', () =>
    umbra('export', live, 'wednesday', '--format', 'raw', '-o', at('wednesday.img')),
  )
  if (run('sh', ['-c', 'command -v e2fsck || true']).trim() === '')
    rows.push(['e2fsck -fn on the raw image', '-', 'e2fsck is not installed: not judged'])
  else
    step(
      'e2fsck -fn on the raw image',
      () => run('e2fsck', ['-fn', at('wednesday.img')]),
      () => 'clean',
    )
  unmount(live)
}

function cleanUp(): void {
  for (const dir of mounts) spawnSync(UMBRA, ['unmount', dir], { timeout: 30_000 })
  if (existsSync(scratchDir)) rmSync(scratchDir, { recursive: true, force: true })
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    cleanUp()
    process.exit(130)
  })
}

try {
  tour()
  const table = new Table({ head: ['step', 'time', 'result'], style: { head: [], border: [] } })
  table.push(...rows)
  console.log(`\n${table.toString()}`)
} finally {
  cleanUp()
}
