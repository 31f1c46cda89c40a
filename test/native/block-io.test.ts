// The addon's block I/O: complete transfers, negated errnos, late calls whose buffers stay alive, locks.

import { closeSync, ftruncateSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test, { type Assertion } from 'brittle'
import { requireAddon } from '../../src/base/addon.ts'
import { type Child, startChild } from '../support/child.ts'
import { Random } from '../support/random.ts'
import { tempFolder } from '../support/temp.ts'

const addon = requireAddon()
const { EAGAIN, EBADF, EINVAL, ENXIO } = constants.errno

function openTemp(t: Assertion, sizeBytes = 0): { fd: number; path: string } {
  const path = join(tempFolder(t), 'file')
  const fd = openSync(path, 'w+')
  t.teardown(() => closeSync(fd))
  ftruncateSync(fd, sizeBytes)
  return { fd, path }
}

/** brittle's own check lets TypeErrors through, as bugs of the test. */
function isRefused(call: () => unknown): boolean {
  try {
    call()
    return false
  } catch (error) {
    return error instanceof TypeError
  }
}

test('pwrite, then pread, preadNoWait and preadLater give the same bytes', async (t) => {
  const { fd } = openTemp(t)
  const bytes = new Random(7).bytes(10_000)
  t.is(addon.pwrite(fd, bytes, 100, 9000, 5_000_000_000), 9000, 'past 4 GiB')

  const read = [
    (target: Uint8Array) => addon.pread(fd, target, 3, 9000, 5_000_000_000),
    (target: Uint8Array) => addon.preadNoWait(fd, target, 3, 9000, 5_000_000_000),
    (target: Uint8Array) =>
      new Promise<number>((done) => addon.preadLater(fd, target, 3, 9000, 5_000_000_000, done)),
  ]
  for (const call of read) {
    const target = new Uint8Array(9010)
    t.is(await call(target), 9000)
    t.alike(target.subarray(3, 9003), bytes.subarray(100, 9100))
    t.is(target[2], 0, 'nothing before the range')
    t.is(target[9003], 0, 'nothing after the range')
  }
})

test('a read at the end of the file is short, past it is 0', async (t) => {
  const { fd } = openTemp(t, 5000)
  const target = new Uint8Array(4096)
  t.is(addon.pread(fd, target, 0, 4096, 4096), 904)
  t.is(addon.pread(fd, target, 0, 4096, 8192), 0)
  t.is(addon.preadNoWait(fd, target, 0, 4096, 8192), 0)
  t.is(await new Promise<number>((done) => addon.preadLater(fd, target, 0, 4096, 4096, done)), 904)
})

test('wrong arguments and bad descriptors are negated errnos, never a crash', async (t) => {
  const { fd } = openTemp(t, 4096)
  const bytes = new Uint8Array(16)
  for (const [offset, length, at] of [
    [0, 17, 0],
    [16, 1, 0],
    [17, 0, 0],
    [-1, 1, 0],
    [0, -1, 0],
    [0, 2 ** 53, 0],
    [0.5, 1, 0],
    [0, 1, -1],
    [0, 1, Number.NaN],
  ] as const) {
    t.is(addon.pread(fd, bytes, offset, length, at), -EINVAL, `pread ${offset} ${length} ${at}`)
    t.is(addon.pwrite(fd, bytes, offset, length, at), -EINVAL, `pwrite ${offset} ${length} ${at}`)
  }
  const wrong = addon as unknown as Record<string, (...values: unknown[]) => unknown>
  t.is(wrong['pread']?.(), -EINVAL)
  t.is(wrong['pread']?.(fd, 'text', 0, 1, 0), -EINVAL)
  t.is(wrong['pread']?.(fd, new Float64Array(2), 0, 1, 0), -EINVAL)
  t.is(wrong['lock']?.(fd, 1), -EINVAL)
  t.is(wrong['mount']?.('a', 'b\0c', 'd', 0, ''), -EINVAL)
  t.is(addon.pread(99_999, bytes, 0, 1, 0), -EBADF)
  t.is(addon.fdatasync(99_999), -EBADF)
  t.ok(isRefused(() => wrong['preadLater']?.(fd, bytes, 0, 17, 0, () => {})))
  t.ok(isRefused(() => wrong['fdatasyncLater']?.(fd)))
  t.is(await new Promise<number>((done) => addon.fdatasyncLater(99_999, done)), -EBADF)
})

test('fallocate punches holes that lseek finds', async (t) => {
  const { fd } = openTemp(t)
  const data = new Uint8Array(1 << 20).fill(1)
  addon.pwrite(fd, data, 0, data.length, 0)
  const punchAndKeepSize = 2 | 1
  t.is(addon.fallocate(fd, punchAndKeepSize, 65_536, 65_536), 0)
  t.is(addon.lseek(fd, 0, 4), 65_536, 'SEEK_HOLE')
  t.is(addon.lseek(fd, 65_536, 3), 131_072, 'SEEK_DATA')
  t.is(addon.lseek(fd, 1 << 20, 3), -ENXIO)
  const later = await new Promise<number>((done) =>
    addon.fallocateLater(fd, punchAndKeepSize, 0, 65_536, done),
  )
  t.is(later, 0)
  t.is(addon.lseek(fd, 0, 3), 131_072)
})

test('late calls: many at once, under garbage collection, each answered once with its own result', async (t) => {
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const { fd } = openTemp(t)
  const block = new Uint8Array(4096)
  for (let i = 0; i < 64; i++) addon.pwrite(fd, block.fill(i), 0, 4096, i * 4096)

  let answers = 0
  let wrong = 0
  const reads: Promise<void>[] = []
  for (let i = 0; i < 1000; i++) {
    reads.push(
      new Promise<void>((done) => {
        // Nothing here holds the buffer but the call; a weak reference finds it again.
        const target = new WeakRef(new Uint8Array(4096))
        addon.preadLater(fd, target.deref() as Uint8Array, 0, 4096, (i % 64) * 4096, (result) => {
          answers++
          if (result !== 4096) wrong++
          const bytes = target.deref()
          if (bytes && !bytes.every((byte) => byte === i % 64)) wrong++
          done()
        })
      }),
    )
    if (i % 100 === 0) collectGarbage()
    if (i % 50 === 0) await new Promise((resolve) => addon.fdatasyncLater(fd, resolve))
  }
  collectGarbage()
  await Promise.all(reads)
  t.is(answers, 1000)
  t.is(wrong, 0)
})

test('next ticks and microtasks run after each late callback', async (t) => {
  const { fd } = openTemp(t)
  const order: string[] = []
  await new Promise<void>((done) => {
    addon.fdatasyncLater(fd, () => {
      process.nextTick(() => order.push('tick'))
      queueMicrotask(() => order.push('microtask'))
      setImmediate(() => {
        order.push('immediate')
        done()
      })
    })
  })
  t.alike(order, ['tick', 'microtask', 'immediate'])
})

test('lock keeps another process out until it is dropped or its holder is killed', async (t) => {
  const { fd, path } = openTemp(t)
  const startHolder = (): Child =>
    startChild(t, new URL('./lock-holder.ts', import.meta.url), { args: [path] })
  const child = startHolder()
  t.is((await child.message('locked'))['result'], 0)
  t.is(addon.lock(fd, true), -EAGAIN, 'held elsewhere')
  t.is(addon.lock(fd, false), -EAGAIN, 'a shared lock, too, is kept out')
  child.kill('SIGKILL')
  await child.exit()
  t.is(addon.lock(fd, true), 0, 'a killed holder lets go')

  t.is((await startHolder().message('locked'))['result'], -EAGAIN, 'now we keep it out')
  t.is(addon.unlock(fd), 0)
  t.is((await startHolder().message('locked'))['result'], 0)
})

test('lock: two opens in one process exclude each other; shared locks do not', (t) => {
  const { fd, path } = openTemp(t)
  const other = openSync(path, 'r+')
  t.teardown(() => closeSync(other))
  t.is(addon.lock(fd, true), 0)
  t.is(addon.lock(other, true), -EAGAIN)
  t.is(addon.lock(fd, false), 0, 'an exclusive lock becomes shared')
  t.is(addon.lock(other, false), 0)
  t.is(addon.lock(fd, true), -EAGAIN)
})

test('alignedBytes are zeroed and so long; too many are refused', (t) => {
  const bytes = addon.alignedBytes(12_345) as Uint8Array
  t.is(bytes.length, 12_345)
  t.ok(bytes.every((byte) => byte === 0))
  t.is(addon.alignedBytes(2 ** 31), -EINVAL)
})

test('a mark is seen through other opens until it is cleared or its holder is closed, beside the lock', (t) => {
  const { fd, path } = openTemp(t)
  const other = openSync(path, 'r')
  const mark = 2 ** 48 - 1
  t.is(addon.lock(fd, true), 0)
  t.is(addon.hasMark(other, mark), 0, 'the lock of the file is no mark')
  t.is(addon.setMark(fd, mark), 0)
  t.is(addon.hasMark(other, mark), 1)
  t.is(addon.hasMark(fd, mark), 0, "one's own is not asked for")
  t.is(addon.hasMark(other, mark - 1), 0)
  t.is(addon.setMark(fd, mark - 1), 0)
  t.is(addon.clearMark(fd, mark), 0)
  t.is(addon.hasMark(other, mark), 0)
  t.is(addon.hasMark(other, mark - 1), 1, 'its neighbour stays')
  t.is(addon.lock(other, false), -EAGAIN, 'and so does the lock')
  const third = openSync(path, 'r')
  t.is(addon.setMark(third, mark), 0, 'of a file that is only read, too')
  t.is(addon.hasMark(other, mark), 1)
  closeSync(third)
  t.is(addon.hasMark(other, mark), 0)
  closeSync(other)
  t.is(addon.hasMark(other, mark), -EBADF)
  t.is(addon.setMark(fd, -1), -EINVAL)
})
