// deadline 300
// Backups of components, seen from the requester: what is saved of which writer, how, and what each
// writer hears. Real volumes, real mounts, writers of the test's own.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode, type UmbraError } from '../../src/base/errors.ts'
import { encodeRangesFile } from '../../src/shadow/documents/ranges-file.ts'
import type { BackupType, MaskedType } from '../../src/shadow/documents/vocabulary.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbraJson } from '../support/umbra.ts'
import { type BackupLab, backupLab, filesOf, LabWriter, storedBytes } from './backup-lab.ts'

const NEEDS = requires('/dev/fuse', 'root')
const FILES = { images: false } as const

async function refuses(
  t: Assertion,
  code: UmbraError['code'],
  word: string,
  work: () => Promise<unknown>,
): Promise<void> {
  try {
    await work()
    t.fail(`${code} expected`)
  } catch (error) {
    t.ok(
      hasCode(error, code) && (error as Error).message.includes(word),
      `${code}: ${(error as Error).message}`,
    )
  }
}

/** A writer with one component over a folder of the volume. */
function folderWriter(
  name: string,
  schema: ConstructorParameters<typeof LabWriter>[1],
  folder: string,
  masks: { backupRequired?: MaskedType[]; snapshotRequired?: MaskedType[]; changedRanges?: boolean } = {},
): LabWriter {
  return new LabWriter(name, schema, (builder) => {
    builder.addFileGroup({ name: 'files' }).addFiles({ path: folder, ...masks })
  })
}

test(
  'a component keeps every attribute of its files, and its chain their deletions',
  requires('/dev/fuse', 'root', 'jq'),
  async (t) => {
    const lab = backupLab(t)
    const { mountPoint } = await lab.volume('v')
    const dir = join(mountPoint, 'data')
    mkdirSync(dir)
    await run('sh', [
      '-c',
      `cd ${dir} && echo one > one && ln one two && ln -s one link && mkfifo -m 600 pipe && mknod null c 1 3 &&
     mkdir -m 2750 empty && truncate -s 10M sparse && printf tail >> sparse && chown 12:34 one &&
     touch -d '2001-02-03 04:05:06.123456789Z' one && setfattr -n user.key -v value one && setfacl -m u:77:r one && chmod 4751 one &&
     printf x > "$(printf 'bad\\377name')"`,
    ])
    lab.writers.push(folderWriter('keeper', ['incremental', 'differential'], dir))
    const full = await lab.backup({ type: 'full', ...FILES })
    const files = filesOf(full)
    const one = files.get(`${dir}/one`)
    t.is(one?.mode, 0o104751)
    t.is(one?.uid, 12)
    t.is(one?.gid, 34)
    t.is(one?.mtimeNs, '981173106123456789')
    t.is(Buffer.from(one?.xattrs?.['user.key'] ?? '', 'base64').toString(), 'value')
    t.ok(one?.xattrs?.['system.posix_acl_access'], 'its ACL')
    t.is(storedBytes(full, `${dir}/one`)?.toString(), 'one\n')
    t.is(files.get(`${dir}/two`)?.hardLinkOf, `${dir}/one`, 'the second name refers to the first')
    t.is(files.get(`${dir}/link`)?.linkTarget, 'one')
    t.is(files.get(`${dir}/pipe`)?.kind, 'fifo')
    t.is(files.get(`${dir}/null`)?.kind, 'device')
    t.is(files.get(`${dir}/null`)?.rdev, 0x103)
    t.is(files.get(`${dir}/empty`)?.kind, 'directory')
    t.is(files.get(`${dir}/empty`)?.mode, 0o42750)
    const sparse = files.get(`${dir}/sparse`)
    t.is(sparse?.sizeBytes, 10 * 2 ** 20 + 4)
    const stored = statSync(join(full.folder, sparse?.stored?.file ?? ''))
    t.ok(stored.blocks * 512 < 2 ** 20 && stored.size === sparse?.sizeBytes, 'a hole stays a hole')
    const bad = [...files.values()].find(({ pathBytes }) => pathBytes !== undefined)
    t.ok(
      Buffer.from(bad?.pathBytes ?? '', 'base64').includes(Buffer.from('bad\xffname', 'latin1')),
      'any name',
    )
    const [listing = ''] = full.manifest.restoreCommands
    const { stdout: listed } = await run('sh', ['-c', `cd ${lab.repository} && ${listing}`])
    t.ok(listed.includes(`${one?.stored?.file}\t${dir}/one\n`), 'jq lists where the bytes of each file are')
    for (const { stored: file } of files.values()) {
      if (!file) continue
      const { stdout } = await run('sha256sum', [join(full.folder, file.file)])
      if (stdout.slice(0, 64) !== file.sha256) t.fail(`${file.file} has another digest`)
    }
    await run('sh', ['-c', `cd ${dir} && rm link && mv two three && echo new > new`])
    const incremental = await lab.backup({ type: 'incremental', ...FILES })
    const after = filesOf(incremental)
    t.is(after.get(`${dir}/link`)?.kind, 'deleted', 'a deletion is recorded')
    t.is(after.get(`${dir}/two`)?.kind, 'deleted', 'the old name of what was renamed, too')
    t.is(storedBytes(incremental, `${dir}/new`)?.toString(), 'new\n')
    t.is(incremental.manifest.writers[0]?.components[0]?.baseBackupId, full.manifest.id)
    const next = await lab.backup({ type: 'incremental', ...FILES })
    t.absent(
      [...filesOf(next).values()].some(({ kind }) => kind === 'deleted'),
      'once',
    )
    t.alike(
      next.manifest.chain,
      [full, incremental, next].map(({ manifest }) => manifest.id),
    )
  },
)

test('row 52: one unreadable file fails its component, and the writer hears so', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v')
  writeFileSync(join(mountPoint, 'there'), 'x')
  const writer = new LabWriter('units', [], (builder) => {
    builder.addFileGroup({ name: 'good' }).addFiles({ path: mountPoint, filespec: 'there', recursive: false })
    const bad = builder.addFileGroup({ name: 'bad' })
    bad.addFiles({ path: mountPoint, filespec: 'other*', recursive: false })
    bad.addFiles({ path: mountPoint, filespec: 'missing', recursive: false })
  })
  const heard: unknown[] = []
  writer.handlers['backup-complete'] = ({ request }) => {
    heard.push(...request.components.map(({ name, backupSucceeded }) => [name, backupSucceeded]))
  }
  lab.writers.push(writer)
  writeFileSync(join(mountPoint, 'other1'), 'x')
  const { manifest, folder } = await lab.backup({ type: 'full', ...FILES })
  t.alike(heard, [
    ['good', true],
    ['bad', false],
  ])
  t.ok(manifest.isPartial)
  t.ok(manifest.writers[0]?.components[1]?.failure?.includes('missing'), 'the file is named')
  t.is(
    [...filesOf({ manifest, folder }).values()].filter(({ name }) => name === 'bad').length,
    0,
    'nothing of it is kept',
  )
  t.is(readdirSync(join(folder, 'files/000000')).length, 1)
})

test('row 65: what a writer cannot do is a full for it, and the manifest says so', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v')
  for (const name of ['able', 'plain']) {
    mkdirSync(join(mountPoint, name))
    writeFileSync(join(mountPoint, name, 'base'), name)
  }
  const able = folderWriter('able', ['incremental'], join(mountPoint, 'able'), { backupRequired: ['full'] })
  const plain = folderWriter('plain', [], join(mountPoint, 'plain'), { backupRequired: ['full'] })
  lab.writers.push(able, plain)
  await lab.backup({ type: 'full', ...FILES })
  const { manifest, folder } = await lab.backup({ type: 'incremental', ...FILES })
  t.alike(
    manifest.writers.map(({ name, type }) => [name, type]),
    [
      ['able', 'incremental'],
      ['plain', 'full'],
    ],
  )
  t.ok(manifest.writers[1]?.reason?.includes('does not support'))
  const files = filesOf({ manifest, folder })
  t.absent(files.get(`${mountPoint}/able/base`), 'not required of an incremental')
  t.ok(files.get(`${mountPoint}/plain/base`), 'a full has it all')
})

test('row 67: a series never mixes what its writer keeps apart', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  lab.writers.push(
    folderWriter('strict', ['incremental', 'differential', 'exclusive-incremental-differential'], mountPoint),
  )
  for (const [first, second] of [
    ['incremental', 'differential'],
    ['differential', 'incremental'],
  ] as const) {
    await lab.backup({ type: 'full', ...FILES })
    await lab.backup({ type: first, ...FILES })
    await refuses(t, 'NO_BASE', 'strict', () => lab.backup({ type: second, ...FILES }))
    await lab.backup({ type: first, ...FILES })
  }
  await lab.backup({ type: 'full', ...FILES })
  await lab.backup({ type: 'incremental', ...FILES })
  t.pass('a full starts a new series')
})

test('row 69: nothing needs a shadow copy, so there is none', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  writeFileSync(join(mountPoint, 'growing.log'), 'lines')
  await run('setfattr', ['-n', 'user.a b', '-v', 'x=y', join(mountPoint, 'growing.log')])
  const writer = folderWriter('live', ['incremental', 'timestamped'], mountPoint, { snapshotRequired: [] })
  writer.handlers['prepare-for-backup'] = ({ components }) => components[0]?.setBackupStamp('early')
  lab.writers.push(writer)
  const result = await lab.backup({ type: 'full', ...FILES })
  t.is(storedBytes(result, `${mountPoint}/growing.log`)?.toString(), 'lines')
  const attributes = filesOf(result).get(`${mountPoint}/growing.log`)?.xattrs
  t.alike(attributes, { 'user.a b': Buffer.from('x=y').toString('base64') })
  t.alike(writer.log, ['prepare-for-backup', 'backup-complete', 'backup-shutdown'])
  t.is(lab.trace.filter(({ kind }) => kind === 'step').length, 0, 'no volume was asked for anything')
  t.is(result.manifest.snapshotSetId, null)
  t.is(result.manifest.writers[0]?.components[0]?.stamp, 'early')
})

test('row 70: stamps come back before PrepareForBackup, from the base alone', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  writeFileSync(join(mountPoint, 'x'), 'x')
  const writer = folderWriter('stamped', ['incremental', 'differential', 'copy', 'timestamped'], mountPoint)
  let count = 0
  const seen: (string | undefined)[] = []
  writer.handlers['prepare-for-backup'] = ({ request }) => {
    seen.push(request.components[0]?.previousBackupStamp)
  }
  writer.handlers['post-snapshot'] = ({ components }) =>
    components[0]?.setBackupStamp(`stamp ${count++} \u0000\u{1f4be}"\\\n`)
  lab.writers.push(writer)
  const stamp = (number: number) => `stamp ${number} \u0000\u{1f4be}"\\\n`
  const types: BackupType[] = ['full', 'incremental', 'copy', 'incremental', 'differential', 'incremental']
  for (const type of types) await lab.backup({ type, ...FILES })
  t.alike(seen, [undefined, stamp(0), undefined, stamp(1), stamp(0), stamp(3)])
  // A component that fails is nobody's base.
  seen.length = 0
  const good = writer.build
  writer.build = (builder) => {
    builder
      .addFileGroup({ name: 'files' })
      .addFiles({ path: mountPoint, filespec: 'missing', recursive: false })
  }
  await lab.backup({ type: 'incremental', ...FILES })
  writer.build = good
  await lab.backup({ type: 'incremental', ...FILES })
  t.alike(seen, [stamp(5), stamp(5)], 'the failed one between is passed over')
})

test('rows 71, 72: differenced files go by the time given, else by our own records', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  const write = (name: string) => writeFileSync(join(mountPoint, name), name)
  for (const name of ['before', 'between', 'after', 'given-old', 'given-new', 'given-equal']) write(name)
  const writer = folderWriter('dated', ['incremental', 'differential', 'last-modify'], mountPoint, {
    backupRequired: ['full'],
  })
  const given = Date.UTC(2020, 0, 1)
  writer.handlers['post-snapshot'] = ({ components, backupType }) => {
    if (backupType === 'full') return
    const spec = { path: mountPoint, recursive: false }
    components[0]?.addDifferencedFile({ ...spec, filespec: 'b*', lastModifyTimeMs: 0 })
    components[0]?.addDifferencedFile({ ...spec, filespec: 'after', lastModifyTimeMs: 0 })
    components[0]?.addDifferencedFile({ ...spec, filespec: 'given-*', lastModifyTimeMs: given })
  }
  // New specifications would overlap the set of all files: let the set be of another folder.
  writer.build = (builder) => {
    const group = builder.addFileGroup({ name: 'files' })
    for (const filespec of ['b*', 'after', 'given-*'])
      group.addFiles({ path: mountPoint, filespec, recursive: false, backupRequired: ['full'] })
  }
  const at = (name: string, ms: number) => utimesSync(join(mountPoint, name), ms / 1000, ms / 1000)
  lab.writers.push(writer)
  await lab.backup({ type: 'full', ...FILES })
  await pause()
  write('between')
  await pause()
  await lab.backup({ type: 'incremental', ...FILES })
  await pause()
  write('after')
  at('given-old', given - 1)
  at('given-equal', given)
  at('given-new', given + 1)
  const names = (result: Awaited<ReturnType<BackupLab['backup']>>) =>
    [...filesOf(result).values()]
      .filter(({ kind }) => kind === 'file')
      .map(({ path }) => path.slice(mountPoint.length + 1))
      .sort()
  const differential = await lab.backup({ type: 'differential', ...FILES })
  const incremental = await lab.backup({ type: 'incremental', ...FILES })
  t.alike(names(differential), ['after', 'between', 'given-equal', 'given-new'])
  t.alike(names(incremental), ['after', 'given-equal', 'given-new'])
  t.ok([...filesOf(incremental).values()].every(({ how }) => how === 'differenced'))
})

test('rows 74, 75: differenced, then partial, then the mask; a ranges file is saved', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '64M' })
  const content = Buffer.from(Array.from({ length: 40_000 }, (_, i) => i % 251))
  for (const name of ['whole.db', 'part.db', 'ranged.db', 'both.log', 'plain.db', 'excluded.db'])
    writeFileSync(join(mountPoint, name), content)
  const rangesPath = lab.at('ranges.bin')
  const writer = new LabWriter('ordered', ['incremental', 'last-modify'], (builder) => {
    const group = builder.addFileGroup({ name: 'files' })
    group.addFiles({
      path: mountPoint,
      filespec: '*.db',
      recursive: false,
      backupRequired: ['full', 'incremental'],
    })
    group.addFiles({ path: mountPoint, filespec: '*.log', recursive: false })
  })
  writer.excludes = [{ path: mountPoint, filespec: 'excluded*', recursive: false }]
  writer.handlers['post-snapshot'] = ({ components, backupType }) => {
    if (backupType !== 'incremental') return
    writeFileSync(
      rangesPath,
      encodeRangesFile([
        { offsetBytes: 30_000, lengthBytes: 5 },
        { offsetBytes: 39_990, lengthBytes: 999 },
      ]),
    )
    const [component] = components
    const partial = { path: mountPoint }
    component?.addPartialFile({
      ...partial,
      fileName: 'part.db',
      ranges: [
        { offsetBytes: 10, lengthBytes: 20 },
        { offsetBytes: 100, lengthBytes: 1 },
      ],
    })
    component?.addPartialFile({ ...partial, fileName: 'ranged.db', ranges: `File=${rangesPath}` })
    component?.addPartialFile({ ...partial, fileName: 'both.log', ranges: '0:1' })
    component?.addPartialFile({ ...partial, fileName: 'excluded.db', ranges: '0:1' })
    component?.addDifferencedFile({ ...partial, filespec: '*.log', recursive: false, lastModifyTimeMs: 1 })
  }
  lab.writers.push(writer)
  await lab.backup({ type: 'full', ...FILES })
  const result = await lab.backup({ type: 'incremental', ...FILES })
  const files = filesOf(result)
  const at = (name: string) => files.get(join(mountPoint, name))
  t.is(result.manifest.isPartial, false, JSON.stringify(result.manifest.writers[0]?.components[0]?.failure))
  t.is(at('plain.db')?.how, 'mask')
  t.alike(at('part.db')?.ranges, [
    { offsetBytes: 10, lengthBytes: 20 },
    { offsetBytes: 100, lengthBytes: 1 },
  ])
  const part = storedBytes(result, join(mountPoint, 'part.db'))
  t.alike(part, Buffer.concat([content.subarray(10, 30), content.subarray(100, 101)]), 'exactly those bytes')
  t.is(at('part.db')?.sizeBytes, content.length)
  const ranged = storedBytes(result, join(mountPoint, 'ranged.db'))
  t.alike(
    ranged,
    Buffer.concat([content.subarray(30_000, 30_005), content.subarray(39_990)]),
    'a range past the end ends there',
  )
  t.is(files.get(rangesPath)?.kind, 'ranges-file')
  t.alike(
    storedBytes(result, rangesPath),
    readFileSync(rangesPath),
    'the ranges file is saved though no set has it',
  )
  t.is(at('both.log')?.how, 'differenced', 'differenced wins')
  t.alike(storedBytes(result, join(mountPoint, 'both.log')), content, 'and is whole')
  t.ok(
    result.manifest.notes.some((note) => note.includes('both.log')),
    'the conflict is told',
  )
  t.absent(at('excluded.db'), 'an exclude beats all')
})

test('row 76: what a writer hears decides what it truncates', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  writeFileSync(join(mountPoint, 'log'), 'x')
  const writer = folderWriter('logged', ['incremental', 'differential', 'copy'], mountPoint)
  const truncations: string[] = []
  writer.handlers['backup-complete'] = ({ request, backupType }) => {
    for (const { backupSucceeded } of request.components)
      if (backupSucceeded && (backupType === 'full' || backupType === 'incremental'))
        truncations.push(backupType)
  }
  // The data must be durable and seen as prepared when the writer may truncate.
  const partials: number[] = []
  const complete = writer.handlers['backup-complete']
  writer.handlers['backup-complete'] = (context) => {
    const backups = join(lab.repository, 'backups')
    const partial = readdirSync(backups).find((name) => name.startsWith('.partial-')) ?? ''
    partials.push(existsSync(join(backups, partial, 'manifest.json')) ? 1 : 0)
    return complete(context)
  }
  lab.writers.push(writer)
  for (const type of ['full', 'copy', 'incremental', 'differential'] as const)
    await lab.backup({ type, ...FILES })
  t.alike(truncations, ['full', 'incremental'])
  t.alike(partials, [1, 1, 1, 1], 'the backup is whole on disk when BackupComplete comes')
  const controller = new AbortController()
  writer.handlers['post-snapshot'] = () => controller.abort()
  writer.log.length = 0
  await refuses(t, 'ABORTED', 'aborted', () =>
    lab.backup({ type: 'full', ...FILES, signal: controller.signal }),
  )
  t.absent(writer.log.includes('backup-complete'), 'an aborted backup completes nothing')
  t.ok(writer.log.includes('backup-shutdown'))
  t.is(readdirSync(join(lab.repository, 'backups')).length, 4, 'and leaves nothing')
})

test('row 63: a log backup saves log files alone, and builds on what came before', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  writeFileSync(join(mountPoint, 'pages.db'), 'pages')
  writeFileSync(join(mountPoint, 'a.log'), 'a')
  const writer = new LabWriter('database', ['log', 'incremental', 'timestamped'], (builder) => {
    builder
      .addDatabase({ name: 'base' })
      .addDatabaseFiles({ path: mountPoint, filespec: '*.db' })
      .addLogFiles({ path: mountPoint, filespec: '*.log' })
  })
  let count = 0
  writer.handlers['post-snapshot'] = ({ components }) => components[0]?.setBackupStamp(`s${count++}`)
  const seen: (string | undefined)[] = []
  writer.handlers['prepare-for-backup'] = ({ request }) => {
    seen.push(request.components[0]?.previousBackupStamp)
  }
  lab.writers.push(writer)
  await refuses(t, 'NO_BASE', 'no complete backup', () => lab.backup({ type: 'log' }))
  const full = await lab.backup({ type: 'full', ...FILES })
  writeFileSync(join(mountPoint, 'b.log'), 'b')
  const first = await lab.backup({ type: 'log' })
  const second = await lab.backup({ type: 'log' })
  const names = [...filesOf(first).values()].filter(({ kind }) => kind === 'file').map(({ path }) => path)
  t.alike(names, [`${mountPoint}/a.log`, `${mountPoint}/b.log`])
  t.is(first.manifest.images.length, 0, 'a log backup takes no image')
  t.alike(
    second.manifest.chain,
    [full, first, second].map(({ manifest }) => manifest.id),
  )
  const incremental = await lab.backup({ type: 'incremental', ...FILES })
  t.is(incremental.manifest.baseBackupId, full.manifest.id, 'a log is no base of an incremental')
  t.alike(seen.slice(1), [undefined, 's0', 's1', 's0'].slice(1), 'each with the stamp of its base')
})

test('rows 46, 49: a failed writer ends the backup, or is left out, or is tried again', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  writeFileSync(join(mountPoint, 'x'), 'x')
  const good = folderWriter('good', [], mountPoint)
  const other = join(mountPoint, 'other')
  mkdirSync(other)
  const bad = folderWriter('bad', [], other)
  bad.handlers['prepare-for-backup'] = (context) => context.fail('non-retryable', 'no disk')
  lab.writers.push(good, bad)
  await refuses(t, 'WRITER_FAILED', 'no disk', () => lab.backup({ type: 'full', ...FILES }))
  t.absent(existsSync(lab.repository), 'nothing is left, not even a repository')
  const { manifest } = await lab.backup({ type: 'full', ...FILES, continueWithoutFailedWriters: true })
  t.alike(
    manifest.writers.map(({ name, type, result }) => [name, type, result]),
    [
      ['good', 'full', 'ok'],
      ['bad', 'excluded', 'non-retryable'],
    ],
  )
  t.ok(manifest.isPartial)
  let left = 2
  bad.handlers['prepare-for-backup'] = (context) => {
    if (left-- > 0) context.fail('retryable', 'later')
  }
  const notes: string[] = []
  const retried = await lab.backup({
    type: 'full',
    ...FILES,
    retries: { count: 3, waitMs: 1 },
    onNote: (note) => notes.push(note),
  })
  t.is(retried.manifest.isPartial, false)
  t.is(notes.length, 2, 'two tries failed, the third did not')
  left = 1
  bad.handlers['prepare-for-backup'] = (context) => {
    if (left-- > 0) context.fail('non-retryable', 'never')
  }
  await refuses(t, 'WRITER_FAILED', 'never', () =>
    lab.backup({ type: 'full', ...FILES, retries: { count: 3, waitMs: 1 } }),
  )
})

test('changed ranges stand in for a writer that knows nothing of them', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '128M' })
  await run('dd', ['if=/dev/urandom', `of=${mountPoint}/big`, 'bs=1M', 'count=8', 'status=none'])
  await run('dd', ['if=/dev/urandom', `of=${mountPoint}/other`, 'bs=1M', 'count=2', 'status=none'])
  lab.writers.push(folderWriter('simple', [], mountPoint))
  const ranged = { ...FILES, changedRanges: true }
  const full = await lab.backup({ type: 'full', ...ranged })
  const before = storedBytes(full, `${mountPoint}/big`) ?? Buffer.alloc(0)
  await run('sh', [
    '-c',
    `printf changed | dd of=${mountPoint}/big bs=1 seek=3000000 conv=notrunc status=none`,
  ])
  // Another inode takes the name: its bytes have not changed since the base, the file of that name has.
  await run('sh', ['-c', `cd ${mountPoint} && cp other third && mv other fourth && mv third other`])
  const result = await lab.backup({ type: 'incremental', ...ranged })
  const big = filesOf(result).get(`${mountPoint}/big`)
  t.is(result.manifest.writers[0]?.type, 'incremental')
  t.ok(result.manifest.writers[0]?.components[0]?.changedRanges)
  t.ok((big?.stored?.sizeBytes ?? Infinity) <= 8192, `${big?.stored?.sizeBytes} bytes of 8 MiB are saved`)
  const rebuilt = Buffer.from(before)
  const stored = storedBytes(result, `${mountPoint}/big`) ?? Buffer.alloc(0)
  let at = 0
  for (const { offsetBytes, lengthBytes } of big?.ranges ?? []) {
    stored.copy(rebuilt, offsetBytes, at, at + lengthBytes)
    at += lengthBytes
  }
  t.ok(rebuilt.equals(readFileSync(join(mountPoint, 'big'))), 'the base with the ranges is the file')
  t.is(
    filesOf(result).get(`${mountPoint}/other`)?.ranges,
    undefined,
    'another inode of that name is saved whole',
  )
})

test('several writers chosen by name, what they need, and what is not there', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  for (const name of ['a', 'b']) mkdirSync(join(mountPoint, name))
  lab.writers.push(
    new LabWriter('two', [], (builder) => {
      builder.addFileGroup({ name: 'one' }).addFiles({ path: join(mountPoint, 'a') })
      builder.addFileGroup({ logicalPath: 'deep', name: 'two' }).addFiles({ path: join(mountPoint, 'b') })
    }),
    folderWriter('quiet', [], join(mountPoint, 'c')),
  )
  const { manifest } = await lab.backup({ type: 'full', ...FILES, components: ['two:deep/two'] })
  t.alike(
    manifest.writers.map(({ components }) => components.map(({ name }) => name)),
    [['two']],
  )
  t.alike((lab.writers[1] as LabWriter).log, [], 'row 43: a writer of which nothing is taken hears nothing')
  await refuses(t, 'NOT_FOUND', 'three', () => lab.backup({ type: 'full', ...FILES, components: ['three'] }))
  await refuses(t, 'WRITER_FAILED', 'required', () =>
    lab.backup({ type: 'full', requireWriters: ['absent'] }),
  )
  const images = await lab.backup({ type: 'full', withoutWriters: true })
  t.is(images.manifest.images.length, 1)
  t.is(images.manifest.documents.length, 0)
  const status = await umbraJson<{ snapshots: number }>(['status', mountPoint])
  t.is(status.snapshots, 0)
})

/** Longer than a tick of the clock that files are stamped with. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 40))
}
