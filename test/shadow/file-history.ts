// A random history of file operations on a file system in a volume, in this process, with a note of
// every block that an operation wrote to, and the whole tree of a point for comparing two by brute force.
//
// Always true: what is noted is what was asked for, rounded to blocks; the file system is asked for
// nothing but the names that exist.

import { Ext4 } from '../../src/ext4/ext4.ts'
import { type DirectoryEntry, FALLOC } from '../../src/ext4/file-system.ts'
import { type Inode, ROOT_INO, S_IFIFO, S_IFREG, type Time } from '../../src/ext4/inode.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import type { Random } from '../support/random.ts'

const BLOCK = 4096
const CALLER = { uid: 0, gid: 0, pid: 1 }
const FILE_MAX_BYTES = 40 * BLOCK
const ODD_NAMES = ['a\nb', '\xff\xfe', ' ', '-n', 'ä', 'tab\tname']

interface Place {
  readonly parent: number
  readonly name: string
}

export const identityOf = (inode: Inode): string => `${inode.ino}:${inode.generation}`

export class FileHistory {
  fs: Ext4
  /** By identity: blocks that something was written to, cut off or punched, since forget(). */
  readonly written = new Map<string, Set<number>>()
  readonly #random: Random
  readonly #directories: number[] = [ROOT_INO]
  readonly #places: Place[] = []
  readonly #prefix: string
  #made = 0

  /** @param prefix of every name, where something is there already */
  constructor(device: BlockDevice, random: Random, now?: () => Time, prefix = '') {
    this.#prefix = prefix
    this.fs = Ext4.open(device, now ? { now } : {})
    this.#random = random
  }

  forget(): void {
    this.written.clear()
  }

  run(count: number): void {
    for (let i = 0; i < count; i++) this.#step()
  }

  #step(): void {
    const choice = this.#random.below(100)
    if (choice < 14) this.#create()
    else if (choice < 40) this.#write()
    else if (choice < 46) this.#truncate()
    else if (choice < 52) this.#allocate()
    else if (choice < 60) this.#rename()
    else if (choice < 65) this.#link()
    else if (choice < 75) this.#unlink()
    else if (choice < 81) this.#makeDirectory()
    else if (choice < 85) this.#removeTree()
    else if (choice < 89) this.#attributes()
    else if (choice < 93) this.#xattr()
    else if (choice < 95) this.#replace()
    else if (choice < 97) this.#crowd()
    else this.#special()
  }

  #name(): string {
    const made = this.#made++
    const odd = this.#random.chance(0.1) ? this.#random.pick(ODD_NAMES) : ''
    return `${this.#prefix}${odd}f${made}`
  }

  #directory(): Inode {
    for (;;) {
      const at = this.#random.below(this.#directories.length)
      const ino = this.#directories[at] as number
      const inode = this.#inode(ino)
      if (inode?.isDirectory) return inode
      this.#directories.splice(at, 1)
    }
  }

  #inode(ino: number): Inode | undefined {
    try {
      return this.fs.inode(ino)
    } catch {
      return undefined
    }
  }

  /** A name that exists, with what it leads to. */
  #existing(): { parent: Inode; name: string; inode: Inode } | undefined {
    while (this.#places.length > 0) {
      const at = this.#random.below(this.#places.length)
      const { parent, name } = this.#places[at] as Place
      const directory = this.#inode(parent)
      const inode = directory?.isDirectory ? this.fs.lookup(directory, name) : undefined
      if (directory && inode) return { parent: directory, name, inode }
      this.#places.splice(at, 1)
    }
    return undefined
  }

  #file(): Inode | undefined {
    for (let i = 0; i < 8; i++) {
      const found = this.#existing()
      if (found?.inode.isRegular) return found.inode
    }
    return undefined
  }

  #note(inode: Inode, fromBytes: number, toBytes: number): void {
    const key = identityOf(inode)
    const blocks = this.written.get(key) ?? new Set<number>()
    for (let block = Math.floor(fromBytes / BLOCK); block * BLOCK < toBytes; block++) blocks.add(block)
    this.written.set(key, blocks)
  }

  #create(): void {
    const parent = this.#directory()
    const name = this.#name()
    const inode = this.fs.makeNode(parent, name, S_IFREG | 0o644, 0, CALLER)
    this.#places.push({ parent: parent.ino, name })
    if (this.#random.chance(0.8)) this.#writeTo(inode, 0, this.#random.below(6 * BLOCK))
  }

  #writeTo(inode: Inode, at: number, length: number): void {
    if (length === 0) return
    this.#note(inode, at, at + length)
    this.#note(inode, inode.sizeBytes, inode.sizeBytes + 1)
    this.fs.write(inode, at, length, this.#random.bytes(length), 0, false)
  }

  #write(): void {
    const inode = this.#file()
    if (!inode) return
    const append = this.#random.chance(0.3)
    const at = append ? inode.sizeBytes : this.#random.below(FILE_MAX_BYTES)
    this.#writeTo(inode, at, this.#random.between(1, this.#random.chance(0.7) ? 300 : 5 * BLOCK))
  }

  #truncate(): void {
    const inode = this.#file()
    if (!inode) return
    const sizeBytes = this.#random.chance(0.3)
      ? this.#random.below(FILE_MAX_BYTES * 3)
      : this.#random.below(inode.sizeBytes + 1)
    this.#note(inode, Math.min(sizeBytes, inode.sizeBytes), Math.max(sizeBytes, inode.sizeBytes) + 1)
    this.fs.setAttributes(inode, { sizeBytes }, CALLER)
  }

  #allocate(): void {
    const inode = this.#file()
    if (!inode) return
    const mode = this.#random.pick([
      FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE,
      FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE,
      0,
      FALLOC.KEEP_SIZE,
    ])
    const at = this.#random.below(FILE_MAX_BYTES)
    const length = this.#random.between(1, 6 * BLOCK)
    this.#note(inode, at, at + length)
    this.#note(inode, Math.min(inode.sizeBytes, at), at + length)
    this.fs.allocate(inode, mode, at, length)
  }

  #rename(): void {
    const found = this.#existing()
    if (!found) return
    const target = this.#directory()
    if (found.inode.isDirectory && this.#isWithin(target, found.inode)) return
    const name = this.#random.chance(0.2) ? found.name : this.#name()
    if (this.fs.lookup(target, name)) return
    this.fs.rename(found.parent, found.name, target, name, 0)
    this.#places.push({ parent: target.ino, name })
  }

  #isWithin(directory: Inode, ancestor: Inode): boolean {
    for (let at = directory; ; at = this.fs.parentOf(at)) {
      if (at.ino === ancestor.ino) return true
      if (at.ino === ROOT_INO) return false
    }
  }

  /** A file written under another name and put in place of one that is there. */
  #replace(): void {
    const found = this.#existing()
    if (!found?.inode.isRegular) return
    const name = this.#name()
    const inode = this.fs.makeNode(found.parent, name, S_IFREG | 0o600, 0, CALLER)
    this.#writeTo(inode, 0, this.#random.between(1, 9000))
    this.fs.rename(found.parent, name, found.parent, found.name, 0)
  }

  #link(): void {
    const found = this.#existing()
    if (!found || found.inode.isDirectory) return
    const parent = this.#directory()
    const name = this.#name()
    this.fs.link(found.inode, parent, name)
    this.#places.push({ parent: parent.ino, name })
  }

  /** Often with a creation at once, which takes the number. */
  #unlink(): void {
    const found = this.#existing()
    if (!found || found.inode.isDirectory) return
    this.fs.unlink(found.parent, found.name)
    if (!this.#random.chance(0.5)) return
    const inode = this.fs.makeNode(found.parent, found.name, S_IFREG | 0o644, 0, CALLER)
    if (this.#random.chance(0.5)) this.#writeTo(inode, 0, this.#random.below(9000))
  }

  #makeDirectory(): void {
    const parent = this.#directory()
    const name = this.#name()
    const made = this.fs.makeDirectory(parent, name, 0o755, CALLER)
    this.#directories.push(made.ino)
    this.#places.push({ parent: parent.ino, name })
  }

  #removeTree(): void {
    const found = this.#existing()
    if (!found?.inode.isDirectory) return
    this.#empty(found.inode)
    this.fs.removeDirectory(found.parent, found.name)
    if (!this.#random.chance(0.5)) return
    this.#directories.push(this.fs.makeDirectory(found.parent, found.name, 0o755, CALLER).ino)
  }

  #empty(directory: Inode): void {
    for (const { name } of entriesOf(this.fs, directory)) {
      const inode = this.fs.lookup(directory, name) as Inode
      if (inode.isDirectory) {
        this.#empty(inode)
        this.fs.removeDirectory(directory, name)
      } else this.fs.unlink(directory, name)
    }
  }

  #attributes(): void {
    const found = this.#existing()
    if (!found || found.inode.isSymlink) return
    const change = this.#random.pick([
      { mode: 0o600 + this.#random.below(64) },
      { uid: this.#random.below(5) },
      { mtime: { sec: this.#random.below(1e9), nsec: this.#random.below(1e9) } },
    ])
    this.fs.setAttributes(found.inode, change, CALLER)
  }

  #xattr(): void {
    const found = this.#existing()
    if (!found || found.inode.isSymlink || found.inode.type === S_IFIFO) return
    const names = this.fs.listXattrs(found.inode)
    if (names.length > 0 && this.#random.chance(0.3)) this.fs.removeXattr(found.inode, names[0] as string)
    else {
      const value = this.#random.bytes(this.#random.chance(0.5) ? 10 : 800)
      this.fs.setXattr(found.inode, `user.${this.#random.below(3)}`, value, 0)
    }
  }

  /** Many names at once, so that the directory is hashed and its leaves split; some go again. */
  #crowd(): void {
    const parent = this.#directory()
    const stem = `${this.#prefix}${this.#made++}`
    for (let i = 0; i < 300; i++) {
      const name = `crowd-of-names-${stem}-${i}`
      this.fs.makeNode(parent, name, S_IFREG | 0o644, 0, CALLER)
      if (i % 40 === 0) this.#places.push({ parent: parent.ino, name })
    }
    for (let i = 1; i < 300; i += 3) this.fs.unlink(parent, `crowd-of-names-${stem}-${i}`)
  }

  #special(): void {
    const parent = this.#directory()
    const name = this.#name()
    if (this.#random.chance(0.5)) {
      const length = this.#random.chance(0.5) ? 20 : 200
      this.fs.makeSymlink(parent, name, new Uint8Array(length).fill(0x61), CALLER)
    } else this.fs.makeNode(parent, name, S_IFIFO | 0o644, 0, CALLER)
    this.#places.push({ parent: parent.ino, name })
  }
}

function entriesOf(fs: Ext4, directory: Inode): DirectoryEntry[] {
  const entries: DirectoryEntry[] = []
  fs.readDirectory(directory, 0, (entry) => {
    if (entry.name !== '.' && entry.name !== '..') entries.push(entry)
    return true
  })
  return entries
}

/** All that can be seen of an inode at a point. */
export interface Recorded {
  readonly inode: Inode
  readonly paths: string[]
  /** Names with the identity of the directory that holds them: what a directory's own move leaves alone. */
  readonly entries: string[]
  readonly attributes: string
  readonly mtime: string
  readonly bytes: Uint8Array
}

/** The whole tree of a point, by identity. */
export function recordPoint(device: BlockDevice): Map<string, Recorded> {
  const fs = Ext4.open(device, { readOnly: true })
  const records = new Map<string, Recorded>()
  const visit = (inode: Inode, path: string, entry: string): void => {
    const key = identityOf(inode)
    const known = records.get(key)
    if (known) {
      known.paths.push(path)
      known.entries.push(entry)
      return
    }
    records.set(key, { inode, paths: [path], entries: [entry], ...seen(fs, inode) })
    if (!inode.isDirectory) return
    for (const { name } of entriesOf(fs, inode)) {
      visit(fs.lookup(inode, name) as Inode, path === '.' ? name : `${path}/${name}`, `${key}/${name}`)
    }
  }
  visit(fs.inode(ROOT_INO), '.', '.')
  for (const record of records.values()) {
    record.paths.sort()
    record.entries.sort()
  }
  return records
}

function seen(fs: Ext4, inode: Inode): { attributes: string; mtime: string; bytes: Uint8Array } {
  const xattrs = fs
    .listXattrs(inode)
    .sort()
    .map((name) => `${name}=${Buffer.from(fs.getXattr(inode, name) as Uint8Array).toString('hex')}`)
  const target = inode.isSymlink ? Buffer.from(fs.readSymlink(inode)).toString('hex') : ''
  const bytes = new Uint8Array(inode.isRegular ? inode.sizeBytes : 0)
  if (bytes.length > 0) {
    const count = fs.read(inode, 0, bytes.length, bytes, 0)
    if (count !== bytes.length)
      throw new Error(`inode ${inode.ino}: read ${String(count)} of ${bytes.length}`)
  }
  return {
    attributes: JSON.stringify([inode.mode, inode.uid, inode.gid, xattrs, target]),
    mtime: `${inode.mtime.sec}.${inode.mtime.nsec}`,
    bytes,
  }
}
