// Every call in every state of a session: legal where vss.md sections 1.2 and 2.1 have it, else refused
// with BAD_STATE and nothing changed. The tables here are the test's own, not the code's.

import test from 'brittle'
import type { RequesterSession } from '../../src/shadow/coordinator/requester-session.ts'
import type { SessionCall } from '../../src/shadow/coordinator/session-states.ts'
import type { BackupComponents } from '../../src/shadow/documents/backup-components.ts'
import type { WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import { codeOf, type Lab, linesOf, openLab, ScriptedWriter } from './coordinator-lab.ts'

const STATE = {
  componentMode: true,
  bootableSystemState: false,
  backupType: 'full',
  partialFileSupport: false,
} as const
const W = new ScriptedWriter('w')
const OTHER = { instanceId: W.component.instanceId, logicalPath: '', name: 'more' }

function twoComponents(): ScriptedWriter {
  return new ScriptedWriter('w', (builder) => {
    builder.setBackupSchema('new-target')
    builder.addFileGroup({ name: 'more' }).addFiles({ path: '/srv/more' })
    builder
      .addFileGroup({ logicalPath: 'data', name: 'sub', selectableForRestore: true })
      .addFiles({ path: '/srv/sub' })
  })
}

interface Saved {
  readonly components: BackupComponents
  readonly metadata: WriterMetadata[]
}

/** What a call is given, so that nothing but the state can be wrong with it. */
const PARAMETERS: Readonly<Record<SessionCall, (saved: Saved) => readonly unknown[]>> = {
  enableWriters: () => [['w']],
  disableWriters: () => [['x']],
  gatherWriterMetadata: () => [],
  gatherWriterStatus: () => [],
  absentWriters: () => [],
  components: () => [],
  keepBookmarks: () => [false],
  setContext: () => [{ context: 'backup' }],
  setBackupState: () => [STATE],
  startSnapshotSet: () => [],
  addToSnapshotSet: () => ['/b'],
  addComponent: () => [OTHER],
  setBackupOptions: () => [W.component, 'x'],
  setPreviousBackupStamp: () => [W.component, 'x'],
  prepareForBackup: () => [],
  doSnapshotSet: () => [],
  snapshotProperties: () => [],
  setBackupSucceeded: () => [W.component, true],
  backupComplete: () => [],
  abortBackup: () => [],
  loadDocuments: ({ components, metadata }) => [components, metadata],
  setRestoreType: () => ['by-copy'],
  setSelectedForRestore: () => [W.component, true],
  addRestoreSubcomponent: () => [W.component, { logicalPath: 'data', name: 'sub' }],
  setAdditionalRestores: () => [W.component, true],
  setRestoreOptions: () => [W.component, 'x'],
  addNewTarget: () => [
    W.component,
    { path: '/srv/w', filespec: '*', recursive: true, newPath: '/elsewhere' },
  ],
  preRestore: () => [],
  setFileRestoreStatus: () => [W.component, 'all'],
  addAlternateLocationUsed: () => [
    W.component,
    { path: '/srv/w', filespec: '*', recursive: true, destination: '/x' },
  ],
  setRangesFilePath: () => [W.component, 0, '/x'],
  postRestore: () => [],
}
const CALLS = Object.keys(PARAMETERS) as SessionCall[]

type Go = (session: RequesterSession, saved: Saved, lab: Lab) => Promise<unknown>

const identify: Go = (session) => session.gatherWriterMetadata()
const select: Go = (session) => session.addComponent(W.component)
const start: Go = (session) => session.startSnapshotSet()
const addA: Go = (session) => session.addToSnapshotSet('/a')
const prepare: Go = (session) => session.prepareForBackup()
const make: Go = (session) => session.doSnapshotSet()
const bare: Go = (session) => session.setContext({ context: 'file-share-backup' })
const load: Go = (session, { components, metadata }) => session.loadDocuments(components, metadata)
const fail: Go = async (session, _, lab) => {
  lab.provider.hook = () => {
    throw new Error('broken')
  }
  await session.doSnapshotSet().catch(() => {})
  lab.provider.hook = () => {}
}

interface StateCase {
  readonly reach: readonly Go[]
  /** Every other call is refused. */
  readonly legal: readonly SessionCall[]
}

const ALWAYS_IN_BACKUP = ['components', 'keepBookmarks'] as const
const STATUS_TOO = [...ALWAYS_IN_BACKUP, 'gatherWriterStatus', 'absentWriters'] as const

const BACKUP: Readonly<Record<string, StateCase>> = {
  opened: {
    reach: [],
    legal: [
      ...ALWAYS_IN_BACKUP,
      'enableWriters',
      'disableWriters',
      'gatherWriterMetadata',
      'setContext',
      'setBackupState',
    ],
  },
  identified: {
    reach: [identify, select],
    legal: [
      ...STATUS_TOO,
      'setContext',
      'setBackupState',
      'startSnapshotSet',
      'addComponent',
      'setBackupOptions',
      'setPreviousBackupStamp',
      'prepareForBackup',
    ],
  },
  'set started': {
    reach: [identify, select, start, addA],
    legal: [
      ...STATUS_TOO,
      'setBackupState',
      'addToSnapshotSet',
      'addComponent',
      'setBackupOptions',
      'setPreviousBackupStamp',
      'prepareForBackup',
      'abortBackup',
    ],
  },
  prepared: {
    reach: [identify, select, start, addA, prepare],
    legal: [...STATUS_TOO, 'addToSnapshotSet', 'doSnapshotSet', 'abortBackup'],
  },
  'prepared with an empty set': {
    reach: [identify, select, start, prepare],
    legal: [...STATUS_TOO, 'addToSnapshotSet', 'setBackupSucceeded', 'backupComplete', 'abortBackup'],
  },
  'prepared without a set': {
    reach: [identify, select, prepare],
    legal: [...STATUS_TOO, 'setBackupSucceeded', 'backupComplete', 'abortBackup'],
  },
  created: {
    reach: [identify, select, start, addA, prepare, make],
    legal: [...STATUS_TOO, 'snapshotProperties', 'setBackupSucceeded', 'backupComplete', 'abortBackup'],
  },
  failed: {
    reach: [identify, select, start, addA, prepare, fail],
    legal: [...STATUS_TOO, 'abortBackup'],
  },
  aborted: {
    reach: [identify, select, start, addA, prepare, (session) => session.abortBackup()],
    legal: STATUS_TOO,
  },
  completed: {
    reach: [identify, select, start, addA, prepare, make, (session) => session.backupComplete()],
    legal: [...STATUS_TOO, 'snapshotProperties'],
  },
  'without writers': {
    reach: [bare],
    legal: [...ALWAYS_IN_BACKUP, 'setContext', 'setBackupState', 'startSnapshotSet'],
  },
  'without writers, set started': {
    reach: [bare, start, addA],
    legal: [...ALWAYS_IN_BACKUP, 'setBackupState', 'addToSnapshotSet', 'doSnapshotSet', 'abortBackup'],
  },
  'without writers, created': {
    reach: [bare, start, addA, make],
    legal: [...ALWAYS_IN_BACKUP, 'snapshotProperties', 'abortBackup'],
  },
  closed: { reach: [(session) => session.close()], legal: [] },
}

const RESTORE: Readonly<Record<string, StateCase>> = {
  opened: { reach: [], legal: ['enableWriters', 'disableWriters', 'loadDocuments'] },
  loaded: {
    reach: [load],
    legal: ['enableWriters', 'disableWriters', 'gatherWriterMetadata', 'components', 'setRestoreType'],
  },
  identified: {
    reach: [load, identify],
    legal: [
      'gatherWriterStatus',
      'absentWriters',
      'components',
      'setRestoreType',
      'setSelectedForRestore',
      'addRestoreSubcomponent',
      'setAdditionalRestores',
      'setRestoreOptions',
      'addNewTarget',
      'preRestore',
    ],
  },
  'pre-restored': {
    reach: [load, identify, (session) => session.preRestore()],
    legal: [
      'gatherWriterStatus',
      'absentWriters',
      'components',
      'setFileRestoreStatus',
      'addAlternateLocationUsed',
      'setRangesFilePath',
      'postRestore',
    ],
  },
  'post-restored': {
    reach: [load, identify, (session) => session.preRestore(), (session) => session.postRestore()],
    legal: ['gatherWriterStatus', 'absentWriters', 'components'],
  },
  closed: { reach: [load, (session) => session.close()], legal: [] },
}

async function savedDocuments(lab: Lab): Promise<Saved> {
  const session = await lab.coordinator.openSession('backup')
  const metadata = await session.gatherWriterMetadata()
  await session.addComponent(W.component)
  const components = await session.components()
  const [component] = components.writers[0]?.components ?? []
  component?.partialFiles.push({ path: '/srv/w', fileName: 'f', ranges: '0:1' })
  await session.close()
  return { components, metadata }
}

for (const [operation, states] of [
  ['backup', BACKUP],
  ['restore', RESTORE],
] as const) {
  for (const [state, { reach, legal }] of Object.entries(states)) {
    test(`row 14: a ${operation} session that is ${state} takes its calls and refuses all others`, async (t) => {
      const lab = await openLab(t, { writers: [twoComponents()] })
      const saved = await savedDocuments(lab)
      const open = async (): Promise<RequesterSession> => {
        const session = await lab.coordinator.openSession(operation)
        for (const go of reach) await go(session, saved, lab)
        return session
      }
      const call = (session: RequesterSession, name: SessionCall): Promise<unknown> =>
        (session[name] as (...values: readonly unknown[]) => Promise<unknown>)(...PARAMETERS[name](saved))

      const refused = await open()
      const before = legal.includes('components') ? await refused.components() : undefined
      const events = lab.trace.filter((entry) => entry.kind !== 'call').length
      for (const name of CALLS.filter((one) => !legal.includes(one))) {
        t.is(await codeOf(call(refused, name)), 'BAD_STATE', `${name} is refused`)
      }
      if (before) t.alike(await refused.components(), before, 'the document is the same')
      t.is(lab.trace.filter((entry) => entry.kind !== 'call').length, events, 'nobody heard of it')
      await refused.close()

      for (const name of legal) {
        const session = await open()
        t.is(await codeOf(call(session, name)), 'resolved', `${name} is taken`)
        await session.close()
      }
      t.is(lab.coordinator.sessionCount, 0)
      t.ok(lab.provider.isClean())
    })
  }
}

test('row 14: a call while another one is under way is refused', async (t) => {
  const lab = await openLab(t, { writers: [new ScriptedWriter('w')] })
  const session = await lab.coordinator.openSession('backup')
  const gathering = session.gatherWriterMetadata()
  for (const name of ['gatherWriterMetadata', 'setContext', 'components'] as const) {
    t.is(await codeOf(session[name]({ context: 'backup' } as never)), 'BAD_STATE', name)
  }
  t.is((await gathering).length, 1, 'which goes on')
  await session.close()
})

test('row 13: nothing is added to a set that is being made', async (t) => {
  const lab = await openLab(t, { writers: [new ScriptedWriter('w')], volumes: ['/a', '/b'] })
  const session = await lab.coordinator.openSession('backup')
  await session.gatherWriterMetadata()
  await session.startSnapshotSet()
  await session.addToSnapshotSet('/a')
  await session.prepareForBackup()
  const made = session.doSnapshotSet()
  t.is(await codeOf(session.addToSnapshotSet('/b')), 'BAD_STATE', 'while it is being made')
  await made
  t.is(await codeOf(session.addToSnapshotSet('/b')), 'BAD_STATE', 'and afterwards')
  t.alike(
    linesOf(lab.trace).filter((line) => line.startsWith('begin-prepare')),
    ['begin-prepare /a'],
  )
  t.is((await session.snapshotProperties()).length, 1)
  await session.close()
})

test('row 12: the 65th volume is refused and the first 64 are made', async (t) => {
  const volumes = Array.from({ length: 65 }, (_, i) => `/v${i}`)
  const lab = await openLab(t, { volumes })
  const session = await lab.coordinator.openSession('backup')
  await session.setContext({ context: 'file-share-backup' })
  await session.startSnapshotSet()
  for (const volume of volumes.slice(0, 64)) await session.addToSnapshotSet(volume)
  t.is(await codeOf(session.addToSnapshotSet('/v64')), 'LIMIT_EXCEEDED')
  await session.doSnapshotSet()
  const made = await session.snapshotProperties()
  t.is(made.length, 64)
  t.ok(made.every(({ setCount }) => setCount === 64))
  t.is(lab.provider.listed().length, 64)
  await session.close()
  t.ok(lab.provider.isClean())
})

test('row 11: one creation at a time; who waits is served when the holder ends, however it ends', async (t) => {
  const lab = await openLab(t, { writers: [new ScriptedWriter('w')] })
  const open = async (): Promise<RequesterSession> => {
    const session = await lab.coordinator.openSession('backup')
    await session.gatherWriterMetadata()
    return session
  }
  const first = await open()
  const second = await open()
  await first.startSnapshotSet()
  t.is(await codeOf(second.startSnapshotSet()), 'SET_IN_PROGRESS')
  t.is(await codeOf(second.startSnapshotSet({ waitMs: 20 })), 'SET_IN_PROGRESS', 'after waiting in vain')

  const waiting = second.startSnapshotSet({ waitMs: 20_000 })
  await first.addToSnapshotSet('/a')
  await first.prepareForBackup()
  await first.doSnapshotSet()
  t.ok((await waiting).snapshotSetId, 'the set is made, the copying still to come')

  const third = await open()
  const next = third.startSnapshotSet({ waitMs: 20_000 })
  await lab.coordinator.abandon(second)
  t.ok((await next).snapshotSetId, 'the holder has died')

  const fourth = await open()
  const gone = codeOf(fourth.startSnapshotSet({ waitMs: 20_000 }))
  await lab.coordinator.abandon(fourth)
  t.is(await gone, 'ABORTED', 'one that dies in the line leaves it')
  await third.close()
  const fifth = await open()
  t.ok((await fifth.startSnapshotSet()).snapshotSetId)
  await fifth.close()
  await first.close()
})

test('row 11: a volume is in a set once, and an unknown one is refused by name', async (t) => {
  const lab = await openLab(t)
  const session = await lab.coordinator.openSession('backup')
  await session.setContext({ context: 'file-share-backup' })
  await session.startSnapshotSet()
  await session.addToSnapshotSet('/a')
  t.is(await codeOf(session.addToSnapshotSet('/a')), 'ALREADY_EXISTS')
  t.is(await codeOf(session.addToSnapshotSet('/none')), 'NOT_FOUND')
  await session.doSnapshotSet()
  await session.close()
  t.ok(lab.provider.isClean())
})

test('row 21: a context without writers involves none', async (t) => {
  const writer = new ScriptedWriter('w')
  const lab = await openLab(t, { writers: [writer] })
  const session = await lab.coordinator.openSession('backup')
  await session.setContext({ context: 'nas-rollback' })
  await session.startSnapshotSet()
  await session.addToSnapshotSet('/a')
  t.is(await codeOf(session.addComponent(writer.component)), 'BAD_STATE')
  t.is(await codeOf(session.prepareForBackup()), 'BAD_STATE')
  await session.doSnapshotSet()
  t.is(await codeOf(session.backupComplete()), 'BAD_STATE')
  await session.close()
  t.alike(writer.requests, [], 'no event, not even Identify')
  t.is(lab.provider.listed().length, 1, 'and it is persistent')

  const late = await lab.coordinator.openSession('backup')
  await late.gatherWriterMetadata()
  t.is(await codeOf(late.setContext({ context: 'nas-rollback' })), 'BAD_STATE', 'writers have been asked')
  t.is(
    await codeOf(late.setContext({ context: 'backup', noAutoRecovery: true, rollbackRecovery: true })),
    'INVALID_ARGUMENT',
  )
  t.is(await codeOf(late.setContext({ context: 'constructor' as never })), 'INVALID_ARGUMENT')
  await late.close()
})

test('row 55: 64 backup and 8 restore sessions, and no more', async (t) => {
  const lab = await openLab(t)
  const sessions: RequesterSession[] = []
  for (let i = 0; i < 64; i++) sessions.push(await lab.coordinator.openSession('backup'))
  for (let i = 0; i < 8; i++) sessions.push(await lab.coordinator.openSession('restore'))
  t.is(await codeOf(lab.coordinator.openSession('backup')), 'LIMIT_EXCEEDED')
  t.is(await codeOf(lab.coordinator.openSession('restore')), 'LIMIT_EXCEEDED')
  await sessions[0]?.close()
  t.ok(await lab.coordinator.openSession('backup'), 'one that ended makes room')
})
