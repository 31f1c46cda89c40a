// What the coordinator makes of its writers: states and results, who hears of what, what they may change.

import test from 'brittle'
import { DEFAULT_LIMITS } from '../../src/shadow/coordinator/limits.ts'
import type { RequesterSession } from '../../src/shadow/coordinator/requester-session.ts'
import type { WriterEvent, WriterReply } from '../../src/shadow/writers/writer-messages.ts'
import {
  codeOf,
  complains,
  FREEZE_TIMEOUT_MS,
  hangs,
  type Lab,
  openLab,
  prepared,
  ScriptedWriter,
  vetoes,
} from './coordinator-lab.ts'

async function statusOf(session: RequesterSession, name: string) {
  const status = (await session.gatherWriterStatus()).find((one) => one.name === name)
  return status && { state: status.state, result: status.result }
}

async function listed(lab: Lab, name: string) {
  const { status } = (await lab.coordinator.listWriters()).find((one) => one.origin === name) ?? {}
  return status && { state: status.state, result: status.result }
}

test('row 42: a hundred Identifies during a backup change nothing', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const documents = new Set<string>()
  const identify = async (): Promise<void> => {
    for (const { metadata } of await lab.coordinator.listWriters()) documents.add(JSON.stringify(metadata))
  }
  lab.provider.hook = () => identify()
  for (const event of ['prepare-for-backup', 'freeze', 'thaw', 'post-snapshot'] as const) {
    writer.on[event] = async () => {
      for (let i = 0; i < 20; i++) await identify()
      return { result: 'ok' }
    }
  }
  const session = await prepared(lab)
  for (let i = 0; i < 20; i++) await identify()
  await session.doSnapshotSet()
  await session.backupComplete()
  t.alike(await statusOf(session, 'w'), { state: 'stable', result: 'ok' })
  await session.close()
  const count = writer.requests.filter(({ event }) => event === 'identify').length
  t.ok(count > 100, `${count} Identifies`)
  t.alike([...documents], [JSON.stringify(writer.metadata)], 'the same document each time')
  t.is(writer.events.length, 7)
})

test('row 42: metadata does not change after Identify, whatever the writer does to its own', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const session = await lab.coordinator.openSession('backup')
  const [metadata] = await session.gatherWriterMetadata()
  writer.metadata = { ...writer.metadata, components: [] }
  t.is(await codeOf(session.addComponent(writer.component)), 'resolved')
  t.is(metadata?.components.length, 1)
  await session.close()
})

test('row 43: in component mode an unselected writer hears nothing after Identify, PrepareForBackup included', async (t) => {
  const chosen = new ScriptedWriter('chosen')
  const other = new ScriptedWriter('other')
  const lab = await openLab(t, { writers: [chosen, other] })
  const session = await lab.coordinator.openSession('backup')
  await session.gatherWriterMetadata()
  await session.addComponent(chosen.component)
  await session.startSnapshotSet()
  await session.addToSnapshotSet('/a')
  await session.prepareForBackup()
  await session.doSnapshotSet()
  await session.backupComplete()
  await session.close()
  t.alike(
    other.requests.map(({ event }) => event),
    ['identify'],
  )
  t.is(chosen.events.length, 7)
})

test('row 43: in volume mode every writer is frozen and thawed', async (t) => {
  const writers = [new ScriptedWriter('one'), new ScriptedWriter('two')]
  const lab = await openLab(t, { writers })
  const session = await lab.coordinator.openSession('backup')
  await session.gatherWriterMetadata()
  await session.setBackupState({
    componentMode: false,
    bootableSystemState: false,
    backupType: 'copy',
    partialFileSupport: false,
  })
  await session.startSnapshotSet()
  await session.addToSnapshotSet('/a')
  await session.prepareForBackup()
  await session.doSnapshotSet()
  await session.backupComplete()
  await session.close()
  for (const writer of writers) {
    t.ok(writer.events.includes('freeze') && writer.events.includes('thaw'), writer.origin)
    t.is(writer.requests[1]?.backupState?.componentMode, false)
  }
})

test('row 44: writers are enabled and disabled before they are asked, by class, instance or name', async (t) => {
  const writers = ['one', 'two', 'three'].map((name) => new ScriptedWriter(name))
  const lab = await openLab(t, { writers })
  const names = async (change: (session: RequesterSession) => Promise<void>): Promise<string[]> => {
    const session = await lab.coordinator.openSession('backup')
    await change(session)
    const metadata = await session.gatherWriterMetadata()
    t.is(await codeOf(session.disableWriters(['one'])), 'BAD_STATE', 'later it is refused')
    await session.close()
    return metadata.map(({ identity }) => identity.name)
  }
  const [one, two] = writers as [ScriptedWriter, ScriptedWriter]
  t.alike(await names((session) => session.disableWriters(['one'])), ['two', 'three'])
  t.alike(await names((session) => session.disableWriters([two.metadata.identity.classId])), ['one', 'three'])
  t.alike(await names((session) => session.enableWriters([one.metadata.identity.instanceId])), ['one'])
  t.alike(
    await names(async (session) => {
      await session.enableWriters(['one', 'two'])
      await session.disableWriters(['two'])
    }),
    ['one'],
  )
})

test('row 46: data of it failed: the writer goes on through all events and its status says so', async (t) => {
  const writer = new ScriptedWriter('w')
  const other = new ScriptedWriter('other')
  writer.on['prepare-for-snapshot'] = complains
  const lab = await openLab(t, { writers: [writer, other] })
  const session = await prepared(lab)
  await session.doSnapshotSet()
  t.alike(await statusOf(session, 'w'), { state: 'failed-at-prepare-snapshot', result: 'retryable' })
  t.alike(await statusOf(session, 'other'), { state: 'waiting-for-backup-complete', result: 'ok' })
  await session.setBackupSucceeded(writer.component, false)
  await session.setBackupSucceeded(other.component, true)
  await session.backupComplete()
  await session.close()
  t.is(writer.events.length, 7, 'it was thawed and told of the end')
  const told = (who: ScriptedWriter) =>
    who.requests.find(({ event }) => event === 'backup-complete')?.components[0]?.backupSucceeded
  t.is(told(writer), false)
  t.is(told(other), true)
})

test('row 46: data of it failed in Freeze: no reason to end the creation', async (t) => {
  const writer = new ScriptedWriter('w')
  writer.on.freeze = complains
  const lab = await openLab(t, { writers: [writer] })
  const session = await prepared(lab)
  t.is(await codeOf(session.doSnapshotSet()), 'resolved')
  t.alike(await statusOf(session, 'w'), { state: 'failed-at-freeze', result: 'retryable' })
  t.ok(writer.events.includes('thaw'))
  await session.close()
})

test('row 47: states and results after each stage, in the session and in the list', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const during: (string | undefined)[] = []
  const look = async (): Promise<WriterReply> => {
    during.push((await listed(lab, 'w'))?.state)
    return { result: 'ok' }
  }
  for (const event of ['freeze', 'thaw', 'post-snapshot', 'backup-complete', 'backup-shutdown'] as const) {
    writer.on[event] = look
  }
  const session = await prepared(lab)
  t.alike(await statusOf(session, 'w'), { state: 'stable', result: 'ok' })
  await session.doSnapshotSet()
  t.alike(await statusOf(session, 'w'), { state: 'waiting-for-backup-complete', result: 'ok' })
  await session.backupComplete()
  t.alike(await statusOf(session, 'w'), { state: 'stable', result: 'ok' })
  await session.close()
  t.alike(during, [
    'waiting-for-freeze',
    'waiting-for-thaw',
    'waiting-for-post-snapshot',
    'waiting-for-backup-complete',
    'stable',
  ])
})

const FAILED_STATES: Partial<Record<WriterEvent, string>> = {
  'prepare-for-backup': 'failed-at-prepare-backup',
  'prepare-for-snapshot': 'failed-at-prepare-snapshot',
  freeze: 'failed-at-freeze',
  thaw: 'failed-at-thaw',
  'post-snapshot': 'failed-at-post-snapshot',
  'backup-complete': 'failed-at-backup-complete',
}

for (const [event, state] of Object.entries(FAILED_STATES)) {
  test(`row 47: a veto in ${event} is ${state}, with the writer's own result`, async (t) => {
    for (const result of ['out-of-resources', 'inconsistent-snapshot', 'non-retryable'] as const) {
      const writer = new ScriptedWriter('w')
      writer.on[event as WriterEvent] = () => ({ result, fatal: true, message: 'because' })
      const lab = await openLab(t, { writers: [writer] })
      const session = await prepared(lab)
      await session.doSnapshotSet().catch(() => {})
      await session.backupComplete().catch(() => {})
      t.alike(await statusOf(session, 'w'), { state, result })
      t.alike(await listed(lab, 'w'), { state, result })
      t.is((await session.gatherWriterStatus())[0]?.message, 'because')
      await session.close()
      t.is((await listed(lab, 'w'))?.state, 'stable', 'after the shutdown')
    }
  })
}

test('row 47: BackupShutdown can fail too, and a writer may not say what only the coordinator finds', async (t) => {
  const writer = new ScriptedWriter('w')
  writer.on['backup-shutdown'] = vetoes
  writer.on['post-snapshot'] = () => ({ result: 'not-responding' })
  const lab = await openLab(t, { writers: [writer] })
  const session = await prepared(lab)
  await session.doSnapshotSet()
  t.alike(await statusOf(session, 'w'), { state: 'failed-at-post-snapshot', result: 'non-retryable' })
  await session.close()
  t.is((await listed(lab, 'w'))?.state, 'failed-at-backup-shutdown')
})

test('row 48: a writer that does not answer Identify is not there, and the list says why', async (t) => {
  const silent = new ScriptedWriter('silent')
  const other = new ScriptedWriter('other')
  const twin = new ScriptedWriter('other')
  silent.on.identify = hangs
  const lab = await openLab(t, { writers: [silent, other, twin], limits: { identifyMs: 50 } })
  const session = await lab.coordinator.openSession('backup')
  t.alike(
    (await session.gatherWriterMetadata()).map(({ identity }) => identity.name),
    ['other'],
    'nor is an instance that is there already',
  )
  t.is(await codeOf(session.addComponent(silent.component)), 'NOT_FOUND')
  await session.close()
  t.alike(await listed(lab, 'silent'), { state: 'failed-at-identify', result: 'not-responding' })
})

test('row 48: a writer that hangs beyond its limit does not respond; the others go on', async (t) => {
  const slow = new ScriptedWriter('slow')
  const other = new ScriptedWriter('other')
  slow.on['prepare-for-backup'] = hangs
  const lab = await openLab(t, { writers: [slow, other], limits: { longEventMs: 50 } })
  const session = await prepared(lab)
  t.alike(await statusOf(session, 'slow'), { state: 'failed-at-prepare-backup', result: 'not-responding' })
  t.is(await codeOf(session.doSnapshotSet()), 'resolved')
  t.alike(await statusOf(session, 'other'), { state: 'waiting-for-backup-complete', result: 'ok' })
  await session.close()
})

test('row 9: 60 000 ms by default; the metadata lowers it and cannot raise it', async (t) => {
  t.is(DEFAULT_LIMITS.freezeMs, 60_000)
  t.is(FREEZE_TIMEOUT_MS, 60_000)
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  let session = await prepared(lab)
  await session.doSnapshotSet()
  const told = () => writer.requests.findLast(({ event }) => event === 'freeze')?.timeoutMs ?? 0
  t.ok(told() <= 60_000 && told() > 50_000, 'the writer is told how long it has')
  await session.close()

  const eager = new ScriptedWriter('eager', (builder) => builder.setFreezeTimeout(120))
  lab.writers.push(eager)
  // The hold of the volumes counts as well: it is the whole time from Freeze to Thaw.
  lab.provider.hook = async (step) => {
    if (step === 'flush-and-hold') await new Promise((resolve) => setTimeout(resolve, 10_000).unref())
  }
  session = await prepared(lab)
  t.is(await codeOf(session.doSnapshotSet()), 'FREEZE_TIMED_OUT')
  t.alike(await statusOf(session, 'eager'), { state: 'failed-at-thaw', result: 'timeout' })
  t.alike(await statusOf(session, 'w'), { state: 'stable', result: 'ok' }, 'the other one was aborted only')
  t.ok(eager.events.includes('abort') && writer.events.includes('abort'))
  t.is(lab.provider.held.size, 0, 'volumes go on')
  await session.close()
})

for (const event of ['prepare-for-snapshot', 'freeze', 'thaw', 'backup-complete'] as const) {
  test(`row 53: a stamp set in ${event} is refused, and the event counts as failed`, async (t) => {
    const writer = new ScriptedWriter('w')
    writer.on[event] = () => ({
      result: 'ok',
      components: [{ logicalPath: '', name: 'data', backupStamp: 'late' }],
    })
    const lab = await openLab(t, { writers: [writer] })
    const session = await prepared(lab)
    t.is(await codeOf(session.doSnapshotSet()), 'resolved')
    await session.backupComplete()
    const { writers } = await session.components()
    t.absent(writers[0]?.components[0]?.backupStamp)
    t.is((await statusOf(session, 'w'))?.result, 'non-retryable')
    t.ok((await session.gatherWriterStatus())[0]?.message?.startsWith('BAD_STATE'))
    await session.close()
  })
}

test("row 53: what is not the writer's, or not asked for, is refused with everything beside it", async (t) => {
  for (const [what, changes] of [
    [
      'a component it does not have',
      [
        { logicalPath: '', name: 'data', backupStamp: 's' },
        { logicalPath: '', name: 'none', backupStamp: 's' },
      ],
    ],
    [
      'partial files without support',
      [
        {
          logicalPath: '',
          name: 'data',
          backupStamp: 's',
          partialFiles: [{ path: '/srv/w', fileName: 'f', ranges: '0:1' }],
        },
      ],
    ],
  ] as const) {
    const writer = new ScriptedWriter('w')
    writer.on['post-snapshot'] = () => ({ result: 'ok', components: changes })
    const lab = await openLab(t, { writers: [writer] })
    const session = await prepared(lab)
    await session.doSnapshotSet()
    const [own] = (await session.components()).writers
    t.absent(own?.components[0]?.backupStamp, what)
    t.alike(await statusOf(session, 'w'), { state: 'failed-at-post-snapshot', result: 'non-retryable' })
    await session.close()
  }
})
