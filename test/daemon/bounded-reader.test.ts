// Messages as they come over a socket: cut anywhere, several at once, and those that nobody may send: a header
// without an end, a length beyond all bounds, no JSON. Both ends of a control socket, and what they hold meanwhile.

import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import test, { type Assertion } from 'brittle'
import { type Message, RequestType0 } from 'vscode-jsonrpc/node.js'
import { hasCode, type UmbraError } from '../../src/base/errors.ts'
import { BODY_MAX_BYTES, BoundedReader, HEADER_MAX_BYTES } from '../../src/daemon/bounded-reader.ts'
import { ControlClient } from '../../src/daemon/control-client.ts'
import type { WireError } from '../../src/daemon/control-protocol.ts'
import { ControlServer } from '../../src/daemon/control-server.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { tempFolder } from '../support/temp.ts'

function framed(message: unknown, more = ''): Buffer {
  const body = Buffer.from(JSON.stringify(message))
  return Buffer.concat([Buffer.from(`Content-Length: ${body.length}\r\n${more}\r\n`), body])
}

function reading() {
  const stream = new PassThrough()
  const reader = new BoundedReader(stream)
  const messages: Message[] = []
  const errors: Error[] = []
  reader.onError((error) => errors.push(error))
  reader.listen((message) => messages.push(message))
  const give = async (bytes: Buffer | string) => {
    stream.write(bytes)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { stream, messages, errors, give }
}

test('messages come whole, wherever the stream is cut', async (t) => {
  const random = new Random(chosenSeed(t))
  const sent = Array.from({ length: 40 }, (_, id) => ({
    jsonrpc: '2.0',
    id,
    text: 'ä€𝄞\r\n\r\n'.repeat(random.below(300)),
  }))
  const bytes = Buffer.concat(
    sent.map((message, i) =>
      framed(message, i % 3 === 0 ? 'Content-Type: application/vscode-jsonrpc; charset=utf-8\r\n' : ''),
    ),
  )
  for (const most of [1, 7, 4096, bytes.length]) {
    const { messages, errors, give } = reading()
    for (let at = 0; at < bytes.length; ) {
      const end = at + (most === bytes.length ? most : random.between(1, most))
      await give(bytes.subarray(at, end))
      at = end
    }
    t.alike(messages, sent as unknown as Message[], `in pieces of up to ${most} bytes`)
    t.alike(errors, [])
  }
  const { messages, give } = reading()
  await give('content-LENGTH:2\r\n\r\n{}')
  t.is(messages.length, 1, 'names of fields are of either case')
})

test('what nobody may send is an error at once, and nothing after it is read', async (t) => {
  for (const [what, bytes] of [
    ['a huge length', `Content-Length: ${BODY_MAX_BYTES + 1}\r\n\r\n`],
    ['a length beyond all numbers', `Content-Length: ${'9'.repeat(400)}\r\n\r\n`],
    ['a negative length', 'Content-Length: -5\r\n\r\n'],
    ['no number', 'Content-Length: 0x10\r\n\r\n'],
    ['an empty body', 'Content-Length: 0\r\n\r\n'],
    ['two lengths', 'Content-Length: 2\r\nContent-Length: 3\r\n\r\n'],
    ['no length', 'Content-Type: x\r\n\r\n'],
    ['a long header', `X: ${'x'.repeat(HEADER_MAX_BYTES)}\r\nContent-Length: 2\r\n\r\n`],
    ['no JSON', 'Content-Length: 3\r\n\r\n{a}'],
  ] as const) {
    const { messages, errors, give } = reading()
    await give(bytes)
    t.is(errors.length, 1, what)
    t.ok(hasCode(errors[0], 'INVALID_DOCUMENT'), errors[0]?.message.slice(0, 100))
    await give(framed({ jsonrpc: '2.0', method: 'x' }))
    t.is(messages.length, 0)
  }
})

test('a header that does not end is given up, and a length is no reason to take memory', async (t) => {
  const endless = reading()
  for (let i = 0; i < HEADER_MAX_BYTES + 10 && endless.errors.length === 0; i++) await endless.give('x')
  t.is(endless.errors.length, 1)
  const announced = reading()
  const beforeBytes = process.memoryUsage().arrayBuffers
  await announced.give(`Content-Length: ${BODY_MAX_BYTES}\r\n\r\n{`)
  t.ok(process.memoryUsage().arrayBuffers - beforeBytes < BODY_MAX_BYTES / 4)
  t.is(announced.errors.length, 0)
})

const question = new RequestType0<string, WireError>('question')

async function bytesUntilClosed(t: Assertion, path: string, first: string, more: Buffer): Promise<number> {
  const socket = connect(path)
  t.teardown(() => socket.destroy())
  let sent = 0
  await new Promise<void>((resolve) => {
    socket.on('error', () => {})
    socket.on('close', () => resolve())
    const send = (): void => {
      while (!socket.destroyed && sent < 64 * 1024 * 1024) {
        sent += more.length
        if (!socket.write(more)) return
      }
      socket.end()
    }
    socket.on('drain', send)
    socket.write(first)
    send()
  })
  return sent
}

test('a server ends such a connection and goes on with others', async (t) => {
  const server = new ControlServer(join(tempFolder(t), 's.sock'))
  server.handle(question, () => 'answer')
  await server.listen()
  t.teardown(() => server.close())
  const piece = Buffer.alloc(65_536, 'x')
  t.ok((await bytesUntilClosed(t, server.path, '', piece)) < 8 * 1024 * 1024, 'a header without an end')
  t.ok(
    (await bytesUntilClosed(t, server.path, 'Content-Length: 99999999999\r\n\r\n', piece)) < 8 * 1024 * 1024,
    'a huge length',
  )
  const client = (await ControlClient.open(server.path)) as ControlClient
  t.is(await client.call(question), 'answer')
  client.close()
})

test('a client ends such a connection and says why', async (t) => {
  for (const answer of ['Content-Length: 99999999999\r\n\r\n', 'x'.repeat(2 * HEADER_MAX_BYTES)]) {
    const path = join(tempFolder(t), 's.sock')
    const sockets: Socket[] = []
    const server = createServer((socket) => {
      sockets.push(socket)
      socket.on('error', () => {})
      socket.once('data', () => socket.write(answer))
    })
    await new Promise<void>((resolve) => server.listen(path, resolve))
    t.teardown(() => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    const client = (await ControlClient.open(path)) as ControlClient
    const error = (await client.call(question).catch((thrown) => thrown)) as UmbraError
    t.ok(hasCode(error, 'UNAVAILABLE') && error.message.includes('not taken'), error.message)
    const later = (await client.call(question).catch((thrown) => thrown)) as UmbraError
    t.ok(hasCode(later, 'UNAVAILABLE'), `and so is the next call: ${later.message}`)
    client.close()
  }
})
