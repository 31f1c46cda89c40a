// deadline 300
// What a backup builds on when points of the volume have gone or fulls were made by consolidation, and what is
// left in volumes for that: bookmarks that are needed, and no shadow copy that nobody goes on with.

import { fork } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { openControl } from '../../src/daemon/open-control.ts'
import { importToRaw } from '../../src/image/import.ts'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { Calendar } from '../../src/shadow/repository/calendar-period.ts'
import { consolidate } from '../../src/shadow/repository/consolidate.ts'
import { pinnedIds, prune } from '../../src/shadow/repository/prune.ts'
import { restoreChain } from '../../src/shadow/repository/restore-images.ts'
import { planRetention } from '../../src/shadow/repository/retention.ts'
import type { BackupResult } from '../../src/shadow/requester/backup.ts'
import type { BackupOptions } from '../../src/shadow/requester/backup-options.ts'
import { namePrefix } from '../../src/shadow/requester/bookmark-care.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import { type BackupLab, backupLab, type LabVolume, openRepository, sha256Of } from './backup-lab.ts'

const NEEDS = requires('/dev/fuse', 'root', 'qemu-img')

async function names(volume: LabVolume, kind: 'bookmark' | 'snapshot'): Promise<string[]> {
  return (await umbraJson<{ name: string }[]>([kind, 'list', volume.path])).map(({ name }) => name)
}

async function loseBookmark(volume: LabVolume, { manifest }: BackupResult): Promise<void> {
  const name = (await names(volume, 'bookmark')).find((one) => one.endsWith(manifest.id))
  await umbra(['bookmark', 'delete', volume.path, name ?? ''])
}

/** Another file, and a backup; its image's base. */
async function next(lab: BackupLab, volume: LabVolume, type: BackupType) {
  await run('sh', [
    '-c',
    `head -c 200000 /dev/urandom > ${volume.mountPoint}/f$(ls ${volume.mountPoint} | wc -l)`,
  ])
  const result = await lab.backup({ type })
  return { result, id: result.manifest.id, base: result.manifest.images[0]?.baseBackupId ?? null }
}

/** What our chain and qemu-img's make of a backup is the same, and e2fsck and the mount's files agree with it. */
async function checkRestores(t: Assertion, lab: BackupLab, volume: LabVolume, comment: string) {
  const repository = openRepository(lab)
  const last = repository.list().at(-1)
  if (!last?.manifest) return t.fail(comment)
  const ours = lab.at('ours.img')
  const theirs = lab.at('theirs.img')
  await importToRaw(restoreChain(repository, { backup: last.id }).paths, ours)
  const image = join(last.folder, last.manifest.images[0]?.file ?? '')
  await run('qemu-img', ['convert', '-O', 'raw', image, theirs])
  t.is(sha256Of(ours), sha256Of(theirs), `${comment}: both chains agree`)
  for (const file of (await run('ls', [volume.mountPoint])).stdout
    .split('\n')
    .filter((name) => /^f\d/.test(name))) {
    const held = await run('sh', ['-c', `debugfs -R 'cat ${file}' ${ours} 2>/dev/null | sha256sum`])
    const live = await run('sh', ['-c', `sha256sum < ${volume.mountPoint}/${file}`])
    t.is(held.stdout, live.stdout, `${comment}: ${file}`)
  }
  rmSync(ours)
  rmSync(`${ours}.umbra.json`)
  rmSync(theirs)
}

test('row 64: a base whose bookmark has gone is passed over for the next older one', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  const full = await next(lab, volume, 'full')
  const first = await next(lab, volume, 'incremental')
  await loseBookmark(volume, first.result)
  const second = await next(lab, volume, 'incremental')
  t.is(second.base, full.id, 'the full still has its bookmark')
  t.ok(
    second.result.manifest.notes.some((note) => note.includes(first.id) && note.includes(full.id)),
    'and the backup says what it builds on instead of what',
  )
  await checkRestores(t, lab, volume, 'over a gap')
  // A newer full without its bookmark: differentials and incrementals go behind it.
  const newer = await next(lab, volume, 'full')
  t.is((await names(volume, 'bookmark')).length, 1, 'only the newest is needed')
  await loseBookmark(volume, newer.result)
  for (const type of ['differential', 'incremental'] as const) {
    try {
      await lab.backup({ type })
      t.fail('there is nothing to build on')
    } catch (error) {
      t.ok(
        hasCode(error, 'NO_BASE') && error.message.includes(newer.id),
        `${type}: ${(error as Error).message}`,
      )
    }
  }
})

test(
  'row 64: a differential goes to the newest full that has its point, and tidying leaves it',
  NEEDS,
  async (t) => {
    const lab = backupLab(t)
    const volume = await lab.volume('v', { size: '32M' })
    const older = await next(lab, volume, 'full')
    // Kept by hand, as a user may: a bookmark of the same point would else go with the next full.
    const sound = lab.access
    lab.access = { ...sound, deleteBookmark: async () => {} }
    const newer = await next(lab, volume, 'full')
    lab.access = sound
    await loseBookmark(volume, newer.result)
    const differential = await next(lab, volume, 'differential')
    t.is(differential.base, older.id)
    t.ok(
      (await names(volume, 'bookmark')).some((name) => name.endsWith(older.id)),
      'its base has its bookmark still',
    )
    const again = await next(lab, volume, 'differential')
    t.is(again.base, older.id, 'and the next one too')
    const incremental = await next(lab, volume, 'incremental')
    t.is(incremental.base, older.id)
    t.alike(
      (await names(volume, 'bookmark')).map((name) => name.slice(-8)).sort(),
      [older.id.slice(-8), incremental.id.slice(-8)].sort(),
      'the newest full that has one, and the newest of all',
    )
    await checkRestores(t, lab, volume, 'behind a full')
  },
)

test('prune keeps what a damaged backup that went behind a full still names', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  const older = await next(lab, volume, 'full')
  const sound = lab.access
  lab.access = { ...sound, deleteBookmark: async () => {} }
  const newer = await next(lab, volume, 'full')
  lab.access = sound
  await loseBookmark(volume, newer.result)
  const incremental = await next(lab, volume, 'incremental')
  t.is(incremental.base, older.id)
  await next(lab, volume, 'full')
  writeFileSync(join(incremental.result.folder, 'manifest.json'), '{')
  const repository = openRepository(lab)
  using _lock = repository.lock()
  prune(repository, planRetention(repository.list(), { last: 1 }, new Calendar('UTC'), pinnedIds(repository)))
  t.ok(repository.list().some(({ id }) => id === older.id))
})

test('a consolidated incremental is a full for what comes after it', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  const full = await next(lab, volume, 'full')
  await next(lab, volume, 'incremental')
  const second = await next(lab, volume, 'incremental')
  await consolidate(openRepository(lab), second.id)
  const differential = await next(lab, volume, 'differential')
  t.is(differential.base, second.id, 'a differential builds on it')
  t.alike(differential.result.manifest.chain, [second.id, differential.id])
  await checkRestores(t, lab, volume, 'on a consolidated one')
  t.absent(
    (await names(volume, 'bookmark')).some((name) => name.endsWith(full.id)),
    'the old full is no base now',
  )
  const pruned = await umbraJson<{ backups: { id: string; keep: boolean }[] }>([
    'prune',
    lab.repository,
    '--keep-last',
    '1',
    '--yes',
  ])
  t.alike(
    pruned.backups.filter(({ keep }) => keep).map(({ id }) => id),
    [second.id, differential.id],
    'prune lets everything below it go',
  )
  const later = await next(lab, volume, 'differential')
  t.is(later.base, second.id, 'also when there is no other full any more')
  const incremental = await next(lab, volume, 'incremental')
  t.is(incremental.base, second.id)
  await checkRestores(t, lab, volume, 'after prune')
  await umbra(['verify', lab.repository, '--restore'])
})

/** A resumable backup that is killed when its shadow copies are there and nothing else has been noted down. */
async function killedBackup(t: Assertion, lab: BackupLab, volume: LabVolume): Promise<void> {
  const options: BackupOptions = { type: 'full', volumes: [volume.path], resumable: true }
  const child = fork(
    fileURLToPath(new URL('backup-child.ts', import.meta.url)),
    [JSON.stringify({ repository: lab.repository, options })],
    { execArgv: ['--import', 'tsx'], stdio: 'inherit' },
  )
  t.teardown(() => child.kill('SIGKILL'))
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve())
    child.once('exit', (code) => reject(new Error(`the child ended with ${code}`)))
  })
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
}

async function snapshotIn(volume: LabVolume, name: string): Promise<void> {
  await using control = await openControl(volume.path, { write: true })
  await control.volume.createSnapshot(name)
}

test(
  "a shadow copy that a killed resumable run left goes with the next run, nobody else's does",
  NEEDS,
  async (t) => {
    const lab = backupLab(t)
    const volume = await lab.volume('v', { size: '32M' })
    const foreign = 'backup-00000000-0000-20260101T000000000Z-full-00000000'
    await snapshotIn(volume, foreign)
    await killedBackup(t, lab, volume)
    const repository = openRepository(lab)
    const own = `${namePrefix(repository)}by-hand`
    await snapshotIn(volume, own)
    t.is((await names(volume, 'snapshot')).length, 3, 'killed, it leaves one')
    {
      using _lock = repository.lock()
      await t.exception(
        () => lab.backup({ type: 'full' }),
        /Another command/,
        'while another run has the repository',
      )
      t.is((await names(volume, 'snapshot')).length, 3, 'nothing is touched')
    }
    await lab.backup({ type: 'full' })
    t.alike(
      (await names(volume, 'snapshot')).sort(),
      [foreign, own].sort(),
      'the next run ends it, and no other',
    )
    t.alike(repository.partialIds(), [])
  },
)

test('without any trace in the repository, too, and of a backup that saves no image', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  await killedBackup(t, lab, volume)
  const repository = openRepository(lab)
  for (const id of repository.partialIds()) repository.partial(id).discard()
  await lab.backup({ type: 'full' })
  t.alike(await names(volume, 'snapshot'), [])
  // The next run is of another volume: the note in the repository leads to this one.
  const other = await lab.volume('w', { size: '16M', mount: false })
  await killedBackup(t, lab, volume)
  t.is((await names(volume, 'snapshot')).length, 1)
  await lab.backup({ type: 'full', volumes: [other.path] })
  t.alike(await names(volume, 'snapshot'), [])
})

test('one that is being read is not taken away; the run after that ends it', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  await killedBackup(t, lab, volume)
  const [left] = await names(volume, 'snapshot')
  {
    await using _reader = await lab.access.openSnapshot(volume.path, left ?? '', [])
    await lab.backup({ type: 'full' })
    t.alike(await names(volume, 'snapshot'), [left ?? ''])
    t.is(openRepository(lab).partialIds().length, 1, 'and the repository remembers it')
  }
  await lab.backup({ type: 'full' })
  t.alike(await names(volume, 'snapshot'), [])
  t.alike(openRepository(lab).partialIds(), [])
})
