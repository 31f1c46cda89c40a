// umbra diff --files for restic: its backup of nothing but the listed paths, laid over a copy of the
// older snapshot, is the newer one; no name is taken for a pattern, and nothing else is read.

// deadline 240

import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { type Lab, makeLab, QUIET, recordTree, type Tree, treeDifferences, Workload } from '../mount/lab.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { type RunResult, run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra } from '../support/umbra.ts'

const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck', 'python3', 'restic'),
  timeout: 240_000,
}
const isLong = process.env['UMBRA_LONG'] === '1'
/** What restic keeps of everything but sockets, which it leaves out. */
const NOT_KEPT = ['ino', 'nlink', 'links', 'atime', 'ctime', 'blocks', 'data']
/** restic counts nanoseconds in 63 bits, until the year 2262; of later times it makes others. */
const END_OF_TIME_NS = 2 ** 63
const OF_FOLDERS = [...NOT_KEPT, 'mtime', 'mode', 'owner', 'xattrs']

/** Read as patterns these would match one another and the files beside them. */
const ODD = [
  '*',
  '?ld',
  '[a-z]*',
  '{old,new}',
  'back\\*slash',
  '!not',
  '~',
  '$HOME',
  '-leading',
  '#hash',
  ';semicolon',
  ' blank ',
  'new\nline',
  '\n',
  'ümläut',
  '"quoted"',
  'x\x01\x7f',
].map((name) => Buffer.from(name))
const BROKEN = [Buffer.from([0x62, 0xff, 0xfe]), Buffer.from([0xc3, 0x28]), Buffer.from('\\xff')]

class Restic {
  readonly repository: string
  readonly #environment: Readonly<Record<string, string>>

  constructor(t: Assertion) {
    const folder = tempFolder(t)
    this.repository = join(folder, 'repository')
    this.#environment = {
      RESTIC_REPOSITORY: this.repository,
      RESTIC_PASSWORD: 'secret',
      RESTIC_CACHE_DIR: join(folder, 'cache'),
      HOME: folder,
    }
  }

  run(args: readonly string[], cwd = '/'): Promise<RunResult> {
    return run('restic', ['--quiet', ...args], { cwd, env: this.#environment, timeoutMs: 120_000 })
  }

  /** What a new backup of these paths of a folder gives back. */
  async roundTrip(t: Assertion, folder: string, args: readonly string[]): Promise<Tree> {
    await this.run(['backup', ...args], folder)
    const restored = tempFolder(t)
    await this.run(['restore', 'latest', '--target', restored])
    return recordTree(restored)
  }
}

function below(dir: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${dir}/`), name])
}

function prepare(dir: string): void {
  for (const folder of ['odd', 'moved/deep', 'kept', 'becomes-file'])
    mkdirSync(join(dir, folder), { recursive: true })
  for (const name of [...ODD, ...BROKEN]) writeFileSync(below(join(dir, 'odd'), name), 'first')
  for (const name of ['old', 'new', 'cold', 'back*slash', 'abc']) writeFileSync(join(dir, 'odd', name), name)
  for (let i = 0; i < 5; i++) writeFileSync(join(dir, 'moved/deep', `f${i}`), `${i}`.repeat(5000))
  writeFileSync(join(dir, 'kept/file'), 'kept')
  writeFileSync(join(dir, 'becomes-folder'), 'a file')
}

function change(dir: string): void {
  const odd = join(dir, 'odd')
  for (const name of [...ODD, ...BROKEN]) writeFileSync(below(odd, name), `second ${name.toString('latin1')}`)
  writeFileSync(join(dir, 'kept/second'), 'beside one that did not change')
  renameSync(join(dir, 'moved'), below(odd, Buffer.from('moved\n[*]')))
  mkdirSync(join(dir, 'empty/deep'), { recursive: true })
  for (const name of ['becomes-file', 'becomes-folder']) rmSync(join(dir, name), { recursive: true })
  writeFileSync(join(dir, 'becomes-file'), 'now')
  mkdirSync(join(dir, 'becomes-folder'))
  symlinkSync('../odd/*', join(dir, 'becomes-folder/link'))
}

async function list(lab: Lab, format: string, ...more: readonly string[]): Promise<[string, string[]]> {
  const file = lab.at(`${format}.list`)
  const args = ['diff', lab.dir, 'a', 'b', '--files', '--format', format, '-0', ...more]
  await umbra([...args, '-o', file])
  const { stdout } = await run('od', ['-An', '-v', '-tx1', file])
  const text = Buffer.from(stdout.replaceAll(/\s/g, ''), 'hex').toString('latin1')
  return [file, text.split('\0').filter((path) => path !== '')]
}

const isFolder = (tree: Tree, path: string): boolean => String(tree.get(path)?.['mode']).startsWith('0o4')

/** Of a tree, with the folders among them or without. */
function only(tree: Tree, folders: boolean): Tree {
  const isSocket = (path: string): boolean => String(tree.get(path)?.['mode']).startsWith('0o14')
  return new Map([...tree].filter(([path]) => isFolder(tree, path) === folders && !isSocket(path)))
}

function judge(t: Assertion, older: Tree, newer: Tree, deleted: readonly string[], restored: Tree): void {
  const overlaid = new Map(older)
  for (const path of deleted) overlaid.delete(`/${path}`)
  for (const [path, record] of restored) {
    const mtime = newer.get(path)?.['mtime']
    overlaid.set(path, Number(mtime) >= END_OF_TIME_NS ? { ...record, mtime } : record)
  }
  for (const folders of [false, true]) {
    const ignored = folders ? OF_FOLDERS : NOT_KEPT
    const found = treeDifferences(only(overlaid, folders), only(newer, folders), ignored)
    t.is(found.length, 0, `${folders ? 'folders' : 'files'} are those of the newer snapshot`)
    for (const difference of found.slice(0, 3)) t.comment(difference)
  }
}

function linksOf(tree: Tree, paths: ReadonlySet<string>): string[] {
  const groups = new Map<unknown, string[]>()
  for (const path of paths) {
    const ino = tree.get(path)?.['ino']
    if (isFolder(tree, path) || ino === undefined) continue
    groups.set(ino, [...(groups.get(ino) ?? []), path])
  }
  const several = [...groups.values()].filter((group) => group.length > 1)
  return several.map((group) => JSON.stringify(group.sort())).sort()
}

test('restic saves what changed between two snapshots by the list, and nothing else', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const lab = await makeLab(t, '2G')
  await lab.mount()
  mkdirSync(join(lab.dir, 'work'))
  const workload = new Workload(t, seed, join(lab.dir, 'work'))
  prepare(lab.dir)
  await workload.run(isLong ? 1000 : 150)
  await umbra(['snapshot', 'create', lab.dir, 'a'])
  change(lab.dir)
  await workload.run(isLong ? 600 : 100)
  await workload.quit()
  await umbra(['snapshot', 'create', lab.dir, 'b'])
  const [file, paths] = await list(lab, 'paths', '--skip-directories')
  const [, deleted] = await list(lab, 'deleted')
  const snapshot = join(lab.dir, '.snapshots/b')
  const older = await recordTree(join(lab.dir, '.snapshots/a'))
  const newer = await recordTree(snapshot)

  const restic = new Restic(t)
  await restic.run(['init'])
  const restored = await restic.roundTrip(t, snapshot, ['--files-from-raw', file])
  judge(t, older, newer, deleted, restored)
  const listed = new Set(paths.map((path) => `/${path}`))
  const extra = [...restored.keys()].filter(
    (path) => !isFolder(restored, path) && !listed.has(path) && !isBelowOne(path, listed),
  )
  t.alike(extra, [], `nothing but the ${listed.size} listed paths was saved`)
  for (const name of ['old', 'new', 'cold', 'back*slash', 'abc', '../kept/file'])
    t.absent(restored.has(join('/odd', name)), `${name} did not change and is not there`)
  t.ok(restored.has('/empty/deep'), 'a new empty folder is there')
  const files = new Set(only(restored, false).keys())
  t.alike(linksOf(restored, files), linksOf(newer, files), 'names of one file are names of one file')

  const alone = lab.at('alone')
  mkdirSync(alone)
  const view = await mountVolume(t, lab.volume, alone, [...QUIET, '--snapshot', 'b'])
  const second = await restic.roundTrip(t, alone, ['--files-from-raw', file])
  // The root is a folder of this test's.
  t.alike(
    treeDifferences(withoutRoot(restored), withoutRoot(second), ['ino', 'atime', 'ctime']),
    [],
    'from mount --snapshot: the same',
  )
  await view.unmount()
  await restic.run(['check', '--read-data'])
})

function withoutRoot(tree: Tree): Tree {
  return new Map([...tree].filter(([path]) => path !== ''))
}

function isBelowOne(path: string, listed: ReadonlySet<string>): boolean {
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
    if (listed.has(path.slice(0, at))) return true
  }
  return false
}

test('restic reads a list of lines, too', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const names = ODD.filter((name) => !name.includes(10))
  writeFileSync(join(lab.dir, 'old'), 'old')
  await umbra(['snapshot', 'create', lab.dir, 'a'])
  for (const name of [...names, ...BROKEN]) writeFileSync(below(lab.dir, name), name)
  await umbra(['snapshot', 'create', lab.dir, 'b'])
  const file = lab.at('lines')
  await umbra(['diff', lab.dir, 'a', 'b', '--files', '--format', 'paths', '--skip-directories', '-o', file])
  const restic = new Restic(t)
  await restic.run(['init'])
  const snapshot = join(lab.dir, '.snapshots/b')
  const restored = await restic.roundTrip(t, snapshot, ['--files-from-verbatim', file])
  const expected = new Map([...(await recordTree(snapshot))].filter(([path]) => path !== '/old'))
  t.is(expected.size, names.length + BROKEN.length + 2, 'the root, lost+found, and each of them')
  expected.delete('/lost+found')
  const found = treeDifferences(only(restored, false), only(expected, false), NOT_KEPT)
  t.alike(found, [], 'every name')
})
