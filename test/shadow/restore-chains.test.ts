// deadline 240
// Component files come back as they were at each backup of a chain, in random histories, with every attribute.

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { type BackupLab, backupLab } from './backup-lab.ts'
import { RandomTree } from './random-tree.ts'
import { differences, RestoringWriter, restore, treeRecord } from './restore-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = requires('/dev/fuse', 'root', 'setfacl')

interface Saved {
  readonly id: string
  readonly type: string
  readonly record: Map<string, string>
  readonly commands: readonly string[]
}

async function tree(t: Assertion, changedRanges: boolean) {
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v')
  const folder = join(mountPoint, 'data')
  await run('mkdir', [folder])
  const writer = new RestoringWriter('files', ['incremental', 'differential'], (builder) => {
    builder.setRestoreMethod('restore-if-can-replace', { writerRestore: 'always' })
    builder
      .addFileGroup({ logicalPath: '', name: 'data' })
      .addFiles({ path: folder, filespec: '*', recursive: true, changedRanges })
  })
  lab.writers.push(writer)
  return { lab, folder, writer }
}

async function save(
  lab: BackupLab,
  folder: string,
  type: 'full' | 'incremental' | 'differential',
): Promise<Saved> {
  const { manifest } = await lab.backup({ type, images: false })
  return { id: manifest.id, type, record: await treeRecord(folder), commands: manifest.restoreCommands }
}

for (const changedRanges of [false, true]) {
  const how = changedRanges ? 'changed ranges' : 'whole files'
  test(`row 78: every point of a random history comes back: ${how}`, NEEDS, async (t) => {
    const random = new Random(chosenSeed(t))
    const { lab, folder, writer } = await tree(t, changedRanges)
    const history = new RandomTree(folder, random)
    await history.change(40)
    const points = [await save(lab, folder, 'full')]
    for (let round = 0; round < (isLong ? 12 : 4); round++) {
      await history.change(25)
      points.push(await save(lab, folder, random.pick(['incremental', 'differential', 'incremental'])))
    }
    for (const { id, record, commands } of points) {
      const script = commands.slice(1).join('\n')
      await run('sh', ['-ec', `cd '${lab.repository}'; rm -rf restored; ${script}`])
      const found = await treeRecord(join(lab.repository, 'restored', folder))
      t.alike(differences(record, found), [], `stock tools restore ${id}`)
    }
    for (const { id, type, record } of points) {
      const onto = random.pick(['nothing', 'what is there'])
      if (onto === 'nothing') rmSync(folder, { recursive: true })
      writer.log.length = 0
      const before = await treeRecordOf(folder, onto)
      const result = await refusable(restore(lab, { backup: id }))
      if (onto !== 'nothing' && result === 'refused') {
        t.alike(differences(before, await treeRecord(folder)), [], 'a folder with other files is in the way')
        continue
      }
      if (result === 'refused') throw new Error('refused')
      if (onto !== 'nothing' && result.components[0]?.failure?.includes('holds other files')) continue
      t.is(result.components[0]?.status, 'all', `${type} ${id} onto ${onto}`)
      const found = await treeRecord(folder)
      if (onto === 'nothing') t.alike(differences(record, found), [], 'the tree is the one of that instant')
      else t.alike(differences(record, common(record, found)), [], 'every file is the one of that instant')
      t.is(writer.log.filter((line) => line.startsWith('recover')).length, 1, 'recovered once')
      t.is(writer.log.at(-2), 'recover data', 'after the last backup')
      t.is(writer.log.filter((line) => line === 'pre-restore').length, result.operations.length)
    }
  })
}

async function treeRecordOf(folder: string, onto: string): Promise<Map<string, string>> {
  return onto === 'nothing' ? new Map() : treeRecord(folder)
}

async function refusable<T>(work: Promise<T>): Promise<T | 'refused'> {
  try {
    return await work
  } catch (error) {
    if (hasCode(error, 'RESTORE_REFUSED')) return 'refused'
    throw error
  }
}

/** What was there besides stays; folders that hold it have another time. */
function common(record: Map<string, string>, found: Map<string, string>): Map<string, string> {
  return new Map([...found].filter(([path]) => record.has(path)))
}

test(
  'row 78: an incremental without the one before it is refused, and nothing is touched',
  NEEDS,
  async (t) => {
    const { lab, folder, writer } = await tree(t, false)
    const ids: string[] = []
    for (const type of ['full', 'incremental', 'incremental'] as const) {
      writeFileSync(join(folder, 'file'), type)
      ids.push((await save(lab, folder, type)).id)
    }
    writeFileSync(join(folder, 'file'), 'present')
    const before = await treeRecord(folder)
    const backups = join(lab.repository, 'backups')
    const [, middle = ''] = ids
    await run('mv', [join(backups, middle), lab.at('away')])
    writer.log.length = 0
    const refused = async (code: 'BROKEN_CHAIN' | 'INVALID_DOCUMENT' | 'BAD_IMAGE', why: string) => {
      try {
        await restore(lab)
        t.fail(why)
      } catch (error) {
        t.ok(hasCode(error, code), `${why}: ${(error as Error).message}`)
      }
      t.alike(await treeRecord(folder), before, 'nothing changed')
      t.alike(writer.log, [], 'no writer was told')
    }
    await refused('BROKEN_CHAIN', 'the first incremental is missing')
    await run('cp', ['-a', join(backups, ids[0] ?? ''), join(backups, middle)])
    await refused('BROKEN_CHAIN', 'another backup is in its place')
    await run('rm', ['-r', join(backups, middle)])
    await run('mv', [lab.at('away'), join(backups, middle)])
    const stored = join(backups, middle, 'files', '000000', '000000000')
    const bytes = await run('cat', [stored])
    writeFileSync(stored, 'Xncremental')
    await refused('BAD_IMAGE', 'a stored file is damaged')
    await run('rm', [stored])
    await refused('BROKEN_CHAIN', 'a stored file is missing')
    writeFileSync(stored, bytes.stdout)
    const document = join(backups, ids[2] ?? '', 'backup-components.json')
    await run('mv', [document, lab.at('document')])
    await refused('INVALID_DOCUMENT', 'row 57: the backup components document is missing')
    await run('mv', [lab.at('document'), document])
    await run('sh', ['-c', `rm '${join(backups, ids[0] ?? '', 'writers')}'/*`])
    await refused('INVALID_DOCUMENT', "row 57: a writer's metadata is missing in the full")
  },
)
