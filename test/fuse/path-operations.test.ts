// The fuse-native driver's own half, without libfuse: paths to node ids with exact counts, unlinked open
// files, and the forms in which the native code takes and gives numbers.

import test from 'brittle'
import { hasCode, posixError } from '../../src/base/errors.ts'
import { Attributes } from '../../src/fuse/attributes.ts'
import { Answers } from '../../src/fuse/fuse-native/answers.ts'
import { fromByteString, toName } from '../../src/fuse/fuse-native/byte-names.ts'
import { mountOptions } from '../../src/fuse/fuse-native/mount.ts'
import { requestedTimes } from '../../src/fuse/fuse-native/native-times.ts'
import { PathOperations } from '../../src/fuse/fuse-native/path-operations.ts'
import { PathResolver } from '../../src/fuse/fuse-native/path-resolver.ts'
import { ShortInodeNumbers, statWords } from '../../src/fuse/fuse-native/stat-words.ts'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { SLOT_SPAN } from '../../src/fuse/node-ids.ts'
import { NotReady } from '../../src/fuse/operations.ts'
import { MemoryFileSystem } from './memory-file-system.ts'

const CALLER = { uid: 0, gid: 0, pid: 0, umask: 0 }
const HIDDEN = '.fuse_hidden0000000100000001'

function make() {
  const fileSystem = new MemoryFileSystem()
  const tree = new LiveTree(fileSystem)
  return { fileSystem, tree, paths: new PathOperations(tree, CALLER) }
}

function codeOf(work: () => unknown): string {
  try {
    work()
    return 'nothing'
  } catch (error) {
    return (error as { code: string }).code
  }
}

function listed(paths: PathOperations, path: string): string[] {
  const names: string[] = []
  paths.readdir(path, ({ name }) => names.push(name))
  return names.filter((name) => name !== '.' && name !== '..').sort()
}

test('every lookup is given back: what is removed is freed', (t) => {
  const { fileSystem, paths } = make()
  const before = fileSystem.inodeCount
  paths.mkdir('/d', 0o755)
  paths.mkdir('/d/e', 0o755)
  const handle = paths.create('/d/e/f', 0o644)
  paths.write(handle, Buffer.from('data'), 4, 0)
  paths.link('/d/e/f', '/g')
  paths.symlink('x', '/d/s')
  t.is(Buffer.from(paths.readlink('/d/s')).toString(), 'x')
  t.is(paths.getattr('/g').linkCount, 2)
  paths.rename('/d', '/moved')
  t.is(
    codeOf(() => paths.getattr('/d/e/f')),
    'ENOENT',
    'the old path is not in the cache any more',
  )
  t.is(paths.getattr('/moved/e/f').sizeBytes, 4)
  paths.release(handle)
  const folder = paths.opendir('/moved/e')
  for (const path of ['/moved/e/f', '/g', '/moved/s']) paths.unlink(path)
  t.is(
    codeOf(() => paths.rmdir('/moved')),
    'ENOTEMPTY',
  )
  paths.rmdir('/moved/e')
  paths.rmdir('/moved')
  t.is(fileSystem.inodeCount, before + 1, 'an open folder is kept')
  paths.releasedir(folder)
  paths.resolver.clear()
  t.is(fileSystem.inodeCount, before)
})

test('a hidden file has no name, and is freed when it is closed', (t) => {
  const { fileSystem, paths } = make()
  const before = fileSystem.inodeCount
  paths.mkdir('/d', 0o755)
  const handle = paths.create('/d/f', 0o644)
  t.is(
    codeOf(() => paths.getattr(`/d/${HIDDEN}`)),
    'ENOENT',
  )
  paths.rename('/d/f', `/d/${HIDDEN}`)
  t.alike(listed(paths, '/d'), [])
  t.is(paths.getattr(`/d/${HIDDEN}`).linkCount, 0)
  t.is(paths.fgetattr(handle).linkCount, 0)
  t.is(
    codeOf(() => paths.rmdir('/d')),
    'ENOTEMPTY',
    'libfuse reaches it through its folder',
  )
  paths.mkdir('/other', 0o755)
  t.is(
    codeOf(() => paths.rename('/other', '/d')),
    'ENOTEMPTY',
  )
  paths.release(handle)
  paths.unlink(`/d/${HIDDEN}`)
  t.is(
    codeOf(() => paths.unlink(`/d/${HIDDEN}`)),
    'ENOENT',
  )
  paths.rmdir('/d')
  paths.rmdir('/other')
  t.is(fileSystem.inodeCount, before)
})

test('names that libfuse uses are given to nothing else', (t) => {
  const { paths } = make()
  paths.release(paths.create('/f', 0o644))
  t.is(
    codeOf(() => paths.create(`/${HIDDEN}`, 0o644)),
    'EPERM',
  )
  t.is(
    codeOf(() => paths.link('/f', `/${HIDDEN}`)),
    'EPERM',
  )
  t.is(
    codeOf(() => paths.rename('/f', `/${HIDDEN}`)),
    'EPERM',
    'a file that is not open',
  )
  t.alike(listed(paths, '/'), ['f'])
})

test('the cache of folders is bounded', (t) => {
  const { tree, paths } = make()
  for (let i = 0; i < 20; i++) paths.mkdir(`/d${i}`, 0o755)
  let held = 0
  const counting = new Proxy(tree, {
    get(target, key) {
      if (key === 'lookup') held++
      if (key === 'forget') held--
      const value = Reflect.get(target, key, target) as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const resolver = new PathResolver(counting, 3)
  for (let i = 0; i < 20; i++) resolver.entry(`/d${i}/x`)
  t.is(held, 3, 'each folder that went from the cache was forgotten')
  resolver.entry('/d17/x')
  resolver.entry('/d0/x')
  resolver.entry('/d17/x')
  t.is(held, 3)
  resolver.drop('/d17')
  t.is(held, 2)
  resolver.clear()
  t.is(held, 0)
})

test('errors are answered once, NotReady is asked again, ESTALE once more', async (t) => {
  const reported: string[] = []
  let stale = 0
  const answers = new Answers(
    (_error, operation) => reported.push(operation),
    () => stale++,
  )
  const asked = <T>(work: () => T | Promise<T>) =>
    new Promise<readonly [number, T | undefined]>((resolve) => {
      answers.run<T>('test', (error, value) => resolve([error, value]), work)
    })
  t.alike(await asked(() => 7), [0, 7])
  t.alike(await asked(async () => 8), [0, 8])
  t.alike(await asked(() => Promise.reject(posixError('ENOSPC'))), [-28, undefined])
  const enosys = () => {
    throw posixError('ENOSYS')
  }
  t.alike(await asked(enosys), [-95, undefined], 'the kernel would remember ENOSYS')
  const old = () => {
    throw posixError('ESTALE')
  }
  t.alike(await asked(old), [-116, undefined])
  t.is(stale, 1)
  const bug = () => {
    throw new Error('a bug')
  }
  t.alike(await asked(bug), [-5, undefined])
  t.alike(reported, ['test'])
  let open: () => void = () => {}
  const ready = new Promise<void>((resolve) => {
    open = resolve
  })
  const order: string[] = []
  let isReady = false
  const waiting = asked(() => {
    if (!isReady) throw new NotReady(ready)
    order.push('waited')
    return 9
  })
  const after = new Promise<void>((resolve) => {
    answers.runInTurn(
      'release',
      () => resolve(),
      () => void order.push('release'),
    )
  })
  isReady = true
  open()
  t.alike(await waiting, [0, 9])
  await after
  t.alike(order, ['waited', 'release'], 'a release does not overtake what waits')
  answers.end()
  t.alike(await asked(() => 7), [-107, undefined])
})

test('numbers for the native code', (t) => {
  const attributes = new Attributes()
  Object.assign(attributes, {
    sizeBytes: 9 * 2 ** 32 + 5,
    ino: 12,
    linkCount: 0,
    mtimeSec: 5,
    mtimeNsec: 1e9 - 1,
  })
  attributes.atimeSec = -1
  attributes.ctimeSec = 2 ** 33
  const words = statWords(attributes, new ShortInodeNumbers(65536))
  t.alike([...words.subarray(3, 5)], [5, 9])
  t.is(words[6], 0)
  t.alike([...words.subarray(12, 16)], [0, 0, 5999, 0])
  t.is((words[16] as number) + (words[17] as number) * 2 ** 32, 2 ** 33 * 1000)

  for (const inodeCount of [16, 65536, 2 ** 30]) {
    const numbers = new ShortInodeNumbers(inodeCount)
    t.is(numbers.shortened(inodeCount), inodeCount)
    const short = [1, 2, 3, 2 ** 21 - 1].map((slot) => numbers.shortened(slot * SLOT_SPAN + inodeCount))
    t.ok(
      short.every((ino) => ino > inodeCount && ino < 2 ** 32),
      `above ${inodeCount}`,
    )
    if (inodeCount < 2 ** 30) t.is(new Set(short.slice(0, 3)).size, 3, 'snapshots apart')
  }
})

test('the modification time is read from the native record, or refused', (t) => {
  const record = Buffer.alloc(200)
  record.writeBigInt64LE(-1500n, 104)
  record.writeBigInt64LE(2250n, 112)
  const handedOn = Number(BigInt.asUintN(64, -1500n))
  t.alike(requestedTimes(record, handedOn), {
    atime: { sec: -2, nsec: 500_000_000 },
    mtime: { sec: 2, nsec: 250_000_000 },
  })
  t.is(
    codeOf(() => requestedTimes(record, 1500)),
    'EOPNOTSUPP',
  )
  t.is(
    codeOf(() => requestedTimes(record.subarray(0, 110), handedOn)),
    'EOPNOTSUPP',
  )
  t.is(
    codeOf(() => requestedTimes(undefined, handedOn)),
    'EOPNOTSUPP',
  )
})

test('names and options', (t) => {
  t.is(toName('ä'), '\xc3\xa4')
  t.is(fromByteString('\xc3\xa4'), 'ä')
  t.is(
    codeOf(() => toName('a\ufffd')),
    'EINVAL',
  )
  t.is(
    codeOf(() => toName('ä'.repeat(128))),
    'ENAMETOOLONG',
  )
  const options = mountOptions({ mountPoint: '/m', fsName: '/a,b', readOnly: true })
  t.ok(options.startsWith('-odefault_permissions,') && options.endsWith(',fsname=/a\\,b'))
  t.ok(options.includes(',ro,') && !options.includes('allow_other'))
  t.ok(
    mountOptions({ mountPoint: '/m', fsName: '/a', readOnly: false, allowOther: true }).includes(
      ',allow_other,',
    ),
  )
  const tooLong = { mountPoint: '/m', fsName: `/${'x'.repeat(1000)}`, readOnly: false }
  try {
    mountOptions(tooLong)
    t.fail('a path that the native code would cut')
  } catch (error) {
    t.ok(hasCode(error, 'INVALID_ARGUMENT'))
  }
})
