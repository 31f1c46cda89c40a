// Every attribute that ext4 can hold, as three see it: our mount, the kernel's ext4 on an export, and
// debugfs, which reads the bytes itself. Then the kernel changes all that in the image, which is taken in
// again and judged in the same way, and we go on in what the kernel left.
//
// Always true: all that is compared stands in the record of attributes-record.py; planted faults in the
// image show that a difference in any of it is found, by debugfs and through the kernel.

// deadline 600

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { mountVolume } from '../support/umbra.ts'
import {
  assertSameTree,
  exportRaw,
  isLong,
  makeLab,
  QUIET,
  type Tree,
  treeDifferences,
  umbra,
} from './lab.ts'

const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck', 'debugfs', 'getfacl', 'lsattr', 'python3', '/dev/loop-control'),
  timeout: 580_000,
}
const CHANGES = isLong ? 3000 : 300
const TOOL_TIMEOUT_MS = 120_000
/** What tools say of the whole tree, in a record, beside its paths. */
const TEXTS = ['getfacl', 'lsattr']
/** A part of a record that debugfs does not give: its dump of data would read the far ends of sparse files. */
const NOT_OF_DEBUGFS = ['sha256']

const script = (name: string) => fileURLToPath(new URL(`./attributes-${name}.py`, import.meta.url))

function parsed(lines: string): Tree {
  const records = lines.split('\n').filter((line) => line !== '')
  return new Map(
    records.map((line) => {
      const { path, ...rest } = JSON.parse(line) as Record<string, unknown>
      return [Buffer.from(String(path), 'hex').toString('latin1'), rest]
    }),
  )
}

function python(name: string, args: readonly string[], input = ''): string {
  const options = { encoding: 'utf8', input, timeout: TOOL_TIMEOUT_MS, maxBuffer: 256 << 20 } as const
  const { status, stdout, stderr } = spawnSync('python3', [script(name), ...args], options)
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: ${stderr}`)
  return stdout
}

interface Recorded {
  readonly tree: Tree
  /** As it was printed, for debugfs to know what to look at. */
  readonly text: string
}

function record(folder: string): Recorded {
  const text = python('record', [folder])
  return { tree: parsed(text), text }
}

function withoutTexts(tree: Tree): Tree {
  return new Map([...tree].filter(([path]) => !TEXTS.includes(path)))
}

function byDebugfs(image: string, { text }: Recorded): Tree {
  return parsed(python('debugfs', [image], text))
}

/** The kernel's mount of the image, debugfs and e2fsck all say what is recorded. */
async function assertAgreed(t: Assertion, recorded: Recorded, image: string, comment: string): Promise<void> {
  const verdict = e2fsck(image)
  t.ok(verdict.clean, `${comment}: e2fsck finds nothing${verdict.clean ? '' : `\n${verdict.output}`}`)
  const loop = await mountLoop(t, image)
  assertSameTree(t, recorded.tree, record(loop.folder).tree, `${comment}: the kernel shows the same`)
  await loop.unmount()
  const read = byDebugfs(image, recorded)
  assertSameTree(t, withoutTexts(recorded.tree), read, `${comment}: debugfs reads the same`, NOT_OF_DEBUGFS)
}

function inode(tree: Tree, path: string): number {
  return Number(tree.get(`./${path}`)?.['ino'])
}

/** A command of debugfs that changes one thing of one path, in a writable image. */
type Fault = readonly [path: string, command: string]

/** Each on a path of its own, so that one image shows all. */
const FAULTS: readonly Fault[] = [
  ['modes/file-644', 'set_inode_field <INO> mode 0100640'],
  ['modes/folder-644', 'set_inode_field <INO> mode 0040645'],
  ['modes/file-of-0-0', 'set_inode_field <INO> uid 1'],
  ['modes/file-of-1000-100', 'set_inode_field <INO> gid 101'],
  ['modes/file-of-70000-4000000000', 'set_inode_field <INO> uid_hi 0'],
  ['data/bytes-4096', 'set_inode_field <INO> size 4095'],
  ['data/bytes-4097', 'set_inode_field <INO> blocks 24'],
  ['data/hole', 'set_inode_field <INO> flags 0x80040'],
  ['data/pieces', 'punch <INO> 2 2'],
  ['data/zeroed', 'fallocate <INO> 1000 1001'],
  ['links/file-2', 'set_inode_field <INO> links_count 3'],
  ['links/folders', 'set_inode_field <INO> links_count 41'],
  ['kinds/block-8-0', 'set_inode_field <INO> block[0] 0x801'],
  ['kinds/link-59', 'set_inode_field <INO> block[3] 0x61616161'],
  ['times/file-0', 'set_inode_field <INO> mtime 20200101000000'],
  ['times/file-1', 'set_inode_field <INO> mtime_extra 4'],
  ['times/file-2147483648', 'set_inode_field <INO> atime_extra 0'],
  ['times/folder-0', 'set_inode_field <INO> ctime_extra 8'],
  ['times/folder-1', 'set_inode_field <INO> crtime 20200101000000'],
  ['flags/make-A80', 'set_inode_field <INO> generation 7'],
  ['flags/folder-A80', 'set_inode_field <INO> flags 0x80000'],
  ['attributes/file-small', 'ea_set <INO> user.a other'],
  ['attributes/file-both', 'ea_rm <INO> trusted.t'],
  ['attributes/file-in-a-block', 'ea_set <INO> user.large M'],
  ['attributes/acl-named', 'ea_rm <INO> system.posix_acl_access'],
  ['crowd-indexed', 'unlink <INO>/1-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn'],
]

/** Both judges must see each of the faults, in a copy of the image. */
async function assertFaultsFound(
  t: Assertion,
  recorded: Recorded,
  image: string,
  faulty: string,
): Promise<void> {
  await run('cp', ['--sparse=always', image, faulty])
  const commands = FAULTS.map(([path, command]) => {
    const ino = inode(recorded.tree, path)
    if (!(ino > 0)) throw new Error(`There is no ${path}`)
    return command.replace('<INO>', `<${ino}>`)
  })
  const file = `${faulty}.commands`
  writeFileSync(file, commands.join('\n'))
  await run('debugfs', ['-w', '-f', file, faulty])

  const loop = await mountLoop(t, faulty)
  const seen = record(loop.folder).tree
  await loop.unmount()
  const read = byDebugfs(faulty, recorded)
  const changed = (tree: Tree, path: string, ignored: readonly string[] = []) => {
    const one = new Map([[path, recorded.tree.get(`./${path}`) ?? {}]])
    return treeDifferences(one, new Map([[path, tree.get(`./${path}`) ?? {}]]), ignored).length === 1
  }
  for (const [index, [path]] of FAULTS.entries()) {
    t.ok(changed(seen, path), `seen through the kernel: ${commands[index]} (${path})`)
    t.ok(changed(read, path, NOT_OF_DEBUGFS), `seen by debugfs: ${commands[index]} (${path})`)
  }
}

test('every attribute: our mount, the kernel and debugfs agree, and in turn change it', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const lab = await makeLab(t, '1G')
  let mounted = await lab.mount()
  python('tree', [lab.dir])
  const fresh = record(lab.dir)
  await mounted.unmount()
  mounted = await lab.mount()
  const ours = record(lab.dir)
  // Under write-back the kernel owns the change times of files, and hears of no ioctl.
  const kept = treeDifferences(fresh.tree, ours.tree, ['ctime'])
  t.alike(kept, [], `the same after another mount (${fresh.tree.size} paths)`)
  const moved = treeDifferences(fresh.tree, ours.tree).map((text) => JSON.parse(text.split('\n')[0] ?? ''))
  t.ok(
    moved.every((path: string) => /^\.\/flags\/make-/.test(path)),
    `change times that the kernel kept: ${moved.length}, all of files with new flags`,
  )
  await mounted.unmount()
  await umbra(['snapshot', 'create', lab.volume, 'ours'])
  const image = lab.at('image.img')
  await exportRaw(lab.volume, 'ours', image)
  await assertAgreed(t, ours, image, 'what we made')
  await assertFaultsFound(t, ours, image, lab.at('faulty.img'))

  const loop = await mountLoop(t, image, 'rw,noatime')
  t.comment(`the kernel does: ${python('change', [loop.folder, String(seed), String(CHANGES)]).trim()}`)
  const theirs = record(loop.folder)
  await loop.unmount()
  const shared = /shared/.test(JSON.stringify([...theirs.tree.values()].map((line) => line['xattrs'])))
  t.ok(shared, 'there are shared blocks of attributes')
  await takeIn(t, lab, image, theirs, seed)
})

/** What the kernel left becomes a volume, which shows it, and is then changed by us. */
async function takeIn(
  t: Assertion,
  lab: { at(name: string): string; dir: string },
  image: string,
  theirs: Recorded,
  seed: number,
): Promise<void> {
  const verdict = e2fsck(image)
  // The kernel does not lower the trees of extents that it thins out; e2fsck would.
  const errors = verdict.proposals.filter((line) => !/could be (shorter|narrower)/.test(line))
  t.alike([verdict.exitCode, errors], [0, []], 'e2fsck finds no error in what the kernel left')
  if (!verdict.clean) await run('e2fsck', ['-fy', image], { check: false })
  const volume = lab.at('again.umbra')
  await umbra(['create', volume, '--from', image])
  let mounted = await mountVolume(t, volume, lab.dir, QUIET)
  const taken = record(lab.dir)
  assertSameTree(t, theirs.tree, taken.tree, 'taken in: we show what the kernel showed', ['blocks'])
  await mounted.unmount()
  await umbra(['snapshot', 'create', volume, 'taken'])
  await exportRaw(volume, 'taken', image)
  await assertAgreed(t, taken, image, 'taken in')

  mounted = await mountVolume(t, volume, lab.dir, QUIET)
  t.comment(`we do: ${python('change', [lab.dir, String(seed + 1), String(CHANGES)]).trim()}`)
  await mounted.unmount()
  mounted = await mountVolume(t, volume, lab.dir, QUIET)
  const changed = record(lab.dir)
  await mounted.unmount()
  await umbra(['snapshot', 'create', volume, 'changed'])
  await exportRaw(volume, 'changed', image)
  await assertAgreed(t, changed, image, 'changed by us')
  await umbra(['check', volume])
}
