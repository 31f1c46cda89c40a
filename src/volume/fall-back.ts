// Opening a volume whose newest superblock is lost: the transaction before it counts then, and its
// allocation bitmaps may be gone.
//
// Always true: everything that the transaction gone back to refers to is whole, except bitmaps and
// table blocks if the volume was in the middle of the commit after the lost one, because that commit
// writes to their homes. They are a view of what the trees reach and are rebuilt from them.

import { UmbraError } from '../base/errors.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { readBitmap } from './allocation-group.ts'
import { repairVolume } from './check-repair.ts'
import { BLOCKS_PER_GROUP } from './group-layout.ts'
import { GroupTable } from './group-table.ts'
import type { Superblock } from './superblock.ts'
import { type ChosenSuperblock, chooseSuperblock } from './superblock-slots.ts'

/**
 * Chooses the superblock that counts; where that is a fall-back and the volume may be written, with
 * the bitmaps made right.
 * @throws UmbraError as chooseSuperblock()
 */
export async function chooseWholeSuperblock(
  storage: BlockStorage,
  readOnly: boolean,
): Promise<ChosenSuperblock> {
  const chosen = chooseSuperblock(storage, readOnly)
  if (readOnly || !chosen.fellBack || hasWholeBitmaps(storage, chosen.superblock)) return chosen
  await repairVolume(storage)
  const { superblock, isTwinned } = chooseSuperblock(storage, readOnly)
  // What is reported is what was found, not what it was made into.
  return { ...chosen, superblock, isTwinned }
}

function hasWholeBitmaps(storage: BlockStorage, superblock: Superblock): boolean {
  const groupCount = superblock.physicalBlockCount / BLOCKS_PER_GROUP
  try {
    const table = new GroupTable(storage, groupCount, superblock.tables)
    for (let group = 0; group < groupCount; group++) readBitmap(storage, table, group)
    return true
  } catch (error) {
    if (error instanceof UmbraError && (error.code === 'CHECKSUM_MISMATCH' || error.code === 'CORRUPT')) {
      return false
    }
    throw error
  }
}
