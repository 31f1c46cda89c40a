// A second file system on the unsealed shadow copy edits and deletes while the live one is written to:
// both are clean for e2fsck, and each has only what was done to it.

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { randomUuid } from '../../src/base/uuid.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import { delta } from '../../src/volume/delta.ts'
import type { Snapshot } from '../../src/volume/points.ts'
import { Volume } from '../../src/volume/volume.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'

const SIZE_BYTES = 160 * MIB
const ROUNDS = process.env['UMBRA_LONG'] ? 40 : 4
const ROOT_INO = 2
const CALLER = { uid: 0, gid: 0, pid: 1 }
const SHADOW = { setId: randomUuid(), setCount: 1, attributes: 8 }
const ZEROS = new Uint8Array(MIB)

function bytesOf(device: Pick<BlockDevice, 'readSync'>): Buffer {
  const bytes = Buffer.alloc(SIZE_BYTES)
  device.readSync(0, SIZE_BYTES, bytes, 0)
  return bytes
}

function writeImage(bytes: Buffer, path: string): string {
  const fd = openSync(path, 'w')
  for (let at = 0; at < SIZE_BYTES; at += MIB) {
    const piece = bytes.subarray(at, at + MIB)
    if (Buffer.compare(piece, ZEROS) !== 0) writeSync(fd, piece, 0, MIB, at)
  }
  ftruncateSync(fd, SIZE_BYTES)
  closeSync(fd)
  return path
}

/** A file system with a model of what its files hold. */
class Tree {
  readonly fs: Ext4
  readonly files: Map<string, Buffer>
  readonly #random: Random
  readonly #prefix: string
  #made = 0

  constructor(device: BlockDevice, random: Random, files: ReadonlyMap<string, Buffer>, prefix: string) {
    this.fs = Ext4.open(device)
    this.files = new Map([...files].map(([name, bytes]) => [name, Buffer.from(bytes)]))
    this.#random = random
    this.#prefix = prefix
  }

  get root(): Inode {
    return this.fs.inode(ROOT_INO)
  }

  file(name: string): Inode {
    const inode = this.fs.lookup(this.root, name)
    if (inode === undefined) throw new Error(`${name} is not there`)
    return inode
  }

  write(name: string, at: number, bytes: Uint8Array): void {
    if (!this.files.has(name)) this.fs.makeNode(this.root, name, 0o100644, 0, CALLER)
    const before = this.files.get(name) ?? Buffer.alloc(0)
    const after = Buffer.alloc(Math.max(before.length, at + bytes.length))
    before.copy(after)
    after.set(bytes, at)
    this.fs.write(this.file(name), at, bytes.length, bytes, 0, false)
    this.files.set(name, after)
  }

  unlink(name: string): void {
    this.fs.unlink(this.root, name)
    this.files.delete(name)
  }

  step(): void {
    const random = this.#random
    const names = [...this.files.keys()]
    const dice = random.below(10)
    if (names.length < 3 || (dice < 2 && names.length < 60)) {
      this.write(`${this.#prefix}${this.#made++}`, 0, random.bytes(random.between(1, 9000)))
      return
    }
    const name = random.pick(names)
    if (dice === 2) this.unlink(name)
    else if (dice === 3) {
      const renamed = `${this.#prefix}renamed${this.#made++}`
      this.fs.rename(this.root, name, this.root, renamed, 0)
      this.files.set(renamed, this.files.get(name) as Buffer)
      this.files.delete(name)
    } else this.write(name, random.below(300_000), Buffer.alloc(random.between(1, 60_000), random.below(256)))
  }

  /** Names of files that are not as the model has them. */
  async faults(): Promise<string[]> {
    const wrong: string[] = []
    for (const [name, bytes] of this.files) {
      const inode = this.fs.lookup(this.root, name)
      const found = Buffer.alloc(bytes.length)
      if (inode === undefined || inode.sizeBytes !== bytes.length)
        wrong.push(`${name}: not there, or of another size`)
      else if ((await this.fs.read(inode, 0, bytes.length, found, 0)) !== bytes.length)
        wrong.push(`${name}: short`)
      else if (Buffer.compare(found, bytes) !== 0) wrong.push(`${name}: other contents`)
    }
    let count = 0
    this.fs.readDirectory(this.root, 0, () => {
      count++
      return true
    })
    if (count !== this.files.size + 3) wrong.push(`${count} names, not those of ${this.files.size} files`)
    return wrong
  }
}

/** Both file systems change by turns, and both commit. */
async function changeBoth(volume: Volume, live: Tree, device: BlockDevice, inside: Tree): Promise<void> {
  for (let i = 0; i < 100; i++) {
    inside.step()
    live.step()
    if (i % 30 === 7) await device.commit()
    if (i % 30 === 19) await volume.commit()
  }
}

/** What `base` with the delta on it holds. */
function rebuild(volume: Volume, base: Snapshot | null, target: Snapshot): Buffer {
  const bytes = base === null ? Buffer.alloc(SIZE_BYTES) : bytesOf(volume.openSnapshot(base.id))
  const device = volume.openSnapshot(target.id)
  for (const { kind, blockIndex, blockCount } of delta(volume.nodes, base, target)) {
    const [from, length] = [blockIndex * 4096, blockCount * 4096]
    if (kind === 'zero') bytes.fill(0, from, from + length)
    else device.readSync(from, length, bytes, from)
  }
  return bytes
}

const TITLE = 'row 16: a writer recovers its files in the shadow copy while the live file system goes on'

test(TITLE, requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const path = join(tempFolder(t), 'image')
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  formatExt4(volume)
  await volume.commit()
  const live = new Tree(volume, random, new Map(), 'live')
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < 60; i++) live.step()
    // An unlinked file that is open has no part in the shadow copy.
    live.write('open', 0, random.bytes(50_000))
    const open = live.file('open')
    live.fs.open(open)
    live.unlink('open')
    const base = volume.snapshots().at(-1) ?? null
    const shadow = await volume.cutUnsealed(`shadow${round}`, SHADOW)
    const inside = new Tree(shadow.device, random, live.files, 'inside')
    await changeBoth(volume, live, shadow.device, inside)
    t.alike(await inside.faults(), [], 'in the window')
    const held = new Map(inside.files)
    const snapshot = await shadow.seal()
    for (let i = 0; i < 30; i++) live.step()
    live.fs.close(open)
    await volume.commit()

    const device = volume.openSnapshot(snapshot.id)
    const verdict = e2fsck(writeImage(bytesOf(device), path))
    t.ok(verdict.clean, `the shadow copy of round ${round}`)
    if (!verdict.clean) t.comment(verdict.output.slice(0, 3000))
    t.alike(await new Tree(device, random, held, '').faults(), [], 'sealed')
    t.alike(await live.faults(), [], 'the live one')
    t.ok(e2fsck(writeImage(bytesOf(volume), path)).clean, 'the live file system, as committed')
    const isSame = Buffer.compare(rebuild(volume, base, snapshot), bytesOf(device)) === 0
    t.ok(isSame, 'base + delta = the shadow copy')
    t.exception(() => inside.unlink([...inside.files.keys()][0] as string), /sealed/)
    if (round % 2 === 1) await volume.deleteSnapshot(`shadow${round - 1}`, { keepBookmark: true })
  }
  await volume.close()
  const report = checkVolume(storage)
  t.alike(report.errors, [])
  t.is(report.leaks.blockCount, 0)
})
