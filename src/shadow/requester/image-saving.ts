// Saves the block image of one volume of the set, and tells how stock tools read it back.
//
// Always true: a delta's backing name is the relative path of its base's image, so the newest image of a
// chain, in its place, is the whole volume to qemu; what a record says was worked out from the file.

import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import { type LongWork, throwIfAborted } from '../../image/pace.ts'
import { type Qcow2Options, type WrittenImage, writeQcow2 } from '../../image/qcow2-writer.ts'
import { writeRaw } from '../../image/raw-writer.ts'
import { sidecarPath } from '../../image/sidecar.ts'
import type { BackupFolder } from '../repository/backup-folder.ts'
import { type ImageLink, imageFile } from '../repository/chains.ts'
import { type FileStep, fileCommand } from '../repository/file-commands.ts'
import type { ImageRecord, VolumePoint } from '../repository/manifest.ts'
import type { OpenSnapshot } from './surroundings.ts'

export interface ImageRequest extends LongWork {
  readonly folder: BackupFolder
  readonly snapshot: OpenSnapshot
  readonly volume: VolumePoint
  /** What a delta builds on; null: a full image. */
  readonly base: ImageLink | null
  readonly format: 'qcow2' | 'raw'
}

/** @throws UmbraError OUT_OF_SPACE, EVICTED, ABORTED, IO_FAILED: then no file is left */
export async function saveImage(request: ImageRequest): Promise<ImageRecord> {
  const { folder, snapshot, volume, base, format, signal } = request
  const file = imageFile(volume.volumeUuid, format)
  const source = snapshot.imageSource(base?.image.point.id ?? null)
  const work = { signal, onProgress: request.onProgress, force: true }
  const written: WrittenImage =
    format === 'raw'
      ? await writeRaw(source, folder.path(file), work)
      : await writeQcow2(source, folder.path(file), { ...work, ...backing(folder, base) })
  throwIfAborted(signal)
  const stored = await folder.describe(file, signal)
  const sidecar = format === 'raw' ? { sidecar: await folder.describe(sidecarPath(file), signal) } : {}
  return {
    ...stored,
    volumeUuid: volume.volumeUuid,
    volumePath: volume.volumePath,
    mountPoint: volume.mountPoint,
    virtualSizeBytes: source.blockCount * BLOCK_SIZE_BYTES,
    format,
    point: volume.point,
    baseBackupId: base?.entry.id ?? null,
    basePointId: base?.image.point.id ?? null,
    contentDigest: written.identity.digest ?? '',
    dataBytes: written.dataBytes,
    ...sidecar,
  }
}

function backing(folder: BackupFolder, base: ImageLink | null): Pick<Qcow2Options, 'backing'> {
  if (base === null) return {}
  return { backing: { name: folder.pathToBackup(base.entry.id, base.image.file), format: base.image.format } }
}

/**
 * Command lines of stock tools, run in the repository's folder; VOLUME.img is what they make.
 * @param index name of the backup's index of files; null: it has none
 * @param files the backups that its component files need, the full first; itself alone unless given
 */
export function restoreCommands(
  id: string,
  images: readonly ImageRecord[],
  index: string | null,
  files: readonly FileStep[] = index === null ? [] : [{ backupId: id, index, components: null }],
): string[] {
  const commands = images.map(({ file, format, volumeUuid }) =>
    format === 'raw'
      ? `cp --sparse=always 'backups/${id}/${file}' '${volumeUuid}.img'`
      : `qemu-img convert -O raw 'backups/${id}/${file}' '${volumeUuid}.img'`,
  )
  if (index !== null)
    commands.push(
      `jq -r 'select(.stored) | "backups/${id}/" + .stored.file + "\\t" + .path' 'backups/${id}/${index}'`,
      ...files.map(fileCommand),
    )
  return commands
}
