// Deleting a snapshot by name means the snapshot that had the name when it was asked for; what was made
// for a lease does not outlive the volume's daemon.

import { join } from 'node:path'
import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { HostedVolume } from '../../src/daemon/hosted-volume.ts'
import type { MountedOptions } from '../../src/daemon/launch.ts'
import { openServed } from '../../src/daemon/served-volume.ts'
import { formatExt4 } from '../../src/ext4/mkfs.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'
import { tempFolder } from '../support/temp.ts'

const PLACE = { volumePath: '/volume', mountPoint: '/mnt', socket: '/socket', mountedSnapshot: null }

test('of two deletions of one name at once, none takes a new snapshot of that name', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 64 * MIB })
  const hosted = new HostedVolume(volume, PLACE)
  const old = await volume.createSnapshot('daily')
  const readersEnd: (() => void)[] = []
  hosted.attach({
    flush: async () => {},
    grow: () => Promise.reject(new Error('not asked for')),
    isInUse: () => false,
    beforeDelete: async () => {
      await new Promise<void>((resolve) => readersEnd.push(resolve))
      return () => {}
    },
  })
  const first = hosted.deleteSnapshot('daily', false)
  const second = hosted.deleteSnapshot('daily', false).catch((error) => error.code)
  readersEnd[0]?.()
  await first
  const { snapshot } = await hosted.createSnapshot('daily')
  t.unlike(snapshot.id, old.id)
  readersEnd[1]?.()
  t.is(await second, 'NOT_FOUND', 'what the second was asked to delete is gone')
  t.alike(
    volume.snapshots().map(({ id }) => id),
    [snapshot.id],
  )
  await hosted.settled()
  await volume.close()
})

test('what a lease took of the present is gone at the next open when the daemon ended before the lease', async (t) => {
  const file = join(tempFolder(t), 'volume')
  await createVolumeFile(file)
  const storage = await FileStorage.open(file)
  const volume = await Volume.open(storage)
  const hosted = new HostedVolume(volume, PLACE)
  await hosted.createSnapshot('kept')
  const { leased, end } = await hosted.lease({ names: [], present: true })
  t.ok(leased.present)
  const refused = await hosted.createSnapshot('umbra-present-mine').catch((error) => error.code)
  t.is(refused, 'INVALID_NAME', 'nobody keeps anything under such a name')
  await volume.close()
  await end().catch(() => {})
  await storage.close()

  const served = await openServed({
    volumePath: file,
    mountPoint: '/nowhere',
    readOnly: false,
    snapshot: null,
  } as MountedOptions)
  t.alike(
    served.hosted?.volume.snapshots().map(({ name }) => name),
    ['kept'],
  )
  await served.close()
})

async function createVolumeFile(path: string): Promise<void> {
  const storage = await FileStorage.open(path, { create: true })
  const volume = await Volume.create(storage, { sizeBytes: 64 * MIB })
  formatExt4(volume)
  await volume.close()
  await storage.close()
}
