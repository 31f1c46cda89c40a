// The table of unlinked files that are still open grows with how scattered they are. A host without any
// space left for it must not make a commit fail, which would turn the volume read-only.

import test from 'brittle'
import { hasCode, type UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { Ext4 } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { ROOT } from '../support/ext4-files.ts'

const SCATTERED_FILES = 40
const SCATTERED_BLOCKS = 300
const FOLDERS = 700
const BLOCK = new Uint8Array(4096).fill(1)

/** A volume with scattered, open files, each of `folders` holding one name, and no space left on its host. */
async function fullVolume(): Promise<MemoryStorage> {
  const storage = new MemoryStorage({ capacityBytes: 100 * MIB })
  const volume = await Volume.create(storage, { sizeBytes: 256 * MIB })
  formatExt4(volume)
  await volume.commit()
  const fs = Ext4.open(volume)
  const root = fs.inode(2)
  const scattered: Inode[] = []
  for (let i = 0; i < SCATTERED_FILES; i++) {
    scattered.push(fs.makeNode(fs.makeDirectory(root, `d${i}`, 0o755, ROOT), 'f', 0o100644, 0, ROOT))
  }
  for (let i = 0; i < FOLDERS; i++) {
    fs.makeNode(fs.makeDirectory(root, `s${i}`, 0o755, ROOT), 'x', 0o100644, 0, ROOT)
  }
  for (let block = 0; block < SCATTERED_BLOCKS; block++) {
    for (const file of scattered) fs.write(file, block * 4096, 4096, BLOCK, 0, false)
  }
  await volume.createSnapshot('s')
  const ballast = fs.makeNode(root, 'ballast', 0o100644, 0, ROOT)
  const mib = new Uint8Array(MIB)
  untilFull(() => void fs.write(ballast, ballast.sizeBytes, MIB, mib, 0, false))
  await volume.commit()
  return storage
}

function untilFull(step: () => void, times = Number.POSITIVE_INFINITY): void {
  try {
    for (let i = 0; i < times; i++) step()
  } catch (error) {
    if (!hasCode(error, 'OUT_OF_SPACE') && !hasCode(error, 'ENOSPC')) throw error
  }
}

function folder(fs: Ext4, name: string): Inode {
  return fs.lookup(fs.inode(2), name) as Inode
}

/** Unlinks names until `count` or until the reserve is used up, then the open files. */
function unlinkAll(fs: Ext4, count: number): number {
  let at = 0
  untilFull(() => fs.unlink(folder(fs, `s${at++}`), 'x'), count)
  let orphans = 0
  untilFull(() => {
    const parent = folder(fs, `d${orphans}`)
    fs.open(fs.lookup(parent, 'f') as Inode)
    fs.unlink(parent, 'f')
    orphans++
  }, SCATTERED_FILES)
  return orphans
}

test('a table of open unlinked files for which there is no space does not fail the commit', async (t) => {
  const full = await fullVolume()
  let orphansMost = 0
  for (let count = 150; count < 216; count += 3) {
    const storage = full.fork()
    const volume = await Volume.open(storage)
    const fs = Ext4.open(volume)
    const orphans = unlinkAll(fs, count)
    orphansMost = Math.max(orphansMost, orphans)
    const failure = await volume.commit().catch((error: UmbraError) => error)
    if (failure) t.fail(`after ${count} names: ${failure.message}`)
    const crashed = await Volume.open(storage.fork())
    const before = crashed.space().liveBytes
    Ext4.open(crashed)
    const returned = before - crashed.space().liveBytes
    if (returned < orphans * SCATTERED_BLOCKS * 4096) {
      t.fail(`after ${count} names: ${returned} bytes of ${orphans} files were given back after a crash`)
    }
  }
  t.ok(orphansMost > 0, `up to ${orphansMost} orphans`)
})
