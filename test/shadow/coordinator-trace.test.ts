// The golden trace: requester's calls, provider's steps and writers' events in the order of vss.md
// section 1.2, for success and for every failure. coordinator-planted.test.ts shows that it sees faults.

import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import type { ProviderStep } from '../../src/shadow/coordinator/trace.ts'
import type { WriterEvent } from '../../src/shadow/writers/writer-messages.ts'
import { codeOf, hangs, linesOf, openLab, prepared, ScriptedWriter, vetoes } from './coordinator-lab.ts'

/** Shuffled on purpose: the system's writer registers first. */
function threeWriters(): ScriptedWriter[] {
  return [
    new ScriptedWriter('sys', (builder) => builder.setFreezeLevel('system')),
    new ScriptedWriter('web', (builder) => builder.setFreezeLevel('front-end')),
    new ScriptedWriter('db', (builder) => builder.setFreezeLevel('back-end')),
  ]
}

function all(what: string): string[] {
  const who = ['db', 'sys', 'web']
  return who.map((writer) => `${what} ${writer}`)
}

function both(step: string): string[] {
  return [`${step} /a`, `${step} /b`]
}

const UNTIL_PREPARED = [
  'call gatherWriterMetadata',
  ...all('identify'),
  'call addComponent',
  'call addComponent',
  'call addComponent',
  'call startSnapshotSet',
  'call addToSnapshotSet',
  'begin-prepare /a',
  'call addToSnapshotSet',
  'begin-prepare /b',
  'call prepareForBackup',
  ...all('prepare-for-backup'),
]
const CREATION = [
  'call doSnapshotSet',
  ...both('end-prepare'),
  ...all('prepare-for-snapshot'),
  'freeze web',
  'freeze db',
  'freeze sys',
  ...both('pre-commit'),
  ...both('flush-and-hold'),
  ...both('commit'),
  ...both('release'),
  ...both('post-commit'),
  'thaw sys',
  'thaw db',
  'thaw web',
  ...both('pre-final-commit'),
  ...all('post-snapshot'),
  ...both('post-final-commit'),
]
const SHUTDOWN = ['call close', ...all('backup-shutdown')]

test('row 40: a backup in the order of VSS', async (t) => {
  const lab = await openLab(t, { writers: threeWriters() })
  const session = await prepared(lab)
  await session.doSnapshotSet()
  await session.backupComplete()
  await session.close()

  t.alike(linesOf(lab.trace), [
    ...UNTIL_PREPARED,
    ...CREATION,
    'call backupComplete',
    ...all('backup-complete'),
    'call close',
    ...both('end'),
    ...all('backup-shutdown'),
  ])
  t.ok(lab.provider.isClean())
  const ends = lab.trace.filter((entry) => entry.phase === 'end')
  t.is(ends.length, lab.trace.length / 2, 'everything that began has ended')
  t.ok(ends.every((entry) => entry.failure === null))
})

test('row 40: every step ends before the next one begins, and all commits before any release', async (t) => {
  const lab = await openLab(t, { writers: threeWriters() })
  lab.provider.hook = async (_, volume) => {
    // The two volumes never finish together.
    if (volume === '/b') await new Promise((resolve) => setTimeout(resolve, 2))
  }
  const session = await prepared(lab)
  await session.doSnapshotSet()
  const seen: string[] = []
  let open = 0
  for (const entry of lab.trace) {
    if (entry.kind === 'call') continue
    const what = entry.kind === 'event' ? `${entry.event} ${entry.kind}` : `${entry.step} step`
    if (entry.phase === 'end') open--
    else {
      if (seen.at(-1) !== what) {
        t.is(open, 0, `${what}: nothing else is under way`)
        seen.push(what)
      }
      open++
    }
  }
  await session.close()
})

test('row 41: Freeze goes front end, back end, system, whatever the order of registration', async (t) => {
  const writers = threeWriters()
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ] as const) {
    const lab = await openLab(t, { writers: order.map((i) => writers[i] as ScriptedWriter) })
    const session = await prepared(lab)
    await session.doSnapshotSet()
    t.alike(
      linesOf(lab.trace).filter((line) => line.startsWith('freeze') || line.startsWith('thaw')),
      ['freeze web', 'freeze db', 'freeze sys', 'thaw sys', 'thaw db', 'thaw web'],
    )
    await session.close()
  }
})

/** Where the trace of the creation breaks off, by the event in which `db` fails as a whole. */
const BREAKS: Partial<Record<WriterEvent, readonly string[]>> = {
  freeze: CREATION.slice(0, CREATION.indexOf('freeze db') + 1),
  // The others are thawed all the same.
  thaw: CREATION.slice(0, CREATION.indexOf('thaw web') + 1),
}

for (const event of ['freeze', 'thaw'] as const) {
  for (const [kind, behaviour, code] of [
    ['a veto', vetoes, 'WRITER_FAILED'],
    ['silence', hangs, 'FREEZE_TIMED_OUT'],
  ] as const) {
    test(`row ${kind === 'a veto' ? 45 : 9}: ${kind} in ${event} ends the creation with Abort to all`, async (t) => {
      const writers = threeWriters()
      const db = writers[2] as ScriptedWriter
      // What lies between Freeze and Thaw must fit in even on a busy machine.
      db.metadata = { ...db.metadata, freezeTimeoutMs: event === 'thaw' ? 2000 : 100 }
      db.on[event] = behaviour
      const lab = await openLab(t, { writers })
      const session = await prepared(lab)

      t.is(await codeOf(session.doSnapshotSet()), code)
      const lines = linesOf(lab.trace)
      const until = [...UNTIL_PREPARED, ...(BREAKS[event] ?? []), ...both('abort')]
      t.alike(lines.slice(0, until.length), until)
      // The silent one gets its Abort when its own event is over.
      t.alike(lines.slice(until.length).sort(), all('abort'))
      t.ok(lab.provider.isClean(), 'no shadow copy, nothing held')
      const status = (await session.gatherWriterStatus()).find(({ name }) => name === 'db')
      t.is(status?.state, `failed-at-${event}`)
      t.is(status?.result, behaviour === vetoes ? 'retryable' : 'timeout')
      t.is(await codeOf(session.backupComplete()), 'BAD_STATE')
      await session.abortBackup()
      await session.close()
      t.alike(linesOf(lab.trace).slice(-5), ['call abortBackup', ...SHUTDOWN])
    })
  }
}

for (const event of ['prepare-for-backup', 'prepare-for-snapshot', 'post-snapshot'] as const) {
  for (const [kind, behaviour] of [
    ['a veto', vetoes],
    ['silence', hangs],
  ] as const) {
    test(`row ${kind === 'a veto' ? 46 : 48}: after ${kind} in ${event} the others go on without that writer`, async (t) => {
      const writers = threeWriters()
      const db = writers[2] as ScriptedWriter
      db.on[event] = behaviour
      const lab = await openLab(t, { writers, limits: { longEventMs: 100 } })
      const session = await prepared(lab)
      await session.doSnapshotSet()
      await session.backupComplete()
      await session.close()

      const at = db.events.indexOf(event)
      t.alike(db.events.slice(at), [event, 'backup-shutdown'], 'nothing more for it but the end')
      t.alike(writers[0]?.events, [
        'prepare-for-backup',
        'prepare-for-snapshot',
        'freeze',
        'thaw',
        'post-snapshot',
        'backup-complete',
        'backup-shutdown',
      ])
      t.absent(linesOf(lab.trace).some((line) => line.startsWith('abort')))
    })
  }
}

const AFTER_PREPARE_FOR_SNAPSHOT: readonly ProviderStep[] = [
  'pre-commit',
  'flush-and-hold',
  'commit',
  'release',
  'post-commit',
  'pre-final-commit',
]

for (const step of ['end-prepare', ...AFTER_PREPARE_FOR_SNAPSHOT, 'post-final-commit'] as const) {
  test(`row 5: a volume that fails in ${step} fails the set, and nothing is left of it`, async (t) => {
    const lab = await openLab(t, { writers: threeWriters(), volumes: ['/a', '/b', '/c'] })
    lab.provider.hook = (at, volume) => {
      if (at === step && volume === '/b') throw new UmbraError('OUT_OF_SPACE', 'no room')
    }
    // The first snapshot of a volume's life makes its catalog, which stays.
    for (const volume of lab.provider.volumes.values()) {
      await volume.createSnapshot('first')
      await volume.deleteSnapshot('first')
      await volume.drain()
    }
    const before = [...lab.provider.volumes.values()].map((volume) => volume.space().allocatedBytes)
    const session = await prepared(lab)
    const error = await session.doSnapshotSet().catch((thrown) => thrown)

    t.is(error.code, 'OUT_OF_SPACE')
    t.is(error.context.volume, '/b', 'the error names the volume')
    t.ok(lab.provider.isClean(), 'no member, no hold')
    const lines = linesOf(lab.trace)
    const aborts = lines.filter((line) => line.startsWith('abort'))
    const toWriters = step === 'end-prepare' || step === 'post-final-commit' ? [] : all('abort')
    t.alike(aborts, ['abort /a', 'abort /b', 'abort /c', ...toWriters], 'volumes first, then the writers')
    for (const volume of lab.provider.volumes.values()) await volume.commit()
    for (const volume of lab.provider.volumes.values()) await volume.drain()
    const after = [...lab.provider.volumes.values()].map((volume) => volume.space().allocatedBytes)
    t.alike(after, before, 'volumes are back at their sizes')
    await session.abortBackup()
    await session.close()
    t.ok(lab.trace.some((entry) => entry.kind === 'event' && entry.event === 'backup-shutdown'))
  })
}

test('row 8: a hold that the provider has ended fails the creation under its own name', async (t) => {
  const lab = await openLab(t, { writers: threeWriters() })
  lab.provider.hook = (step) => {
    if (step === 'commit') throw new UmbraError('HOLD_TIMED_OUT', 'held too long')
  }
  const session = await prepared(lab)
  t.is(await codeOf(session.doSnapshotSet()), 'HOLD_TIMED_OUT')
  t.ok(lab.provider.isClean())
  await session.close()
})

for (const [step, event] of [
  ['end-prepare', undefined],
  ['commit', undefined],
  ['pre-final-commit', undefined],
  [undefined, 'prepare-for-snapshot'],
  [undefined, 'freeze'],
  [undefined, 'thaw'],
  [undefined, 'post-snapshot'],
] as const) {
  test(`row 50: a requester that dies in ${step ?? event} leaves nothing`, async (t) => {
    const writers = threeWriters()
    const lab = await openLab(t, { writers })
    const session = await prepared(lab)
    let reached: () => void = () => {}
    const isThere = new Promise<void>((resolve) => {
      reached = resolve
    })
    let goOn: () => void = () => {}
    const waits = new Promise<void>((resolve) => {
      goOn = resolve
    })
    lab.provider.hook = async (at) => {
      if (at !== step) return
      reached()
      await waits
    }
    const db = writers[2] as ScriptedWriter
    if (event) {
      db.on[event] = async () => {
        reached()
        await waits
        return { result: 'ok' }
      }
    }
    const creation = codeOf(session.doSnapshotSet())
    await isThere
    const gone = lab.coordinator.abandon(session)
    goOn()
    t.is(await creation, 'ABORTED')
    await gone

    t.ok(lab.provider.isClean())
    for (const writer of writers) {
      t.is(writer.events.at(-1), 'backup-shutdown')
      t.absent(writer.events.includes('backup-complete'))
      const { snapshotSetId } = writer.requests.at(-1) ?? {}
      t.ok(snapshotSetId, 'with the id of the set')
      if (writer.events.includes('freeze')) {
        t.ok(writer.events.includes('abort') || writer.events.includes('post-snapshot'), 'not left frozen')
      }
    }
    t.is(lab.coordinator.sessionCount, 0)
    const next = await prepared(lab)
    t.ok(await next.doSnapshotSet(), 'the next one is not in its way')
    await next.close()
  })
}

test('row 45: a writer that goes away while it is frozen ends the creation at once', async (t) => {
  const writers = threeWriters()
  const lab = await openLab(t, { writers })
  lab.provider.hook = async (step) => {
    if (step !== 'flush-and-hold') return
    writers[1]?.leave()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const session = await prepared(lab)
  t.is(await codeOf(session.doSnapshotSet()), 'WRITER_FAILED')
  t.absent(lab.trace.some((entry) => entry.kind === 'step' && entry.step === 'commit'))
  t.ok(lab.provider.isClean())
  await session.close()
})
