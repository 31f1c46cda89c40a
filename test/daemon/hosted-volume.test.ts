// Deleting a snapshot by name means the snapshot that had the name when it was asked for; what was made
// for a lease does not outlive the volume's daemon.

import test from 'brittle'
import { MIB } from '../../src/base/units.ts'
import { HostedVolume } from '../../src/daemon/hosted-volume.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { Volume } from '../../src/volume/volume.ts'

const PLACE = { volumePath: '/volume', mountPoint: '/mnt', socket: '/socket', mountedSnapshot: null }

test('of two deletions of one name at once, none takes a new snapshot of that name', async (t) => {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: 64 * MIB })
  const hosted = new HostedVolume(volume, PLACE)
  const old = await volume.createSnapshot('daily')
  const readersEnd: (() => void)[] = []
  hosted.attach({
    flush: async () => {},
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
