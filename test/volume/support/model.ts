// A brute-force model of a volume: what every block should read as, now and in each snapshot, and
// which physical blocks each tree refers to.

import { BLOCK_SIZE_BYTES } from '../../../src/base/units.ts'
import type { BlockDevice } from '../../../src/storage/block-device.ts'
import {
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_NODE,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
  type NodeReader,
} from '../../../src/volume/map-node.ts'
import type { TreeRoot } from '../../../src/volume/points.ts'

/** Block index to tag; a block that is not there reads as zeros. */
export type Contents = Map<number, number>

/** Deterministic random numbers in [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A block that names itself all through: its index and a tag in every 16 bytes. */
export function fillBlock(target: Uint8Array, offsetBytes: number, blockIndex: number, tag: number): void {
  const view = new DataView(target.buffer, target.byteOffset + offsetBytes, BLOCK_SIZE_BYTES)
  for (let at = 0; at < BLOCK_SIZE_BYTES; at += 16) {
    view.setUint32(at, blockIndex, true)
    view.setUint32(at + 4, tag, true)
    view.setUint32(at + 8, at, true)
    view.setUint32(at + 12, 0x5eed, true)
  }
}

/** Where the device differs from the contents; undefined: nowhere. */
export function difference(device: BlockDevice, contents: Contents): string | undefined {
  const chunkBlocks = 64
  const expected = new Uint8Array(chunkBlocks * BLOCK_SIZE_BYTES)
  const found = new Uint8Array(chunkBlocks * BLOCK_SIZE_BYTES)
  for (let first = 0; first < device.blockCount; first += chunkBlocks) {
    const count = Math.min(chunkBlocks, device.blockCount - first)
    for (let i = 0; i < count; i++) {
      const tag = contents.get(first + i)
      if (tag === undefined) expected.fill(0, i * BLOCK_SIZE_BYTES, (i + 1) * BLOCK_SIZE_BYTES)
      else fillBlock(expected, i * BLOCK_SIZE_BYTES, first + i, tag)
    }
    device.readSync(first * BLOCK_SIZE_BYTES, count * BLOCK_SIZE_BYTES, found, 0)
    const lengthBytes = count * BLOCK_SIZE_BYTES
    if (Buffer.compare(expected.subarray(0, lengthBytes), found.subarray(0, lengthBytes)) === 0) continue
    for (let i = 0; i < count; i++) {
      const at = i * BLOCK_SIZE_BYTES
      if (Buffer.compare(expected.subarray(at, at + 4096), found.subarray(at, at + 4096)) === 0) continue
      const view = new DataView(found.buffer, at, 16)
      return `block ${first + i}: expected tag ${contents.get(first + i)}, found block ${view.getUint32(0, true)} tag ${view.getUint32(4, true)}`
    }
  }
  return undefined
}

/** Every physical block a tree refers to, nodes included. */
export function referenced(nodes: NodeReader, root: TreeRoot): Set<number> {
  const blocks = new Set<number>()
  const visit = (physicalBlock: number, checksum: number, level: number) => {
    blocks.add(physicalBlock)
    const words = nodes.node(physicalBlock, checksum)
    for (let i = 0; i < ENTRIES_PER_NODE; i++) {
      const kind = entryKind(words, i)
      if (kind === ENTRY_DATA) blocks.add(entryPhysicalBlock(words, i))
      if (kind === ENTRY_NODE) visit(entryPhysicalBlock(words, i), entryChecksum(words, i), level - 1)
    }
  }
  if (root.physicalBlock !== 0) visit(root.physicalBlock, root.checksum, root.levels - 1)
  return blocks
}

/** Blocks that only the chosen trees refer to. */
export function heldOnlyBy(chosen: readonly Set<number>[], others: readonly Set<number>[]): number {
  const held = new Set<number>()
  for (const blocks of chosen) for (const block of blocks) held.add(block)
  for (const blocks of others) for (const block of blocks) held.delete(block)
  return held.size
}
