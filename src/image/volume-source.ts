// A point of an open volume as the source of an image.
//
// Always true: the snapshot must stay while the source is used; one that is deleted makes reads fail with EVICTED,
// never give wrong bytes. Whoever exports holds a lease on it.

import { delta } from '../volume/delta.ts'
import type { Volume } from '../volume/volume.ts'
import type { ImageSource } from './image-source.ts'

/**
 * @param snapshotName name or id of what to export
 * @param sinceName name or id of the snapshot or bookmark that the delta starts from; null: a full image
 * @throws UmbraError NOT_FOUND
 */
export function volumeSource(volume: Volume, snapshotName: string, sinceName: string | null): ImageSource {
  const snapshot = volume.snapshot(snapshotName)
  const base = sinceName === null ? null : volume.point(sinceName)
  const { id, epoch, name, createdAtMs, blockCount } = snapshot
  return {
    volumeUuid: volume.uuid,
    point: { id, epoch, name, createdAtMs },
    base: base && { id: base.id, epoch: base.epoch, name: base.name },
    device: volume.openSnapshot(id),
    blockCount,
    extents: () => delta(volume.nodes, base, snapshot),
  }
}
