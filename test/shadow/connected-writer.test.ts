// Writers in processes of their own, over a socket: registering, events, deadlines, and what happens when
// either side goes away.

import { spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { connectionOver } from '../../src/daemon/socket-connection.ts'
import { connectWriter } from '../../src/daemon/writer-line.ts'
import type { WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import { connectedPort, joinedSources, WriterConnections } from '../../src/shadow/writers/connected-port.ts'
import { localPort } from '../../src/shadow/writers/local-port.ts'
import { Writer } from '../../src/shadow/writers/writer.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'
import type { WriterPort } from '../../src/shadow/writers/writer-port.ts'
import { eventRequest, registerRequest, WRITER_PROTOCOL } from '../../src/shadow/writers/writer-protocol.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'
import { backupComponent, builder, INSTANCE_ID, request } from './sample-documents.ts'
import { recordedEvents } from './test-writer.ts'

/** What the coordinator does with its socket, and no more. */
class Listener {
  readonly writers = new WriterConnections()
  readonly sockets = new Set<Socket>()
  readonly #server = createServer((socket) => {
    this.sockets.add(socket)
    const connection = connectionOver(socket)
    const whenGone = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    void whenGone.then(() => this.sockets.delete(socket))
    this.writers.accept(connection, whenGone)
    connection.onError(() => socket.destroy())
    connection.listen()
  })

  static async open(t: Assertion, path: string): Promise<Listener> {
    const listener = new Listener()
    await new Promise<void>((resolve) => listener.#server.listen(path, resolve))
    t.teardown(() => listener.close())
    return listener
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  /** The one writer, when it is there. */
  async port(): Promise<WriterPort> {
    for (let tries = 0; tries < 400; tries++) {
      const [port] = await this.writers.ports()
      if (port) return port
      await sleep(25)
    }
    throw new Error('no writer registers')
  }
}

class Recorder extends Writer {
  readonly events: string[] = []
  readonly #handler: (context: WriterContext) => void | Promise<void>

  constructor(handler: (context: WriterContext) => void | Promise<void> = () => {}) {
    super()
    this.#handler = handler
  }

  override identify(): WriterMetadata {
    const document = builder()
    document.addFileGroup({ name: 'data' }).addFiles({ path: '/mnt/data' })
    return document.build()
  }

  #told(context: WriterContext): void | Promise<void> {
    this.events.push(context.event)
    return this.#handler(context)
  }

  override onPrepareForBackup = (context: WriterContext) => this.#told(context)
  override onFreeze = (context: WriterContext) => this.#told(context)
  override onThaw = (context: WriterContext) => this.#told(context)
  override onPostSnapshot = (context: WriterContext) => this.#told(context)
  override onAbort = (context: WriterContext) => this.#told(context)
  override onBackupShutdown = (context: WriterContext) => this.#told(context)
}

async function until(condition: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 400 && !condition(); tries++) await sleep(25)
  return condition()
}

async function refused(
  t: Assertion,
  code: 'TIMED_OUT' | 'UNAVAILABLE' | 'INVALID_DOCUMENT' | 'BAD_STATE',
  work: Promise<unknown>,
  message: string,
): Promise<void> {
  try {
    await work
    t.fail(`${message}: was not refused`)
  } catch (error) {
    t.ok(hasCode(error, code), `${message}: ${(error as Error).message}`)
  }
}

test('a connected writer answers as a local one does', async (t) => {
  const path = join(tempFolder(t), 'coordinator.sock')
  const listener = await Listener.open(t, path)
  const writer = new Recorder((context) => {
    if (context.event === 'post-snapshot') context.component('data')?.setBackupStamp('\u0000 \u{1f600}')
    if (context.event === 'freeze') context.fail('retryable', 'busy')
  })
  const service = connectWriter(writer, 'recorder', { socket: path, retryMs: 20 })
  t.teardown(() => service.close())
  const port = await listener.port()
  t.is(port.kind, 'connected')
  t.is(port.origin, 'recorder')
  const local = localPort(writer)
  for (const event of ['identify', 'prepare-for-backup', 'freeze', 'post-snapshot'] as const) {
    t.alike(
      await port.deliver(request({ event }), 5000),
      await local.deliver(request({ event }), 5000),
      event,
    )
  }
  const many = await Promise.all(
    Array.from({ length: 20 }, (_, i) => port.deliver(request({ sessionId: `s${i}` }), 5000)),
  )
  t.ok(
    many.every(({ result }) => result === 'ok'),
    'sessions overlap',
  )
  t.is((await joinedSources(listener.writers, listener.writers).ports()).length, 2)
})

test('row 48: a writer that hangs is given up at its deadline and told to stop', async (t) => {
  const path = join(tempFolder(t), 'coordinator.sock')
  const listener = await Listener.open(t, path)
  let signal: AbortSignal | undefined
  const writer = new Recorder((context) => {
    if (context.event !== 'prepare-for-backup') return
    signal = context.signal
    return new Promise(() => {})
  })
  const service = connectWriter(writer, 'hanging', { socket: path, retryMs: 20 })
  t.teardown(() => service.close())
  const port = await listener.port()
  await refused(t, 'TIMED_OUT', port.deliver(request(), 200), 'late')
  t.ok(await until(() => signal?.aborted === true), 'its handler knows')
  t.is((await port.deliver(request({ event: 'identify' }), 5000)).result, 'ok', 'and it can still be asked')
})

test('a coordinator that goes away leaves nothing frozen, and is found again', async (t) => {
  const path = join(tempFolder(t), 'coordinator.sock')
  const first = await Listener.open(t, path)
  const writer = new Recorder()
  const service = connectWriter(writer, 'recorder', { socket: path, retryMs: 20 })
  t.teardown(() => service.close())
  const port = await first.port()
  await port.deliver(request({ event: 'freeze' }), 5000)
  const underWay = port.deliver(request({ event: 'identify' }), 5000)
  await underWay
  await first.close()
  await port.whenGone
  await refused(t, 'UNAVAILABLE', port.deliver(request({ event: 'thaw' }), 5000), 'it has gone')
  t.ok(await until(() => writer.events.length === 3))
  t.alike(writer.events, ['freeze', 'abort', 'backup-shutdown'])
  const second = await Listener.open(t, path)
  t.is((await (await second.port()).deliver(request(), 5000)).result, 'ok')
  await service.close()
  t.ok(await until(() => second.sockets.size === 0), 'closed for good')
  t.alike(await second.writers.ports(), [])
})

test('a connection that ends in the middle of an event is not waited for, at either end', async (t) => {
  const path = join(tempFolder(t), 'coordinator.sock')
  const listener = await Listener.open(t, path)
  let signal: AbortSignal | undefined
  const writer = new Recorder((context) => {
    if (context.event !== 'prepare-for-backup') return
    signal = context.signal
    return new Promise(() => {})
  })
  const service = connectWriter(writer, 'dying', { socket: path, retryMs: 60_000 })
  t.teardown(() => service.close())
  const port = await listener.port()
  const answer = refused(t, 'UNAVAILABLE', port.deliver(request(), 60_000), 'it died')
  t.ok(await until(() => signal !== undefined))
  for (const socket of listener.sockets) socket.destroy()
  await answer
  t.ok(await until(() => signal?.aborted === true), 'the handler is told')
})

test('what a connected writer answers is not believed before it is checked', async (t) => {
  const path = join(tempFolder(t), 'coordinator.sock')
  const listener = await Listener.open(t, path)
  const socket = connect(path)
  t.teardown(() => void socket.destroy())
  const connection = connectionOver(socket)
  let answer: unknown
  connection.onRequest(eventRequest.method, () => answer)
  connection.listen()
  await t.exception(
    connection.sendRequest(registerRequest, { protocol: 'umbra-writer-0', name: 'x' }),
    /does not speak/,
  )
  await connection.sendRequest(registerRequest, { protocol: WRITER_PROTOCOL, name: 'liar' })
  await t.exception(
    connection.sendRequest(registerRequest, { protocol: WRITER_PROTOCOL, name: 'liar' }),
    /registered already/,
  )
  const port = await listener.port()
  for (answer of [null, 7, {}, { result: 'fine' }, { result: 'ok', extra: 1 }]) {
    await refused(t, 'INVALID_DOCUMENT', port.deliver(request(), 5000), JSON.stringify(answer))
  }
  answer = { result: 'ok', components: [{ logicalPath: '', name: 'data', backupStamp: 'x' }] }
  await refused(t, 'BAD_STATE', port.deliver(request({ event: 'thaw' }), 5000), 'a stamp in Thaw')
  t.is((await port.deliver(request(), 5000)).result, 'ok')
  socket.write('Content-Length: nonsense\r\n\r\n')
  await port.whenGone
  t.pass('what is no JSON-RPC ends the connection')
})

test('a port over any message connection', async (t) => {
  const path = join(tempFolder(t), 'x.sock')
  const listener = await Listener.open(t, path)
  const socket = connect(path)
  const connection = connectionOver(socket)
  connection.listen()
  const whenGone = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const port = connectedPort(connection, { origin: 'x', whenGone, close: () => void socket.destroy() })
  const answer = refused(t, 'INVALID_DOCUMENT', port.deliver(request(), 5000), 'a side that knows no events')
  await answer
  port.close()
  await port.whenGone
  t.ok(await until(() => listener.sockets.size === 0))
})

test('a writer in Python, without a library', requires('python3'), async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'coordinator.sock')
  const flag = join(folder, 'frozen')
  const metadata = new Recorder().identify()
  writeFileSync(join(folder, 'metadata.json'), JSON.stringify(metadata))
  const listener = await Listener.open(t, path)
  const child = spawn(
    'python3',
    [join(import.meta.dirname, 'python-writer.py'), path, join(folder, 'metadata.json'), flag],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const port = await listener.port()
  t.alike((await port.deliver(request({ event: 'identify' }), 10_000)).metadata, metadata)
  const components = [backupComponent('data', { previousBackupStamp: 'n\u00e4chster' })]
  const reply = await port.deliver(request({ event: 'post-snapshot', components }), 10_000)
  t.is(reply.components?.[0]?.backupStamp, 'python n\u00e4chster')
  await port.deliver(request({ event: 'freeze' }), 10_000)
  t.ok(existsSync(flag))
  await port.deliver(request({ event: 'thaw' }), 10_000)
  t.absent(existsSync(flag))
  await port.deliver(request({ event: 'freeze' }), 10_000)
  await listener.close()
  t.is(await ended, 0)
  t.absent(existsSync(flag), 'the coordinator went away, and it thawed by itself')
})

test('the conformance writer as a connected process', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'coordinator.sock')
  const recordPath = join(folder, 'record')
  const listener = await Listener.open(t, path)
  writeFileSync(
    join(folder, 'configuration.json'),
    JSON.stringify({
      name: 'Conformance',
      instanceId: INSTANCE_ID,
      components: [{ name: 'data', files: [{ path: '/mnt/data' }] }],
      backupSchema: ['incremental', 'last-modify'],
      partialFiles: [{ component: 'data', path: '/mnt/data', fileName: 'x', ranges: '0:5' }],
      failures: { freeze: { result: 'out-of-resources', fatal: true, times: 1 } },
      recordPath,
    }),
  )
  const argv = [
    '--import',
    import.meta.resolve('tsx'),
    join(import.meta.dirname, 'test-writer.ts'),
    'serve',
    join(folder, 'configuration.json'),
    path,
  ]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const port = await listener.port()
  const backupState = { ...request().backupState, backupType: 'incremental' } as NonNullable<
    ReturnType<typeof request>['backupState']
  >
  const first = await port.deliver(request({ event: 'freeze', backupState }), 10_000)
  t.alike([first.result, first.fatal], ['out-of-resources', true])
  t.is((await port.deliver(request({ event: 'freeze', backupState }), 10_000)).result, 'ok')
  const post = await port.deliver(request({ event: 'post-snapshot', backupState }), 10_000)
  t.is(post.components?.[0]?.partialFiles?.[0]?.ranges, '0:5')
  t.alike(
    recordedEvents(recordPath).map(({ event, didFail }) => `${event} ${didFail}`),
    ['freeze true', 'freeze false', 'post-snapshot false'],
  )
})
