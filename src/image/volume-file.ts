// Tells a volume file from other files, for those who would write over it or read it as an image.
//
// Always true: only the first bytes are looked at; a volume whose first superblock is lost is not known.

import { hasVolumeMagic } from '../volume/superblock.ts'
import { HostFile } from './host-file.ts'

const MAGIC_BYTES = 8

/** @throws UmbraError ENOENT, EACCES, INVALID_ARGUMENT for what is no regular file */
export function isVolumeFile(path: string): boolean {
  const file = new HostFile(path)
  try {
    const bytes = new Uint8Array(MAGIC_BYTES)
    file.read(0, bytes.byteLength, bytes, 0)
    return hasVolumeMagic(bytes)
  } finally {
    file.close()
  }
}
