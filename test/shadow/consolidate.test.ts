// deadline 300
// Synthetic fulls: an incremental becomes whole in its place, images and files; what builds on it stays good; and
// killed at any step, every backup is still restored bit for bit.

import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { UmbraError } from '../../src/base/errors.ts'
import { consolidate } from '../../src/shadow/repository/consolidate.ts'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { backupLab, LabWriter } from './backup-lab.ts'
import { type Saved, savedOf, wrongRestores } from './care-judge.ts'
import { runCare } from './care-run.ts'

const NEEDS = requires('/dev/fuse', 'root', 'qemu-img')

interface Scene {
  readonly repository: string
  readonly data: string
  readonly saved: readonly Saved[]
}

const CHANGES: readonly string[] = [
  'mkdir d && printf one > one && ln one two && ln -s one link && head -c 300000 /dev/urandom > big && printf x > d/in && truncate -s 1M sparse',
  'rm link && printf new > new && dd if=/dev/urandom of=big bs=4096 seek=10 count=3 conv=notrunc status=none && printf 111 | dd of=one conv=notrunc status=none',
  'truncate -s 100000 big && mv new moved && rm -r d && printf tail >> sparse',
  'truncate -s 200000 big && printf y > after && rm two',
]

/** Full, two incrementals and a differential of a volume with a component, whose files are saved by changed ranges. */
async function scene(t: Assertion): Promise<Scene> {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '32M' })
  const data = join(mountPoint, 'data')
  mkdirSync(data)
  lab.writers.push(
    new LabWriter('files', ['incremental', 'differential'], (builder) => {
      builder.addFileGroup({ name: 'files' }).addFiles({ path: data, changedRanges: true })
    }),
  )
  const saved: Saved[] = []
  for (const [i, type] of (['full', 'incremental', 'incremental', 'differential'] as const).entries()) {
    await run('sh', ['-c', `cd ${data} && ${CHANGES[i]}`])
    const result = await lab.backup({ type, images: true, components: 'all' })
    saved.push(await savedOf(result, data))
  }
  return { repository: lab.repository, data, saved }
}

async function checkAll(
  t: Assertion,
  { saved, data }: Scene,
  folder: string,
  comment: string,
): Promise<void> {
  t.alike(await wrongRestores(t, saved, data, folder), [], comment)
}

test('an incremental becomes a full in its place, and what builds on it stays good', NEEDS, async (t) => {
  const made = await scene(t)
  const [full, first, second, differential] = made.saved as [Saved, Saved, Saved, Saved]
  await checkAll(t, made, made.repository, 'before')
  const repository = Repository.open(made.repository)
  const result = await consolidate(repository, first.id)
  t.alike(result.bases, [full.id])
  t.is(result.imageCount, 1)
  t.is(result.componentCount, 1)
  const { manifest, folder } = repository.get(first.id)
  t.is(manifest.images[0]?.baseBackupId, null)
  t.alike(manifest.chain, [first.id])
  t.is(manifest.type, 'incremental', 'it is still what the writers were told')
  t.alike(repository.get(second.id).manifest.chain, [first.id, second.id])
  t.alike(repository.get(differential.id).manifest.chain, [full.id, differential.id])
  t.alike(readdirSync(join(folder, 'images')), [`${manifest.images[0]?.volumeUuid}.qcow2`], 'one image')
  t.absent(existsSync(join(folder, '.consolidating')))
  const image = join(folder, manifest.images[0]?.file ?? '')
  await run('qemu-img', ['check', image])
  const { stdout } = await run('qemu-img', ['info', '--output=json', image])
  t.absent('backing-filename' in (JSON.parse(stdout) as object), 'qemu-img finds no backing file')
  await checkAll(t, made, made.repository, 'after')
  repository.remove(full.id)
  const later = made.saved.filter(({ id }) => id === first.id || id === second.id)
  await checkAll(t, { ...made, saved: later }, made.repository, 'without the full')
  await run('sh', ['-c', `cd ${made.repository} && ${manifest.restoreCommands[0]}`])
  t.ok(e2fsck(join(made.repository, `${manifest.images[0]?.volumeUuid}.img`)).clean, 'e2fsck is content')
})

test('what needs no base, a log and an unknown backup are refused', NEEDS, async (t) => {
  const made = await scene(t)
  const repository = Repository.open(made.repository)
  const codeOf = async (name: string | undefined) => {
    try {
      await consolidate(repository, name)
      return undefined
    } catch (error) {
      return (error as UmbraError).code
    }
  }
  t.is(await codeOf(made.saved[0]?.id), 'INVALID_ARGUMENT')
  t.is(await codeOf('2000'), 'NOT_FOUND')
  const path = join(repository.get(made.saved[0]?.id ?? '').folder, 'images')
  const [name = ''] = readdirSync(path)
  await run('sh', ['-c', `printf '\\377' | dd of=${path}/${name} bs=1 seek=70000 conv=notrunc status=none`])
  t.is(await codeOf(undefined), 'BAD_IMAGE', 'a damaged base is noticed')
  t.absent(existsSync(join(repository.list().at(-1)?.folder ?? '', '.consolidating')), 'and nothing is left')
})

test('killed at any step, a consolidation leaves every backup good', NEEDS, async (t) => {
  const made = await scene(t)
  const name = made.saved[2]?.id ?? ''
  const stepCount = await runCare(copyOf(t, made.repository), { work: 'consolidate', backup: name })
  t.ok(stepCount && stepCount > 20, `${stepCount} changes of the disk`)
  const stride = process.env['UMBRA_LONG'] === '1' ? 1 : 11
  const first = 1 + new Random(chosenSeed(t)).below(stride)
  for (let killAt = first; killAt <= (stepCount ?? 0); killAt += stride) {
    const folder = copyOf(t, made.repository)
    t.is(await runCare(folder, { work: 'consolidate', backup: name, killAt }), null, `killed at ${killAt}`)
    await checkAll(t, made, folder, `killed at ${killAt}`)
    const repository = Repository.open(folder)
    repository.lock()[Symbol.dispose]()
    const left = readdirSync(repository.get(name).folder, { recursive: true }) as string[]
    const strange = left.filter((path) => /\.(partial|next|consolidating|full)/.test(path))
    t.alike(strange, [], 'nothing half made is left')
    if ((killAt - first) % 3 === 0) {
      if (repository.get(name).manifest.chain.length > 1) await consolidate(repository, name)
      await checkAll(t, made, folder, 'consolidated after all')
    }
    rmSync(folder, { recursive: true })
  }
})

function copyOf(t: Assertion, repository: string): string {
  const folder = join(tempFolder(t), 'copy')
  cpSync(repository, folder, { recursive: true })
  return folder
}
