// deadline 600
// Block images: a random history of all types over a real mount, each point restored by stock tools and by
// us, and compared byte for byte with the snapshot; what is damaged, missing or reordered is refused
// before anything is written.

import {
  copyFileSync,
  existsSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { importChain } from '../../src/daemon/import-images.ts'
import { openControl } from '../../src/daemon/open-control.ts'
import { imageSource, withPoints } from '../../src/daemon/point-access.ts'
import { importToRaw } from '../../src/image/import.ts'
import { writeRaw } from '../../src/image/raw-writer.ts'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { restoreChain } from '../../src/shadow/repository/restore-images.ts'
import type { BackupResult } from '../../src/shadow/requester/backup.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import {
  type BackupLab,
  backupLab,
  convertImage,
  type LabVolume,
  LabWriter,
  openRepository,
  sha256Of,
} from './backup-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = requires('/dev/fuse', 'root', 'qemu-img')

/** Changes some files by another process. */
async function change(volume: LabVolume, random: Random, step: number): Promise<void> {
  const commands: string[] = []
  for (let i = 0; i < 3; i++) {
    const name = `'${volume.mountPoint}/f${random.below(12)}'`
    const at = random.below(200)
    commands.push(
      random.pick([
        `dd if=/dev/urandom of=${name} bs=4096 seek=${at} count=${random.between(1, 40)} conv=notrunc status=none`,
        `rm -f ${name}`,
        `mv -f ${name} '${volume.mountPoint}/r${random.below(4)}' 2>/dev/null || true`,
        `truncate -s ${random.below(900_000)} ${name}`,
        `mkdir -p '${volume.mountPoint}/d${step}' && echo ${step} > '${volume.mountPoint}/d${step}/x'`,
      ]),
    )
  }
  await run('sh', ['-c', commands.join('; ')])
}

/** Digest of what the volume holds, read by a snapshot of the test's own while nothing changes. */
async function reference(lab: BackupLab, volume: LabVolume, name: string): Promise<string> {
  const image = lab.at('reference.img')
  await using control = await openControl(volume.path, { write: true })
  await control.volume.createSnapshot(name)
  await withPoints(volume.path, [name], (access) => writeRaw(imageSource(access, name, null), image))
  const digest = sha256Of(image)
  rmSync(image)
  rmSync(`${image}.umbra.json`)
  return digest
}

async function deleteSnapshot(volume: LabVolume, name: string, keepBookmark: boolean): Promise<void> {
  await using control = await openControl(volume.path, { write: true })
  await control.volume.deleteSnapshot(name, keepBookmark)
}

const TYPES: readonly BackupType[] = [
  'full',
  'incremental',
  'incremental',
  'differential',
  'differential',
  'copy',
]

test('rows 63, 64, 77: every point of a random history is restored bit for bit', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const random = new Random(seed)
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '64M' })
  const stepCount = isLong ? 60 : 12
  const points: { result: BackupResult; digest: string }[] = []
  const bases: { full: string | null; history: string | null } = { full: null, history: null }
  for (let step = 0; step < stepCount; step++) {
    await change(volume, random, step)
    const type = step === 0 ? 'full' : random.pick(TYPES)
    const digest = await reference(lab, volume, `step-${step}`)
    const result = await lab.backup({ type })
    points.push({ result, digest })
    const [record] = result.manifest.images
    const expected = type === 'incremental' ? bases.history : type === 'differential' ? bases.full : null
    t.is(record?.baseBackupId, expected, `step ${step}: ${type} builds on what its type says`)
    if (type === 'full') bases.full = result.manifest.id
    if (type === 'full' || type === 'incremental') bases.history = result.manifest.id
    // An evicted snapshot and one that the user deletes change nothing.
    await deleteSnapshot(volume, `step-${step}`, random.chance(0.5))
  }
  const repository = openRepository(lab)
  for (const { result, digest } of points) {
    const { id, type } = result.manifest
    const raw = lab.at('restored.img')
    await convertImage(result, raw)
    t.is(sha256Of(raw), digest, `${id}: qemu-img converts it to the volume as it was`)
    rmSync(raw)
    const { paths } = restoreChain(repository, { backup: id })
    await importToRaw(paths, raw)
    t.is(sha256Of(raw), digest, `${id}: our chain of ${paths.length} gives the same (${type})`)
    rmSync(raw)
    rmSync(`${raw}.umbra.json`)
  }
  const last = points.at(-1)
  if (last) {
    const image = join(last.result.folder, last.result.manifest.images[0]?.file ?? '')
    await run('qemu-img', ['check', image])
    await convertImage(last.result, lab.at('last.img'))
    t.ok(e2fsck(lab.at('last.img')).clean, 'the last image passes e2fsck')
  }
  const bookmarks = await umbraJson<{ name: string }[]>(['bookmark', 'list', volume.path])
  const ours = bookmarks.filter(({ name }) => name.startsWith('backup-'))
  t.ok(ours.length <= 2, `bookmarks that nothing builds on are gone (${ours.length} left)`)
  const snapshots = await umbraJson<{ name: string }[]>(['snapshot', 'list', volume.path])
  t.is(snapshots.length, 0, 'no shadow copy is left')
})

test('row 63: sizes follow the definitions', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '256M' })
  const write = (name: string, mib: number) =>
    run('dd', ['if=/dev/urandom', `of=${volume.mountPoint}/${name}`, 'bs=1M', `count=${mib}`, 'status=none'])
  await write('base', 40)
  const full = await lab.backup({ type: 'full' })
  const sizes: { incremental: number; differential: number }[] = []
  for (let round = 0; round < 4; round++) {
    await write(`round-${round}`, 4)
    const incremental = await lab.backup({ type: 'incremental' })
    const differential = await lab.backup({ type: 'differential' })
    sizes.push({
      incremental: incremental.manifest.images[0]?.dataBytes ?? 0,
      differential: differential.manifest.images[0]?.dataBytes ?? 0,
    })
  }
  t.comment(JSON.stringify(sizes))
  t.ok((full.manifest.images[0]?.dataBytes ?? 0) > 40 * 2 ** 20, 'the full holds everything')
  t.ok(
    sizes.every(({ incremental }) => incremental < 6 * 2 ** 20),
    'each incremental holds its round',
  )
  t.ok(
    sizes.every(({ differential }, round) => differential >= (round + 1) * 4 * 2 ** 20),
    'each differential holds all rounds since the full',
  )
  await umbra(['sync', volume.path])
  const before = await lab.backup({ type: 'incremental' })
  const nothing = await lab.backup({ type: 'incremental' })
  t.comment(
    `after a quiet moment ${before.manifest.images[0]?.dataBytes}, then ${nothing.manifest.images[0]?.dataBytes}`,
  )
  t.is(nothing.manifest.images[0]?.dataBytes, 0, 'an incremental without a change holds nothing')
})

test('row 64: without a base, with a broken chain, and --or-full', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M', mount: false })
  const refused = async (type: BackupType, code: 'NO_BASE' | 'BROKEN_CHAIN', comment: string) => {
    const traceBefore = lab.trace.length
    try {
      await lab.backup({ type })
      t.fail(comment)
    } catch (error) {
      t.ok(hasCode(error, code), `${comment}: ${(error as Error).message}`)
    }
    const steps = lab.trace.slice(traceBefore).filter((entry) => entry.kind === 'step')
    t.is(steps.length, 0, 'and no volume was asked for anything')
  }
  await refused('incremental', 'NO_BASE', 'no backup at all')
  await lab.backup({ type: 'copy' })
  await refused('incremental', 'NO_BASE', 'a copy is no base')
  const instead = await lab.backup({ type: 'differential', orFull: true })
  t.is(instead.manifest.type, 'full', '--or-full takes a full')
  t.ok(
    instead.manifest.notes.some((note) => note.includes('instead of type differential')),
    'and says so',
  )
  const incremental = await lab.backup({ type: 'incremental' })
  const copy = await lab.backup({ type: 'copy' })
  t.is(copy.manifest.images[0]?.baseBackupId, null, 'a copy builds on nothing')
  const next = await lab.backup({ type: 'incremental' })
  t.is(next.manifest.images[0]?.baseBackupId, incremental.manifest.id, 'a copy in the middle changes nothing')
  // The newest bookmark goes: the full has its own.
  const bookmarks = await umbraJson<{ name: string }[]>(['bookmark', 'list', volume.path])
  const newest = bookmarks.find(({ name }) => name.endsWith(next.manifest.id))
  await umbra(['bookmark', 'delete', volume.path, newest?.name ?? ''])
  const around = await lab.backup({ type: 'incremental' })
  t.is(around.manifest.images[0]?.baseBackupId, instead.manifest.id, 'an incremental builds on the full')
  const differential = await lab.backup({ type: 'differential' })
  t.is(differential.manifest.images[0]?.baseBackupId, instead.manifest.id, 'a differential still can be')
  // A file of the chain goes.
  const image = join(instead.folder, instead.manifest.images[0]?.file ?? '')
  renameSync(image, `${image}.away`)
  await refused('differential', 'BROKEN_CHAIN', "the base's image is missing")
  const full = await lab.backup({ type: 'incremental', orFull: true })
  t.is(full.manifest.type, 'full', 'and again --or-full helps')
})

test('row 77: damaged, missing, reordered: refused before anything is written', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '64M' })
  const results: BackupResult[] = []
  for (const type of ['full', 'incremental', 'incremental'] as const) {
    await run('dd', [
      'if=/dev/urandom',
      `of=${volume.mountPoint}/${type}${results.length}`,
      'bs=1M',
      'count=2',
      'status=none',
    ])
    results.push(await lab.backup({ type }))
  }
  const [full, first, second] = results as [BackupResult, BackupResult, BackupResult]
  const fileOf = (result: BackupResult) => join(result.folder, result.manifest.images[0]?.file ?? '')
  const target = lab.at('restored.umbra')
  const repository = openRepository(lab)
  const refuses = async (comment: string, backup = second.manifest.id) => {
    try {
      const { paths } = restoreChain(repository, { backup })
      await importChain(paths, target, {})
      t.fail(comment)
    } catch (error) {
      const isTold =
        hasCode(error, 'BROKEN_CHAIN') || hasCode(error, 'BAD_IMAGE') || hasCode(error, 'INVALID_DOCUMENT')
      t.ok(isTold, `${comment}: ${(error as Error).message}`)
    }
    t.absent(existsSync(target), 'nothing was written')
  }
  const good = readFileSync(fileOf(first))
  const restore = () => writeFileSync(fileOf(first), good)
  for (const [comment, harm] of [
    ['a byte in the data', () => writeFileSync(fileOf(first), withFlippedByte(good, good.length - 5000))],
    ['a byte in the header', () => writeFileSync(fileOf(first), withFlippedByte(good, 40))],
    ['cut short', () => truncateSync(fileOf(first), good.length - 4096)],
    ['missing', () => rmSync(fileOf(first))],
    ['the next one in its place', () => copyFileSync(fileOf(second), fileOf(first))],
  ] as const) {
    harm()
    await refuses(comment)
    restore()
  }
  const manifestPath = join(first.folder, 'manifest.json')
  const manifest = readFileSync(manifestPath)
  writeFileSync(manifestPath, manifest.toString().replace('"epoch": ', '"epoch": 1'))
  await refuses('a digit in the manifest')
  const { paths } = restoreChain(repository, { backup: full.manifest.id })
  t.is(paths.length, 1, 'the full before it is not touched by that')
  writeFileSync(manifestPath, manifest)
  renameSync(first.folder, `${first.folder}-away`)
  await refuses('a whole backup is missing')
  renameSync(`${first.folder}-away`, first.folder)
  const chain = restoreChain(repository, {})
  t.is(chain.backup.id, second.manifest.id, 'the newest is taken unless told')
  const made = await importChain(chain.paths, target, {})
  t.is(made.point?.id, second.manifest.images[0]?.point.id, 'whole again, it is restored')
  await run('dd', ['if=/dev/urandom', `of=${volume.mountPoint}/more`, 'bs=1M', 'count=1', 'status=none'])
  const third = await lab.backup({ type: 'incremental' })
  await umbra(['apply', target, fileOf(third)])
  await umbra(['check', target])
  t.pass('and the chain goes on from there')
})

test('planted: an extent that a backup loses is noticed by the comparison', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  await lab.backup({ type: 'full' })
  await run('sh', ['-c', `seq 1000 > ${volume.mountPoint}/x; seq 2000 > ${volume.mountPoint}/y`])
  const digest = await reference(lab, volume, 'planted')
  const sound = lab.access
  lab.access = {
    ...sound,
    async openSnapshot(path, snapshot, bases) {
      const opened = await sound.openSnapshot(path, snapshot, bases)
      const losing = (sinceId: string | null) => {
        const source = opened.imageSource(sinceId)
        return { ...source, extents: () => [...source.extents()].slice(0, -1) }
      }
      return new Proxy(opened, {
        get: (target, name) => {
          if (name === 'imageSource') return losing
          const value = Reflect.get(target, name, target) as unknown
          return typeof value === 'function' ? value.bind(target) : value
        },
      })
    },
  }
  const result = await lab.backup({ type: 'incremental' })
  await convertImage(result, lab.at('planted.img'))
  t.unlike(sha256Of(lab.at('planted.img')), digest)
})

test('row 77: a chain goes on over shadow copies that a writer changed in its window', NEEDS, async (t) => {
  const lab = backupLab(t)
  const volume = await lab.volume('v', { size: '32M' })
  const file = join(volume.mountPoint, 'state')
  let round = 0
  const writer = new LabWriter('recovering', [], (builder) => {
    const group = builder.addFileGroup({ name: 'files', flags: ['backup-recovery'] })
    group.addFiles({ path: volume.mountPoint })
  })
  writer.handlers['post-snapshot'] = async ({ volumes }) => {
    const path = volumes[0]?.recoveryPath
    if (!path || round % 2 === 1) return
    await run('sh', ['-c', `echo recovered ${round} > ${path}/state; rm -f ${path}/temporary`])
  }
  lab.writers.push(writer)
  const types: BackupType[] = ['full', 'incremental', 'incremental', 'differential', 'incremental']
  for (const type of types) {
    await run('sh', ['-c', `echo live ${round} > ${file}; echo x > ${volume.mountPoint}/temporary`])
    const result = await lab.backup({ type })
    const raw = lab.at(`round-${round}.img`)
    await convertImage(result, raw)
    t.ok(e2fsck(raw).clean, `round ${round}: e2fsck is content`)
    const { stdout } = await run('debugfs', ['-R', 'cat state', raw])
    const isRecovered = round % 2 === 0
    t.is(stdout, isRecovered ? `recovered ${round}\n` : `live ${round}\n`, `round ${round}: ${type}`)
    const listed = await run('debugfs', ['-R', 'ls /', raw])
    t.is(listed.stdout.includes('temporary'), !isRecovered)
    t.is(readFileSync(file, 'utf8'), `live ${round}\n`, 'the live file is untouched')
    round++
  }
})

test('several volumes in one set, several repositories on one volume', NEEDS, async (t) => {
  const lab = backupLab(t)
  const one = await lab.volume('one', { size: '32M' })
  const two = await lab.volume('two', { size: '48M', mount: false })
  const other = lab.at('other')
  const full = await lab.backup({ type: 'full' })
  await lab.backup({ type: 'full', volumes: [one.mountPoint] }, other)
  await run('sh', ['-c', `echo one > ${one.mountPoint}/x`])
  const incremental = await lab.backup({ type: 'incremental' })
  await run('sh', ['-c', `echo two > ${one.mountPoint}/y`])
  const elsewhere = await lab.backup({ type: 'incremental', volumes: [one.path] }, other)
  t.is(incremental.manifest.images.length, 2)
  t.is(new Set(incremental.manifest.volumes.map(({ point }) => point.createdAtMs)).size <= 2, true)
  t.is(incremental.manifest.images[0]?.baseBackupId, full.manifest.id)
  t.unlike(elsewhere.manifest.images[0]?.baseBackupId, full.manifest.id, 'each repository has its own chain')
  const bookmarks = await umbraJson<{ name: string }[]>(['bookmark', 'list', one.path])
  t.is(bookmarks.length, 4, 'each keeps its own bookmarks')
  for (const command of full.manifest.restoreCommands)
    await run('sh', ['-c', `cd ${lab.repository} && ${command}`])
  for (const image of full.manifest.images)
    t.is(readFileSync(join(lab.repository, `${image.volumeUuid}.img`)).length, image.virtualSizeBytes)
  t.is(two.path, full.manifest.volumes[1]?.volumePath)
})

function withFlippedByte(bytes: Buffer, offset: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[offset] = (copy[offset] ?? 0) ^ 0x10
  return copy
}
