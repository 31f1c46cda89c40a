// Hashed directories as they grow, shrink and are listed meanwhile.

import { unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { hashName } from '../../src/ext4/htree-hash.ts'
import { INODE_FLAG, type Inode } from '../../src/ext4/inode.ts'
import { codeOf, type Ext4Files, makeFiles, namesOf, openFiles, ROOT } from '../support/ext4-files.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { differences, dumpFiles, dumpMounted } from '../support/tree-dump.ts'

const MIB = 1024 * 1024
/** Names above the twins; negative: the twins come in the other order. */
const ABOVE = [7, 8, -8, 9]
const NEEDS = requires('e2fsck', 'debugfs')

function randomName(random: Random, lengthMax: number): string {
  const length = random.between(lengthMax === 255 ? 100 : 1, lengthMax)
  let name = ''
  for (let i = 0; i < length; i++)
    name += String.fromCharCode(random.chance(0.1) ? 200 + random.below(50) : 97 + random.below(26))
  return name
}

function grow(
  files: Ext4Files,
  directory: Inode,
  random: Random,
  names: Set<string>,
  lengthMax: number,
): void {
  const name = randomName(random, lengthMax)
  if (names.has(name)) return
  const inode = files.fs.makeNode(directory, name, 0o100644, 0, ROOT)
  names.add(name)
  if (inode.linkCount !== 1) throw new Error('A new file has one link')
}

test('a directory grows from one block over two levels and shrinks again', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const files = await makeFiles(
    t,
    256 * MIB,
    { inodeRatioBytes: 8192 },
    { nameLimit: random.chance(0.5) ? 0 : 1e6 },
  )
  const directory = files.fs.makeDirectory(files.root, 'd', 0o755, ROOT)
  const names = new Set<string>()
  for (const target of [3, 60, 700, 9000]) {
    while (names.size < target) grow(files, directory, random, names, 255)
    t.alike(namesOf(files.fs, directory).sort(), [...names].sort(), `${target} names are listed`)
    await files.check(t, `${target} names`)
  }
  const shape = await run('debugfs', ['-R', 'htree_dump d', files.path])
  t.ok(/Indirect levels: 1/.test(shape.stdout), 'the tree has two levels')
  t.ok((directory.flags & INODE_FLAG.INDEX) !== 0)

  for (const name of [...names]) {
    if (names.size <= 40) break
    files.fs.unlink(directory, name)
    names.delete(name)
    if (random.chance(0.2)) grow(files, directory, random, names, 20)
  }
  await files.check(t, 'shrunk')
  t.alike(namesOf(files.fs, directory).sort(), [...names].sort())
  const again = await files.reopen()
  t.teardown(() => again.close(), { order: 1 })
  const found = again.fs.lookup(again.root, 'd') as Inode
  t.ok(
    [...names].every((name) => again.fs.lookup(found, name) !== undefined),
    'each is found again',
  )
  t.is(again.fs.lookup(found, 'not there'), undefined)
  for (const name of names) again.fs.unlink(found, name)
  again.fs.removeDirectory(again.root, 'd')
  await again.check(t, 'removed')
})

test(
  'the kernel finds every name of a grown directory and goes on with it',
  requires('root', 'e2fsck', 'getfattr', '/dev/loop-control'),
  async (t) => {
    const random = new Random(chosenSeed(t))
    const files = await makeFiles(t, 128 * MIB, { inodeRatioBytes: 4096 })
    const directory = files.fs.makeDirectory(files.root, 'd', 0o755, ROOT)
    const names = new Set<string>()
    while (names.size < 6000) grow(files, directory, random, names, random.chance(0.5) ? 12 : 255)
    await files.check(t, 'before the kernel')
    const ours = dumpFiles(files.fs)
    await files.close()
    const mount = await mountLoop(t, files.path, 'rw')
    t.alike(differences(ours, await dumpMounted(mount.folder)), [])
    for (const name of [...names].slice(0, 500)) {
      unlinkSync(Buffer.from(`${mount.folder}/d/${name}`, 'latin1'))
      names.delete(name)
    }
    for (let i = 0; i < 1000; i++) {
      const name = `by-the-kernel-${i}-${'k'.repeat(i % 200)}`
      writeFileSync(join(mount.folder, 'd', name), '')
      names.add(name)
    }
    await mount.unmount()
    const again = await openFiles(files.path)
    t.teardown(again.close, { order: 1 })
    const found = again.fs.lookup(again.root, 'd') as Inode
    t.alike(namesOf(again.fs, found).sort(), [...names].sort(), 'and what it adds is found by us')
    await again.check(t, 'after the kernel')
  },
)

test('entries present during a whole listing appear exactly once', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const files = await makeFiles(t, 64 * MIB, { inodeRatioBytes: 4096 })
  for (const startCount of [0, 5, 80, 600]) {
    const directory = files.fs.makeDirectory(files.root, `d${startCount}`, 0o755, ROOT)
    const names = new Set<string>()
    while (names.size < startCount) grow(files, directory, random, names, 40)
    const kept = new Set(names)
    const seen = new Map<string, number>()
    let cookie = 0
    for (let more = true; more; ) {
      more = false
      let left = random.between(1, 40)
      files.fs.readDirectory(directory, cookie, (entry) => {
        if (left-- === 0) {
          more = true
          return false
        }
        if (!Number.isSafeInteger(entry.nextCookie) || entry.nextCookie <= cookie) t.fail('cookies rise')
        cookie = entry.nextCookie
        seen.set(entry.name, (seen.get(entry.name) ?? 0) + 1)
        return true
      })
      for (let i = random.below(40); i > 0 && seen.size < 900; i--) grow(files, directory, random, names, 200)
      for (let i = random.below(6); i > 0; i--) {
        const name = random.pick([...names])
        if (name === undefined) break
        files.fs.unlink(directory, name)
        names.delete(name)
        kept.delete(name)
      }
    }
    t.ok(
      [...kept].every((name) => seen.get(name) === 1),
      `${kept.size} of ${startCount} stayed: once each`,
    )
    t.ok(
      [...seen.values()].every((count) => count === 1),
      'nothing appears twice',
    )
  }
  await files.check(t, 'after listing')
})

/** Two names of `length` bytes with the same major hash. */
function findTwins(seed: Uint32Array, random: Random): { twins: [string, string]; major: number } {
  const byHash = new Map<number, string>()
  for (;;) {
    let name = ''
    for (let i = 0; i < 200; i++) name += i < 10 ? String.fromCharCode(97 + random.below(26)) : 'z'
    const { major } = hashName(name, { version: 1, unsigned: false, seed }, { major: 0, minor: 0 })
    const other = byHash.get(major)
    if (other !== undefined && other !== name) return { twins: [other, name], major }
    byHash.set(major, name)
  }
}

interface Around {
  readonly seed: Uint32Array
  readonly major: number
  /** Names with higher hashes among the first 17; all later ones may be anywhere. */
  readonly above: number
}

function fillAround(files: Ext4Files, directory: Inode, random: Random, around: Around): void {
  const { seed, major, above } = around
  let up = above
  let down = 17 - above
  let later = 7
  while (up + down + later > 0) {
    const first = String.fromCharCode(97 + random.below(26))
    const name = first.concat('q'.repeat(190), String(random.below(1e9)).padStart(9, '0'))
    const hash = hashName(name, { version: 1, unsigned: false, seed }, { major: 0, minor: 0 }).major
    if (up + down === 0) later--
    else if (hash > major && up > 0) up--
    else if (hash < major && down > 0) down--
    else continue
    files.fs.makeNode(directory, name, 0o100644, 0, ROOT)
  }
}

test('names with equal hashes on both sides of a split are found, listed and removed', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const files = await makeFiles(t, 32 * MIB, {}, { nameLimit: 0 })
  const uuid = (await run('dumpe2fs', ['-h', files.path])).stdout
  const seedText = /Directory Hash Seed:\s+(\S+)/.exec(uuid)?.[1] ?? ''
  const seed = new Uint32Array(new Uint8Array(Buffer.from(seedText.replaceAll('-', ''), 'hex')).buffer)
  const { twins, major } = findTwins(seed, random)
  // 19 records of 208 bytes fill a leaf; the split moves the upper 9, so with 8 above them the twins part.
  let continued = 0
  for (const above of ABOVE) {
    const directory = files.fs.makeDirectory(files.root, `d${above}`, 0o755, ROOT)
    for (const name of above < 0 ? twins.toReversed() : twins)
      files.fs.makeNode(directory, name, 0o100644, 0, ROOT)
    fillAround(files, directory, random, { seed, major, above: Math.abs(above) })
    await files.device.commit()
    const dump = await run('debugfs', ['-R', `htree_dump d${above}`, files.path])
    if (dump.stdout.includes(`0x${(major + 1).toString(16).padStart(8, '0')}`)) continued++
    t.is(
      codeOf(() => files.fs.makeNode(directory, twins[1], 0o100644, 0, ROOT)),
      'EEXIST',
    )
    const listed = namesOf(files.fs, directory, 1)
    t.is(listed.length, 26)
    t.is(new Set(listed).size, 26)
  }
  t.ok(continued > 1, `${continued} of 4 trees go on with the same hash in the next leaf`)
  await files.check(t, 'with twins')
  for (const above of ABOVE) {
    const directory = files.fs.lookup(files.root, `d${above}`) as Inode
    for (const name of twins) files.fs.unlink(directory, name)
    t.is(namesOf(files.fs, directory).length, 24)
  }
  await files.check(t, 'without twins')
})
