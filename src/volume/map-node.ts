// The node of every radix tree in the volume file: the block map of the present and of each
// snapshot, and the small objects (catalog, dead-list directories, side table).
//
//   node   = 4096 bytes = 256 entries of 16 bytes, little endian
//   entry  = phys u48 | birth u40 | flags u8 | crc32c u32
//
// A tree has 1 to 4 levels. Level 0 is the leaf: its entries stand for one block each; an entry at
// level L stands for 256^L blocks. The kind of an entry is in its low three flag bits:
//
//   EMPTY 0  never written: reads as zeros, birth 0; may stand at any level for a whole subtree
//   DATA  1  at level 0 only: the block is at `phys`
//   NODE  2  at level 1 and above: the child node is at `phys` and has checksum `crc32c`
//   HOLE  4  discarded in epoch `birth`: reads as zeros, no location; any level, for a whole subtree
//
// Always true: a node's birth is at least that of everything below it, and at most the epoch of the
// tree's owner; the birth of a HOLE holds for every block below it. Flag META (8) beside DATA marks
// what was written as file-system metadata, which is never overwritten in place. The crc32c of a
// DATA entry is the content's checksum in the small objects and 0 (reserved) in block maps.
//
// A node in memory is a Uint32Array of its 1024 words; hosts are little endian (asserted).

import { assert } from '../base/assert.ts'
import { CRC32C_SEED, crc32c } from '../base/crc32c.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'

assert(new Uint8Array(Uint32Array.of(1).buffer)[0] === 1, 'the host is little endian')

export const ENTRIES_PER_NODE = 256
export const WORDS_PER_NODE = BLOCK_SIZE_BYTES / 4
export const TREE_LEVELS_MAX = 4

export const ENTRY_EMPTY = 0
export const ENTRY_DATA = 1
export const ENTRY_NODE = 2
export const ENTRY_HOLE = 4
/** Beside ENTRY_DATA: written as file-system metadata. Not part of the kind. */
export const ENTRY_FLAG_META = 8
const KIND_MASK = 7
export const ENTRY_FLAGS_KNOWN = KIND_MASK | ENTRY_FLAG_META

/** Largest values of the fields. */
export const PHYSICAL_BLOCK_MAX = 2 ** 48 - 1
export const BIRTH_MAX = 2 ** 40 - 1

/** The 1024 words of a node. */
export type NodeWords = Uint32Array

/** Reads nodes of trees that nobody changes any more. */
export interface NodeReader {
  /**
   * The node at `physicalBlock`, whose parent says its checksum is `checksum`. The words stay as they
   * are and must not be changed.
   * @throws UmbraError CHECKSUM_MISMATCH, IO_FAILED
   */
  node(physicalBlock: number, checksum: number): NodeWords
}

/** ENTRY_EMPTY, ENTRY_DATA, ENTRY_NODE or ENTRY_HOLE; anything else is damage. */
export function entryKind(words: NodeWords, index: number): number {
  return ((words[index * 4 + 2] as number) >>> 24) & KIND_MASK
}

/** The whole flags byte. */
export function entryFlags(words: NodeWords, index: number): number {
  return (words[index * 4 + 2] as number) >>> 24
}

export function entryPhysicalBlock(words: NodeWords, index: number): number {
  const at = index * 4
  return (words[at] as number) + ((words[at + 1] as number) & 0xffff) * 2 ** 32
}

export function entryBirth(words: NodeWords, index: number): number {
  const at = index * 4
  return ((words[at + 1] as number) >>> 16) + ((words[at + 2] as number) & 0xffffff) * 0x10000
}

export function entryChecksum(words: NodeWords, index: number): number {
  return words[index * 4 + 3] as number
}

/** `flags` is a kind, or ENTRY_DATA | ENTRY_FLAG_META. */
export function setEntry(
  words: NodeWords,
  index: number,
  flags: number,
  physicalBlock: number,
  birth: number,
  checksum: number,
): void {
  const at = index * 4
  words[at] = physicalBlock
  words[at + 1] = (physicalBlock / 2 ** 32) | (birth << 16)
  words[at + 2] = Math.floor(birth / 0x10000) | (flags << 24)
  words[at + 3] = checksum
}

export function setEntryChecksum(words: NodeWords, index: number, checksum: number): void {
  words[index * 4 + 3] = checksum
}

export function clearEntry(words: NodeWords, index: number): void {
  words.fill(0, index * 4, index * 4 + 4)
}

/** The bytes of a node, sharing its memory. */
export function nodeBytes(words: NodeWords): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, BLOCK_SIZE_BYTES)
}

/** The checksum of a block as parents record it. */
export function blockChecksum(bytes: Uint8Array, offsetBytes = 0): number {
  return crc32c(CRC32C_SEED, bytes, offsetBytes, BLOCK_SIZE_BYTES)
}

/** How many blocks one entry at `level` stands for. */
export function blocksPerEntry(level: number): number {
  return ENTRIES_PER_NODE ** level
}

/** Levels that a tree needs for so many blocks: 1 to 4. */
export function levelsFor(blockCount: number): number {
  let levels = 1
  while (ENTRIES_PER_NODE ** levels < blockCount) levels++
  assert(levels <= TREE_LEVELS_MAX, `${blockCount} blocks fit a tree of ${TREE_LEVELS_MAX} levels`)
  return levels
}
