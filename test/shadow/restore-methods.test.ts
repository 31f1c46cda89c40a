// deadline 120
// Restores of component files on disk: places, statuses, services, writers that refuse, and the order of
// events. The files are read live, so no volume is needed.

import { spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { type ErrorCode, hasCode } from '../../src/base/errors.ts'
import { writeRangesFile } from '../../src/shadow/documents/ranges-file.ts'
import type { SchemaBit } from '../../src/shadow/documents/vocabulary.ts'
import type { BackupResult } from '../../src/shadow/requester/backup.ts'
import type { FileSetOptions, MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { type BackupLab, backupLab } from './backup-lab.ts'
import { differences, RestoringWriter, restore, treeRecord } from './restore-lab.ts'

const NEEDS = requires('root', 'getfattr')
const LIVE = { backupRequired: ['full', 'incremental', 'differential', 'log'], snapshotRequired: [] } as const

interface Place {
  readonly lab: BackupLab
  readonly writer: RestoringWriter
  /** What the writer has. */
  readonly data: string
  at(...names: string[]): string
  full(): Promise<string>
  incremental(): Promise<string>
}

type Describe = (builder: MetadataBuilder, files: FileSetOptions, at: Place['at']) => void

const plain: Describe = (builder, files) => {
  builder.addFileGroup({ name: 'data' }).addFiles(files)
}

function place(
  t: Assertion,
  describe: Describe = plain,
  schema: readonly SchemaBit[] = ['incremental'],
): Place {
  const lab = backupLab(t)
  const data = lab.at('data')
  const at = (...names: string[]) => join(lab.folder, ...names)
  mkdirSync(data)
  for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(data, name), `${name} of then`)
  const files = { path: data, filespec: '*', recursive: true, ...LIVE }
  const writer = new RestoringWriter('files', schema, (builder) => {
    builder.setRestoreMethod('restore-if-can-replace', { writerRestore: 'always' })
    describe(builder, files, at)
  })
  lab.writers.push(writer)
  const backup = async (type: 'full' | 'incremental') =>
    wholeId(await lab.backup({ type, images: false, volumes: [] }))
  return { lab, writer, data, at, full: () => backup('full'), incremental: () => backup('incremental') }
}

function wholeId({ manifest }: BackupResult): string {
  if (manifest.isPartial) throw new Error(JSON.stringify(manifest.writers))
  return manifest.id
}

async function fails(
  t: Assertion,
  code: ErrorCode,
  work: Promise<unknown>,
  message = 'refused',
): Promise<void> {
  try {
    await work
    t.fail(message)
  } catch (error) {
    t.ok(hasCode(error, code), `${message}: ${(error as Error).message}`)
  }
}

test('row 79: if not there: to its place, else to the alternate one, which is told', NEEDS, async (t) => {
  const { lab, writer, data, at, full } = place(t, (builder, files, at) => {
    builder.setRestoreMethod('restore-if-not-there', { writerRestore: 'always' })
    builder.addFileGroup({ name: 'data' }).addFiles(files)
    builder.addAlternateLocation(files as never, at('elsewhere'))
  })
  await full()
  const record = await treeRecord(data)
  rmSync(data, { recursive: true })
  const back = await restore(lab)
  t.is(back.components[0]?.place, 'original')
  t.alike(differences(record, await treeRecord(data)), [])
  writeFileSync(join(data, 'a'), 'of now')
  const used: unknown[] = []
  writer.handlers['post-restore'] = ({ components }) => {
    for (const { data: told } of components) used.push(...told.alternateLocationMappingsUsed)
  }
  const aside = await restore(lab)
  t.is(aside.components[0]?.place, 'alternate')
  t.is(readFileSync(join(data, 'a'), 'utf8'), 'of now', 'what is there stays')
  t.alike(differences(record, await treeRecord(at('elsewhere'))), [])
  t.is((used[0] as { destination: string }).destination, at('elsewhere'))
})

test('row 79: can replace: not while a file is in use; then nothing is changed', NEEDS, async (t) => {
  const { lab, data, full, writer } = place(t)
  copyFileSync('/bin/sleep', join(data, 'program'))
  await full()
  writeFileSync(join(data, 'a'), 'of now')
  await run('chmod', ['755', join(data, 'program')])
  const child = spawn(join(data, 'program'), ['60'], { stdio: 'ignore' })
  t.teardown(() => void child.kill())
  await new Promise((resolve) => child.once('spawn', resolve))
  const before = await treeRecord(data)
  writer.log.length = 0
  await fails(t, 'RESTORE_REFUSED', restore(lab))
  t.alike(differences(before, await treeRecord(data)), [])
  t.alike(writer.log, ['pre-restore', 'post-restore'], 'told, and not to recover')
})

test('row 79: a failure at any file takes everything back: NONE', NEEDS, async (t) => {
  const { lab, data, full, writer, at } = place(t)
  mkdirSync(join(data, 'sub'))
  writeFileSync(join(data, 'sub', 'e'), 'e')
  linkSync(join(data, 'a'), join(data, 'sub', 'a too'))
  await full()
  rmSync(join(data, 'sub'), { recursive: true })
  writeFileSync(join(data, 'sub'), 'a file now')
  writeFileSync(join(data, 'a'), 'of now')
  rmSync(join(data, 'b'))
  const before = await treeRecord(data)
  let stepCount = 0
  for (let failAt = 0; failAt === 0 || failAt < stepCount; failAt++) {
    let step = 0
    const statuses: string[] = []
    writer.handlers['post-restore'] = ({ components }) => {
      statuses.push(...components.map((component) => component.data.fileRestoreStatus))
    }
    const onStep = () => {
      if (step++ === failAt) throw new Error(`the disk fails at step ${failAt}`)
    }
    try {
      await restore(lab, { onStep })
      stepCount = step
      break
    } catch (error) {
      t.ok((error as Error).message.includes('the disk fails'), (error as Error).message)
    }
    stepCount = step + 1
    t.alike(statuses, ['none'])
    t.alike(
      differences(before, await treeRecord(data)),
      [],
      `nothing changed after a failure at step ${failAt}`,
    )
    t.alike(readdirSync(at('journals')), [], 'no journal is left')
  }
  t.ok(stepCount > 8, `${stepCount} steps`)
  t.is(readFileSync(join(data, 'sub', 'a too'), 'utf8'), 'a of then')
  t.is(statSync(join(data, 'a')).ino, statSync(join(data, 'sub', 'a too')).ino, 'one inode')
})

test('row 79: interrupted before the first file takes its place, nothing has changed', NEEDS, async (t) => {
  const { lab, data, full, writer, at } = place(t)
  await full()
  writeFileSync(join(data, 'a'), 'of now')
  const before = await treeRecord(data)
  const controller = new AbortController()
  writer.handlers['pre-restore'] = () => controller.abort()
  await fails(t, 'ABORTED', restore(lab, { signal: controller.signal }))
  t.alike(differences(before, await treeRecord(data)), [], 'files that were to be replaced are still there')
  t.alike(readdirSync(at('journals')), [])
})

test('row 79: what cannot be taken back is FAILED, and the next run tells of it', NEEDS, async (t) => {
  const { lab, data, full, writer, at } = place(t)
  await full()
  writeFileSync(join(data, 'a'), 'of now')
  const statuses: string[] = []
  writer.handlers['post-restore'] = ({ components }) => {
    statuses.push(...components.map((component) => component.data.fileRestoreStatus))
  }
  let step = 0
  const onStep = () => {
    if (step++ < 2) return
    // The disk loses what was kept for going back.
    for (const name of readdirSync(data))
      if (name.startsWith('.umbra')) rmSync(join(data, name), { recursive: true })
    throw new Error('the disk fails')
  }
  const result = await restore(lab, { onStep })
  t.is(result.components[0]?.status, 'failed')
  t.ok(result.isPartial)
  t.alike(statuses, ['failed'])
  const next = await restore(lab)
  t.is(next.components[0]?.status, 'all', 'a restore anew works')
  t.is(next.notes.length, 1, next.notes[0])
  t.ok(readdirSync(at('journals')).every((name) => name.endsWith('.failed')))
  t.is((await restore(lab)).notes.length, 0, 'told once')
})

test(
  'row 79: directed targets: ranges go where the writer says; unequal ones are refused',
  NEEDS,
  async (t) => {
    const { lab, data, full, writer, at } = place(t)
    writeFileSync(join(data, 'a'), '0123456789')
    await full()
    writeFileSync(at('into'), '..........')
    writeFileSync(join(data, 'a'), 'untouched')
    const directed = (sizes: readonly number[]) => {
      writer.handlers['pre-restore'] = ({ components }) => {
        for (const component of components) {
          component.setRestoreTarget('directed')
          component.addDirectedTarget({
            sourcePath: data,
            sourceName: 'a',
            sourceRanges: [
              { offsetBytes: 0, lengthBytes: 2 },
              { offsetBytes: 6, lengthBytes: 3 },
            ],
            destinationPath: at(''),
            destinationName: 'into',
            destinationRanges: sizes.map((lengthBytes, index) => ({
              offsetBytes: 8 - 7 * index,
              lengthBytes,
            })),
          })
        }
      }
    }
    directed([2, 4])
    await fails(t, 'WRITER_FAILED', restore(lab), 'ranges of different size')
    directed([2])
    await fails(t, 'WRITER_FAILED', restore(lab), 'a range without a counterpart')
    t.is(readFileSync(at('into'), 'utf8'), '..........')
    directed([2, 3])
    const result = await restore(lab)
    t.is(result.components[0]?.place, 'directed')
    t.is(readFileSync(at('into'), 'utf8'), '.678....01')
    t.is(readFileSync(join(data, 'a'), 'utf8'), 'untouched')
  },
)

test('row 79: new targets need the bit; then whole file sets go elsewhere', NEEDS, async (t) => {
  const refusing = place(t)
  await refusing.full()
  const newFolders = [{ from: refusing.data, to: refusing.at('new/place') }]
  await fails(t, 'INVALID_ARGUMENT', restore(refusing.lab, { newFolders }), 'without the bit')
  await restore(refusing.lab, { newFolders }).catch((error: Error) =>
    t.ok(error.message.includes('--without-writers'), `there is a way out: ${error.message}`),
  )
  t.absent(existsSync(refusing.at('new')))
  const { lab, data, full, at } = place(t, plain, ['new-target'])
  await full()
  const record = await treeRecord(data)
  rmSync(data, { recursive: true })
  const moved = await restore(lab, { newFolders: [{ from: data, to: at('new/place') }] })
  t.is(moved.components[0]?.place, 'new-target')
  t.absent(existsSync(data))
  t.alike(differences(record, await treeRecord(at('new/place'))), [])
  await fails(
    t,
    'INVALID_ARGUMENT',
    restore(lab, { newFolders: [{ from: '/nobody', to: at('x') }] }),
    'a folder that no file set lies in',
  )
})

test('row 79: services are stopped and started around, or after', NEEDS, async (t) => {
  for (const method of ['stop-restore-start', 'restore-stop-start'] as const) {
    const { lab, writer, data, full, incremental } = place(t, (builder, files) => {
      builder.setRestoreMethod(method, { writerRestore: 'always', serviceName: 'shop' })
      builder.addFileGroup({ name: 'data' }).addFiles(files)
    })
    await full()
    await incremental()
    writer.log.length = 0
    const services = {
      stop: async (name: string) => void writer.log.push(`stop ${name}`),
      start: async (name: string) => void writer.log.push(`start ${name}`),
    }
    await restore(lab, {}, services)
    const told = ['pre-restore', 'recover data', 'post-restore']
    t.alike(
      writer.log,
      method === 'stop-restore-start'
        ? [
            'pre-restore',
            'stop shop',
            'post-restore',
            'pre-restore',
            'start shop',
            'recover data',
            'post-restore',
          ]
        : ['pre-restore', 'post-restore', ...told, 'stop shop', 'start shop'],
      method,
    )
    if (method === 'restore-stop-start') continue
    writeFileSync(join(data, 'a'), 'of now')
    const stuck = {
      stop: async () => {
        throw new Error('it does not stop')
      },
      start: services.start,
    }
    await restore(lab, {}, stuck).then(
      () => t.fail('a service that does not stop'),
      (error: Error) => t.is(error.message, 'it does not stop'),
    )
    t.is(readFileSync(join(data, 'a'), 'utf8'), 'of now')
  }
})

test(
  'row 79: a restore that is interrupted in a chain tells of a service that it leaves stopped',
  NEEDS,
  async (t) => {
    const { lab, writer, full, incremental } = place(t, (builder, files) => {
      builder.setRestoreMethod('stop-restore-start', { writerRestore: 'always', serviceName: 'shop' })
      builder.addFileGroup({ name: 'data' }).addFiles(files)
    })
    await full()
    await incremental()
    const did: string[] = []
    const services = {
      stop: async (name: string) => void did.push(`stop ${name}`),
      start: async (name: string) => void did.push(`start ${name}`),
      startCommand: (name: string) => `service-manager start ${name}`,
    }
    const interrupt = new AbortController()
    writer.handlers['post-restore'] = () => interrupt.abort()
    const notes: string[] = []
    const onNote = (note: string) => void notes.push(note)
    await fails(
      t,
      'ABORTED',
      restore(lab, { signal: interrupt.signal, onNote }, services),
      'between two backups',
    )
    t.alike(did, ['stop shop'])
    t.is(notes.length, 1)
    t.ok(notes[0]?.includes('service shop stays stopped'), notes[0])
    t.ok(notes[0]?.includes('service-manager start shop'), 'and how it is started')
    writer.handlers = {}
    await restore(lab, { onNote }, services)
    t.alike(did, ['stop shop', 'stop shop', 'start shop'], 'the next restore brings it back')
  },
)

test('row 79: custom and reboot are refused by name, and no writer hears of it', NEEDS, async (t) => {
  for (const method of ['custom', 'restore-at-reboot'] as const) {
    const { lab, writer, full } = place(t, (builder, files) => {
      builder.setRestoreMethod(method, { writerRestore: 'always' })
      builder.addFileGroup({ name: 'data' }).addFiles(files)
    })
    await full()
    writer.log.length = 0
    await fails(t, 'RESTORE_REFUSED', restore(lab), method)
    t.alike(writer.log, [])
  }
})

test('row 78: a writer that refuses in PreRestore, and one that is not there', NEEDS, async (t) => {
  const { lab, data, full, writer } = place(t)
  await full()
  writeFileSync(join(data, 'a'), 'of now')
  writer.handlers['pre-restore'] = (context) => context.fail('retryable', 'the server runs', { fatal: true })
  await fails(t, 'WRITER_FAILED', restore(lab))
  t.is(readFileSync(join(data, 'a'), 'utf8'), 'of now')
  lab.writers.length = 0
  await fails(t, 'NOT_FOUND', restore(lab), 'its writer is not there')
  t.is(readFileSync(join(data, 'a'), 'utf8'), 'of now')
  const events = lab.trace.length
  await restore(lab, { withoutWriters: true })
  t.is(lab.trace.length, events, 'nobody is asked')
  t.is(readFileSync(join(data, 'a'), 'utf8'), 'a of then')
})

test('row 58: a part of a component by itself, where it may be', NEEDS, async (t) => {
  const { lab, data, full } = place(t, (builder, files) => {
    const set = (filespec: string) => ({ ...files, filespec, recursive: false })
    builder.addFileGroup({ name: 'top', selectable: true }).addFiles(set('a'))
    builder
      .addFileGroup({ logicalPath: 'top', name: 'one', selectable: false, selectableForRestore: true })
      .addFiles(set('b'))
    builder.addFileGroup({ logicalPath: 'top', name: 'two', selectable: false }).addFiles(set('c'))
  })
  await full()
  for (const name of ['a', 'b', 'c']) writeFileSync(join(data, name), 'of now')
  await fails(t, 'INVALID_ARGUMENT', restore(lab, { components: ['files:top/two'] }))
  const result = await restore(lab, { components: ['files:top/one'] })
  t.alike(result.components[0]?.subcomponents, ['top/one'])
  const now = ['a', 'b', 'c'].map((name) => readFileSync(join(data, name), 'utf8'))
  t.alike(now, ['of now', 'b of then', 'of now'])
})

test('row 74: the ranges file comes back first, and its new place is told', NEEDS, async (t) => {
  const { lab, data, full, incremental, writer, at } = place(t, plain, ['incremental', 'new-target'])
  writeFileSync(join(data, 'a'), '0123456789')
  await full()
  writeFileSync(join(data, 'a'), 'ABCDEFGHIJKL')
  const rangesFile = join(data, 'a.ranges')
  writeRangesFile(rangesFile, [
    { offsetBytes: 2, lengthBytes: 3 },
    { offsetBytes: 9, lengthBytes: 3 },
  ])
  writer.handlers['prepare-for-backup'] = ({ components }) => {
    for (const component of components)
      component.addPartialFile({ path: data, fileName: 'a', ranges: `File=${rangesFile}` })
  }
  await incremental()
  rmSync(data, { recursive: true })
  const told: Record<number, string>[] = []
  writer.handlers['post-restore'] = ({ components }) => {
    told.push(...components.map((component) => component.data.rangesFilePaths))
  }
  await restore(lab)
  t.is(readFileSync(join(data, 'a'), 'utf8'), '01CDE5678JKL', 'only the ranges are the newer ones')
  t.ok(existsSync(rangesFile))
  t.alike(told, [{}, {}])
  told.length = 0
  await restore(lab, { newFolders: [{ from: data, to: at('new') }] })
  t.is(readFileSync(at('new', 'a'), 'utf8'), '01CDE5678JKL')
  t.alike(told, [{}, { 0: at('new', 'a.ranges') }])
})

test('row 60: what was read from an alternate path goes to the default one', NEEDS, async (t) => {
  const { lab, data, at, full } = place(t, (builder, files, at) => {
    builder.addFileGroup({ name: 'data' }).addFiles({ ...files, alternatePath: at('spit') })
  })
  mkdirSync(at('spit'))
  writeFileSync(at('spit', 'a'), 'spit out')
  await full()
  rmSync(at('spit'), { recursive: true })
  await restore(lab)
  t.is(readFileSync(join(data, 'a'), 'utf8'), 'spit out')
  t.absent(existsSync(at('spit')))
})

test('row 62: links, hard links, special files and empty folders come back', NEEDS, async (t) => {
  const { lab, data, full } = place(t)
  linkSync(join(data, 'a'), join(data, 'a again'))
  symlinkSync('../nowhere', join(data, 'link'))
  await run('mkfifo', ['-m', '620', join(data, 'pipe')])
  mkdirSync(join(data, 'empty'), { mode: 0o711 })
  await run('mknod', [join(data, 'device'), 'c', '1', '7'])
  await run('touch', ['-d', '2001-02-03 04:05:06.123456789', join(data, 'b')])
  await run('touch', ['-h', '-d', '1960-01-01 00:00:00.5', join(data, 'link')])
  await run('chown', ['-h', '12:34', join(data, 'link')])
  await full()
  const record = await treeRecord(data)
  rmSync(data, { recursive: true })
  await restore(lab)
  t.alike(differences(record, await treeRecord(data)), [])
  t.is(statSync(join(data, 'a')).ino, statSync(join(data, 'a again')).ino)
})

test(
  'row 78: the golden trace of a chain: one operation for each backup, in the order of VSS',
  NEEDS,
  async (t) => {
    const { lab, full, incremental, writer } = place(t)
    await full()
    await incremental()
    const operation = [
      'call loadDocuments',
      'call gatherWriterMetadata',
      'event identify',
      'call setSelectedForRestore',
      'call setAdditionalRestores',
      'call components',
      'call preRestore',
      'event pre-restore',
      'call gatherWriterStatus',
      'call components',
      'call setFileRestoreStatus',
      'call postRestore',
      'event post-restore',
      'call gatherWriterStatus',
      'call components',
      'call close',
    ]
    const traced = async (work: Promise<unknown>) => {
      lab.trace.length = 0
      await work.catch(() => {})
      return lab.trace.flatMap((entry) =>
        entry.phase !== 'begin'
          ? []
          : [
              entry.kind === 'call'
                ? `call ${entry.call}`
                : `event ${entry.kind === 'event' ? entry.event : ''}`,
            ],
      )
    }
    t.alike(await traced(restore(lab)), [...operation, ...operation])
    const onStep = () => {
      throw new Error('the disk fails')
    }
    t.alike(await traced(restore(lab, { onStep })), operation, 'a failure ends the chain after its operation')
    writer.handlers['pre-restore'] = (context) => context.fail('non-retryable', 'no', { fatal: true })
    t.alike(
      await traced(restore(lab)),
      operation.filter((line) => line !== 'event post-restore'),
      'a writer that has refused hears nothing more',
    )
    lab.writers.length = 0
    t.alike(
      await traced(restore(lab)),
      ['call loadDocuments', 'call gatherWriterMetadata', 'call setSelectedForRestore', 'call close'],
      'a writer that is not there',
    )
  },
)

test('row 79: a dry run tells what would be done and does nothing', NEEDS, async (t) => {
  const { lab, data, full, incremental, writer } = place(t)
  await full()
  const id = await incremental()
  writeFileSync(join(data, 'a'), 'of now')
  writer.log.length = 0
  const result = await restore(lab, { dryRun: true })
  t.is(result.backup, id)
  t.is(result.components[0]?.status, null)
  t.is(result.components[0]?.place, 'original')
  t.is(result.components[0]?.fileCount, 8, 'four files, twice; folders are none')
  t.alike(writer.log, [])
  t.is(readFileSync(join(data, 'a'), 'utf8'), 'of now')
})
