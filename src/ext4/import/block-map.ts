// The block map of ext2 and ext3: twelve direct blocks, then one, two and three levels of indirection.
//
// Always true: a pointer of 0 is a hole of as many blocks as it stands for; nothing past the blocks
// that are wanted is read, so a file's size bounds the work.
// Source: Documentation/filesystems/ext4/ifork.rst, "Direct/Indirect Block Addressing".

import { read32 } from '../bytes.ts'

const DIRECT_BLOCKS = 12
const LEVELS = 3

export interface MappedBlockVisit {
  /** Blocks of the file. */
  readonly blocksWanted: number
  visit(fileBlock: number, deviceBlock: number): void
}

/** @param blockArea the inode's 60 bytes @param readBlock throws for a block outside */
export function visitMappedBlocks(
  blockArea: Uint8Array,
  blockSizeBytes: number,
  readBlock: (blockIndex: number) => Uint8Array,
  { blocksWanted, visit }: MappedBlockVisit,
): void {
  const perBlock = blockSizeBytes / 4
  const walk = (pointer: number, level: number, fileBlock: number): void => {
    if (pointer === 0 || fileBlock >= blocksWanted) return
    if (level === 0) {
      visit(fileBlock, pointer)
      return
    }
    const bytes = readBlock(pointer)
    const span = perBlock ** (level - 1)
    for (let i = 0; i < perBlock && fileBlock + i * span < blocksWanted; i++) {
      walk(read32(bytes, i * 4), level - 1, fileBlock + i * span)
    }
  }
  for (let i = 0; i < DIRECT_BLOCKS; i++) walk(read32(blockArea, i * 4), 0, i)
  let first = DIRECT_BLOCKS
  for (let level = 1; level <= LEVELS; level++) {
    walk(read32(blockArea, (DIRECT_BLOCKS + level - 1) * 4), level, first)
    first += perBlock ** level
  }
}
