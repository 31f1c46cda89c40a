// Brings a file system that was in use when its image was made to what a mount makes of it: journal
// replayed, orphans gone.
//
// Always true: what is done becomes durable with the caller's next commit, all of it or nothing; after
// that neither the kernel nor e2fsck has anything left to recover. Works on file systems that are
// served in place (blocks of 4 KiB); others are converted and leave their orphans behind.
// Source: Linux fs/ext4/orphan.c; Documentation/filesystems/ext4/orphan.rst.

import { crc32c } from '../../base/crc32c.ts'
import { UmbraError } from '../../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import type { BlockDevice } from '../../storage/block-device.ts'
import { read32, write32 } from '../bytes.ts'
import { FileData } from '../file-data.ts'
import { RO_COMPAT, SB, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_SIZE_BYTES } from '../format.ts'
import { type Inode, ROOT_INO } from '../inode.ts'
import { encodeInode } from '../inode-record.ts'
import { Ext4Structure } from '../structure.ts'
import { RO_COMPAT_ORPHAN_PRESENT, superblockChecksum } from '../superblock.ts'
import { ReplayedSource } from './replayed-source.ts'
import { SourceFileSystem } from './source-file-system.ts'

const FEATURE_RO_COMPAT_AT = 0x64
const ORPHAN_BLOCK_MAGIC = 0x0b10ca04
const ORPHAN_TAIL_BYTES = 8

/** @throws UmbraError CORRUPT, CHECKSUM_MISMATCH, UNSUPPORTED_FEATURE, OUT_OF_SPACE */
export function recoverFileSystem(device: BlockDevice): void {
  const { replaced } = ReplayedSource.open(device)
  for (const [blockIndex, bytes] of replaced) device.writeData(blockIndex, 1, bytes, 0)
  const files = new SourceFileSystem(device)
  const orphans = files.geometry.hasOrphans ? findOrphans(files) : []
  if (files.geometry.hasOrphans) {
    for (const inode of orphans) adopt(device, files, inode)
    clearOrphanMarks(device)
  }
  if (replaced.size === 0 && orphans.length === 0) return
  const core = Ext4Structure.open(device)
  for (const { ino, linkCount } of orphans) settle(core, ino, linkCount)
  // A mounted file system does not keep its superblock's counts: the next flush writes what groups say.
  core.begin(1)
  core.markInodeDirty(core.inode(ROOT_INO))
}

/** Inodes that were removed while open, or were being cut off. @throws UmbraError CORRUPT for a list in a circle */
function findOrphans(files: SourceFileSystem): Inode[] {
  const { geometry } = files
  const found = new Map<number, Inode>()
  const add = (ino: number): Inode => {
    if (found.has(ino)) throw corrupt(`inode ${ino} is listed twice`)
    if (ino < geometry.firstInode) throw corrupt(`inode ${ino} is reserved`)
    const inode = files.inode(ino)
    found.set(ino, inode)
    return inode
  }
  // Each one's time of deletion is the next one's number.
  for (let ino = geometry.value.lastOrphan; ino !== 0; ) ino = add(ino).deletedAtSec
  for (const { bytes } of orphanBlocks(files)) {
    for (let at = 0; at < bytes.length - ORPHAN_TAIL_BYTES; at += 4) {
      if (read32(bytes, at) !== 0) add(read32(bytes, at))
    }
  }
  return [...found.values()]
}

function* orphanBlocks(files: SourceFileSystem): Generator<{ blockIndex: number; bytes: Uint8Array }> {
  const { orphanFileInode } = files.geometry
  if (orphanFileInode === 0) return
  for (const run of files.runs(files.inode(orphanFileInode))) {
    for (let i = 0; i < run.blockCount; i++) {
      const bytes = files.block(run.deviceBlock + i)
      if (read32(bytes, bytes.length - ORPHAN_TAIL_BYTES) !== ORPHAN_BLOCK_MAGIC)
        throw corrupt('a block of the orphan file has no magic')
      yield { blockIndex: run.deviceBlock + i, bytes }
    }
  }
}

/** Writes the record as one in use, so that the file system opens it like any other. */
function adopt(device: BlockDevice, files: SourceFileSystem, inode: Inode): void {
  const at = files.recordOffset(inode.ino)
  const blockIndex = Math.floor(at / BLOCK_SIZE_BYTES)
  const bytes = files.block(blockIndex)
  const { linkCount } = inode
  inode.deletedAtSec = 0
  inode.linkCount = Math.max(1, linkCount)
  encodeInode(
    inode,
    bytes,
    at % BLOCK_SIZE_BYTES,
    files.geometry.inodeSizeBytes,
    files.inodeSeed(inode.ino, inode.generation),
  )
  inode.linkCount = linkCount
  device.writeData(blockIndex, 1, bytes, 0)
}

function clearOrphanMarks(device: BlockDevice): void {
  const files = new SourceFileSystem(device)
  const block = files.block(0)
  const raw = block.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_SIZE_BYTES)
  write32(raw, SB.LAST_ORPHAN, 0)
  write32(raw, FEATURE_RO_COMPAT_AT, read32(raw, FEATURE_RO_COMPAT_AT) & ~RO_COMPAT_ORPHAN_PRESENT)
  if (read32(raw, FEATURE_RO_COMPAT_AT) & RO_COMPAT.METADATA_CSUM) {
    write32(raw, SB.CHECKSUM, superblockChecksum(raw))
  }
  device.writeData(0, 1, block, 0)
  const { orphanFileInode } = files.geometry
  if (orphanFileInode === 0) return
  const seed = files.inodeSeed(orphanFileInode, files.inode(orphanFileInode).generation)
  for (const { blockIndex, bytes } of orphanBlocks(files)) {
    bytes.fill(0, 0, bytes.length - ORPHAN_TAIL_BYTES)
    write32(bytes, bytes.length - 4, orphanBlockChecksum(seed, blockIndex, bytes))
    device.writeData(blockIndex, 1, bytes, 0)
  }
}

function orphanBlockChecksum(seed: number, blockIndex: number, bytes: Uint8Array): number {
  const number = new Uint8Array(8)
  write32(number, 0, blockIndex % 2 ** 32)
  write32(number, 4, Math.floor(blockIndex / 2 ** 32))
  return crc32c(crc32c(seed, number, 0, 8), bytes, 0, bytes.length - ORPHAN_TAIL_BYTES)
}

/** Removes what has no link; cuts off what is behind the end of what has one. */
function settle(core: Ext4Structure, ino: number, linkCount: number): void {
  const inode = core.inode(ino)
  if (linkCount > 0) {
    if (inode.isRegular) new FileData(core).truncate(inode, inode.sizeBytes)
    return
  }
  core.begin(core.releaseCost(inode), true)
  inode.linkCount = 0
  core.dropInode(inode)
}

function corrupt(what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot recover the file system: among its orphans, ${what}`)
}
