// Making an unmounted volume larger: its virtual size, and levels on top of the block map where they are
// needed.
//
// Always true: one superblock makes it count, so a crash leaves the old size or the new one; no block
// that is there moves; snapshots keep the size and the tree that they have. The map of the present may
// have more levels than theirs afterwards, which every walk of two trees allows for.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, formatSize } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { chooseWholeSuperblock } from './fall-back.ts'
import { blockChecksum, ENTRY_NODE, levelsFor, nodeBytes, setEntry, WORDS_PER_NODE } from './map-node.ts'
import type { TreeRoot } from './points.ts'
import { ReadTickets } from './read-tickets.ts'
import { BLOCK_COUNT_MAX } from './superblock.ts'
import { writeSuperblock } from './superblock-slots.ts'
import { Volume } from './volume.ts'
import { VolumeState } from './volume-state.ts'

/** The levels, and what any commit takes. */
const ROOM_BLOCKS = 64
const CACHE_BYTES = 1024 * 1024

/**
 * @param sizeBytes a multiple of 4096, at least the present size
 * @throws UmbraError INVALID_ARGUMENT for a smaller size or one past 16 TiB, OUT_OF_SPACE with nothing
 *   changed, IO_FAILED, and what Volume.open() throws
 */
export async function growVolume(storage: BlockStorage, sizeBytes: number): Promise<void> {
  // Opening settles what a crash left, closing commits it, so that what follows is the only change.
  await (await Volume.open(storage)).close()
  const { superblock } = await chooseWholeSuperblock(storage, false)
  const blockCount = sizeBytes / BLOCK_SIZE_BYTES
  if (!Number.isInteger(blockCount) || blockCount > BLOCK_COUNT_MAX) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `A volume has up to 16 TiB in blocks of 4096 bytes, not ${sizeBytes} bytes`,
    )
  }
  if (blockCount < superblock.blockCount) {
    const is = formatSize(superblock.blockCount * BLOCK_SIZE_BYTES)
    throw new UmbraError('INVALID_ARGUMENT', `The volume has ${is}, and volumes cannot be made smaller`)
  }
  if (blockCount === superblock.blockCount) return
  const state = new VolumeState(storage, superblock, new ReadTickets(), CACHE_BYTES)
  state.pool.ensure(ROOM_BLOCKS)
  const liveRoot = raised(state, superblock.liveRoot, levelsFor(blockCount))
  const grown = { ...state.finishCut(0), blockCount, liveRoot }
  await storage.flush()
  writeSuperblock(storage, grown)
  await storage.flush()
  await state.releaseSpace()
}

/** The same tree below further levels, which are written. */
function raised(state: VolumeState, root: TreeRoot, levels: number): TreeRoot {
  if (root.physicalBlock === 0) return { ...root, levels }
  let top = root
  while (top.levels < levels) {
    const words = new Uint32Array(WORDS_PER_NODE)
    setEntry(words, 0, ENTRY_NODE, top.physicalBlock, top.birthEpoch, top.checksum)
    const bytes = nodeBytes(words)
    const physicalBlock = state.store.allocate()
    state.store.write(physicalBlock, bytes, 0)
    state.addedNode()
    top = { physicalBlock, birthEpoch: state.epoch, checksum: blockChecksum(bytes), levels: top.levels + 1 }
  }
  return top
}
