// umbra verify --restore with writers that look at what was rebuilt: one that is connected, and one that ships.

// deadline 240

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { connectCoordinator } from '../../src/daemon/coordinator-client.ts'
import { connectWriter } from '../../src/daemon/writer-line.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'
import { setEnvironment } from '../support/environment.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra, umbraJson } from '../support/umbra.ts'
import { LabWriter } from './backup-lab.ts'

const NEEDS = requires('/dev/fuse', 'root', 'e2fsck')

/** Knows of its data what no digest does: `sum` holds the sum of the lines of `entries`. */
class LedgerWriter extends LabWriter {
  readonly looked: string[] = []

  override onPostRestore(context: WriterContext): void {
    for (const component of context.components) {
      if (component.data.additionalRestores) continue
      const folder = component.data.newTargets[0]?.newPath ?? 'no new target'
      const sum = readFileSync(join(folder, 'entries'), 'utf8')
        .split('\n')
        .reduce((total, line) => total + Number(line), 0)
      this.looked.push(folder)
      if (sum !== Number(readFileSync(join(folder, 'sum'), 'utf8')))
        context.fail('non-retryable', `the entries' sum is ${sum}`)
    }
  }
}

interface Told {
  readonly isGood: boolean
  readonly rebuilt: readonly {
    readonly isGood: boolean
    readonly message: string
    readonly components: {
      readonly comparedCount: number
      readonly checkedBy: readonly string[]
      readonly objections: readonly string[]
      readonly notes: readonly string[]
    }
  }[]
}

async function place(t: Assertion) {
  const folder = tempFolder(t)
  const at = (...names: string[]) => join(folder, ...names)
  setEnvironment(t, { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') })
  for (const name of ['v', 'scratch']) mkdirSync(at(name))
  await umbra(['create', at('v.umbra'), '--size', '64M'])
  await mountVolume(t, at('v.umbra'), at('v'))
  const data = at('v', 'data')
  mkdirSync(data)
  const backup = (type: string) =>
    umbra(['backup', '--to', at('repository'), '--type', type, '--all-components', '--no-images', at('v')])
  const verify = async () => {
    const args = ['verify', at('repository'), '--restore', '--scratch', at('scratch'), '--json']
    const { code, stdout } = await umbra(args, { check: false })
    t.alike(readdirSync(at('scratch')), [], 'nothing is left in scratch space')
    return { code, told: JSON.parse(stdout) as Told }
  }
  return { at, data, backup, verify }
}

test(
  'a connected writer checks its data in the rebuilt copy, and finds what no digest can',
  NEEDS,
  async (t) => {
    const { data, backup, verify } = await place(t)
    const writer = new LedgerWriter('Ledger', ['incremental', 'new-target'], (builder) => {
      builder.setRestoreMethod('restore-if-can-replace', { writerRestore: 'always' })
      builder.addFileGroup({ name: 'ledger' }).addFiles({ path: data })
    })
    // While this connection is open the coordinator runs, so that it has the writer before it is asked for it.
    const connection = await connectCoordinator()
    t.teardown(() => connection.close(), { order: -1 })
    const service = connectWriter(writer, 'ledger', { retryMs: 20 })
    t.teardown(() => service.close(), { order: -2 })
    await until('the writer is there', async () => (await connection.listWriters()).length === 1)

    writeFileSync(join(data, 'entries'), '1\n2\n3')
    writeFileSync(join(data, 'sum'), '6')
    await backup('full')
    writeFileSync(join(data, 'entries'), '1\n2\n3\n4')
    writeFileSync(join(data, 'sum'), '10')
    await backup('incremental')
    const good = await verify()
    t.is(good.code, 0, JSON.stringify(good.told.rebuilt))
    t.alike(
      good.told.rebuilt.map(({ components }) => [components.comparedCount, components.checkedBy]),
      [
        [2, ['Ledger']],
        [2, ['Ledger']],
      ],
    )
    t.is(writer.looked.length, 2)
    t.absent(
      writer.looked.some((folder) => folder.startsWith(data)),
      'what is live was not looked at',
    )

    // The application wrote one and not the other: every byte was saved as it was, and is wrong.
    writeFileSync(join(data, 'sum'), '11')
    await backup('incremental')
    const bad = await verify()
    t.is(bad.code, 7)
    t.alike(
      bad.told.rebuilt.map(({ isGood }) => isGood),
      [true, true, false],
    )
    const last = bad.told.rebuilt[2]
    t.is(last?.components.comparedCount, 2)
    t.ok(last?.components.objections[0]?.includes("the entries' sum is 10"), last?.message)
    t.is(readFileSync(join(data, 'sum'), 'utf8'), '11', 'the live files are as they were')

    await service.close()
    await until('it has gone', async () => (await connection.listWriters()).length === 0)
    const alone = await verify()
    t.is(alone.code, 0, 'without the writer there is nothing against it')
    t.ok(alone.told.rebuilt[2]?.components.notes[0]?.includes('is not there'))
  },
)

test('the SQLite writer checks the rebuilt database', {
  ...requires('/dev/fuse', 'root', 'sqlite3'),
}, async (t) => {
  const { at, data, backup, verify } = await place(t)
  const database = join(data, 'app.db')
  await run('sqlite3', [
    database,
    'PRAGMA journal_mode=WAL; CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES(1),(2)',
  ])
  writeFileSync(at('sqlite.json'), JSON.stringify({ kind: 'sqlite', paths: [data] }))
  await umbra(['writer', 'add', 'sqlite', at('sqlite.json')])
  await backup('full')
  await run('sqlite3', [database, 'INSERT INTO t VALUES(3)'])
  await backup('incremental')
  const { code, told } = await verify()
  t.is(code, 0, JSON.stringify(told.rebuilt))
  t.alike(
    told.rebuilt.map(({ components }) => components.checkedBy),
    [['SQLite'], ['SQLite']],
  )
  t.is((await run('sqlite3', [database, 'SELECT count(*) FROM t'])).stdout.trim(), '3')
  const { backups } = await umbraJson<{ backups: { verified: { outcome: string } | null }[] }>([
    'status',
    at('repository'),
  ])
  t.ok(backups.every(({ verified }) => verified?.outcome === 'ok'))
})
