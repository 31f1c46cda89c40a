// The bounds of a device's blocks, for whoever changes them.

import { UmbraError } from '../base/errors.ts'

/** @throws UmbraError INVALID_ARGUMENT unless the range lies in the device */
export function checkBlocks(
  device: { readonly blockCount: number },
  blockIndex: number,
  blockCount: number,
): void {
  if (blockIndex >= 0 && blockCount >= 0 && blockIndex + blockCount <= device.blockCount) return
  throw new UmbraError(
    'INVALID_ARGUMENT',
    `Blocks ${blockIndex} to ${blockIndex + blockCount} are not in a device of ${device.blockCount}`,
  )
}
