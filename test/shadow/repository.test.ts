// deadline 200
// Repositories: what is refused, what is never seen, what dead runs leave, and going on after one.

import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { hasCode, type UmbraError } from '../../src/base/errors.ts'
import { BackupFolder } from '../../src/shadow/repository/backup-folder.ts'
import { newBackupId, parseBackupId } from '../../src/shadow/repository/backup-id.ts'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { umbraJson } from '../support/umbra.ts'
import { backupLab, convertImage, LabWriter, openRepository, sha256Of } from './backup-lab.ts'

const NEEDS = requires('/dev/fuse', 'root', 'qemu-img')

async function codeOf(work: () => unknown): Promise<UmbraError['code'] | undefined> {
  try {
    await work()
    return undefined
  } catch (error) {
    return (error as UmbraError).code
  }
}

test('a folder that holds anything else is no repository', async (t) => {
  const folder = tempFolder(t)
  t.is(await codeOf(() => Repository.open(folder)), 'NOT_FOUND')
  writeFileSync(join(folder, 'photo.jpg'), 'x')
  t.is(await codeOf(() => Repository.openOrCreate(folder)), 'ALREADY_EXISTS')
  t.alike(readdirSync(folder), ['photo.jpg'], 'and nothing was made in it')
  const made = join(folder, 'new')
  const repository = await Repository.openOrCreate(made)
  t.is(Repository.open(made).id, repository.id)
  const head = join(made, 'repository.json')
  const good = readFileSync(head, 'utf8')
  for (const bad of [
    '',
    '{',
    '{}',
    good.replace('umbra-repository-1', 'other'),
    good.replace(/"id": "[^"]+"/, '"id": 5'),
  ]) {
    writeFileSync(head, bad)
    t.is(
      await codeOf(() => Repository.openOrCreate(made)),
      'INVALID_DOCUMENT',
      JSON.stringify(bad.slice(0, 20)),
    )
  }
  writeFileSync(head, good.replace('umbra-repository-1', 'umbra-repository-2'))
  t.is(await codeOf(() => Repository.open(made)), 'UNSUPPORTED_VERSION')
})

test('names sort by time, whatever the clock does', (t) => {
  const first = newBackupId('full', Date.UTC(2026, 0, 2, 3, 4, 5, 6), null)
  t.ok(first.startsWith('20260102T030405006Z-full-'))
  t.alike(parseBackupId(first), { timeMs: Date.UTC(2026, 0, 2, 3, 4, 5, 6), type: 'full' })
  const second = newBackupId('copy', 0, first)
  t.ok(second > first, 'the clock was set back')
  t.is(parseBackupId('20260102T030405006Z-other-00000000'), null)
})

test('one command at a time changes a repository', async (t) => {
  const repository = await Repository.create(join(tempFolder(t), 'r'))
  const lock = repository.lock()
  t.is(await codeOf(() => repository.lock()), 'BUSY')
  lock[Symbol.dispose]()
  repository.lock()[Symbol.dispose]()
  repository.record({ atMs: 1, operation: 'verify', backupId: null, outcome: 'ok', message: 'm' })
  t.is(repository.results().length, 1)
})

test('whoever opened a repository that another then removed does nothing in its place', async (t) => {
  const folder = tempFolder(t)
  const made = join(folder, 'new')
  const mine = await Repository.create(made)
  const theirs = Repository.open(made)
  {
    using _lock = mine.lock()
    t.is(await codeOf(() => theirs.lock()), 'BUSY', 'while it is still there')
    mine.removeEmpty()
    t.alike(readdirSync(folder), [], 'all of it is gone')
    t.not(await codeOf(() => theirs.lock()), undefined)
    t.alike(readdirSync(folder), [], 'and nothing was made')
  }
  const again = await Repository.openOrCreate(made)
  t.is(await codeOf(() => theirs.lock()), 'BUSY', 'nor in one that was made anew')
  again.lock()[Symbol.dispose]()
})

test(
  'what a dead run half made is never seen and goes; what it made whole gets its name',
  NEEDS,
  async (t) => {
    const lab = backupLab(t)
    await lab.volume('v', { size: '32M', mount: false })
    const full = await lab.backup({ type: 'full' })
    const repository = openRepository(lab)
    const backups = repository.backupsFolder
    mkdirSync(join(backups, '.partial-20990101T000000000Z-full-00000000', 'images'), { recursive: true })
    t.is(repository.list().length, 1, 'a half-made backup is invisible')
    const notes: string[] = []
    const second = await lab.backup({ type: 'incremental', onNote: (note) => notes.push(note) })
    t.ok(notes.some((note) => note.includes('was removed')))
    t.is(repository.partialIds().length, 0)
    // As after a crash between "prepared" and its name.
    renameSync(second.folder, join(backups, `.partial-${second.manifest.id}`))
    t.is(repository.list().length, 1)
    const third = await lab.backup({ type: 'incremental' })
    t.is(repository.list().length, 3, 'a prepared backup is complete')
    t.is(third.manifest.images[0]?.baseBackupId, second.manifest.id)
    t.is(full.manifest.id, third.manifest.chain[0])
    const other = join(lab.folder, 'other')
    writeFileSync(join(second.folder, 'manifest.json'), '{}')
    const listed = repository.list().find(({ id }) => id === second.manifest.id)
    t.ok(listed?.problem?.message.includes(second.manifest.id), 'a damaged manifest is named')
    t.is(await codeOf(() => lab.backup({ type: 'incremental' })), 'BROKEN_CHAIN', 'and breaks its chain')
    t.is(await codeOf(() => lab.backup({ type: 'differential' })), undefined, 'and no other')
    await lab.backup({ type: 'full' }, other)
  },
)

test('an interrupted resumable backup goes on with its shadow copies', NEEDS, async (t) => {
  const lab = backupLab(t)
  const one = await lab.volume('one', { size: '64M' })
  const two = await lab.volume('two', { size: '64M' })
  for (const { mountPoint } of [one, two])
    await run('dd', ['if=/dev/urandom', `of=${mountPoint}/data`, 'bs=1M', 'count=20', 'status=none'])
  const writer = new LabWriter('w', ['incremental', 'timestamped'], (builder) => {
    builder.addFileGroup({ name: 'files' }).addFiles({ path: one.mountPoint })
  })
  lab.writers.push(writer)
  const before = await run('sha256sum', [`${two.mountPoint}/data`])
  const controller = new AbortController()
  const options = { type: 'full', components: 'all', resumable: true } as const
  // 20 MiB and a little of the second image.
  const code = await codeOf(() =>
    lab.backup({
      ...options,
      signal: controller.signal,
      onProgress: ({ doneBytes }) => {
        if (doneBytes > 24 * 2 ** 20) controller.abort()
      },
    }),
  )
  t.is(code, 'ABORTED')
  const repository = openRepository(lab)
  t.is(repository.list().length, 0, 'nothing is seen of it')
  t.ok(writer.log.includes('backup-shutdown') && !writer.log.includes('backup-complete'))
  await run('sh', ['-c', `rm ${two.mountPoint}/data; echo changed > ${one.mountPoint}/new`])
  const notes: string[] = []
  const result = await lab.backup({ ...options, onNote: (note) => notes.push(note) })
  t.ok(
    notes.some((note) => note.startsWith('Going on')),
    notes.join('; '),
  )
  t.is(result.manifest.images.length, 2)
  t.is(
    result.manifest.writers[0]?.components[0]?.mayBeBase,
    false,
    'what writers were not told of is no base',
  )
  const [, image] = result.manifest.images
  const raw = lab.at('two.img')
  await run('qemu-img', ['convert', '-O', 'raw', join(result.folder, image?.file ?? ''), raw])
  const { folder } = await mountLoop(t, raw)
  const after = await run('sha256sum', [`${folder}/data`])
  t.is(after.stdout.slice(0, 64), before.stdout.slice(0, 64), 'it holds the instant of the interrupted run')
  for (const { path } of [one, two]) {
    const { snapshots } = await umbraJson<{ snapshots: number }>(['status', path])
    t.is(snapshots, 0, 'no shadow copy is left')
  }
  const next = await lab.backup({ type: 'incremental' })
  t.is(next.manifest.images[0]?.baseBackupId, result.manifest.id, 'the images go on from it')
  await convertImage(next, lab.at('next.img'))
  t.ok(sha256Of(lab.at('next.img')))
  const dropped = new AbortController()
  await codeOf(() => lab.backup({ ...options, signal: dropped.signal, onProgress: () => dropped.abort() }))
  await lab.backup({ type: 'full' })
  const { snapshots } = await umbraJson<{ snapshots: number }>(['status', one.path])
  t.is(snapshots, 0, 'a run that does not resume clears what was left')
  t.is(repository.partialIds().length, 0)
  t.ok(hasCode(await errorOf(() => Repository.open(lab.at('nowhere'))), 'NOT_FOUND'))
})

async function errorOf(work: () => unknown): Promise<unknown> {
  try {
    return await work()
  } catch (error) {
    return error
  }
}

/** The next run dies at its first prepare(): nothing that it would clear up afterwards is done. */
async function dieAtPrepare(when: 'before' | 'after', work: () => Promise<unknown>): Promise<void> {
  const { prepare, discard } = BackupFolder.prototype
  BackupFolder.prototype.prepare = function (manifest) {
    if (when === 'after') prepare.call(this, manifest)
    throw new Error('killed')
  }
  BackupFolder.prototype.discard = () => undefined
  try {
    await work()
  } catch (error) {
    if ((error as Error).message !== 'killed') throw error
  } finally {
    Object.assign(BackupFolder.prototype, { prepare, discard })
  }
}

test('a run that dies right after its manifest leaves a base, with its bookmark', NEEDS, async (t) => {
  const lab = backupLab(t)
  await lab.volume('v', { size: '32M', mount: false })
  await lab.backup({ type: 'full' })
  await dieAtPrepare('after', () => lab.backup({ type: 'incremental' }))
  const [id] = openRepository(lab).partialIds()
  const next = await lab.backup({ type: 'incremental' })
  t.is(next.manifest.images[0]?.baseBackupId, id, 'the adopted one is the base')
  await dieAtPrepare('before', () => lab.backup({ type: 'incremental' }))
  const last = await lab.backup({ type: 'incremental' })
  t.is(last.manifest.images[0]?.baseBackupId, next.manifest.id)
  const bookmarks = (await lab.access.points(lab.at('v.umbra'))).filter(({ kind }) => kind === 'bookmark')
  t.is(bookmarks.length, 2, 'the surplus one was tidied: the full and the last are left')
})

test('a resumable run that dies around its manifest leaves no shadow copy for ever', NEEDS, async (t) => {
  const lab = backupLab(t)
  await lab.volume('v', { size: '32M', mount: false })
  const snapshots = async () =>
    (await lab.access.points(lab.at('v.umbra'))).filter(({ kind }) => kind === 'snapshot').length
  await dieAtPrepare('before', () => lab.backup({ type: 'full', resumable: true }))
  t.is(await snapshots(), 1, 'it is persistent')
  await lab.backup({ type: 'full' })
  t.is(await snapshots(), 0, 'the next run knew of it')
  await dieAtPrepare('after', () => lab.backup({ type: 'full', resumable: true }))
  const [id] = openRepository(lab).partialIds()
  const next = await lab.backup({ type: 'incremental', resumable: true })
  t.is(await snapshots(), 0)
  t.is(next.manifest.images[0]?.baseBackupId, id, 'what was whole is adopted, and is a base')
})
