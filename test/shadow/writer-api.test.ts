// The TypeScript API: what a handler may say in which event, and what the coordinator hears of it.

import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { type ErrorCode, UmbraError } from '../../src/base/errors.ts'
import { canonicalText } from '../../src/shadow/documents/canonical-json.ts'
import type { WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import { checkChangesFit } from '../../src/shadow/writers/change-rules.ts'
import { localPort } from '../../src/shadow/writers/local-port.ts'
import { Writer } from '../../src/shadow/writers/writer.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'
import { WriterEndpoint } from '../../src/shadow/writers/writer-endpoint.ts'
import { WriterFailure } from '../../src/shadow/writers/writer-failure.ts'
import {
  WRITER_EVENTS,
  type WriterEvent,
  type WriterRequest,
} from '../../src/shadow/writers/writer-messages.ts'
import { tempFolder } from '../support/temp.ts'
import { backupComponent, builder, INSTANCE_ID, request, volumeAt } from './sample-documents.ts'
import { recordedEvents, TestWriter } from './test-writer.ts'

type Handler = (context: WriterContext) => void | Promise<void>

/** A writer of one handler for all events. */
class ScriptedWriter extends Writer {
  readonly events: WriterEvent[] = []
  readonly #handler: Handler
  readonly freezeTimeoutMs: number

  constructor(handler: Handler = () => {}, freezeTimeoutMs = 60_000) {
    super()
    this.#handler = handler
    this.freezeTimeoutMs = freezeTimeoutMs
  }

  override identify(): WriterMetadata {
    const document = builder()
      .setBackupSchema('incremental', 'timestamped', 'last-modify')
      .setFreezeTimeout(this.freezeTimeoutMs)
    document
      .addFileGroup({ name: 'data' })
      .addFiles({ path: '/mnt/data' })
      .addFiles({ path: '/mnt/spool', filespec: '*.msg', recursive: false })
    document.addFileGroup({ name: 'other' }).addFiles({ path: '/mnt/other' })
    return document.build()
  }

  #told(context: WriterContext): void | Promise<void> {
    this.events.push(context.event)
    return this.#handler(context)
  }

  override onPrepareForBackup = (context: WriterContext) => this.#told(context)
  override onPrepareForSnapshot = (context: WriterContext) => this.#told(context)
  override onFreeze = (context: WriterContext) => this.#told(context)
  override onThaw = (context: WriterContext) => this.#told(context)
  override onPostSnapshot = (context: WriterContext) => this.#told(context)
  override onAbort = (context: WriterContext) => this.#told(context)
  override onBackupComplete = (context: WriterContext) => this.#told(context)
  override onBackupShutdown = (context: WriterContext) => this.#told(context)
  override onPreRestore = (context: WriterContext) => this.#told(context)
  override onPostRestore = (context: WriterContext) => this.#told(context)
}

function refused(t: Assertion, code: ErrorCode, work: () => unknown, message: string): void {
  try {
    work()
    t.fail(`${message}: was not refused`)
  } catch (error) {
    t.is(error instanceof UmbraError ? error.code : String(error), code, message)
  }
}

/** Runs `handler` in a request's event and gives back the reply. */
async function within(handler: Handler, more: Partial<WriterRequest> = {}) {
  return localPort(new ScriptedWriter(handler)).deliver(request(more), 5000)
}

const incremental = { ...request().backupState, backupType: 'incremental' } as WriterRequest['backupState']

test('every event reaches its handler, and a writer without handlers answers ok', async (t) => {
  const writer = new ScriptedWriter()
  const port = localPort(writer, 'scripted')
  const events = WRITER_EVENTS.filter((event) => event !== 'identify')
  for (const event of events) t.alike(await port.deliver(request({ event }), 5000), { result: 'ok' }, event)
  t.alike(writer.events, events)
  t.is(port.origin, 'scripted')
  class Silent extends Writer {
    override identify = () => new ScriptedWriter().identify()
  }
  t.alike(await localPort(new Silent()).deliver(request({ event: 'freeze' }), 5000), { result: 'ok' })
})

test('row 42: a hundred Identifies in the middle of a backup give one document and disturb nothing', async (t) => {
  const writer = new ScriptedWriter()
  const port = localPort(writer)
  const identify = async () => {
    const reply = await port.deliver(
      request({ event: 'identify', operation: 'identify', sessionId: 'x', components: [] }),
      5000,
    )
    return canonicalText(reply.metadata)
  }
  const first = await identify()
  for (const event of [
    'prepare-for-backup',
    'prepare-for-snapshot',
    'freeze',
    'thaw',
    'post-snapshot',
  ] as const) {
    const answers = await Promise.all([
      ...Array.from({ length: 20 }, identify),
      port.deliver(request({ event }), 5000).then(({ result }) => result),
    ])
    t.is(answers.pop(), 'ok')
    t.ok(
      answers.every((answer) => answer === first),
      `during ${event}`,
    )
  }
  t.is(writer.events.length, 5)
})

test('row 70: stamps of any text go in and out, and there may be no previous one', async (t) => {
  const stamp = 'LSN 0/1A2B\u0000\ud83d\ude00 "\\'
  const reply = await within(
    (context) => {
      const component = context.component('data')
      t.is(component?.previousBackupStamp, undefined)
      component?.setBackupStamp(stamp)
      component?.setBackupMetadata('private')
      t.is(component?.backupStamp, stamp)
    },
    { event: 'post-snapshot' },
  )
  t.alike(reply.components, [
    { logicalPath: '', name: 'data', backupStamp: stamp, backupMetadata: 'private' },
  ])
  await within((context) => t.is(context.component('data')?.previousBackupStamp, stamp), {
    components: [backupComponent('data', { previousBackupStamp: stamp })],
  })
})

test('row 53: what an event does not allow is refused at the call', async (t) => {
  const setters: Handler[] = [
    (c) => c.component('data')?.setBackupStamp('x'),
    (c) => c.component('data')?.setBackupMetadata('x'),
    (c) => c.component('data')?.addPartialFile({ path: '/mnt/data', fileName: 'x', ranges: '0:1' }),
    (c) =>
      c
        .component('data')
        ?.addDifferencedFile({ path: '/mnt/data', filespec: '*', recursive: true, lastModifyTimeMs: 0 }),
  ]
  for (const event of ['backup-complete', 'backup-shutdown', 'freeze', 'pre-restore', 'abort'] as const) {
    await within(
      (context) => {
        for (const set of setters) refused(t, 'BAD_STATE', () => set(context), event)
      },
      { event },
    )
  }
  await within((context) => {
    const data = context.component('data')
    refused(t, 'BAD_STATE', () => data?.setRestoreTarget('directed'), 'a target in a backup')
    refused(t, 'BAD_STATE', () => context.restoreType, 'no restore type in a backup')
  })
  const reply = await within(
    (context) => {
      const data = context.component('data')
      refused(t, 'INVALID_DOCUMENT', () => data?.setRestoreTarget('alternate'), 'no mapping')
      data?.setRestoreTarget('directed')
      const ranges = (lengthBytes: number) => [{ offsetBytes: 0, lengthBytes }]
      const target = {
        sourcePath: '/a',
        sourceName: 'x',
        sourceRanges: ranges(1),
        destinationPath: '/b',
        destinationName: 'y',
      }
      refused(
        t,
        'INVALID_DOCUMENT',
        () => data?.addDirectedTarget({ ...target, destinationRanges: ranges(2) }),
        'row 79: unequal',
      )
      data?.addDirectedTarget({ ...target, destinationRanges: ranges(1) })
      data?.setRestoreMetadata('m')
    },
    { event: 'pre-restore', operation: 'restore', backupState: null, restoreType: 'by-copy' },
  )
  t.alike(Object.keys(reply.components?.[0] ?? {}).sort(), [
    'directedTargets',
    'logicalPath',
    'name',
    'restoreMetadata',
    'restoreTarget',
  ])
})

test('row 73: partial files only where the requester supports them, with ranges, on a volume of the set', async (t) => {
  const unsupported = { ...request().backupState, partialFileSupport: false } as WriterRequest['backupState']
  const file = { path: '/mnt/data/deep', fileName: 'x', ranges: '0:1' }
  await within(
    (c) => refused(t, 'BAD_STATE', () => c.component('data')?.addPartialFile(file), 'not supported'),
    {
      backupState: unsupported,
    },
  )
  const reply = await within(
    (context) => {
      const data = context.component('data')
      data?.addPartialFile({
        ...file,
        ranges: [
          { offsetBytes: 5_000_000_000, lengthBytes: 7 },
          { offsetBytes: 0, lengthBytes: 2 },
        ],
      })
      const add = (more: object) => () => data?.addPartialFile({ ...file, ...more })
      refused(t, 'INVALID_DOCUMENT', add({}), 'twice')
      refused(t, 'INVALID_DOCUMENT', add({ fileName: 'z', ranges: '' }), 'without ranges')
      refused(t, 'INVALID_DOCUMENT', add({ fileName: '*' }), 'a wildcard')
      refused(t, 'INVALID_DOCUMENT', add({ path: '/mnt/other' }), 'of another component')
      refused(t, 'INVALID_DOCUMENT', add({ path: '/elsewhere' }), 'on another volume')
      t.execution(add({ path: '/mnt/new', fileName: 'log', ranges: 'File=/mnt/new/log.ranges' }))
    },
    { event: 'post-snapshot', volumes: [volumeAt('/mnt')] },
  )
  t.alike(
    reply.components?.[0]?.partialFiles?.map(({ ranges }) => ranges),
    ['0:2,5000000000:7', 'File=/mnt/new/log.ranges'],
  )
})

test('row 71: differenced files match a file set exactly or are new, on a volume of the set', async (t) => {
  const whole = { path: '/mnt/data', filespec: '*', recursive: true, lastModifyTimeMs: 1 }
  const reply = await within(
    (context) => {
      const data = context.component('data')
      const add = (more: object) => () => data?.addDifferencedFile({ ...whole, ...more })
      t.execution(add({}), 'the file set itself')
      refused(t, 'INVALID_DOCUMENT', add({ filespec: '*.txt' }), 'a part of it')
      refused(t, 'INVALID_DOCUMENT', add({ recursive: false }), 'the same without recursion')
      refused(t, 'INVALID_DOCUMENT', add({ path: '/mnt' }), 'more than it')
      refused(t, 'INVALID_DOCUMENT', add({ path: '/mnt/other' }), 'another component')
      refused(t, 'INVALID_DOCUMENT', add({ path: '/elsewhere' }), 'a new file on another volume')
      t.execution(add({ path: '/mnt/new' }), 'a new file on a volume of the set')
      t.execution(
        add({ path: '/mnt/spool', filespec: '*.idx', recursive: false }),
        'new names beside a file set',
      )
    },
    { event: 'post-snapshot', backupState: incremental, volumes: [volumeAt('/mnt')] },
  )
  t.is(reply.components?.[0]?.differencedFiles?.length, 3)
  await within((c) =>
    refused(t, 'BAD_STATE', () => c.component('data')?.addDifferencedFile(whole), 'in a full'),
  )
  t.execution(
    () =>
      checkChangesFit(new ScriptedWriter().identify(), request({ backupState: incremental }), [
        { logicalPath: '', name: 'data', differencedFiles: [{ ...whole, path: '/elsewhere' }] },
      ]),
    'before the set is known a new file cannot be judged by its volume',
  )
})

test('what was there before stays in a list', async (t) => {
  const before = { path: '/mnt/data', fileName: 'a', ranges: '0:1' }
  const reply = await within((c) => c.component('data')?.addPartialFile({ ...before, fileName: 'b' }), {
    components: [backupComponent('data', { partialFiles: [before] })],
  })
  t.alike(
    reply.components?.[0]?.partialFiles?.map(({ fileName }) => fileName),
    ['a', 'b'],
  )
})

test('row 46: failures, fatal and not', async (t) => {
  t.alike(await within((c) => c.fail('retryable', 'busy')), {
    result: 'retryable',
    message: 'busy',
    fatal: false,
  })
  t.alike(
    await within((c) => {
      c.fail('retryable', 'first')
      c.fail('out-of-resources', 'second')
      c.fail('non-retryable', 'veto', { fatal: true })
    }),
    { result: 'non-retryable', message: 'veto', fatal: true },
    'a fatal one beats the first',
  )
  t.alike(
    await within(() => {
      throw new WriterFailure('inconsistent-snapshot', 'volume missing', { fatal: false })
    }),
    { result: 'inconsistent-snapshot', message: 'volume missing', fatal: false },
  )
  const thrown = await within((c) => {
    c.component('data')?.setBackupStamp('half')
    throw new Error('a bug')
  })
  t.alike(
    thrown,
    { result: 'non-retryable', fatal: true, message: 'a bug' },
    'and nothing that was said before counts',
  )
})

test('row 48: a handler that hangs is answered for, and its signal tells it', async (t) => {
  let signal: AbortSignal | undefined
  const port = localPort(
    new ScriptedWriter((context) => {
      signal = context.signal
      return new Promise(() => {})
    }),
  )
  await t.exception(port.deliver(request(), 50), /did not answer prepare-for-backup/)
  t.ok(signal?.aborted)
})

test('a freeze ends by itself when its coordinator goes away', async (t) => {
  const writer = new ScriptedWriter()
  const endpoint = new WriterEndpoint(writer)
  await endpoint.deliver(request({ event: 'freeze' }))
  await endpoint.deliver(request({ event: 'prepare-for-backup', sessionId: 'session-2' }))
  await endpoint.deliver(request({ event: 'post-snapshot', sessionId: 'session-3' }))
  await endpoint.deliver(request({ event: 'backup-shutdown', sessionId: 'session-4' }))
  writer.events.length = 0
  await endpoint.abandon()
  t.alike(writer.events, ['abort', 'backup-shutdown', 'abort', 'backup-shutdown', 'backup-shutdown'])
  writer.events.length = 0
  await endpoint.abandon()
  t.alike(writer.events, [], 'once')
})

test('a freeze ends by itself when neither Thaw nor Abort comes, and Thaw then fails', async (t) => {
  let aborted: (() => void) | undefined
  const whenAborted = new Promise<void>((resolve) => {
    aborted = resolve
  })
  const writer = new ScriptedWriter((context) => {
    if (context.event === 'abort') aborted?.()
  }, 1)
  const endpoint = new WriterEndpoint(writer)
  await endpoint.deliver(request({ event: 'freeze' }))
  // The watchdog does not keep a process; a connection would.
  const alive = setInterval(() => {}, 1000)
  await whenAborted
  clearInterval(alive)
  const reply = await endpoint.deliver(request({ event: 'thaw' }))
  t.is(reply.result, 'timeout')
  t.ok(reply.fatal)
  await endpoint.abandon()
})

test('where a live file is in the shadow copy', async (t) => {
  await within(
    (context) => {
      t.is(context.inSnapshot('/mnt/data/x'), '/mnt/.snapshots/one/data/x')
      t.is(context.inSnapshot('/mnt'), '/mnt/.snapshots/one')
      t.is(context.inSnapshot('/mnt/inner/y'), '/recover/y', 'the innermost mount, while it can be written')
      t.is(context.inSnapshot('/mntx'), undefined)
      t.is(context.backupType, 'full', 'row 65: a differential is a full for a writer without that bit')
    },
    {
      event: 'post-snapshot',
      volumes: [volumeAt('/mnt'), volumeAt('/mnt/inner', '/recover')],
      backupState: { ...request().backupState, backupType: 'differential' } as WriterRequest['backupState'],
    },
  )
})

test('row 71 and 47: the conformance writer as an object', async (t) => {
  const recordPath = join(tempFolder(t), 'record')
  const spec = { path: '/mnt/data', filespec: '*', recursive: true }
  const port = localPort(
    new TestWriter({
      name: 'Conformance',
      instanceId: INSTANCE_ID,
      components: [{ name: 'data', files: [spec] }],
      backupSchema: ['incremental', 'last-modify', 'timestamped'],
      differencedFiles: [{ ...spec, component: 'data', lastModifyTimeMs: 5, event: 'prepare-for-backup' }],
      stamp: 'stamp {n}',
      stampEvent: 'prepare-for-backup',
      blockMs: { thaw: 2000 },
      recordPath,
    }),
  )
  const reply = await port.deliver(request({ backupState: incremental }), 5000)
  t.alike(reply.components, [
    {
      logicalPath: '',
      name: 'data',
      backupStamp: 'stamp 1',
      differencedFiles: [{ ...spec, lastModifyTimeMs: 5 }],
    },
  ])
  t.absent((await port.deliver(request(), 5000)).components?.[0]?.differencedFiles, 'not in a full')
  await t.exception(port.deliver(request({ event: 'thaw' }), 100), /did not answer thaw/)
  t.alike(
    recordedEvents(recordPath).map(({ event, backupType }) => `${event} ${backupType}`),
    ['prepare-for-backup incremental', 'prepare-for-backup full', 'thaw full'],
  )
})
