// Makes an unmounted volume and the file system in it larger.
//
// Always true: the volume grows first, then the file system, each in one commit; a crash between them
// leaves a volume with room behind its file system, which the same command then fills. A mounted volume
// is refused, and so is a smaller size.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB, TIB } from '../base/units.ts'
import { Ext4 } from '../ext4/ext4.ts'
import { growExt4 } from '../ext4/grow.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { growVolume } from '../volume/grow-volume.ts'
import { Volume } from '../volume/volume.ts'
import { statusRequest } from './control-protocol.ts'
import { locateVolume } from './locate.ts'

export interface ResizedVolume {
  readonly volume: string
  /** Of the volume: what was asked for, in whole blocks. */
  readonly sizeBytes: number
  /** Of the file system; a few MiB less where a last group would have no room for files. */
  readonly fileSystemBytes: number
}

/**
 * @throws UmbraError BUSY while it is served, INVALID_ARGUMENT for a smaller size, UNSUPPORTED_FEATURE
 *   for a file system that cannot grow so far, with nothing changed in it; OUT_OF_SPACE
 */
export async function resizeVolume(argument: string, sizeBytes: number): Promise<ResizedVolume> {
  if (sizeBytes < MIB || sizeBytes > 16 * TIB) {
    throw new UmbraError('INVALID_ARGUMENT', 'The size of a volume is from 1M to 16T', { sizeBytes })
  }
  const { volumePath, client } = await locateVolume(argument)
  if (client) {
    const { mountPoint } = await client.call(statusRequest).finally(() => client.close())
    const reason = mountPoint === null ? 'is in use by a backup' : 'is mounted; unmount it before resizing it'
    throw new UmbraError('BUSY', `${argument} ${reason}`)
  }
  const storage = await FileStorage.open(volumePath, { readOnly: false })
  try {
    await settleFileSystem(storage)
    await growVolume(storage, Math.ceil(sizeBytes / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES)
    const volume = await Volume.open(storage)
    const blockCount = growExt4(volume)
    await volume.commit()
    await volume.close()
    return {
      volume: volumePath,
      sizeBytes: volume.blockCount * BLOCK_SIZE_BYTES,
      fileSystemBytes: blockCount * BLOCK_SIZE_BYTES,
    }
  } finally {
    await storage.close()
  }
}

/** Has the file system finish what a crash left: files that were open and deleted. */
async function settleFileSystem(storage: FileStorage): Promise<void> {
  const volume = await Volume.open(storage)
  Ext4.open(volume)
  await volume.close()
}
