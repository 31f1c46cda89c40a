// Where a group's fixed metadata lies: copies of the superblock and descriptors, descriptor blocks.
//
// Always true: pure arithmetic on the geometry; what it says of a group is what a bitmap of that
// group starts from when it was never initialised (BLOCK_UNINIT).
// Source: Documentation/filesystems/ext4/blockgroup.rst, "Meta Block Groups", "sparse_super".

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { DESCRIPTOR_SIZE_BYTES } from './format.ts'

export const DESCRIPTORS_PER_BLOCK = BLOCK_SIZE_BYTES / DESCRIPTOR_SIZE_BYTES

export interface LayoutGeometry {
  readonly groupCount: number
  readonly blockCount: number
  readonly blocksPerGroup: number
  readonly sparseSuper: boolean
  readonly backupGroups: readonly [number, number] | undefined
  readonly firstMetaGroup: number
  readonly reservedDescriptorBlocks: number
}

/** Whether the group starts with a superblock (copy). */
export function hasSuperblock(geometry: LayoutGeometry, group: number): boolean {
  if (group === 0) return true
  if (geometry.backupGroups) return geometry.backupGroups.includes(group)
  if (group === 1 || !geometry.sparseSuper) return true
  if (group % 2 === 0) return false
  return isPower(group, 3) || isPower(group, 5) || isPower(group, 7)
}

function isPower(value: number, base: number): boolean {
  let power = base
  while (power < value) power *= base
  return power === value
}

export function descriptorBlockCount(geometry: LayoutGeometry): number {
  return Math.ceil(geometry.groupCount / DESCRIPTORS_PER_BLOCK)
}

/** Block that holds the `index`th block of descriptors. */
export function descriptorBlock(geometry: LayoutGeometry, index: number): number {
  if (index < geometry.firstMetaGroup) return 1 + index
  const group = index * DESCRIPTORS_PER_BLOCK
  return group * geometry.blocksPerGroup + (hasSuperblock(geometry, group) ? 1 : 0)
}

/** Blocks at the group's start that superblock and descriptors (copies, reserved ones) take. */
export function baseMetadataBlocks(geometry: LayoutGeometry, group: number): number {
  const superblock = hasSuperblock(geometry, group) ? 1 : 0
  const descriptors = descriptorBlockCount(geometry)
  const metaGroup = Math.floor(group / DESCRIPTORS_PER_BLOCK)
  if (metaGroup < geometry.firstMetaGroup) {
    const plain = Math.min(descriptors, geometry.firstMetaGroup)
    return superblock ? 1 + plain + geometry.reservedDescriptorBlocks : 0
  }
  const within = group % DESCRIPTORS_PER_BLOCK
  const own = within === 0 || within === 1 || within === DESCRIPTORS_PER_BLOCK - 1 ? 1 : 0
  return superblock + own
}

/** Blocks of the group; fewer in the last one. */
export function groupBlockCount(geometry: LayoutGeometry, group: number): number {
  return Math.min(geometry.blocksPerGroup, geometry.blockCount - group * geometry.blocksPerGroup)
}
