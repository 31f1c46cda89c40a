// The channel under load: large and many requests, late answers, exceptions, closing, spinning.

import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { type Child, startChild } from '../support/child.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'

const SERVER = new URL('./echo-server.ts', import.meta.url)
const needs = requires('root', '/dev/fuse')

async function serve(t: Assertion, options: object): Promise<{ server: Child; file: string }> {
  const folder = join(tempFolder(t), 'mount')
  mkdirSync(folder)
  t.teardown(() => spawnSync('umount', ['-l', folder]))
  const server = startChild(t, SERVER, { args: [folder, JSON.stringify(options)] })
  await server.message('ready')
  return { server, file: join(folder, 'echo') }
}

/** Small slots, few slots, no spinning, a long spin: nothing of it may be visible in the data. */
const SHAPES = [
  { spinUs: 0, slotCount: 1 },
  { spinUs: 50, slotCount: 16 },
  { spinUs: 5000, slotCount: 3 },
  { spinUs: 50, slotCount: 4, maxWriteBytes: 4096 },
  { spinUs: 50, slotCount: 16, maxWriteBytes: 65_536 },
]

for (const shape of SHAPES)
  test(`FuseChannel moves bytes unchanged: ${JSON.stringify(shape)}`, needs, async (t) => {
    const random = new Random(chosenSeed(t))
    const { server, file } = await serve(t, shape)
    const model = random.bytes((3 << 20) + 777)
    await writeFile(file, model)
    t.is((await stat(file)).size, model.length)

    const handle = await open(file, 'r+')
    await Promise.all(
      Array.from({ length: 64 }, async (_, i) => {
        // Each to a part of its own, so that the order does not matter.
        const offset = i * 40_000 + random.below(20_000)
        const bytes = random.bytes(random.between(1, 20_000))
        model.set(bytes, offset)
        await handle.write(bytes, 0, bytes.length, offset)
      }),
    )
    const parts = Array.from({ length: 100 }, () => ({
      at: random.below(3 << 20),
      length: random.between(1, 200_000),
    }))
    let wrong = 0
    await Promise.all(
      parts.map(async ({ at, length }) => {
        const { bytesRead, buffer } = await handle.read(new Uint8Array(length), 0, length, at)
        if (Buffer.compare(buffer.subarray(0, bytesRead), model.subarray(at, at + length)) !== 0) wrong++
      }),
    )
    await handle.close()
    t.is(wrong, 0, 'random reads')
    t.is(Buffer.compare(await readFile(file), model), 0, 'the whole file')
    server.send({ type: 'counts' })
    t.ok((await server.message('counts'))['aligned'], 'WRITE payloads begin on page boundaries')
    server.send({ type: 'unmount' })
    t.is((await server.message('ended'))['reason'], 'unmounted')
  })

test('FuseChannel pauses when reply buffers have run out, and loses nothing', needs, async (t) => {
  const { server, file } = await serve(t, { delayMs: 20, replyBufferLimit: 3, slotCount: 2 })
  const bytes = new Random(3).bytes(1 << 20)
  await writeFile(file, bytes)
  // Direct reads go to the server one by one, from as many processes as there are.
  const readers = Array.from({ length: 8 }, (_, i) =>
    startChild(t, new URL('./direct-reader.ts', import.meta.url), { args: [file, String(i * 65_536), '16'] }),
  )
  for (const [i, reader] of readers.entries()) {
    const said = await reader.message('read')
    const expected = Buffer.from(bytes.subarray(i * 65_536, (i + 1) * 65_536))
    t.is(said['base64'], expected.toString('base64'), `reader ${i}`)
  }
  server.send({ type: 'counts' })
  const mostWaiting = (await server.message('counts'))['mostWaiting'] as number
  t.ok(
    mostWaiting >= 2 && mostWaiting <= 3 + 2,
    `${mostWaiting} READs waited at once; the limit is 3, a batch is 2`,
  )
  server.send({ type: 'unmount' })
  await server.message('ended')
})

test(
  'a handler that throws: that request fails with EIO, the error surfaces, the mount goes on',
  needs,
  async (t) => {
    const { server, file } = await serve(t, { tolerateErrors: true })
    for (let i = 0; i < 3; i++) {
      await t.exception(stat(join(file, '..', 'throw')), /EIO/)
      t.is((await server.message('uncaught'))['message'], 'thrown on purpose')
    }
    await writeFile(file, 'still there')
    t.is(await readFile(file, 'utf8'), 'still there')
  },
)

test('an exception that nobody handles ends the server, loudly, and the mount with it', needs, async (t) => {
  const { server, file } = await serve(t, {})
  await t.exception(stat(join(file, '..', 'throw')))
  const ended = await server.exit()
  t.is(ended.code, 1)
  t.ok(server.stderr.includes('thrown on purpose'))
  await t.exception(stat(file), /ENOTCONN|ECONNABORTED/)
})

test('close ends the connection without waiting for an unmount', needs, async (t) => {
  const { server, file } = await serve(t, {})
  await writeFile(file, 'x')
  server.send({ type: 'close' })
  t.alike(await server.exit(), { code: 0, signal: null })
  await t.exception(stat(file), /ENOTCONN|ECONNABORTED/)
})
