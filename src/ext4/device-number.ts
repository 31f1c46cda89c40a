// Device numbers in inodes: the old form (major and minor of 8 bits) in i_block[0] where it is enough,
// else the new one (12 and 20 bits) in i_block[1]. Outside they are always in the new form.
//
// Source: Linux include/linux/kdev_t.h, fs/ext4/inode.c.

import { read32, write32 } from './bytes.ts'
import type { Inode } from './inode.ts'

/** @param deviceNumber as new_encode_dev() has it, 32 bits */
export function storeDeviceNumber(inode: Inode, deviceNumber: number): void {
  const major = (deviceNumber & 0xfff00) >>> 8
  const minor = (deviceNumber & 0xff) | ((deviceNumber >>> 12) & 0xfff00)
  inode.blockArea.fill(0)
  if (major < 256 && minor < 256) write32(inode.blockArea, 0, (major << 8) | minor)
  else write32(inode.blockArea, 4, deviceNumber)
}

/** @returns as new_encode_dev() has it */
export function loadDeviceNumber(inode: Inode): number {
  const old = read32(inode.blockArea, 0)
  return old !== 0 ? old & 0xffff : read32(inode.blockArea, 4)
}
