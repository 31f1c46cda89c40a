// How sessions end, and what they leave: Abort, death, persistent shadow copies, the document, and that
// sessions do not see each other.

import test from 'brittle'
import type { RequesterSession } from '../../src/shadow/coordinator/requester-session.ts'
import { codeOf, linesOf, openLab, prepared, ScriptedWriter, vetoes } from './coordinator-lab.ts'

async function statusOf(session: RequesterSession, name: string) {
  const status = (await session.gatherWriterStatus()).find((one) => one.name === name)
  return status && { state: status.state, result: status.result }
}

test('row 51: AbortBackup tells every writer once, and BackupComplete is not needed', async (t) => {
  const writers = [new ScriptedWriter('one'), new ScriptedWriter('two')]
  const lab = await openLab(t, { writers })
  const session = await prepared(lab)
  await session.abortBackup()
  t.is(await codeOf(session.abortBackup()), 'BAD_STATE')
  await session.close()
  for (const writer of writers) {
    t.alike(writer.events, ['prepare-for-backup', 'abort', 'backup-shutdown'])
  }
  t.ok(lab.provider.isClean())
})

test('row 51: AbortBackup while the set is being made stops it', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const session = await prepared(lab)
  let aborting: Promise<void> = Promise.resolve()
  lab.provider.hook = (step, volume) => {
    if (step === 'flush-and-hold' && volume === '/a') aborting = session.abortBackup()
  }
  t.is(await codeOf(session.doSnapshotSet()), 'ABORTED')
  await aborting
  t.alike(writer.events, ['prepare-for-backup', 'prepare-for-snapshot', 'freeze', 'abort'])
  t.ok(lab.provider.isClean())
  await session.close()
})

test('row 51: after PostSnapshot no Abort is sent, only the end', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const session = await prepared(lab)
  await session.doSnapshotSet()
  await session.abortBackup()
  await session.close()
  t.alike(writer.events.slice(-2), ['post-snapshot', 'backup-shutdown'])
  t.ok(lab.provider.isClean())
})

test('row 50: a requester that dies after the snapshot: the set id, no BackupComplete, no shadow copy', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const session = await prepared(lab)
  const { snapshotSetId } = await session.components()
  await session.doSnapshotSet()
  await session.keepBookmarks(true)
  await lab.coordinator.abandon(session)
  t.alike(writer.events.slice(-2), ['post-snapshot', 'backup-shutdown'])
  t.is(writer.requests.at(-1)?.snapshotSetId, snapshotSetId)
  t.ok(lab.provider.isClean())
  t.is(lab.provider.volumes.get('/a')?.bookmarks().length, 0, 'nothing to build on is left either')
  const shutdowns = writer.requests.filter(({ event }) => event === 'backup-shutdown')
  t.is(shutdowns.length, 1)
})

test('row 20: a persistent shadow copy outlives its session; bookmarks stay where they are asked for', async (t) => {
  const lab = await openLab(t, { volumes: ['/a'] })
  const session = await lab.coordinator.openSession('backup')
  await session.setContext({ context: 'app-rollback' })
  await session.gatherWriterMetadata()
  await session.startSnapshotSet()
  await session.addToSnapshotSet('/a', { snapshotName: 'stays' })
  await session.prepareForBackup()
  await session.doSnapshotSet()
  await lab.coordinator.abandon(session)
  t.alike(lab.provider.listed(), ['stays'])

  const volatile = await lab.coordinator.openSession('backup')
  await volatile.setContext({ context: 'file-share-backup' })
  await volatile.startSnapshotSet()
  await volatile.addToSnapshotSet('/a', { snapshotName: 'goes' })
  await volatile.doSnapshotSet()
  await volatile.keepBookmarks(true)
  await volatile.close()
  t.alike(lab.provider.listed(), ['stays'])
  t.alike(
    lab.provider.volumes
      .get('/a')
      ?.bookmarks()
      .map(({ name }) => name),
    ['goes'],
  )
})

test('row 54: what writers set in PostSnapshot is in the document after the set is made', async (t) => {
  const writer = new ScriptedWriter('w', (builder) => builder.setBackupSchema('incremental', 'timestamped'))
  writer.on['prepare-for-backup'] = ({ components }) => ({
    result: 'ok',
    components: [
      { logicalPath: '', name: 'data', backupMetadata: `after ${components[0]?.previousBackupStamp}` },
    ],
  })
  writer.on['post-snapshot'] = ({ components, volumes }) => {
    t.is(components[0]?.backupMetadata, 'after s1', 'it sees what it has said')
    t.is(volumes[0]?.recoveryPath, `/mnt/a/.snapshots/${volumes[0]?.recoveryPath?.split('/').at(-1)}`)
    return {
      result: 'ok',
      components: [
        {
          logicalPath: '',
          name: 'data',
          backupStamp: 's2',
          partialFiles: [{ path: '/srv/w', fileName: 'f', ranges: '0:1' }],
        },
      ],
    }
  }
  const lab = await openLab(t, { writers: [writer] })
  const session = await lab.coordinator.openSession('backup')
  await session.gatherWriterMetadata()
  await session.setBackupState({
    componentMode: true,
    bootableSystemState: false,
    backupType: 'incremental',
    partialFileSupport: true,
  })
  await session.addComponent(writer.component)
  await session.setPreviousBackupStamp(writer.component, 's1')
  await session.startSnapshotSet()
  const { snapshotId: promised } = await session.addToSnapshotSet('/a')
  await session.prepareForBackup()
  await session.doSnapshotSet()
  const document = await session.components()
  const [component] = document.writers[0]?.components ?? []
  t.is(component?.backupStamp, 's2')
  t.is(component?.backupMetadata, 'after s1')
  t.is(component?.partialFiles.length, 1)
  const properties = await session.snapshotProperties()
  t.alike(
    document.snapshots.map(({ snapshotId }) => snapshotId),
    properties.map(({ snapshotId }) => snapshotId),
  )
  t.is(properties[0]?.snapshotId, promised, 'row 26: the id that was given when the volume was added')
  t.is(lab.provider.volumes.get('/a')?.snapshots()[0]?.id, promised, "the volume's own id")
  await session.close()
})

test('row 55: what fails in one session is not seen in another', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const first = await prepared(lab)
  await first.doSnapshotSet()
  const second = await prepared(lab)
  writer.on['post-snapshot'] = vetoes
  await second.doSnapshotSet()
  t.alike(await statusOf(second, 'w'), { state: 'failed-at-post-snapshot', result: 'retryable' })
  t.alike(await statusOf(first, 'w'), { state: 'waiting-for-backup-complete', result: 'ok' })
  await first.backupComplete()
  t.alike(await statusOf(first, 'w'), { state: 'stable', result: 'ok' })
  await second.close()
  t.is((await first.snapshotProperties()).length, 2, 'nor does its end touch the other')
  t.is(lab.provider.listed().length, 2)
  await first.close()
  t.ok(lab.provider.isClean())
})

test('row 18: files excluded from the snapshot are deleted between PostSnapshot and the seal, best effort', async (t) => {
  const writer = new ScriptedWriter('w', (builder) => builder.excludeFromSnapshot({ path: '/srv/w/tmp' }))
  const lab = await openLab(t, { writers: [writer], volumes: ['/a'] })
  const session = await prepared(lab)
  await session.doSnapshotSet()
  t.is(lab.provider.deleted[0]?.path, '/srv/w/tmp')
  t.alike(linesOf(lab.trace).slice(-3), ['post-snapshot w', 'delete-excluded /a', 'post-final-commit /a'])
  await session.close()

  lab.provider.hook = (step) => {
    if (step === 'delete-excluded') throw new Error('cannot')
  }
  const other = await prepared(lab)
  t.is(await codeOf(other.doSnapshotSet()), 'resolved')
  await other.close()

  const fixed = await lab.coordinator.openSession('backup')
  await fixed.setContext({ context: 'backup', noAutoRecovery: true })
  await fixed.gatherWriterMetadata()
  await fixed.addComponent(writer.component)
  await fixed.startSnapshotSet()
  await fixed.addToSnapshotSet('/a')
  await fixed.prepareForBackup()
  lab.trace.length = 0
  await fixed.doSnapshotSet()
  t.absent(linesOf(lab.trace).includes('delete-excluded /a'), 'row 17: not without auto-recovery')
  await fixed.close()
})
