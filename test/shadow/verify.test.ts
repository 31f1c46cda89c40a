// deadline 300
// Verifying: every byte that a backup answers for can be harmed, and is found by name, with all that it spoils; what
// is whole is rebuilt and judged by e2fsck; results are remembered and shown.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { Manifest } from '../../src/shadow/repository/manifest.ts'
import { encodeManifest } from '../../src/shadow/repository/manifest-file.ts'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { verifyRepository } from '../../src/shadow/repository/verify.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import { backupLab, LabWriter } from './backup-lab.ts'

const NEEDS = requires('/dev/fuse', 'root', 'e2fsck')

interface Told {
  readonly isGood: boolean
  readonly backups: readonly { id: string; isGood: boolean; damagedBases: string[] }[]
  readonly damages: readonly {
    backupId: string
    file: string | null
    code: string
    message: string
    spoils: string[]
  }[]
  readonly rebuilt: readonly {
    id: string
    isGood: boolean
    message: string
    volumes: { e2fsck: string; isComparedWithManifest: boolean }[]
    components: { comparedCount: number; checkedBy: string[]; objections: string[]; notes: string[] }
  }[]
}

/** Full, incremental, differential and another full of a volume and a component. */
async function scene(t: Assertion): Promise<{ repository: string; ids: string[]; mountPoint: string }> {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '16M' })
  const data = join(mountPoint, 'data')
  mkdirSync(data)
  lab.writers.push(
    new LabWriter('files', ['incremental', 'differential'], (builder) => {
      builder.addFileGroup({ name: 'files' }).addFiles({ path: data, changedRanges: true })
    }),
  )
  const ids: string[] = []
  for (const type of ['full', 'incremental', 'differential', 'full'] as const) {
    await run('sh', [
      '-c',
      `cd ${data} && seq ${ids.length}00000 | tail -n 5000 >> growing && date +%N > now`,
    ])
    ids.push((await lab.backup({ type, images: true, components: 'all' })).manifest.id)
  }
  return { repository: lab.repository, ids, mountPoint }
}

async function told(repository: string, args: readonly string[] = []): Promise<{ code: number; told: Told }> {
  const { code, stdout } = await umbra(['verify', repository, ...args, '--json'], { check: false })
  return { code, told: JSON.parse(stdout) as Told }
}

test('what is whole is found whole, rebuilt and clean; dates are kept and shown', NEEDS, async (t) => {
  const { repository, ids } = await scene(t)
  const { code, told: result } = await told(repository, ['--restore'])
  t.is(code, 0, JSON.stringify(result.damages))
  t.alike(
    result.backups.map(({ id, isGood }) => [id, isGood]),
    ids.map((id) => [id, true]),
  )
  t.alike(
    result.rebuilt.map(({ volumes }) =>
      volumes.map(({ e2fsck, isComparedWithManifest }) => [e2fsck, isComparedWithManifest]),
    ),
    [[['clean', true]], [['clean', false]], [['clean', false]], [['clean', true]]],
  )
  for (const { components } of result.rebuilt) {
    t.is(components.comparedCount, 2, 'both files of the component were rebuilt and compared')
    t.ok(components.notes[0]?.includes('is not there'), 'its writer is not there to be asked')
  }
  const status = await umbraJson<{
    backups: { id: string; base: string | null; verified: { outcome: string; message: string } | null }[]
    last: { verify: { atMs: number } | null; prune: unknown }
  }>(['status', repository])
  t.alike(
    status.backups.map(({ base }) => base),
    [null, ids[0], ids[0], null],
  )
  t.ok(status.backups.every(({ verified }) => verified?.outcome === 'ok'))
  t.is(status.last.prune, null)
  const text = (await umbra(['status', repository])).stdout
  t.ok(ids.every((id) => text.includes(id)) && text.includes('last verify'))
  t.is((await umbra(['verify', repository, '2000'], { check: false })).code, 3, 'an unknown backup')
})

test('every file of a backup can be harmed, and is found with all that it spoils', NEEDS, async (t) => {
  const { repository, ids } = await scene(t)
  const random = new Random(chosenSeed(t))
  const [full = '', incremental = '', differential = ''] = ids
  const opened = Repository.open(repository)
  const { folder, manifest } = opened.get(full)
  const files = (readdirSync(folder, { recursive: true }) as string[]).filter((name) =>
    statSync(join(folder, name)).isFile(),
  )
  t.ok(files.length >= 6, files.join(', '))
  for (const file of files) {
    const path = join(folder, file)
    const good = readFileSync(path)
    const harms = good.length === 0 ? [] : ['flip', 'cut', 'remove']
    for (const harm of harms) {
      if (harm === 'flip') writeFileSync(path, flipped(good, random))
      else if (harm === 'cut') truncateSync(path, good.length - 2)
      else rmSync(path)
      const { damages, backups } = await verifyRepository(opened, [])
      const [damage] = damages
      if (
        !damage ||
        damage.backupId !== full ||
        (damage.file ?? file) !== file ||
        !damage.message.includes(file.split('/').at(-1) ?? '')
      )
        t.fail(`${harm} ${file}: ${JSON.stringify(damages)}`)
      t.alike(damage?.spoils, [incremental, differential], `${harm} ${file}`)
      t.alike(
        backups.filter(({ isGood }) => isGood).map(({ id }) => id),
        [ids[3]],
      )
      writeFileSync(path, good)
    }
  }
  t.alike((await verifyRepository(opened, [])).damages, [], 'whole again')
  const one = await verifyRepository(opened, [incremental])
  t.alike(one.backups, [{ id: incremental, isGood: true, damagedBases: [] }], 'one by itself')
  // Right by every digest of the files, and wrong all the same.
  const other = {
    ...manifest,
    images: manifest.images.map((image) => ({ ...image, contentDigest: '0'.repeat(64) })),
  }
  replace(folder, other)
  t.is(
    (await verifyRepository(opened, [full])).damages[0]?.code,
    'BROKEN_CHAIN',
    'the identity within is compared',
  )
  replace(folder, manifest)
  const next = opened.get(incremental)
  replace(next.folder, {
    ...next.manifest,
    images: next.manifest.images.map((image) => ({ ...image, basePointId: full })),
  })
  const wrongBase = await verifyRepository(opened, [incremental])
  t.is(wrongBase.damages[0]?.code, 'BROKEN_CHAIN', 'it starts from another point')
  replace(next.folder, next.manifest)
  t.alike((await verifyRepository(opened, [])).damages, [])
})

test('the exit code tells the kind of damage, and results are kept', NEEDS, async (t) => {
  const { repository, ids } = await scene(t)
  const [full = '', incremental = ''] = ids
  const opened = Repository.open(repository)
  const { folder, manifest } = opened.get(full)
  const image = join(folder, manifest.images[0]?.file ?? '')
  copyFileSync(image, `${image}.good`)
  writeFileSync(image, flipped(readFileSync(image), new Random(1)))
  const digest = await told(repository, ['--restore'])
  t.is(digest.code, 7, 'a digest')
  t.alike(
    digest.told.rebuilt.map(({ id }) => id),
    [ids[3]],
    'what is damaged is not rebuilt',
  )
  t.is(opened.results().findLast(({ backupId }) => backupId === incremental)?.outcome, 'failed')
  t.ok(
    opened
      .results()
      .findLast(({ backupId }) => backupId === incremental)
      ?.message.includes(full),
  )
  renameSync(`${image}.good`, image)
  writeFileSync(join(folder, 'manifest.json'), '{}')
  t.is((await told(repository)).code, 10, 'a document')
  writeFileSync(join(folder, 'manifest.json'), encodeManifest(manifest))
  renameSync(folder, join(repository, 'away'))
  const missing = await told(repository)
  t.is(missing.code, 14, 'a base that is missing')
  t.ok(missing.told.damages.some(({ message }) => message.includes(full)))
  renameSync(join(repository, 'away'), folder)
  t.is((await told(repository)).code, 0)
})

test('no room in scratch space is said before anything is written', NEEDS, async (t) => {
  const { repository, mountPoint } = await scene(t)
  const { code, stderr } = await umbra(['verify', repository, '--restore', '--scratch', mountPoint], {
    check: false,
  })
  t.is(code, 8)
  t.ok(stderr.includes('--scratch'), stderr)
  t.alike(
    readdirSync(mountPoint).filter((name) => name.startsWith('umbra-verify')),
    [],
  )
  t.is((await umbra(['verify', repository, '--scratch', '/nowhere'], { check: false })).code, 3)
})

test('a file system that is damaged in the backup is found by e2fsck', NEEDS, async (t) => {
  const lab = backupLab(t)
  const { path } = await lab.volume('v', { size: '16M', mount: false })
  // A volume whose file system has a wrong count of free blocks, as a program error would leave it.
  const raw = lab.at('bad.img')
  await umbra(['snapshot', 'create', path, 's'])
  await umbra(['export', path, 's', '--format', 'raw', '-o', raw])
  rmSync(path)
  await run('debugfs', ['-w', '-R', 'set_super_value free_blocks_count 5', raw])
  await umbra(['create', path, '--from', raw, '--size', '16M'], { check: false })
  if (!existsSync(path)) {
    t.comment('umbra refuses such an image: nothing to judge')
    return
  }
  await lab.backup({ type: 'full' })
  const result = await told(lab.repository, ['--restore'])
  t.is(result.told.rebuilt[0]?.volumes[0]?.e2fsck, 'objects')
  t.is(result.code, 7)
  t.ok(statSync(lab.repository).isDirectory())
})

function replace(folder: string, manifest: Manifest): void {
  writeFileSync(join(folder, 'manifest.json'), encodeManifest(manifest))
}

function flipped(bytes: Buffer, random: Random): Buffer {
  const copy = Buffer.from(bytes)
  const at = random.below(copy.length)
  copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8))
  return copy
}
