// Which of the four superblock copies counts, and mending the others.
//
// Always true: the newest transaction with one good copy wins; a damaged or older copy beside it in
// its slot is reported and can be mended; only when both copies of a slot are bad was it an
// unfinished write (or worse), and the other slot is taken. A copy with a right checksum that this
// program is too old for refuses the whole volume, whatever the other slot says: going back to the
// slot before would undo a newer program's work. Nothing is ever formatted here.

import { isDeepStrictEqual } from 'node:util'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { SUPERBLOCK_HOMES } from './group-layout.ts'
import {
  decodeSuperblock,
  encodeSuperblock,
  hasGoodChecksum,
  hasVolumeMagic,
  type Superblock,
} from './superblock.ts'

export interface BadCopy {
  readonly slot: number
  readonly copy: number
  readonly physicalBlock: number
  readonly reason: string
}

export interface OpenReport {
  /** Transaction that was opened. */
  readonly transaction: number
  /** Superblock copies that are damaged, or older than their twin. */
  readonly badCopies: readonly BadCopy[]
  /** The bad ones that were rewritten from a good twin. */
  readonly mended: readonly BadCopy[]
  /** True: both copies of the other slot, which may have been newer, are unreadable. */
  readonly fellBack: boolean
}

interface Copy {
  readonly slot: number
  readonly copy: number
  readonly physicalBlock: number
  readonly found: Superblock | UmbraError
}

export interface ChosenSuperblock {
  readonly superblock: Superblock
  readonly badCopies: readonly BadCopy[]
  readonly fellBack: boolean
  /** True: the transaction before it is there and is the same state, so going back to it loses nothing. */
  readonly isTwinned: boolean
}

/**
 * Reads all four copies and chooses.
 * @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH,
 * CORRUPT, TRUNCATED, IO_FAILED
 */
export function chooseSuperblock(storage: BlockStorage, readOnly: boolean): ChosenSuperblock {
  const copies = readCopies(storage, readOnly)
  let superblock: Superblock | undefined
  for (const { found } of copies) {
    if (found instanceof UmbraError) continue
    if (superblock === undefined || found.transaction > superblock.transaction) superblock = found
  }
  if (superblock === undefined) throw worst(copies, storage)
  const neededBytes = superblock.physicalBlockCount * BLOCK_SIZE_BYTES
  if (storage.sizeBytes < neededBytes) {
    throw new UmbraError(
      'TRUNCATED',
      `${storage.name} has ${storage.sizeBytes} bytes, but the volume in it needs ${neededBytes}`,
      { sizeBytes: storage.sizeBytes, neededBytes },
    )
  }
  const slot = superblock.transaction % 2
  return {
    superblock,
    badCopies: badCopies(copies, superblock.transaction),
    fellBack: copies.every((copy) => copy.slot === slot || copy.found instanceof UmbraError),
    isTwinned: copies.some((copy) => copy.slot !== slot && isTwin(copy.found, superblock)),
  }
}

function isTwin(found: Superblock | UmbraError, superblock: Superblock): boolean {
  const { transaction } = superblock
  if (found instanceof UmbraError || found.transaction !== transaction - 1) return false
  return isDeepStrictEqual({ ...found, transaction }, superblock)
}

/** Writes the good superblock over each bad copy in its own slot. The caller flushes. */
export function mendCopies(storage: BlockStorage, chosen: ChosenSuperblock): BadCopy[] {
  const slot = chosen.superblock.transaction % 2
  const mended = chosen.badCopies.filter((copy) => copy.slot === slot)
  for (const copy of mended) {
    storage.write(
      copy.physicalBlock * BLOCK_SIZE_BYTES,
      BLOCK_SIZE_BYTES,
      encodeSuperblock(chosen.superblock),
      0,
    )
  }
  return mended
}

/** A commit's superblock, encoded: no storage keeps what it was given. */
const scratch = new Uint8Array(BLOCK_SIZE_BYTES)

/** Writes both copies of the superblock's slot. */
export function writeSuperblock(storage: BlockStorage, superblock: Superblock): void {
  const block = encodeSuperblock(superblock, scratch)
  for (const home of SUPERBLOCK_HOMES[superblock.transaction % 2] ?? []) {
    storage.write(home * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
  }
}

function readCopies(storage: BlockStorage, readOnly: boolean): Copy[] {
  const copies: Copy[] = []
  for (const [slot, homes] of SUPERBLOCK_HOMES.entries()) {
    for (const [copy, physicalBlock] of homes.entries()) {
      copies.push({ slot, copy, physicalBlock, found: readCopy(storage, physicalBlock, slot, readOnly) })
    }
  }
  return copies
}

function readCopy(
  storage: BlockStorage,
  physicalBlock: number,
  slot: number,
  readOnly: boolean,
): Superblock | UmbraError {
  const block = new Uint8Array(BLOCK_SIZE_BYTES)
  try {
    storage.readSync(physicalBlock * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, block, 0)
  } catch (error) {
    if (error instanceof UmbraError) return error
    throw error
  }
  try {
    const found = decodeSuperblock(block, readOnly)
    if (found.transaction % 2 === slot) return found
    return new UmbraError('CORRUPT', `A superblock of transaction ${found.transaction} is in slot ${slot}`)
  } catch (error) {
    if (!(error instanceof UmbraError)) throw error
    const tooNew = error.code === 'UNSUPPORTED_VERSION' || error.code === 'UNSUPPORTED_FEATURE'
    if (tooNew && hasVolumeMagic(block) && hasGoodChecksum(block)) throw error
    return error
  }
}

function badCopies(copies: readonly Copy[], newest: number): BadCopy[] {
  const bad: BadCopy[] = []
  for (const { slot, copy, physicalBlock, found } of copies) {
    if (found instanceof UmbraError) {
      bad.push({ slot, copy, physicalBlock, reason: found.message })
    } else if (slot === newest % 2 && found.transaction !== newest) {
      bad.push({ slot, copy, physicalBlock, reason: `It is of transaction ${found.transaction}` })
    }
  }
  return bad
}

/** The most telling of four failures: what got furthest in the order of validation. */
function worst(copies: readonly Copy[], storage: BlockStorage): UmbraError {
  const order = ['CORRUPT', 'CHECKSUM_MISMATCH', 'UNSUPPORTED_FEATURE', 'UNSUPPORTED_VERSION', 'IO_FAILED']
  for (const code of order) {
    for (const { found } of copies) {
      if (found instanceof UmbraError && found.code === code) {
        return new UmbraError(
          found.code,
          `Cannot open ${storage.name}: no superblock is whole (${found.message})`,
        )
      }
    }
  }
  return new UmbraError('NOT_A_VOLUME', `${storage.name} is not an Umbra volume`)
}
