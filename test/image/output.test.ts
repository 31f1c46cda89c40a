// Files that appear whole or not at all: full disks, aborts, failing sources, existing files, streams.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { PassThrough, Writable } from 'node:stream'
import test from 'brittle'
import { UmbraError } from '../../src/base/errors.ts'
import { importToRaw } from '../../src/image/import.ts'
import type { Progress } from '../../src/image/pace.ts'
import { writeQcow2 } from '../../src/image/qcow2-writer.ts'
import { streamRaw, writeRaw } from '../../src/image/raw-writer.ts'
import { verifyImage } from '../../src/image/verify.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { run } from '../support/run.ts'
import { MemoryHistory, randomBlock } from './memory-history.ts'
import { rejectsWith, scratchFolder } from './scratch.ts'

function largeHistory(): MemoryHistory {
  const history = new MemoryHistory(8192)
  const random = new Random(1)
  const blocks = Array.from({ length: 16 }, () => randomBlock(random))
  for (let i = 0; i < 8000; i++) history.write(i, blocks[i % 16] as Buffer)
  history.cut()
  return history
}

test('a full disk leaves nothing behind', { skip: process.getuid?.() !== 0 }, async (t) => {
  const at = scratchFolder(t)
  mkdirSync(at('small'))
  await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', at('small')])
  t.teardown(() => run('umount', [at('small')]), { order: -1 })
  const history = largeHistory()
  await rejectsWith(t, () => writeQcow2(history.full(0), at('small/a')), 'OUT_OF_SPACE', 'qcow2')
  await rejectsWith(t, () => writeRaw(history.full(0), at('small/b')), 'OUT_OF_SPACE', 'raw')
  await writeQcow2(history.full(0), at('full'))
  await rejectsWith(t, () => importToRaw([at('full')], at('small/c')), 'OUT_OF_SPACE', 'import')
  t.alike(readdirSync(at('small')), [])
})

test('an abort and a source that fails leave nothing behind', async (t) => {
  const at = scratchFolder(t)
  const history = largeHistory()
  const source = history.full(0)
  for (const write of [writeQcow2, writeRaw]) {
    const abort = new AbortController()
    const onProgress = () => abort.abort()
    await rejectsWith(
      t,
      () => write(source, at('a'), { signal: abort.signal, onProgress }),
      'ABORTED',
      'abort',
    )
    await rejectsWith(t, () => write(source, at('a'), { signal: abort.signal }), 'ABORTED', 'aborted before')
    let reads = 0
    const fail = () => {
      if (++reads > 5) throw new UmbraError('CHECKSUM_MISMATCH', 'A bad block')
      return true
    }
    const failing = { ...source, device: { ...source.device, blockCount: 8192, tryRead: fail } }
    await rejectsWith(t, () => write(failing, at('a')), 'CHECKSUM_MISMATCH', 'a failing source')
  }
  t.alike(readdirSync(at('.')), [])
})

test('an existing file is replaced only with force, and then wholly', async (t) => {
  const at = scratchFolder(t)
  const history = largeHistory()
  writeFileSync(at('there'), 'precious')
  await rejectsWith(t, () => writeQcow2(history.full(0), at('there')), 'ALREADY_EXISTS', 'no force')
  t.is(readFileSync(at('there'), 'utf8'), 'precious')
  symlinkSync('there', at('link'))
  await writeQcow2(history.full(0), at('link'), { force: true })
  await verifyImage(at('there'))
  await verifyImage(at('link'))
  mkdirSync(at('folder'))
  await rejectsWith(
    t,
    () => writeRaw(history.full(0), at('folder'), { force: true }),
    'INVALID_ARGUMENT',
    'a folder',
  )
  await rejectsWith(t, () => writeRaw(history.full(0), at('gone/x')), 'ENOENT', 'a missing folder')
  const races = await Promise.allSettled([
    writeRaw(history.full(0), at('race')),
    writeRaw(history.full(0), at('race')),
  ])
  t.alike(races.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], 'of two writers one wins')
  await verifyImage(at('race'))
})

test('progress goes up to the whole', async (t) => {
  const at = scratchFolder(t)
  const seen: Progress[] = []
  await writeQcow2(largeHistory().full(0), at('a'), { onProgress: (progress) => void seen.push(progress) })
  t.ok(seen.length >= 3)
  t.ok(seen.every(({ doneBytes }, i) => i === 0 || doneBytes >= (seen[i - 1]?.doneBytes ?? 0)))
  t.alike(seen.at(-1), { doneBytes: 8000 * 4096, totalBytes: 8000 * 4096 })
})

test('writeRaw() is sparse, streamRaw() is every byte, and both have one digest', async (t) => {
  const at = scratchFolder(t)
  const history = new MemoryHistory(30_000)
  history.churn(new Random(chosenSeed(t)), 60)
  history.cut()
  const source = history.full(0)
  const written = await writeRaw(source, at('raw'))
  t.ok(readFileSync(at('raw')).equals(history.content(0)))
  t.ok(statSync(at('raw')).blocks * 512 <= written.dataBytes + 64 * 1024, 'holes take no space')
  const parts: Buffer[] = []
  const stream = new PassThrough()
  stream.on('data', (part: Buffer) => parts.push(part))
  const streamed = await streamRaw(source, stream)
  t.ok(Buffer.concat(parts).equals(history.content(0)))
  t.is(streamed.identity.digest, written.identity.digest)
  const qcow2 = await writeQcow2(source, at('qcow2'))
  t.is(qcow2.identity.digest, written.identity.digest)
  history.cut()
  await rejectsWith(t, () => writeRaw(history.delta(0, 1), at('x')), 'INVALID_ARGUMENT', 'a raw delta')
  const broken = new Writable({ write: (_chunk, _encoding, done) => done(new Error('EPIPE')) })
  broken.on('error', () => {})
  await t.exception(streamRaw(source, broken))
  t.absent(existsSync(at('x')))
})
