// Makes a volume and the file system in it larger, mounted or not.
//
// Always true: both grow in one commit, so a crash leaves the old size or the new one; what would be
// refused is refused before anything changes. A mounted volume is asked of its daemon; one that a backup
// uses without a mount is refused, and so is a smaller size.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB, TIB } from '../base/units.ts'
import { Ext4 } from '../ext4/ext4.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { Volume } from '../volume/volume.ts'
import { type ResizedVolume, resizeRequest } from './control-protocol.ts'
import { locateVolume } from './locate.ts'

/** The commit of a large change at worst. */
const RESIZE_TIMEOUT_MS = 120_000

/**
 * @throws UmbraError BUSY while it is served without a mount, INVALID_ARGUMENT for a smaller size,
 *   UNSUPPORTED_FEATURE for a file system that cannot grow so far, OUT_OF_SPACE; then nothing has changed
 */
export async function resizeVolume(argument: string, sizeBytes: number): Promise<ResizedVolume> {
  checkSize(sizeBytes)
  const { volumePath, client } = await locateVolume(argument)
  if (client) {
    return await client
      .callWith(resizeRequest, { sizeBytes }, RESIZE_TIMEOUT_MS)
      .finally(() => client.close())
  }
  const storage = await FileStorage.open(volumePath, { readOnly: false })
  try {
    const volume = await Volume.open(storage)
    // Opening settles what a crash left: files that were open and deleted.
    const sizes = growBoth(volume, Ext4.open(volume), sizeBytes)
    await volume.commit()
    await volume.close()
    return { volume: volumePath, ...sizes }
  } finally {
    await storage.close()
  }
}

/**
 * In one turn of the event loop; the next commit makes it durable.
 * @throws UmbraError as resizeVolume(), with nothing changed
 */
export function growBoth(volume: Volume, fileSystem: Ext4, sizeBytes: number): Omit<ResizedVolume, 'volume'> {
  checkSize(sizeBytes)
  const blockCount = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES)
  fileSystem.checkGrowth(blockCount)
  volume.grow(blockCount * BLOCK_SIZE_BYTES)
  return {
    sizeBytes: volume.blockCount * BLOCK_SIZE_BYTES,
    fileSystemBytes: fileSystem.grow() * BLOCK_SIZE_BYTES,
  }
}

function checkSize(sizeBytes: number): void {
  if (sizeBytes >= MIB && sizeBytes <= 16 * TIB) return
  throw new UmbraError('INVALID_ARGUMENT', 'The size of a volume is from 1M to 16T', { sizeBytes })
}
