// Restore sessions: the order of vss.md section 2.1, who is told, what may be selected.

import test from 'brittle'
import type { Coordinator } from '../../src/shadow/coordinator/coordinator.ts'
import type { RequesterSession } from '../../src/shadow/coordinator/requester-session.ts'
import type { BackupComponents } from '../../src/shadow/documents/backup-components.ts'
import type { WriterRestore } from '../../src/shadow/documents/vocabulary.ts'
import type { WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import { codeOf, complains, hangs, linesOf, openLab, ScriptedWriter, vetoes } from './coordinator-lab.ts'

interface Saved {
  readonly components: BackupComponents
  readonly metadata: WriterMetadata[]
}

function restoring(name: string, writerRestore: WriterRestore): ScriptedWriter {
  return new ScriptedWriter(name, (builder) => {
    builder.setRestoreMethod('restore-if-can-replace', { writerRestore })
    builder
      .addFileGroup({ logicalPath: 'data', name: 'sub', selectableForRestore: true })
      .addFiles({ path: '/srv/sub' })
    builder.addFileGroup({ logicalPath: 'data', name: 'fixed' }).addFiles({ path: '/srv/fixed' })
  })
}

async function backedUp(coordinator: Coordinator, writers: readonly ScriptedWriter[]): Promise<Saved> {
  const session = await coordinator.openSession('backup')
  const metadata = await session.gatherWriterMetadata()
  for (const writer of writers) await session.addComponent(writer.component)
  const components = await session.components()
  await session.close()
  return { components, metadata }
}

async function opened(coordinator: Coordinator, saved: Saved): Promise<RequesterSession> {
  const session = await coordinator.openSession('restore')
  await session.loadDocuments(saved.components, saved.metadata)
  await session.gatherWriterMetadata()
  return session
}

test('row 40: a restore in the order of VSS, without any Abort or shutdown', async (t) => {
  const writers = [restoring('one', 'always'), restoring('two', 'always')]
  const lab = await openLab(t, { writers })
  const saved = await backedUp(lab.coordinator, writers)
  lab.trace.length = 0
  const session = await opened(lab.coordinator, saved)
  for (const writer of writers) await session.setSelectedForRestore(writer.component, true)
  await session.preRestore()
  for (const writer of writers) await session.setFileRestoreStatus(writer.component, 'all')
  await session.postRestore()
  await session.close()
  t.alike(linesOf(lab.trace), [
    'call loadDocuments',
    'call gatherWriterMetadata',
    'identify one',
    'identify two',
    'call setSelectedForRestore',
    'call setSelectedForRestore',
    'call preRestore',
    'pre-restore one',
    'pre-restore two',
    'call setFileRestoreStatus',
    'call setFileRestoreStatus',
    'call postRestore',
    'post-restore one',
    'post-restore two',
    'call close',
  ])
})

test('row 79: who is told: never, if-replace-fails, always; and only of what is selected', async (t) => {
  const cases: readonly { restore: WriterRestore; status: 'all' | 'failed' | 'none'; told: string[] }[] = [
    { restore: 'never', status: 'all', told: [] },
    { restore: 'never', status: 'failed', told: [] },
    { restore: 'if-replace-fails', status: 'all', told: ['pre-restore'] },
    { restore: 'if-replace-fails', status: 'none', told: ['pre-restore', 'post-restore'] },
    { restore: 'if-replace-fails', status: 'failed', told: ['pre-restore', 'post-restore'] },
    { restore: 'always', status: 'all', told: ['pre-restore', 'post-restore'] },
    { restore: 'always', status: 'failed', told: ['pre-restore', 'post-restore'] },
  ]
  for (const { restore, status, told } of cases) {
    const writer = restoring('w', restore)
    const other = restoring('other', 'always')
    const lab = await openLab(t, { writers: [writer, other] })
    const saved = await backedUp(lab.coordinator, [writer, other])
    const session = await opened(lab.coordinator, saved)
    await session.setSelectedForRestore(writer.component, true)
    await session.preRestore()
    await session.setFileRestoreStatus(writer.component, status)
    await session.postRestore()
    await session.close()
    t.alike(writer.events, told, `${restore}, ${status}`)
    t.alike(other.events, [], 'nothing of it is selected')
    if (told.length === 2) t.is(writer.requests.at(-1)?.components[0]?.fileRestoreStatus, status)
  }
})

test('row 79: files that went to an alternate place count as a replacement that failed', async (t) => {
  const writer = restoring('w', 'if-replace-fails')
  const lab = await openLab(t, { writers: [writer] })
  const session = await opened(lab.coordinator, await backedUp(lab.coordinator, [writer]))
  await session.setSelectedForRestore(writer.component, true)
  await session.preRestore()
  await session.setFileRestoreStatus(writer.component, 'all')
  const used = { path: '/srv/w', filespec: '*', recursive: true, destination: '/elsewhere' }
  await session.addAlternateLocationUsed(writer.component, used)
  await session.postRestore()
  t.alike(writer.events, ['pre-restore', 'post-restore'])
  t.alike(writer.requests.at(-1)?.components[0]?.alternateLocationMappingsUsed, [used])
  await session.close()
})

test('row 78: additional restores, options and subcomponents reach the writer before PreRestore', async (t) => {
  const writer = restoring('w', 'always')
  const lab = await openLab(t, { writers: [writer] })
  const session = await opened(lab.coordinator, await backedUp(lab.coordinator, [writer]))
  const sub = { logicalPath: 'data', name: 'sub' }
  await session.setRestoreType('by-copy')
  await session.addRestoreSubcomponent(writer.component, sub)
  t.is(await codeOf(session.addRestoreSubcomponent(writer.component, sub)), 'ALREADY_EXISTS')
  t.is(
    await codeOf(session.addRestoreSubcomponent(writer.component, { logicalPath: 'data', name: 'fixed' })),
    'INVALID_ARGUMENT',
    'it is not selectable for restore',
  )
  t.is(
    await codeOf(session.addRestoreSubcomponent(writer.component, { logicalPath: '', name: 'none' })),
    'NOT_FOUND',
  )
  await session.setAdditionalRestores(writer.component, true)
  await session.setRestoreOptions(writer.component, '"data":"Authoritative"="All"')
  await session.preRestore()
  t.is(await codeOf(session.setAdditionalRestores(writer.component, false)), 'BAD_STATE')
  const [component] = writer.requests.at(-1)?.components ?? []
  t.is(component?.additionalRestores, true)
  t.is(component?.restoreOptions, '"data":"Authoritative"="All"')
  t.alike(component?.restoreSubcomponents, [sub])
  t.is(component?.selectedForRestore, true, 'choosing a part chooses the component')
  await session.close()
})

test('row 79: new targets need the schema bit and one of the file sets', async (t) => {
  const target = { path: '/srv/w', filespec: '*', recursive: true, newPath: '/new' }
  const without = restoring('w', 'always')
  let lab = await openLab(t, { writers: [without] })
  let session = await opened(lab.coordinator, await backedUp(lab.coordinator, [without]))
  t.is(await codeOf(session.addNewTarget(without.component, target)), 'INVALID_ARGUMENT')

  const able = new ScriptedWriter('w', (builder) => builder.setBackupSchema('new-target'))
  lab = await openLab(t, { writers: [able] })
  session = await opened(lab.coordinator, await backedUp(lab.coordinator, [able]))
  t.is(
    await codeOf(session.addNewTarget(able.component, { ...target, filespec: '*.db' })),
    'INVALID_ARGUMENT',
  )
  await session.addNewTarget(able.component, target)
  t.is(await codeOf(session.addNewTarget(able.component, target)), 'ALREADY_EXISTS')
  t.alike((await session.components()).writers[0]?.components[0]?.newTargets, [target])
})

test('a writer that is not there cannot be selected, unless restores are none of its business', async (t) => {
  const writers = [restoring('gone', 'always'), restoring('quiet', 'never'), restoring('there', 'always')]
  const lab = await openLab(t, { writers })
  const saved = await backedUp(lab.coordinator, writers)
  lab.writers.splice(0, 2)
  const session = await opened(lab.coordinator, saved)
  t.is(
    await codeOf(session.setSelectedForRestore((writers[0] as ScriptedWriter).component, true)),
    'NOT_FOUND',
  )
  t.is(
    await codeOf(session.setSelectedForRestore((writers[1] as ScriptedWriter).component, true)),
    'resolved',
  )
  t.is(
    await codeOf(session.setSelectedForRestore((writers[2] as ScriptedWriter).component, true)),
    'resolved',
  )
  await session.preRestore()
  await session.close()
})

test('a writer is found again by class and instance name after it has started anew', async (t) => {
  const writer = restoring('w', 'always')
  const lab = await openLab(t, { writers: [writer] })
  const saved = await backedUp(lab.coordinator, [writer])
  const stored = writer.component
  const instanceId = 'ffffffff-0000-4000-8000-000000000000'
  writer.metadata = { ...writer.metadata, identity: { ...writer.metadata.identity, instanceId } }
  const session = await opened(lab.coordinator, saved)
  await session.setSelectedForRestore(stored, true)
  await session.setRestoreOptions({ ...stored, instanceId }, 'by the new id too')
  await session.preRestore()
  t.alike(writer.events, ['pre-restore'])
  await session.close()
})

test('row 47: failures in PreRestore and PostRestore are states; what they may set is set, and no more', async (t) => {
  for (const event of ['pre-restore', 'post-restore'] as const) {
    for (const [behaviour, result] of [
      [vetoes, 'retryable'],
      [complains, 'retryable'],
      [hangs, 'not-responding'],
    ] as const) {
      const writer = restoring('w', 'always')
      writer.on[event] = behaviour
      const lab = await openLab(t, { writers: [writer], limits: { longEventMs: 50 } })
      const session = await opened(lab.coordinator, await backedUp(lab.coordinator, [writer]))
      await session.setSelectedForRestore(writer.component, true)
      let statuses = await session.preRestore()
      if (event === 'post-restore') statuses = await session.postRestore()
      t.is(statuses[0]?.state, `failed-at-${event}`)
      t.is(statuses[0]?.result, result)
      await session.close()
    }
  }
  const writer = restoring('w', 'always')
  const change = { logicalPath: '', name: 'data' }
  writer.on['pre-restore'] = () => ({
    result: 'ok',
    components: [{ ...change, restoreTarget: 'original-location', restoreMetadata: 'm' }],
  })
  writer.on['post-restore'] = () => ({ result: 'ok', components: [{ ...change, restoreMetadata: 'late' }] })
  const lab = await openLab(t, { writers: [writer] })
  const session = await opened(lab.coordinator, await backedUp(lab.coordinator, [writer]))
  await session.setSelectedForRestore(writer.component, true)
  await session.preRestore()
  const statuses = await session.postRestore()
  t.is(statuses[0]?.result, 'non-retryable', 'PostRestore may set a failure message only')
  const [component] = (await session.components()).writers[0]?.components ?? []
  t.is(component?.restoreTarget, 'original-location')
  t.is(component?.restoreMetadata, 'm')
  await session.close()
})

test('row 57: both documents are needed, and are validated', async (t) => {
  const writer = restoring('w', 'always')
  const lab = await openLab(t, { writers: [writer] })
  const { components, metadata } = await backedUp(lab.coordinator, [writer])
  const session = await lab.coordinator.openSession('restore')
  t.is(await codeOf(session.loadDocuments(components, [])), 'NOT_FOUND')
  t.is(
    await codeOf(session.loadDocuments({ ...components, format: 'x' as never }, metadata)),
    'INVALID_DOCUMENT',
  )
  t.is(await codeOf(session.loadDocuments(components, [{} as never])), 'INVALID_DOCUMENT')
  t.is(await codeOf(session.loadDocuments(components, metadata)), 'resolved', 'and then it can go on')
  await session.close()
})

test('a requester that dies in a restore: writers get no events for it, and the session is gone', async (t) => {
  const writer = restoring('w', 'always')
  const lab = await openLab(t, { writers: [writer] })
  const session = await opened(lab.coordinator, await backedUp(lab.coordinator, [writer]))
  await session.setSelectedForRestore(writer.component, true)
  await session.preRestore()
  await lab.coordinator.abandon(session)
  t.alike(writer.events, ['pre-restore'])
  t.is(lab.coordinator.sessionCount, 0)
})
