// rsync, tar and cp on a mount: trees with everything that a file system keeps go in and out and come
// back the same, by these programs' own comparison and by a record of every path.

// deadline 240

import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { assertSameTree, isLong, makeReference, recordTree, Workload } from '../mount/lab.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { makeStage, type Stage } from './stage.ts'

const OPERATIONS = isLong ? 5000 : 700
const TIMEOUT = { timeoutMs: 240_000 }
const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'python3', 'tar', 'rsync'),
  timeout: 900_000,
}

/** No copying program sets ctime, nor chooses inode numbers; folders' atime moves as they are read. */
const NOT_COPIED = ['ino', 'ctime', 'atime']

/** A random tree on the kernel's ext4: files of all kinds, links, holes, attributes, ACLs, odd names. */
async function makeSource(t: Assertion, stage: Stage): Promise<string> {
  const source = join(await makeReference(t, stage.folder, 2 ** 31), 'tree')
  mkdirSync(source)
  const workload = new Workload(t, chosenSeed(t), source)
  await workload.run(OPERATIONS)
  await workload.release()
  await workload.quit()
  // rsync sets no time that differs in its fraction alone: none may be of the second in which it copies.
  await new Promise((resolve) => setTimeout(resolve, 1100))
  return source
}

async function dropCaches(stage: Stage): Promise<void> {
  // What was written is read from the volume, not from the kernel's cache.
  await run('sync', ['-f', stage.dir])
  await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches'], { check: false })
}

test('rsync: into the mount, within it, and back', NEEDS, async (t) => {
  const stage = await makeStage(t, '4G')
  const source = await makeSource(t, stage)
  const [inside, again] = ['inside', 'again'].map((name) => join(stage.dir, name)) as [string, string]
  const copy = (...args: string[]) => run('rsync', ['-aHAXS', '--numeric-ids', ...args], TIMEOUT)
  await copy(`${source}/`, `${inside}/`)
  await dropCaches(stage)
  const wanted = await recordTree(source)
  const found = await recordTree(inside)
  assertSameTree(t, wanted, found, 'the tree in the mount', NOT_COPIED)
  const dry = await copy('-n', '-i', '-c', '--delete', `${source}/`, `${inside}/`)
  t.is(dry.stdout, '', 'rsync finds nothing to do, by checksums')
  await copy('--inplace', '--no-S', `${inside}/`, `${again}/`)
  assertSameTree(t, found, await recordTree(again), 'copied within the mount', NOT_COPIED)
  await stage.judge()
})

test('tar: out of the mount and in again, with holes, attributes and ACLs', NEEDS, async (t) => {
  const stage = await makeStage(t, '4G')
  const source = await makeSource(t, stage)
  const archive = join(stage.dir, 'tree.tar')
  const extracted = join(stage.dir, 'extracted')
  mkdirSync(extracted)
  const options = [
    '--acls',
    '--xattrs',
    '--xattrs-include=*',
    '--sparse',
    '--numeric-owner',
    '--format=posix',
  ]
  // Sockets are no tar's.
  await run('find', [source, '-type', 's', '-delete'])
  await run('tar', ['-C', source, ...options, '-cf', archive, '.'], TIMEOUT)
  await run('tar', ['-C', extracted, ...options, '-xpf', archive], TIMEOUT)
  await dropCaches(stage)
  const compared = await run('tar', ['-C', extracted, '-df', archive], { ...TIMEOUT, check: false })
  t.is(compared.stdout, '', 'tar --compare finds no difference')
  assertSameTree(t, await recordTree(source), await recordTree(extracted), 'the extracted tree', NOT_COPIED)
  await stage.judge()
})

test('cp: --reflink=auto and --sparse in every form', NEEDS, async (t) => {
  const stage = await makeStage(t, '2G')
  const at = (name: string) => join(stage.dir, name)
  const script = `
    truncate -s 64M holes
    for at in 0 1000 30000000 67000000; do printf 'data at %s' $at | dd of=holes bs=1 seek=$at conv=notrunc status=none; done
    head -c 5000000 /dev/urandom > dense
    head -c 3000000 /dev/zero > zeros`
  await run('sh', ['-e', '-c', script], { cwd: stage.dir })
  const refused = await run('cp', ['--reflink=always', at('dense'), at('clone')], { check: false })
  t.is(refused.code, 1, 'a clone that must share blocks is refused')
  for (const name of ['holes', 'dense', 'zeros']) {
    const original = readFileSync(at(name))
    for (const [label, ...options] of [
      ['auto', '--reflink=auto'],
      ['never', '--reflink=never', '--sparse=never'],
      ['always', '--sparse=always'],
      ['sparse-auto', '--sparse=auto'],
    ] as const) {
      const copy = at(`${name}-${label}`)
      await run('cp', [...options, at(name), copy], TIMEOUT)
      t.ok(original.equals(readFileSync(copy)), `${name}, ${options.join(' ')}`)
    }
    await run('sync', ['-f', stage.dir])
  }
  const sectors = (name: string) => statSync(at(name)).blocks
  t.ok(sectors('holes') <= 64, `the file with holes takes ${sectors('holes')} sectors`)
  t.ok(sectors('holes-sparse-auto') <= 64, `its copy takes ${sectors('holes-sparse-auto')}`)
  t.ok(sectors('holes-auto') <= 64, `and ${sectors('holes-auto')} by reflink=auto`)
  t.is(sectors('zeros-always'), 0, 'zeros become a hole with --sparse=always')
  t.ok(sectors('holes-never') >= 131_072, 'and holes are filled with --sparse=never')
  await run('cp', ['-a', '--reflink=auto', at('holes'), at('archive')])
  t.ok(existsSync(at('archive')))
  await stage.judge()
})
