// The file storage: the contract with the addon and with its twin, and how it meets the host: sparse
// files, a full disk, locks between processes, and errors that name the file.

import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { loadAddon } from '../../src/base/addon.ts'
import { type DescriptorIo, NODE_DESCRIPTOR_IO } from '../../src/storage/descriptor-io.ts'
import { FileStorage, type FileStorageOptions } from '../../src/storage/file-storage.ts'
import { blockStorageContract, codeOf, type StorageUnderTest } from '../contract/block-storage.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const addon = loadAddon()
if (!addon) console.log('# missing: native addon')
const withAddon = addon ? {} : { skip: true }

async function make(t: Assertion, options: FileStorageOptions): Promise<StorageUnderTest> {
  const path = join(tempFolder(t), 'volume')
  let storage = await FileStorage.open(path, { ...options, create: true })
  t.teardown(() => storage.close())
  const reopen = async (): Promise<FileStorage> => {
    await storage.close()
    storage = await FileStorage.open(path, options)
    return storage
  }
  return { storage, reopen }
}

if (addon) blockStorageContract('FileStorage', (t) => make(t, {}))
blockStorageContract('FileStorage without the addon', (t) =>
  make(t, { io: NODE_DESCRIPTOR_IO, lock: 'none' }),
)

test('FileStorage keeps holes sparse, and gives punched space back', withAddon, async (t) => {
  const path = join(tempFolder(t), 'volume')
  const storage = await FileStorage.open(path, { create: true })
  t.alike(storage.supports, { punch: true, reserve: true })
  storage.truncate(2 ** 40)
  storage.write(2 ** 39, 2 ** 20, new Uint8Array(2 ** 20).fill(1), 0)
  await storage.flush()
  const written = statSync(path).blocks * 512
  t.ok(written >= 2 ** 20 && written < 2 * 2 ** 20, `${written} bytes on disk`)
  await storage.punch(2 ** 39, 2 ** 20)
  await storage.flush()
  t.ok(statSync(path).blocks * 512 < 2 ** 17)
  storage.reserve(0, 2 ** 20)
  await storage.flush()
  t.ok(statSync(path).blocks * 512 >= 2 ** 20, 'reserved space is taken')
  await storage.close()
})

test('FileStorage without the addon says that it cannot punch, and refuses a lock', async (t) => {
  const path = join(tempFolder(t), 'volume')
  const options = { io: NODE_DESCRIPTOR_IO }
  t.is(await codeOf(() => FileStorage.open(path, { ...options, create: true })), 'UNAVAILABLE')
  const storage = await FileStorage.open(path, { ...options, lock: 'none' })
  t.alike(storage.supports, { punch: false, reserve: false })
  t.is(storage.tryRead(0, 4, new Uint8Array(4), 0), false)
  await storage.close()
})

test('FileStorage reports a full disk as OUT_OF_SPACE', requires('root', 'mount'), async (t) => {
  const folder = join(tempFolder(t), 'small')
  mkdirSync(folder)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1M', 'tmpfs', folder])
  t.teardown(() => run('umount', ['-l', folder], { check: false }))
  const storage = await FileStorage.open(join(folder, 'volume'), { create: true, lock: 'none' })
  t.teardown(() => storage.close())
  const source = new Uint8Array(2 * 2 ** 20).fill(1)
  t.is(await codeOf(() => storage.write(0, source.length, source, 0)), 'OUT_OF_SPACE')
  t.ok(storage.sizeBytes <= 2 ** 20)
  t.is(
    storage.sizeBytes,
    statSync(join(folder, 'volume')).size,
    'a prefix was written, and its size is known',
  )
  if (storage.supports.reserve) t.is(await codeOf(() => storage.reserve(0, 2 * 2 ** 20)), 'OUT_OF_SPACE')
  storage.punchSync(0, 2 ** 20)
  if (storage.supports.punch) t.is(await codeOf(() => storage.write(0, 2 ** 19, source, 0)), 'none')
})

/** Tries to open `path` in another process; prints the code of its error, or `none`. */
async function openElsewhere(path: string, options: FileStorageOptions): Promise<string> {
  const module = JSON.stringify(fileURLToPath(new URL('../../src/storage/file-storage.ts', import.meta.url)))
  const program = `
    const { FileStorage } = await import(${module})
    try {
      await (await FileStorage.open(${JSON.stringify(path)}, ${JSON.stringify(options)})).close()
      console.log('none')
    } catch (error) { console.log(error.code, error.message) }`
  const root = fileURLToPath(new URL('../../', import.meta.url))
  const { stdout } = await run(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', program],
    { cwd: root },
  )
  return stdout.trim()
}

test('FileStorage locks out a second writer, here and in another process', withAddon, async (t) => {
  const path = join(tempFolder(t), 'volume')
  const storage = await FileStorage.open(path, { create: true })
  const refused = await openElsewhere(path, {})
  t.ok(refused.startsWith('BUSY') && refused.includes(path), refused)
  t.ok((await openElsewhere(path, { readOnly: true })).startsWith('BUSY'))
  t.is(await openElsewhere(path, { readOnly: true, lock: 'none' }), 'none')
  t.is(await codeOf(() => FileStorage.open(path)), 'BUSY')
  await storage.close()
  t.is(await openElsewhere(path, {}), 'none')
  const [one, two] = [
    await FileStorage.open(path, { readOnly: true }),
    await FileStorage.open(path, { readOnly: true }),
  ]
  t.is(await codeOf(() => FileStorage.open(path)), 'BUSY', 'readers share, a writer waits for both')
  await one.close()
  t.is(await codeOf(() => FileStorage.open(path)), 'BUSY')
  await two.close()
  await (await FileStorage.open(path)).close()
})

test('FileStorage.open() names what is wrong', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'volume')
  const none = { lock: 'none' } as const
  t.is(await codeOf(() => FileStorage.open(path, none)), 'NOT_FOUND')
  t.is(
    await codeOf(() => FileStorage.open(join(folder, 'no/volume'), { ...none, create: true })),
    'NOT_FOUND',
  )
  t.is(await codeOf(() => FileStorage.open(folder, none)), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => FileStorage.open(folder, { ...none, readOnly: true })), 'INVALID_ARGUMENT')
  t.is(await codeOf(() => FileStorage.open(path, { readOnly: true, create: true })), 'INVALID_ARGUMENT')
  writeFileSync(path, 'mine')
  t.is(await codeOf(() => FileStorage.open(path, { ...none, create: true })), 'ALREADY_EXISTS')
  t.is(statSync(path).size, 4, 'and leaves it alone')
  const reader = await FileStorage.open(path, { readOnly: true, lock: 'none' })
  t.is(await codeOf(() => reader.write(0, 1, new Uint8Array(1), 0)), 'READ_ONLY')
  t.is(await codeOf(() => reader.flush()), 'READ_ONLY')
  writeFileSync(path, 'mine, and more', { flag: 'r+' })
  t.is(reader.sizeBytes, 14, 'a reader sees the file grow')
  await reader.close()
  rmSync(path)
})

/** The twin, with some calls replaced. */
function brokenIo(broken: Partial<DescriptorIo>): DescriptorIo {
  return { ...NODE_DESCRIPTOR_IO, ...broken }
}

test('FileStorage goes on after EINTR and short counts, and stops at errors', async (t) => {
  const { EINTR, EIO } = constants.errno
  let calls = 0
  const interrupted = () => calls++ % 2 === 0
  const io = brokenIo({
    pread: (fd, target, at, length, offset) =>
      interrupted() ? -EINTR : NODE_DESCRIPTOR_IO.pread(fd, target, at, Math.min(length, 7), offset),
    preadLater(fd, target, at, length, offset, done) {
      if (interrupted()) setImmediate(done, -EINTR)
      else NODE_DESCRIPTOR_IO.preadLater(fd, target, at, Math.min(length, 7), offset, done)
    },
    pwrite: (fd, source, at, length, offset) =>
      interrupted() ? -EINTR : NODE_DESCRIPTOR_IO.pwrite(fd, source, at, Math.min(length, 7), offset),
  })
  const path = join(tempFolder(t), 'volume')
  const storage = await FileStorage.open(path, { create: true, lock: 'none', io })
  const source = Uint8Array.from({ length: 50 }, (_, i) => i + 1)
  storage.write(0, 50, source, 0)
  for (const read of [storage.readSync.bind(storage), storage.read.bind(storage)]) {
    const target = new Uint8Array(60).fill(9)
    await read(0, 60, target, 0)
    t.alike([...target], [...source, ...new Array(10).fill(0)])
  }
  await storage.close()

  const failing = brokenIo({
    pread: () => -EIO,
    preadLater: (_fd, _target, _at, _length, _offset, done) => void setImmediate(done, -EIO),
    pwrite: () => -EIO,
  })
  const bad = await FileStorage.open(path, { lock: 'none', io: failing })
  const error = await Promise.resolve()
    .then(() => bad.write(3, 5, source, 0))
    .catch((thrown: unknown) => thrown)
  t.is((error as { code: string }).code, 'IO_FAILED')
  t.alike((error as { context: unknown }).context, { path, offsetBytes: 3, lengthBytes: 5, errno: EIO })
  t.is(await codeOf(() => bad.readSync(0, 5, source, 0)), 'IO_FAILED')
  t.is(await codeOf(() => bad.read(0, 5, source, 0)), 'IO_FAILED')
  await bad.close()
})

test('FileStorage never takes a second flush for the lost first one', async (t) => {
  let failures = 1
  const io = brokenIo({
    fdatasync: () => (failures-- > 0 ? -constants.errno.EIO : 0),
    fdatasyncLater: (_fd, done) => void setImmediate(done, failures-- > 0 ? -constants.errno.EIO : 0),
  })
  const storage = await FileStorage.open(join(tempFolder(t), 'volume'), { create: true, lock: 'none', io })
  t.is(await codeOf(() => storage.flush()), 'IO_FAILED')
  t.is(await codeOf(() => storage.flush()), 'IO_FAILED')
  t.is(await codeOf(() => storage.flushSync()), 'IO_FAILED')
  await storage.close()
})

test('FileStorage.close() waits for reads under way', async (t) => {
  const path = join(tempFolder(t), 'volume')
  const storage = await FileStorage.open(path, { create: true, lock: 'none' })
  storage.write(0, 100_000, new Uint8Array(100_000).fill(4), 0)
  const targets = Array.from({ length: 20 }, () => new Uint8Array(100_000))
  const reads = targets.map((target) => storage.read(0, 100_000, target, 0))
  await storage.close()
  await Promise.all(reads)
  t.ok(targets.every((target) => target.every((byte) => byte === 4)))
})
