// umbra diff --files on a real mount: rsync and tar, given its lists, bring a copy of the older snapshot
// to the newer one; the ranges it tells are enough to do the same for each file.

// deadline 240

import {
  closeSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import {
  assertSameTree,
  type Lab,
  makeLab,
  makeReference,
  recordTree,
  type Tree,
  Workload,
} from '../mount/lab.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra, umbraJson } from '../support/umbra.ts'

const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'python3', 'rsync', 'tar'),
  timeout: 240_000,
}
const isLong = process.env['UMBRA_LONG'] === '1'
// Times are compared to the nanosecond.
const RSYNC = ['-aHAX', '--numeric-ids', '--modify-window=-1']
/** tar keeps neither sockets nor the attributes that a directory no longer has; a copy has its own numbers. */
const NOT_IN_TAR = ['ino', 'atime', 'ctime', 'xattrs', 'mode', 'links']

interface ToldFile {
  readonly kind: string
  readonly type: string
  readonly paths: readonly string[]
  readonly pathsBase64: readonly string[] | null
  readonly oldPaths: readonly string[]
  readonly oldPathsBase64: readonly string[] | null
  readonly sizeBytes: number | null
  readonly oldSizeBytes: number | null
  readonly metadata: boolean
  readonly ranges: readonly { kind: 'data' | 'zero'; offsetBytes: number; lengthBytes: number }[]
}

interface Told {
  readonly base: string
  readonly counts: Readonly<Record<string, number>>
  readonly files: readonly ToldFile[]
  readonly cost: { readonly directoryBlocks: number; readonly blocksRead: number; readonly namesMs: number }
}

function path(...parts: readonly (string | Buffer)[]): Buffer {
  const joined = parts.flatMap((part, i) =>
    i === 0 ? [Buffer.from(part)] : [Buffer.from('/'), Buffer.from(part)],
  )
  return Buffer.concat(joined)
}

const ODD = ['new\nline', '-leading', ' blank ', '#hash', 'ümläut', 'back\\slash'].map((name) =>
  Buffer.from(name),
)
const BROKEN = Buffer.from([0x62, 0xff, 0xfe])

/** What the random history does not do: odd names, directories that take each other's places. */
function prepareOddities(dir: string): void {
  const odd = join(dir, 'odd')
  mkdirSync(odd)
  for (const name of [...ODD, BROKEN]) writeFileSync(path(odd, name), `first ${name.toString('latin1')}`)
  for (const name of ['moved', 'replaced', 'becomes-file', 'gone']) {
    mkdirSync(join(dir, name, 'deep', 'er'), { recursive: true })
    for (let i = 0; i < 5; i++) writeFileSync(join(dir, name, 'deep', `f${i}`), `${name} ${i}`.repeat(2000))
  }
  writeFileSync(join(dir, 'becomes-directory'), 'a file')
  // In a directory that moves, while its other name stays.
  linkSync(join(dir, 'moved', 'deep', 'f0'), join(dir, 'linked'))
}

function changeOddities(dir: string): void {
  const odd = join(dir, 'odd')
  for (const name of [...ODD.slice(0, 3), BROKEN])
    writeFileSync(path(odd, name), `second ${name.toString('latin1')}`)
  renameSync(path(odd, ODD[3] as Buffer), path(odd, 'renamed\nto'))
  renameSync(join(dir, 'moved'), join(odd, 'moved here'))
  renameSync(join(dir, 'replaced'), join(dir, 'replaced.old'))
  mkdirSync(join(dir, 'replaced', 'deep'), { recursive: true })
  renameSync(join(dir, 'replaced.old', 'deep', 'f1'), join(dir, 'replaced', 'deep', 'f1'))
  writeFileSync(join(dir, 'replaced', 'deep', 'f2'), 'another file of the same path')
  for (const name of ['becomes-file', 'gone']) rmSync(join(dir, name), { recursive: true })
  writeFileSync(join(dir, 'becomes-file'), 'now')
  rmSync(join(dir, 'becomes-directory'))
  mkdirSync(join(dir, 'becomes-directory'))
  writeFileSync(join(dir, 'becomes-directory', 'inside'), 'x')
}

async function list(lab: Lab, format: string, ...more: readonly string[]): Promise<string> {
  const file = lab.at(`${format}.list`)
  await umbra(['diff', lab.dir, 'a', 'b', '--files', '--format', format, '-0', '-o', file, ...more])
  return file
}

async function removeListed(copy: string, file: string): Promise<void> {
  // Not recursive: the order of the list has to do.
  await run('xargs', ['-0', '-r', '-a', file, 'rm', '-d', '--'], { cwd: copy })
}

async function compareByRsync(t: Assertion, source: string, copy: string, comment: string): Promise<void> {
  const { stdout } = await run('rsync', ['-nci', ...RSYNC, '--delete', `${source}/`, `${copy}/`])
  t.is(stdout, '', comment)
}

/** Files of the newer snapshot made from the older one and the ranges that were told. */
async function judgeRanges(t: Assertion, lab: Lab, told: Told): Promise<void> {
  const at = (name: string, paths: readonly string[], base64: readonly string[] | null): Buffer => {
    const first = base64 ? Buffer.from(base64[0] as string, 'base64') : Buffer.from(paths[0] as string)
    return path(lab.dir, '.snapshots', name, first)
  }
  const made = lab.at('made')
  let count = 0
  let wrong = 0
  for (const file of told.files) {
    if (file.type !== 'file' || file.sizeBytes === null) continue
    const now = at('b', file.paths, file.pathsBase64)
    if (file.oldSizeBytes === null) writeFileSync(made, '')
    else if (file.oldPaths.length > 0) copyFileSync(at('a', file.oldPaths, file.oldPathsBase64), made)
    else copyFileSync(at('a', file.paths, file.pathsBase64), made)
    truncateSync(made, file.sizeBytes)
    applyRanges(file, now, made)
    count++
    if (!readFileSync(now).equals(readFileSync(made))) {
      wrong++
      t.comment(`${file.kind} ${JSON.stringify(file.paths)}`)
    }
  }
  t.ok(count > 10, `${count} files made from the older ones and their ranges`)
  t.is(wrong, 0, 'each equals the newer one')
}

function applyRanges(file: ToldFile, source: Buffer, target: string): void {
  const input = openSync(source, 'r')
  const output = openSync(target, 'r+')
  for (const { kind, offsetBytes, lengthBytes } of file.ranges) {
    const bytes = Buffer.alloc(lengthBytes)
    if (kind === 'data') readSync(input, bytes, 0, lengthBytes, offsetBytes)
    writeSync(output, bytes, 0, lengthBytes, offsetBytes)
  }
  closeSync(input)
  closeSync(output)
}

test('rsync and tar bring a copy from one snapshot to the next by the lists', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const lab = await makeLab(t, '2G')
  const reference = await makeReference(t, lab.folder)
  await lab.mount()
  // In a folder of its own: it moves whatever it finds.
  mkdirSync(join(lab.dir, 'work'))
  const workload = new Workload(t, seed, join(lab.dir, 'work'))
  const snapshot = (name: string): string => join(lab.dir, '.snapshots', name)
  prepareOddities(lab.dir)
  await workload.run(isLong ? 1500 : 300)
  await umbra(['snapshot', 'create', lab.dir, 'a'])
  const copies = ['by-rsync', 'by-tar'].map((name) => join(reference, name)) as [string, string]
  for (const copy of copies) await run('rsync', [...RSYNC, `${snapshot('a')}/`, `${copy}/`])
  await compareByRsync(t, snapshot('a'), copies[0], 'the copy of the older snapshot is one')

  changeOddities(lab.dir)
  await workload.run(isLong ? 1000 : 200)
  await workload.quit()
  await umbra(['snapshot', 'create', lab.dir, 'b'])

  const told = await umbraJson<Told>(['diff', lab.dir, 'a', 'b', '--files'])
  t.comment(JSON.stringify({ ...told.counts, ...told.cost }))
  for (const kind of ['created', 'deleted', 'renamed', 'changed'])
    t.ok((told.counts[kind] ?? 0) > 0, `${kind} ones`)
  await judgeRanges(t, lab, told)
  const broken = told.files.find((file) => file.pathsBase64?.includes(path('odd', BROKEN).toString('base64')))
  t.ok(broken, 'a name that is not UTF-8 is there in base64')

  const deleted = await list(lab, 'deleted')
  const paths = await list(lab, 'paths')
  for (const copy of copies) await removeListed(copy, deleted)
  await run('rsync', [...RSYNC, '-0', `--files-from=${paths}`, `${snapshot('b')}/`, `${copies[0]}/`])
  await compareByRsync(t, snapshot('b'), copies[0], 'rsync --files-from: nothing is left to do')
  const archive = lab.at('changes.tar')
  const keep = ['--acls', '--xattrs', '--numeric-owner', '--no-recursion']
  await run('tar', [
    '-C',
    snapshot('b'),
    ...keep,
    '--null',
    '-T',
    paths,
    '--warning=no-file-ignored',
    '-cf',
    archive,
  ])
  await run('tar', [
    '-C',
    copies[1],
    '-xpf',
    archive,
    '--acls',
    '--xattrs',
    '--xattrs-include=*',
    '--numeric-owner',
  ])
  const newer = await recordTree(snapshot('b'))
  const unpacked = await recordTree(copies[1])
  assertSameTree(
    t,
    withoutSockets(newer, newer),
    withoutSockets(withTimesOfOthers(unpacked, newer, told), newer),
    'tar -T: the newer tree',
    NOT_IN_TAR,
  )
  assertSameTree(t, newer, await recordTree(copies[0]), 'rsync: the newer tree', ['ino', 'atime', 'ctime'])
})

/** Without the paths of what tar leaves out; something else may have been there before. */
function withoutSockets(tree: Tree, newer: Tree): Tree {
  const isSocket = (path: string): boolean => String(newer.get(path)?.['mode']).startsWith('0o14')
  return new Map([...tree].filter(([path]) => !isSocket(path)))
}

/** A file that tar makes anew moves the time of its folder; of a folder that did not change it knows none to set. */
function withTimesOfOthers(tree: Tree, newer: Tree, told: Told): Tree {
  const isTold = new Set(told.files.flatMap(({ paths }) => paths.map((path) => `/${path}`)))
  return new Map(
    [...tree].map(([path, record]) => {
      const isFolder = String(record['mode']).startsWith('0o4')
      if (!isFolder || isTold.has(path)) return [path, record]
      return [path, { ...record, mtime: newer.get(path)?.['mtime'] }]
    }),
  )
}

test(
  'what the command refuses, and what it tells without a mount, of the present, since a bookmark',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '256M')
    const mounted = await lab.mount()
    writeFileSync(join(lab.dir, 'kept'), 'kept')
    writeFileSync(join(lab.dir, 'file'), 'x'.repeat(20_000))
    await umbra(['snapshot', 'create', lab.dir, 'a'])
    await umbra(['bookmark', 'create', lab.dir, 'mark'])
    const fd = openSync(join(lab.dir, 'file'), 'r+')
    writeSync(fd, 'changed', 8200)
    closeSync(fd)
    writeFileSync(join(lab.dir, 'two\nlines'), 'y')

    const present = await umbraJson<Told>(['diff', lab.dir, 'a', '--files'])
    const changed = present.files.find((file) => file.paths[0] === 'file')
    t.alike(
      changed?.ranges,
      [{ kind: 'data', offsetBytes: 8192, lengthBytes: 4096 }],
      'the present: one block',
    )
    t.absent(
      present.files.some((file) => file.paths[0] === 'kept'),
      'an unchanged file is not told',
    )

    const lines = await umbra(['diff', lab.dir, 'a', '--files', '--format', 'paths'], { check: false })
    t.is(lines.code, 2, 'a name with a newline is refused in lines')
    t.is(lines.stdout, '', 'and nothing is printed')
    const nul = await umbra([
      'diff',
      lab.dir,
      'a',
      '--files',
      '--format',
      'paths',
      '-0',
      '--skip-directories',
    ])
    t.alike(nul.stdout.split('\0'), ['file', 'two\nlines', ''], 'with -0 it is not')
    for (const args of [
      ['--format', 'paths'],
      ['--files', '--format', 'bitmap'],
      ['--files', '-0'],
    ]) {
      const { code } = await umbra(['diff', lab.dir, 'a', ...args], { check: false })
      t.is(code, 2, args.join(' '))
    }

    const since = await umbraJson<Told>(['diff', lab.dir, 'mark', '--files'])
    t.is(since.base, 'bookmark')
    const touched = since.files.find((file) => file.paths[0] === 'file')
    t.alike(touched?.ranges, [{ kind: 'data', offsetBytes: 8192, lengthBytes: 4096 }], 'since the bookmark')
    t.is(touched?.kind, 'touched')
    const gone = await umbra(['diff', lab.dir, 'mark', '--files', '--format', 'deleted'], { check: false })
    t.is(gone.code, 2, 'a bookmark does not know what was deleted')

    await umbra(['snapshot', 'create', lab.dir, 'b'])
    await mounted.unmount()
    const text = await umbra(['diff', lab.volume, 'a', 'b', '--files'])
    t.ok(/changed +file +8192\+4096 +file\n/.test(text.stdout), 'the table, without a mount')
    t.ok(text.stdout.includes('two\\x0alines'), 'with a newline shown')
  },
)

test('a volume that grew in between', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  const first = await lab.mount()
  for (const name of ['kept', 'changed', 'deleted']) writeFileSync(join(lab.dir, name), name.repeat(3000))
  await umbra(['snapshot', 'create', lab.dir, 'a'])
  await first.unmount()
  await umbra(['resize', lab.volume, '--size', '1G'])
  await lab.mount()
  rmSync(join(lab.dir, 'deleted'))
  writeFileSync(join(lab.dir, 'changed'), 'now')
  // Directories at the top spread over the groups: some of these are in new ones.
  for (let i = 0; i < 16; i++) {
    mkdirSync(join(lab.dir, `folder-${i}`))
    writeFileSync(join(lab.dir, `folder-${i}`, 'file'), 'x'.repeat(10_000))
  }
  await umbra(['snapshot', 'create', lab.dir, 'b'])
  const told = await umbraJson<Told>(['diff', lab.dir, 'a', 'b', '--files'])
  t.alike(told.counts, { created: 32, deleted: 1, renamed: 0, changed: 2, touched: 0 }, 'onwards')
  const back = await umbraJson<Told>(['diff', lab.dir, 'b', 'a', '--files'])
  t.alike(back.counts, { created: 1, deleted: 32, renamed: 0, changed: 2, touched: 0 }, 'backwards')
})
