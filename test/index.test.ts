// The public interface, used as a program would: a volume with a file system, a snapshot, a change, and
// the two images that rebuild it.

import { join } from 'node:path'
import test from 'brittle'
import {
  Ext4,
  FileStorage,
  formatExt4,
  hasCode,
  importToVolume,
  MemoryStorage,
  Volume,
  verifyChain,
  volumeSource,
  withChain,
  writeQcow2,
} from '../src/index.ts'
import { tempFolder } from './support/temp.ts'

const SIZE_BYTES = 64 * 1024 * 1024
const CALLER = { uid: 0, gid: 0, pid: 0 }

test('a program makes, snapshots, exports and rebuilds a volume through the public interface', async (t) => {
  const folder = tempFolder(t)
  const storage = await FileStorage.open(join(folder, 'a.umbra'), { create: true })
  const volume = await Volume.create(storage, { sizeBytes: SIZE_BYTES })
  formatExt4(volume)
  const files = Ext4.open(volume)
  const root = files.inode(2)
  const file = files.makeNode(root, 'note', 0o100644, 0, CALLER)
  const write = (text: string) => files.write(file, 0, text.length, Buffer.from(text), 0, false)

  write('monday')
  await volume.createSnapshot('monday')
  write('tuesday')
  await volume.createSnapshot('tuesday')
  const images = [join(folder, 'full.qcow2'), join(folder, 'delta.qcow2')]
  await writeQcow2(volumeSource(volume, 'monday', null), images[0] as string)
  await writeQcow2(volumeSource(volume, 'tuesday', 'monday'), images[1] as string)
  await volume.close()
  await storage.close()

  t.is((await verifyChain(images)).length, 2)
  const restored = await Volume.create(new MemoryStorage(), { sizeBytes: SIZE_BYTES })
  await withChain(images, {}, (chain) => importToVolume(chain, restored))
  const again = Ext4.open(restored, { readOnly: true })
  const note = again.lookup(again.inode(2), 'note')
  const bytes = Buffer.alloc(7)
  if (note) await again.read(note, 0, 7, bytes, 0)
  t.is(bytes.toString(), 'tuesday')
  try {
    restored.snapshot('nothing')
    t.fail('a point that is not there was found')
  } catch (error) {
    t.ok(hasCode(error, 'NOT_FOUND'))
  }
})
