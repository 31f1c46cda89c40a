// The shadow copies of a volume as users see them: the properties of vss.md section 6.3, whether a daemon
// serves the volume or not.
//
// Always true: what is being made is not among them; a member's count is that of its set when it was made.

import { hostname } from 'node:os'
import { join } from 'node:path'
import { SNAPSHOTS_NAME } from '../fuse/snapshots-view.ts'
import type { ShadowProperties } from '../shadow/coordinator/requester-session.ts'
import type { ShadowVolumeInfo } from '../shadow/coordinator/shadow-provider.ts'
import { SNAPSHOT_ATTRIBUTES } from '../shadow/documents/vocabulary.ts'
import type { Snapshot } from '../volume/points.ts'
import { PROVIDER_ID } from './control-shadow-provider.ts'
import { type Exposure, readExposures } from './exposures.ts'
import { LocalVolume } from './local-volume.ts'
import { locateVolume } from './locate.ts'
import { type ServedShadows, shadowListRequest } from './shadow-protocol.ts'

/** Oldest first. @param volume volume file or mount point. @throws UmbraError NOT_FOUND, BUSY */
export async function listShadowCopies(volume: string): Promise<ShadowProperties[]> {
  const { info, snapshots } = await shadowsOf(volume)
  const exposures = readExposures()
  return snapshots.flatMap((snapshot) => propertiesOf(info, snapshot, exposures))
}

async function shadowsOf(volume: string): Promise<ServedShadows> {
  const { volumePath, client } = await locateVolume(volume)
  if (client) return await client.call(shadowListRequest).finally(() => client.close())
  const opened = await LocalVolume.open(volumePath, { readOnly: true })
  try {
    const info = { volumeUuid: opened.volume.uuid, volumePath, mountPoint: null, hooksFolder: null }
    return { info, snapshots: opened.volume.snapshots() }
  } finally {
    await opened.close()
  }
}

function propertiesOf(
  { volumeUuid, volumePath, mountPoint }: ShadowVolumeInfo,
  { id, name, epoch, createdAtMs, shadow }: Snapshot,
  exposures: readonly Exposure[],
): ShadowProperties[] {
  if (shadow === null) return []
  const exposedName = exposures.find(({ snapshotId }) => snapshotId === id)?.mountPoint ?? null
  const exposedBit = exposedName === null ? 0 : SNAPSHOT_ATTRIBUTES['exposed-locally']
  return [
    {
      snapshotId: id,
      snapshotSetId: shadow.setId,
      setCount: shadow.setCount,
      volumeUuid,
      originalVolume: volumePath,
      mountPoint,
      snapshotName: name,
      provider: PROVIDER_ID,
      devicePath: mountPoint === null ? exposedName : join(mountPoint, SNAPSHOTS_NAME, name),
      originatingMachine: hostname(),
      serviceMachine: hostname(),
      exposedName,
      // Of shares of a part only, which there are none of.
      exposedPath: null,
      attributes: (shadow.attributes | exposedBit) >>> 0,
      createdAtMs,
      state: 'created',
      epoch,
    },
  ]
}
