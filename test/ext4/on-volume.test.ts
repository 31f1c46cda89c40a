// The file system on the copy-on-write volume: every snapshot and every crash is clean, whatever is
// unlinked and open at that moment.

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { FileData } from '../../src/ext4/file-data.ts'
import { FALLOC } from '../../src/ext4/file-system.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { decodeOrphanTable, OrphanOverlay } from '../../src/ext4/orphan-overlay.ts'
import { Ext4Structure } from '../../src/ext4/structure.ts'
import type { BlockDevice } from '../../src/storage/block-device.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { makeFile, unlinkFromRoot } from '../support/ext4-image.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'

const SIZE_BYTES = 160 * MIB
const ZEROS = new Uint8Array(MIB)

function writeImage(device: BlockDevice, path: string): string {
  const fd = openSync(path, 'w')
  const bytes = new Uint8Array(MIB)
  for (let at = 0; at < SIZE_BYTES; at += MIB) {
    device.readSync(at, MIB, bytes, 0)
    if (Buffer.compare(bytes, ZEROS) !== 0) writeSync(fd, bytes, 0, MIB, at)
  }
  ftruncateSync(fd, SIZE_BYTES)
  closeSync(fd)
  return path
}

class Workload {
  readonly core: Ext4Structure
  readonly data: FileData
  readonly files: Inode[] = []
  readonly orphans: Inode[] = []
  readonly #random: Random
  #made = 0

  constructor(device: BlockDevice, random: Random) {
    this.core = Ext4Structure.open(device)
    this.data = new FileData(this.core)
    this.#random = random
  }

  step(): void {
    const random = this.#random
    const choice = random.below(12)
    if (this.files.length === 0 || (choice === 0 && this.files.length < 50)) {
      this.files.push(makeFile(this.core, `file${this.#made++}`))
      return
    }
    if (choice === 1) {
      this.#unlink(random.below(this.files.length))
      return
    }
    if (choice === 2 && random.chance(0.5)) this.#release()
    const inode = random.pick(random.chance(0.2) && this.orphans.length > 0 ? this.orphans : this.files)
    const at = random.below(3 * MIB)
    if (choice < 10) {
      const length = random.between(1, 100_000)
      this.data.write(inode, at, length, new Uint8Array(length).fill(choice), 0, false)
    } else if (choice === 10) this.data.truncate(inode, at)
    else this.data.allocate(inode, FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE, at, 100_000)
  }

  #unlink(index: number): void {
    const inode = this.files.splice(index, 1)[0] as Inode
    if (this.#random.chance(0.6)) {
      inode.openCount = 1
      this.orphans.push(inode)
    }
    this.core.begin(20 + this.core.releaseCost(inode), true)
    unlinkFromRoot(this.core, inode)
  }

  #release(): void {
    const inode = this.orphans.pop()
    if (!inode) return
    inode.openCount = 0
    this.core.releaseOrphan(inode)
  }
}

test('every snapshot and every crash is clean while orphans are open', requires('e2fsck'), async (t) => {
  const random = new Random(chosenSeed(t))
  const folder = tempFolder(t)
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  formatExt4(volume)
  await volume.commit()
  const work = new Workload(volume, random)
  for (let round = 0; round < (process.env['UMBRA_LONG'] ? 40 : 5); round++) {
    for (let i = 0; i < 120; i++) work.step()
    await volume.createSnapshot(`s${round}`)
    const image = writeImage(volume.openSnapshot(`s${round}`), join(folder, 'image'))
    const verdict = e2fsck(image)
    t.ok(verdict.clean, `snapshot ${round} with ${work.orphans.length} orphans`)
    if (!verdict.clean) t.comment(verdict.output.slice(0, 3000))
    const crashed = await Volume.open(storage.fork())
    const again = Ext4Structure.open(crashed)
    t.is(crashed.readSideTable().length, 0, 'orphans were discarded at open')
    t.is(again.allocator.freeCount, work.core.allocator.committedFreeCount)
    await crashed.commit()
    t.ok(e2fsck(writeImage(crashed, image)).clean, `crash ${round}`)
    await crashed.close()
  }
  await volume.close()
})

test('a table of orphans that grows past its limit asks for a trim of everything', (t) => {
  const overlay = new OrphanOverlay(32768)
  t.is(overlay.takeTable(), undefined, 'nothing to write while nothing changed')
  overlay.add(3, 100, 5)
  overlay.add(3, 105, 1)
  overlay.add(7, 32767, 1)
  const table = decodeOrphanTable(overlay.takeTable() ?? new Uint8Array(0))
  t.alike(table, {
    trimAll: false,
    runs: [
      { blockIndex: 3 * 32768 + 100, blockCount: 6 },
      { blockIndex: 7 * 32768 + 32767, blockCount: 1 },
    ],
  })
  for (let bit = 0; bit < 32768; bit += 2)
    for (let group = 10; group < 18; group++) overlay.add(group, bit, 1)
  const large = overlay.takeTable() ?? new Uint8Array(0)
  t.ok(large.length <= MIB)
  t.is(decodeOrphanTable(large).trimAll, true)
  t.exception(() => overlay.remove(3, 99, 2), /freed twice/)
  t.exception(() => decodeOrphanTable(new Uint8Array(9)), /damaged/)
})
