// Random names, links, renames and attributes against a model of POSIX; e2fsck and the kernel judge.

import test from 'brittle'
import { RENAME_EXCHANGE, RENAME_NOREPLACE } from '../../src/ext4/file-system.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { codeOf, type Ext4Files, makeFiles, ROOT } from '../support/ext4-files.ts'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { differences, dumpFiles, dumpMounted } from '../support/tree-dump.ts'

const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFLNK = 0o120000
const S_IFIFO = 0o010000
const STEPS = process.env['UMBRA_LONG'] ? 20_000 : 2500

class ModelNode {
  links = 0
  readonly children = new Map<string, ModelNode>()
  readonly xattrs = new Map<string, string>()
  mode: number
  parent: ModelNode | undefined
  readonly target: string
  constructor(mode: number, target = '') {
    this.mode = mode
    this.target = target
  }
  get isDirectory(): boolean {
    return (this.mode & 0o170000) === S_IFDIR
  }
}

/** What POSIX says; each operation gives an errno name, or '' and is done. */
class Model {
  readonly root = new ModelNode(S_IFDIR | 0o755)
  constructor() {
    this.root.parent = this.root
  }

  add(parent: ModelNode, name: string, node: ModelNode): string {
    if (name.length > 255) return 'ENAMETOOLONG'
    if (parent.children.has(name)) return 'EEXIST'
    parent.children.set(name, node)
    node.links++
    if (node.isDirectory) node.parent = parent
    return ''
  }

  remove(parent: ModelNode, name: string, directory: boolean): string {
    const node = parent.children.get(name)
    if (!node) return 'ENOENT'
    if (directory && !node.isDirectory) return 'ENOTDIR'
    if (!directory && node.isDirectory) return 'EISDIR'
    if (directory && node.children.size > 0) return 'ENOTEMPTY'
    parent.children.delete(name)
    node.links--
    return ''
  }

  rename(from: ModelNode, name: string, to: ModelNode, newName: string, flags: number): string {
    const source = from.children.get(name)
    if (!source) return 'ENOENT'
    const target = to.children.get(newName)
    if (target && flags & RENAME_NOREPLACE) return 'EEXIST'
    if (!target && flags & RENAME_EXCHANGE) return 'ENOENT'
    if (source === target) return ''
    const refusal = this.#refusal(from, source, to, target, (flags & RENAME_EXCHANGE) !== 0)
    if (refusal !== '') return refusal
    from.children.delete(name)
    to.children.set(newName, source)
    if (source.isDirectory) source.parent = to
    if (!target) return ''
    if (flags & RENAME_EXCHANGE) {
      from.children.set(name, target)
      if (target.isDirectory) target.parent = from
    } else target.links--
    return ''
  }

  #refusal(
    from: ModelNode,
    source: ModelNode,
    to: ModelNode,
    target: ModelNode | undefined,
    exchange: boolean,
  ): string {
    if (this.#isInside(to, source)) return 'EINVAL'
    if (!target) return ''
    if (exchange) return this.#isInside(from, target) ? 'EINVAL' : ''
    if (source.isDirectory && !target.isDirectory) return 'ENOTDIR'
    if (!source.isDirectory && target.isDirectory) return 'EISDIR'
    return target.children.size > 0 ? 'ENOTEMPTY' : ''
  }

  #isInside(at: ModelNode, above: ModelNode): boolean {
    for (let node = at; ; node = node.parent as ModelNode) {
      if (node === above) return true
      if (node === this.root) return false
    }
  }
}

interface Pair {
  readonly model: ModelNode
  readonly inode: Inode
}

/** A directory somewhere, in both. */
function pickDirectory(files: Ext4Files, model: Model, random: Random): Pair {
  let pair: Pair = { model: model.root, inode: files.root }
  while (random.chance(0.7)) {
    const names = [...pair.model.children].filter(([, node]) => node.isDirectory).map(([name]) => name)
    if (names.length === 0) break
    const name = random.pick(names)
    const inode = files.fs.lookup(pair.inode, name)
    if (!inode) throw new Error(`${name} is not there`)
    pair = { model: pair.model.children.get(name) as ModelNode, inode }
  }
  return pair
}

function pickName(random: Random): string {
  if (random.chance(0.02)) return 'n'.repeat(random.between(250, 257))
  const stem = random.chance(0.2) ? '\xff\xe9' : random.chance(0.3) ? 'long-'.repeat(random.below(30)) : ''
  return `${stem}${random.below(30)}`
}

/** Half of the time a name that is there. */
function anyName(pair: Pair, random: Random): string {
  const names = [...pair.model.children.keys()]
  return names.length > 0 && random.chance(0.8) ? random.pick(names) : pickName(random)
}

function create(files: Ext4Files, model: Model, random: Random): [string, string] {
  const parent = pickDirectory(files, model, random)
  const name = pickName(random)
  const kind = random.below(10)
  const { fs } = files
  if (kind < 4) {
    const made = new ModelNode(S_IFREG | 0o640)
    return [
      model.add(parent.model, name, made),
      codeOf(() => fs.makeNode(parent.inode, name, S_IFREG | 0o640, 0, ROOT)),
    ]
  }
  if (kind < 8) {
    const made = new ModelNode(S_IFDIR | 0o750)
    return [
      model.add(parent.model, name, made),
      codeOf(() => fs.makeDirectory(parent.inode, name, 0o750, ROOT)),
    ]
  }
  if (kind === 8) {
    const made = new ModelNode(S_IFIFO | 0o600)
    return [
      model.add(parent.model, name, made),
      codeOf(() => fs.makeNode(parent.inode, name, S_IFIFO | 0o600, 0, ROOT)),
    ]
  }
  const target = 't'.repeat(random.between(1, 200))
  const made = new ModelNode(S_IFLNK | 0o777, target)
  return [
    model.add(parent.model, name, made),
    codeOf(() => fs.makeSymlink(parent.inode, name, Buffer.from(target), ROOT)),
  ]
}

function remove(files: Ext4Files, model: Model, random: Random): [string, string] {
  const parent = pickDirectory(files, model, random)
  const name = anyName(parent, random)
  const directory = random.chance(0.4)
  const { fs } = files
  const expected = name.length > 255 ? 'ENAMETOOLONG' : model.remove(parent.model, name, directory)
  return [
    expected,
    codeOf(() => (directory ? fs.removeDirectory(parent.inode, name) : fs.unlink(parent.inode, name))),
  ]
}

function rename(files: Ext4Files, model: Model, random: Random): [string, string] {
  const from = pickDirectory(files, model, random)
  const to = random.chance(0.3) ? from : pickDirectory(files, model, random)
  const name = anyName(from, random)
  const newName = random.chance(0.5) ? anyName(to, random) : pickName(random)
  const flags = random.pick([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
  const isLong = name.length > 255 || newName.length > 255
  const expected = isLong ? 'ENAMETOOLONG' : model.rename(from.model, name, to.model, newName, flags)
  return [expected, codeOf(() => files.fs.rename(from.inode, name, to.inode, newName, flags))]
}

function link(files: Ext4Files, model: Model, random: Random): [string, string] {
  const from = pickDirectory(files, model, random)
  const to = pickDirectory(files, model, random)
  const node = [...from.model.children].find(([, child]) => !child.isDirectory)
  if (!node) return ['', '']
  const inode = files.fs.lookup(from.inode, node[0]) as Inode
  const name = pickName(random)
  return [model.add(to.model, name, node[1]), codeOf(() => files.fs.link(inode, to.inode, name))]
}

function attribute(files: Ext4Files, model: Model, random: Random): [string, string] {
  const parent = pickDirectory(files, model, random)
  const name = `user.${random.below(6)}`
  const { fs } = files
  if (random.chance(0.4)) {
    const isThere = parent.model.xattrs.delete(name)
    return [isThere ? '' : 'ENODATA', codeOf(() => fs.removeXattr(parent.inode, name))]
  }
  const value = random.bytes(random.below(random.chance(0.5) ? 40 : 1500))
  // Whether it fits is the file system's to say: what it refuses must leave the old value.
  const code = codeOf(() => fs.setXattr(parent.inode, name, value, 0))
  if (code === '') parent.model.xattrs.set(name, Buffer.from(value).toString('hex'))
  return [code === 'ENOSPC' ? 'ENOSPC' : '', code]
}

function compare(files: Ext4Files, model: ModelNode, inode: Inode, path: string, found: string[]): void {
  const { fs } = files
  if (inode.mode !== model.mode) found.push(`${path}: mode`)
  const directories = [...model.children.values()].filter((child) => child.isDirectory).length
  const links = model.isDirectory ? 2 + directories : model.links
  if (inode.linkCount !== links) found.push(`${path}: ${inode.linkCount} links, not ${links}`)
  if (model.target !== '' && Buffer.from(fs.readSymlink(inode)).toString() !== model.target)
    found.push(`${path}: target`)
  const xattrs = fs
    .listXattrs(inode)
    .map((name) => [name, Buffer.from(fs.getXattr(inode, name) ?? []).toString('hex')])
  if (JSON.stringify(xattrs.sort()) !== JSON.stringify([...model.xattrs].sort()))
    found.push(`${path}: xattrs`)
  if (!inode.isDirectory) return
  const names: string[] = []
  fs.readDirectory(inode, 0, ({ name }) => {
    if (name !== '.' && name !== '..') names.push(name)
    return true
  })
  if (JSON.stringify(names.sort()) !== JSON.stringify([...model.children.keys()].sort()))
    found.push(`${path}: names`)
  for (const [name, child] of model.children) {
    const below = fs.lookup(inode, name)
    if (!below) found.push(`${path}/${name}: missing`)
    else compare(files, child, below, `${path}/${name}`, found)
    if (below?.isDirectory && fs.parentOf(below) !== inode) found.push(`${path}/${name}: ..`)
  }
}

const NEEDS = requires('root', 'e2fsck', 'getfattr', '/dev/loop-control')

test(
  'random operations on names do what the model says, and e2fsck and the kernel agree',
  NEEDS,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const nameLimit = random.pick([0, 20, 1e6])
    let files = await makeFiles(t, 128 * 1024 * 1024, { inodeRatioBytes: 8192 }, { nameLimit })
    const model = new Model()
    const lostFound = new ModelNode(S_IFDIR | 0o700)
    model.add(model.root, 'lost+found', lostFound)
    const operations = [create, create, create, remove, remove, rename, rename, link, attribute]
    let succeeded = 0
    for (let step = 1; step <= STEPS; step++) {
      const operation = random.pick(operations)
      const [expected, code] = operation(files, model, random)
      if (expected !== code) t.is(code, expected, `step ${step}: ${operation.name}`)
      if (code === '') succeeded++
      if (step % (STEPS / 5) !== 0) continue
      const found: string[] = []
      compare(files, model.root, files.root, '', found)
      t.alike(found, [], `the tree is the model's after ${step} steps`)
      await files.check(t, `after ${step} steps`)
      if (random.chance(0.5)) {
        files = await files.reopen()
        const { close } = files
        t.teardown(close, { order: 1 })
      }
    }
    t.ok(succeeded > STEPS / 3, `${succeeded} of ${STEPS} operations succeeded`)
    const ours = dumpFiles(files.fs)
    await files.close()
    const mount = await mountLoop(t, files.path, 'ro')
    t.alike(differences(ours, await dumpMounted(mount.folder)), [])
  },
)
