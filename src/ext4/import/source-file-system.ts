// Reading a file system of the ext2, ext3, ext4 family that is not ours: inodes, blocks, directories
// and attributes at any block size, with block maps or extents, with checksums or without.
//
// Always true: nothing is written; every pointer is held against the file system's bounds before it is
// followed; checksums of inodes are verified where there are any.
// Source: Documentation/filesystems/ext4 (group_descr.rst, inodes.rst, ifork.rst, directory.rst).

import { crc32c } from '../../base/crc32c.ts'
import { UmbraError } from '../../base/errors.ts'
import { read16, read32, write32 } from '../bytes.ts'
import {
  checkNode,
  childBlock,
  entryCount,
  entryKey,
  extentCount,
  extentTarget,
  isUnwritten,
  nodeDepth,
} from '../extent-node.ts'
import { GD, INODE, SUPERBLOCK_OFFSET_BYTES } from '../format.ts'
import { INODE_FLAG, Inode, ROOT_INO, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../inode.ts'
import { decodeInode, decodeInodeFields } from '../inode-record.ts'
import { decodeXattrArea, decodeXattrBlock, type Xattr } from '../xattr-block.ts'
import { visitMappedBlocks } from './block-map.ts'
import { type ByteSource, readSourceGeometry, type SourceGeometry } from './source-superblock.ts'

export interface SourceEntry {
  readonly name: string
  readonly ino: number
}

/** A run of blocks of a file; what is not in any run is a hole. */
export interface SourceRun {
  readonly fileBlock: number
  readonly blockCount: number
  readonly deviceBlock: number
  readonly unwritten: boolean
}

const XATTR_MAGIC = 0xea020000
const RECORD_HEADER_BYTES = 8
const FAST_TARGET_MAX_BYTES = 59

export class SourceFileSystem {
  readonly geometry: SourceGeometry
  readonly #source: ByteSource
  readonly #inodeTables: Float64Array
  readonly #scratch = new Uint8Array(4)
  /** That the file whose runs are looked for may still claim. */
  #blocksLeft = 0

  /** @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH, CORRUPT */
  constructor(source: ByteSource) {
    this.#source = source
    this.geometry = readSourceGeometry(source)
    this.#inodeTables = this.#readInodeTables()
  }

  get source(): ByteSource {
    return this.#source
  }

  /** A block's bytes, in a fresh array. @throws UmbraError CORRUPT for one outside */
  block(blockIndex: number): Uint8Array {
    const { blockSizeBytes, blockCount } = this.geometry
    if (!(blockIndex >= 0 && blockIndex < blockCount)) throw this.#corrupt(`block ${blockIndex} lies outside`)
    const bytes = new Uint8Array(blockSizeBytes)
    this.#source.readSync(blockIndex * blockSizeBytes, blockSizeBytes, bytes, 0)
    return bytes
  }

  /** An inode by its number, in use or not. @throws UmbraError CORRUPT, CHECKSUM_MISMATCH */
  inode(ino: number): Inode {
    const { inodesPerGroup, inodeSizeBytes, blockSizeBytes, hasChecksums } = this.geometry
    if (!(Number.isInteger(ino) && ino >= 1 && ino <= this.geometry.inodeCount)) {
      throw this.#corrupt(`inode ${ino} does not exist`)
    }
    const group = Math.floor((ino - 1) / inodesPerGroup)
    const at = this.#tableOf(group) * blockSizeBytes + ((ino - 1) % inodesPerGroup) * inodeSizeBytes
    const record = new Uint8Array(inodeSizeBytes)
    this.#source.readSync(at, inodeSizeBytes, record, 0)
    const inode = new Inode(ino)
    if (hasChecksums && inodeSizeBytes > 128) {
      decodeInode(inode, record, 0, inodeSizeBytes, (generation) => this.inodeSeed(ino, generation))
    } else decodeInodeFields(inode, record, 0, inodeSizeBytes)
    return inode
  }

  inodeSeed(ino: number, generation: number): number {
    write32(this.#scratch, 0, ino)
    const crc = crc32c(this.geometry.checksumSeed, this.#scratch, 0, 4)
    write32(this.#scratch, 0, generation)
    return crc32c(crc, this.#scratch, 0, 4)
  }

  /** Where an inode's record is, in bytes from the start of the source. */
  recordOffset(ino: number): number {
    const { inodesPerGroup, inodeSizeBytes, blockSizeBytes } = this.geometry
    const group = Math.floor((ino - 1) / inodesPerGroup)
    return this.#tableOf(group) * blockSizeBytes + ((ino - 1) % inodesPerGroup) * inodeSizeBytes
  }

  /**
   * Whether a file is mapped by blocks though the file system has extents (it was once ext3): asks every
   * inode.
   */
  hasBlockMaps(): boolean {
    const { inodesPerGroup, inodeSizeBytes, blockSizeBytes, groupCount, firstInode } = this.geometry
    const table = new Uint8Array(inodesPerGroup * inodeSizeBytes)
    for (let group = 0; group < groupCount; group++) {
      this.#source.readSync(this.#tableOf(group) * blockSizeBytes, table.length, table, 0)
      for (let i = 0; i < inodesPerGroup; i++) {
        const ino = group * inodesPerGroup + i + 1
        if (ino < firstInode && ino !== ROOT_INO) continue
        if (isBlockMapped(table, i * inodeSizeBytes)) return true
      }
    }
    return false
  }

  /**
   * The runs of a file, directory or slow symbolic link, in order.
   * @throws UmbraError CORRUPT, also for one that claims more blocks than there are: a crafted tree could
   *   else be walked for ever
   */
  runs(inode: Inode): SourceRun[] {
    const runs: SourceRun[] = []
    this.#blocksLeft = this.geometry.blockCount
    if (inode.flags & INODE_FLAG.EXTENTS) this.#extents(inode, inode.blockArea, undefined, runs)
    else {
      visitMappedBlocks(inode.blockArea, this.geometry.blockSizeBytes, (index) => this.#nodeBlock(index), {
        blocksWanted: Math.ceil(inode.sizeBytes / this.geometry.blockSizeBytes),
        visit: (fileBlock, deviceBlock) => this.#addBlock(runs, fileBlock, deviceBlock),
      })
    }
    return runs
  }

  /** Names of a directory, "." and ".." left out. @throws UmbraError CORRUPT */
  entries(directory: Inode): SourceEntry[] {
    const entries: SourceEntry[] = []
    const end = Math.ceil(directory.sizeBytes / this.geometry.blockSizeBytes)
    for (const run of this.runs(directory)) {
      for (let i = 0; i < run.blockCount && run.fileBlock + i < end; i++) {
        if (!run.unwritten) this.#addEntries(directory.ino, this.block(run.deviceBlock + i), entries)
      }
    }
    return entries
  }

  /** @throws UmbraError CORRUPT */
  symlinkTarget(inode: Inode): Uint8Array {
    const { sizeBytes } = inode
    const isFast = sizeBytes <= FAST_TARGET_MAX_BYTES && (inode.flags & INODE_FLAG.EXTENTS) === 0
    if (isFast) return inode.blockArea.slice(0, sizeBytes)
    const [run] = this.runs(inode)
    if (sizeBytes >= this.geometry.blockSizeBytes || run?.fileBlock !== 0)
      throw this.#corrupt(`symbolic link ${inode.ino} has no readable target`)
    return this.block(run.deviceBlock).slice(0, sizeBytes)
  }

  /** @throws UmbraError CORRUPT */
  xattrs(inode: Inode): Xattr[] {
    const inner = decodeXattrArea(inode.xattrArea, inode.ino)
    if (inode.xattrBlock === 0) return inner
    const bytes = this.block(inode.xattrBlock)
    if (read32(bytes, 0) !== XATTR_MAGIC || read32(bytes, 8) !== 1)
      throw this.#corrupt(`block ${inode.xattrBlock} is no block of extended attributes`)
    return [...inner, ...decodeXattrBlock(bytes, inode.ino)]
  }

  /** A block of the tree itself, which counts among the file's. */
  #nodeBlock(blockIndex: number): Uint8Array {
    this.#claim(1)
    return this.block(blockIndex)
  }

  #claim(blockCount: number): void {
    this.#blocksLeft -= blockCount
    if (this.#blocksLeft < 0) throw this.#corrupt('a file claims more blocks than there are')
  }

  #extents(inode: Inode, node: Uint8Array, depth: number | undefined, runs: SourceRun[]): void {
    checkNode(node, depth, this.geometry.blockCount, inode.ino)
    for (let i = 0; i < entryCount(node); i++) {
      if (nodeDepth(node) > 0) {
        this.#extents(inode, this.#nodeBlock(childBlock(node, i)), nodeDepth(node) - 1, runs)
        continue
      }
      const fileBlock = entryKey(node, i)
      const last = runs.at(-1)
      if (last && fileBlock < last.fileBlock + last.blockCount)
        throw this.#corrupt(`extents of inode ${inode.ino} overlap`)
      this.#claim(extentCount(node, i))
      runs.push({
        fileBlock,
        blockCount: extentCount(node, i),
        deviceBlock: extentTarget(node, i),
        unwritten: isUnwritten(node, i),
      })
    }
  }

  #addBlock(runs: SourceRun[], fileBlock: number, deviceBlock: number): void {
    if (deviceBlock >= this.geometry.blockCount) throw this.#corrupt(`block ${deviceBlock} lies outside`)
    this.#claim(1)
    const last = runs.at(-1)
    const joins =
      last &&
      last.fileBlock + last.blockCount === fileBlock &&
      last.deviceBlock + last.blockCount === deviceBlock
    if (joins) runs[runs.length - 1] = { ...last, blockCount: last.blockCount + 1 }
    else runs.push({ fileBlock, blockCount: 1, deviceBlock, unwritten: false })
  }

  #addEntries(ino: number, bytes: Uint8Array, entries: SourceEntry[]): void {
    for (let at = 0; at + RECORD_HEADER_BYTES <= bytes.length; ) {
      const target = read32(bytes, at)
      // A block of 64 KiB has a length that 16 bits do not hold: it is written as 0 or 65535.
      const stored = read16(bytes, at + 4)
      const length = bytes.length === 0x10000 && (stored === 0 || stored === 0xffff) ? bytes.length : stored
      const nameLength = bytes[at + 6] as number
      const needed = RECORD_HEADER_BYTES + (target === 0 ? 0 : nameLength)
      if (length % 4 !== 0 || length < Math.max(needed, RECORD_HEADER_BYTES) || at + length > bytes.length)
        throw this.#corrupt(`a record of directory ${ino} has length ${length}`)
      if (target !== 0 && nameLength > 0) {
        const start = at + RECORD_HEADER_BYTES
        const name = Buffer.from(bytes.buffer, bytes.byteOffset + start, nameLength).toString('latin1')
        if (name !== '.' && name !== '..') entries.push({ name, ino: target })
      }
      at += length
    }
  }

  #tableOf(group: number): number {
    return this.#inodeTables[group] as number
  }

  #readInodeTables(): Float64Array {
    const { geometry } = this
    const { groupCount, descriptorSizeBytes, blockSizeBytes } = geometry
    const perBlock = Math.floor(blockSizeBytes / descriptorSizeBytes)
    const tables = new Float64Array(groupCount)
    const tableBlocks = Math.ceil((geometry.inodesPerGroup * geometry.inodeSizeBytes) / blockSizeBytes)
    for (let first = 0; first < groupCount; first += perBlock) {
      const bytes = this.block(this.#descriptorBlock(first / perBlock, perBlock))
      for (let i = 0; i < perBlock && first + i < groupCount; i++) {
        const at = i * descriptorSizeBytes
        const high = descriptorSizeBytes >= 64 ? read32(bytes, at + GD.INODE_TABLE_HIGH) : 0
        const table = high * 2 ** 32 + read32(bytes, at + GD.INODE_TABLE)
        if (table < 1 || table + tableBlocks > geometry.blockCount)
          throw this.#corrupt(`the inode table of group ${first + i} lies outside`)
        tables[first + i] = table
      }
    }
    return tables
  }

  #descriptorBlock(index: number, perBlock: number): number {
    const { geometry } = this
    const { firstDataBlock, blocksPerGroup } = geometry
    // With clusters the first data block is 0 though the superblock is in block 1 of 1 KiB blocks.
    const superblock = Math.floor(SUPERBLOCK_OFFSET_BYTES / geometry.blockSizeBytes)
    if (!geometry.isMetaGroup || index < geometry.value.firstMetaGroup) return superblock + 1 + index
    const group = index * perBlock
    const start = firstDataBlock + group * blocksPerGroup
    return start + (this.#hasSuperblock(group) ? 1 : 0)
  }

  #hasSuperblock(group: number): boolean {
    if (group <= 1) return true
    const isSparse = (this.geometry.value.featureRoCompat & 1) !== 0
    if (!isSparse) return true
    return [3, 5, 7].some((base) => {
      let power = base
      while (power < group) power *= base
      return power === group
    })
  }

  #corrupt(what: string): UmbraError {
    return new UmbraError('CORRUPT', `Cannot read the file system that is taken in: ${what}`)
  }
}

/** Of a raw record: in use, and of a kind that has blocks. */
function isBlockMapped(table: Uint8Array, at: number): boolean {
  const type = read16(table, at + INODE.MODE) & S_IFMT
  if (type === 0 || read16(table, at + INODE.LINKS) === 0) return false
  if (read32(table, at + INODE.FLAGS) & INODE_FLAG.EXTENTS) return false
  const isLongLink = type === S_IFLNK && read32(table, at + INODE.SIZE) > FAST_TARGET_MAX_BYTES
  return type === S_IFREG || type === S_IFDIR || isLongLink
}
