// Making a new volume in an empty storage.
//
// Always true: a storage that holds anything is refused; nothing but fixed places is written, so the
// cost does not depend on the virtual size; the first superblock is written after what it refers to
// is durable.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { randomUuid } from '../base/uuid.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { CATALOG_LEVELS } from './catalog.ts'
import { EMPTY_DEAD_LIST } from './dead-list.ts'
import { BLOCKS_PER_GROUP, INTENT_LOG_BLOCKS, INTENT_LOG_START } from './group-layout.ts'
import { GroupTable } from './group-table.ts'
import { levelsFor } from './map-node.ts'
import { SIDE_TABLE_LEVELS } from './side-table.ts'
import { emptyRoot } from './small-object.ts'
import { checkPolicy, DEFAULT_POLICY, type SpacePolicy } from './space-policy.ts'
import {
  BLOCK_COUNT_MAX,
  BLOCK_COUNT_MIN,
  EMPTY_LIST,
  LABEL_BYTES_MAX,
  type Superblock,
} from './superblock.ts'
import { writeSuperblock } from './superblock-slots.ts'

export interface CreateOptions {
  /** Virtual size: a multiple of 4096, 1 MiB to 16 TiB. */
  readonly sizeBytes: number
  readonly uuid?: string
  /** Up to 64 bytes of UTF-8. */
  readonly label?: string
  /** Default: no limits, evict-oldest. */
  readonly policy?: SpacePolicy
}

/** Looked at before anything is written: contents there mean the storage is in use. */
const LOOK_BYTES = 1024 * 1024

/** @throws UmbraError ALREADY_EXISTS, INVALID_ARGUMENT, OUT_OF_SPACE, IO_FAILED */
export async function createVolume(storage: BlockStorage, options: CreateOptions): Promise<void> {
  const blockCount = options.sizeBytes / BLOCK_SIZE_BYTES
  if (!Number.isInteger(blockCount) || blockCount < BLOCK_COUNT_MIN || blockCount > BLOCK_COUNT_MAX) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `A volume has 1 MiB to 16 TiB in blocks of 4096 bytes, not ${options.sizeBytes} bytes`,
    )
  }
  const label = options.label ?? ''
  if (Buffer.byteLength(label) > LABEL_BYTES_MAX || label.includes('\0')) {
    throw new UmbraError('INVALID_ARGUMENT', `A label has ${LABEL_BYTES_MAX} bytes at most`)
  }
  const policy = options.policy ?? DEFAULT_POLICY
  checkPolicy(policy)
  refuseContents(storage)
  storage.truncate(BLOCKS_PER_GROUP * BLOCK_SIZE_BYTES)
  const table = GroupTable.fresh(storage)
  table.writeChanged()
  await storage.flush()
  const superblock: Superblock = {
    transaction: 0,
    uuid: options.uuid ?? randomUuid(),
    label,
    epoch: 1,
    createdAtMs: Date.now(),
    blockCount,
    physicalBlockCount: BLOCKS_PER_GROUP,
    intentLogStart: INTENT_LOG_START,
    intentLogBlocks: INTENT_LOG_BLOCKS,
    liveRoot: emptyRoot(levelsFor(blockCount)),
    liveBlocks: 0,
    catalog: { root: emptyRoot(CATALOG_LEVELS), size: 0 },
    deadList: EMPTY_DEAD_LIST,
    sideTable: { root: emptyRoot(SIDE_TABLE_LEVELS), size: 0 },
    toFree: EMPTY_LIST,
    tables: table.tables,
    policy,
    incompatibleFeatures: 0,
    readOnlyFeatures: 0,
    compatibleFeatures: 0,
  }
  // Both slots, so that the next commit finds room for its superblock wherever it goes.
  writeSuperblock(storage, superblock)
  writeSuperblock(storage, { ...superblock, transaction: 1 })
  await storage.flush()
}

function refuseContents(storage: BlockStorage): void {
  const lengthBytes = Math.min(LOOK_BYTES, storage.sizeBytes)
  const start = new Uint8Array(lengthBytes)
  storage.readSync(0, lengthBytes, start, 0)
  if (start.every((byte) => byte === 0)) return
  throw new UmbraError('ALREADY_EXISTS', `${storage.name} is not empty; a volume is made in a new file`)
}
