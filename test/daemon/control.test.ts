// The control socket: errors keep their codes on the way, and what a connection holds ends with it.

import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'brittle'
import { hasCode, UmbraError } from '../../src/base/errors.ts'
import { ControlClient } from '../../src/daemon/control-client.ts'
import { bookmarkDeleteRequest, leaseRequest, syncRequest } from '../../src/daemon/control-protocol.ts'
import { ControlServer } from '../../src/daemon/control-server.ts'
import {
  isSocketAlive,
  listSockets,
  openRuntimeFolder,
  runtimeFolderPath,
  socketPath,
  volumeFileKey,
} from '../../src/daemon/runtime-folder.ts'
import { until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

test('ControlClient.callWith() gets the error that the handler threw, with its code and context', async (t) => {
  const server = new ControlServer(join(tempFolder(t), 's.sock'))
  server.handleWith(bookmarkDeleteRequest, ({ name }) => {
    throw new UmbraError('PINNED', `${name} is pinned`, { name, count: 3n })
  })
  server.handle(syncRequest, () => ({ flushMs: 1, commitMs: 2 }))
  await server.listen()
  t.teardown(() => server.close())
  const client = await ControlClient.open(server.path)
  t.teardown(() => client?.close())

  const error = await client?.callWith(bookmarkDeleteRequest, { name: 'x' }).catch((thrown) => thrown)
  t.ok(hasCode(error, 'PINNED'))
  t.is(error.message, 'x is pinned')
  t.alike(error.context, { name: 'x', count: '3' })
  t.alike(await client?.call(syncRequest), { flushMs: 1, commitMs: 2 }, 'the connection goes on')
})

test('ControlClient.call() rejects with UNAVAILABLE when the daemon goes, and TIMED_OUT when it is silent', async (t) => {
  const server = new ControlServer(join(tempFolder(t), 's.sock'))
  server.handle(syncRequest, () => new Promise(() => {}))
  await server.listen()
  const client = (await ControlClient.open(server.path)) as ControlClient
  t.teardown(() => client.close())

  t.ok(hasCode(await client.call(syncRequest, 50).catch((thrown) => thrown), 'TIMED_OUT'))
  const pending = client.call(syncRequest).catch((thrown) => thrown)
  await server.close()

  t.ok(hasCode(await pending, 'UNAVAILABLE'))
  t.absent(existsSync(server.path), 'the socket is gone')
  t.is(await ControlClient.open(server.path), undefined, 'nobody listens')
})

test('Session.onEnd() runs when the connection closes, not before', async (t) => {
  const server = new ControlServer(join(tempFolder(t), 's.sock'))
  const held = new Set<string>()
  server.handleWith(leaseRequest, ({ names }, session) => {
    for (const name of names) {
      held.add(name)
      session.onEnd(() => held.delete(name))
    }
    return { volumeUuid: '', points: [], present: null, mark: null }
  })
  await server.listen()
  t.teardown(() => server.close())
  const first = (await ControlClient.open(server.path)) as ControlClient
  const second = (await ControlClient.open(server.path)) as ControlClient
  t.teardown(() => second.close())
  await first.callWith(leaseRequest, { names: ['a'], present: false })
  await second.callWith(leaseRequest, { names: ['b'], present: false })

  t.alike([...held].sort(), ['a', 'b'])
  first.close()

  await until('the lease has ended', () => !held.has('a'))
  t.ok(held.has('b'))
})

test('a message that is no JSON-RPC ends its connection and nothing else', async (t) => {
  const server = new ControlServer(join(tempFolder(t), 's.sock'))
  server.handle(syncRequest, () => ({ flushMs: 0, commitMs: 0 }))
  await server.listen()
  t.teardown(() => server.close())

  for (const rubbish of ['GET / HTTP/1.1\r\n\r\n', 'Content-Length: 5\r\n\r\n{"a":', '\0'.repeat(5000)]) {
    const socket = connect(server.path)
    socket.on('error', () => {})
    socket.end(rubbish)
    const client = (await ControlClient.open(server.path)) as ControlClient
    t.alike(await client.call(syncRequest), { flushMs: 0, commitMs: 0 })
    client.close()
    socket.destroy()
  }
})

test('the runtime folder is private, and a folder of another kind is refused', (t) => {
  const folder = tempFolder(t)
  const before = process.env['UMBRA_RUNTIME_DIR']
  t.teardown(() => {
    if (before === undefined) delete process.env['UMBRA_RUNTIME_DIR']
    else process.env['UMBRA_RUNTIME_DIR'] = before
  })

  process.env['UMBRA_RUNTIME_DIR'] = join(folder, 'run')
  mkdirSync(join(folder, 'run'), { mode: 0o755 })
  t.is(openRuntimeFolder(), join(folder, 'run'))
  t.is(statSync(runtimeFolderPath()).mode & 0o777, 0o700)

  symlinkSync('/tmp', join(folder, 'link'))
  process.env['UMBRA_RUNTIME_DIR'] = join(folder, 'link')
  t.ok(hasCode(thrownBy(openRuntimeFolder), 'NOT_PERMITTED'), 'a link is refused')

  process.env['UMBRA_RUNTIME_DIR'] = join(folder, 'x'.repeat(120))
  t.ok(
    hasCode(
      thrownBy(() => socketPath('1-2')),
      'LIMIT_EXCEEDED',
    ),
    'a path too long for a socket is refused',
  )
})

test('volumeFileKey() names a file whatever its path; a stale socket is known for what it is', async (t) => {
  const folder = tempFolder(t)
  writeFileSync(join(folder, 'v'), '')
  symlinkSync('v', join(folder, 'link'))

  t.is(volumeFileKey(join(folder, 'v')), volumeFileKey(join(folder, 'link')))
  t.ok(
    hasCode(
      thrownBy(() => volumeFileKey(join(folder, 'none'))),
      'NOT_FOUND',
    ),
  )
  writeFileSync(join(folder, 'stale.sock'), '')
  t.is(await isSocketAlive(join(folder, 'stale.sock')), false)
  t.ok(Array.isArray(listSockets()))
})

function thrownBy(work: () => unknown): unknown {
  try {
    work()
    return undefined
  } catch (error) {
    return error
  }
}

test('ControlClient.open() believes no socket in a folder that others can write to', async (t) => {
  const folder = join(tempFolder(t), 'shared')
  mkdirSync(folder, { mode: 0o700 })
  const server = new ControlServer(join(folder, 's.sock'))
  await server.listen()
  t.teardown(() => server.close())
  for (const mode of [0o777, 0o770, 0o702]) {
    chmodSync(folder, mode)
    const error = await ControlClient.open(server.path).catch((thrown) => thrown)
    t.ok(hasCode(error, 'NOT_PERMITTED'), `mode ${mode.toString(8)}`)
  }
  chmodSync(folder, 0o700)
  const client = await ControlClient.open(server.path)
  t.ok(client)
  client?.close()
  const link = join(tempFolder(t), 'link')
  symlinkSync(folder, link)
  const error = await ControlClient.open(join(link, 's.sock')).catch((thrown) => thrown)
  t.ok(hasCode(error, 'NOT_PERMITTED'), 'a link is no folder of ours')
})
