// The file system at one point, as a comparison reads it: inodes by number, their records, where their
// blocks lie, the records of directory blocks, names.
//
// Always true: nothing is written; an inode that is not in use at the point is undefined, not an error;
// reserved inodes other than the root do not exist here.

import { hasCode } from '../../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../../base/units.ts'
import { Directories, isIndexed, visitRecords } from '../../ext4/directory.ts'
import { mapDirectoryBlock } from '../../ext4/directory-tree.ts'
import type { MappedRun } from '../../ext4/extent-tree.ts'
import { INODE_FLAG, type Inode, ROOT_INO } from '../../ext4/inode.ts'
import { Ext4Structure } from '../../ext4/structure.ts'
import { readSymlink } from '../../ext4/symlink.ts'
import { Xattrs } from '../../ext4/xattr.ts'
import type { BlockReader } from '../../image/image-source.ts'
import { ReaderDevice } from '../../image/reader-device.ts'

const CACHE_BYTES = 16 * 1024 * 1024
const INODE_COUNT = 4096
const NAME_LIMIT = 100_000
const NODE_RECORD_BYTES = BLOCK_SIZE_BYTES

/** A run of an inode table: consecutive inodes in consecutive blocks. */
export interface InodeTable {
  readonly firstIno: number
  readonly blockIndex: number
  readonly blockCount: number
}

export type EntryVisitor = (name: string, ino: number, fileType: number) => boolean

export class PointView {
  readonly #device: ReaderDevice
  readonly #core: Ext4Structure
  readonly #directories: Directories
  readonly #xattrs: Xattrs
  #directoryBlocksRead = 0

  /** @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH, CORRUPT */
  constructor(reader: BlockReader) {
    this.#device = new ReaderDevice(reader)
    this.#core = Ext4Structure.open(this.#device, {
      readOnly: true,
      cacheBytes: CACHE_BYTES,
      inodeCacheCount: INODE_COUNT,
    })
    this.#directories = new Directories(this.#core, NAME_LIMIT)
    this.#xattrs = new Xattrs(this.#core)
  }

  get blocksRead(): number {
    return this.#device.blocksRead
  }
  get directoryBlocksRead(): number {
    return this.#directoryBlocksRead
  }
  get inodeCount(): number {
    return this.#core.geometry.inodeCount
  }
  get uuid(): string {
    return this.#core.uuid
  }
  get inodesPerBlock(): number {
    return BLOCK_SIZE_BYTES / this.#core.geometry.inodeSizeBytes
  }

  inodeTables(): InodeTable[] {
    const { groupCount, inodesPerGroup } = this.#core.geometry
    const blockCount = inodesPerGroup / this.inodesPerBlock
    return Array.from({ length: groupCount }, (_, group) => {
      const firstIno = group * inodesPerGroup + 1
      return { firstIno, blockIndex: this.#core.inodeAllocator.tableBlock(firstIno), blockCount }
    })
  }

  /** The inode if it is in use. */
  inode(ino: number): Inode | undefined {
    const { firstInode, inodeCount } = this.#core.geometry
    if (ino > inodeCount || (ino < firstInode && ino !== ROOT_INO)) return undefined
    try {
      return this.#core.inode(ino)
    } catch (error) {
      if (hasCode(error, 'ESTALE')) return undefined
      throw error
    }
  }

  /** What `fileBlock` maps to, or the hole it lies in; an unwritten extent counts as a hole. */
  lookup(inode: Inode, fileBlock: number, run: MappedRun): void {
    if ((inode.flags & INODE_FLAG.EXTENTS) === 0) {
      run.fileBlock = fileBlock
      run.deviceBlock = 0
      run.blockCount = Number.MAX_SAFE_INTEGER - fileBlock
      run.unwritten = false
      return
    }
    this.#core.extents.lookup(inode, fileBlock, run)
    if (run.unwritten) run.deviceBlock = 0
  }

  symlinkTarget(inode: Inode): Uint8Array {
    return readSymlink(this.#core, inode)
  }

  xattrNames(inode: Inode): string[] {
    return this.#xattrs.list(inode)
  }
  xattr(inode: Inode, name: string): Uint8Array | undefined {
    return this.#xattrs.get(inode, name)
  }

  /** The inode of a path given as names; undefined: there is none. Links are not followed. */
  find(names: readonly string[]): Inode | undefined {
    let inode = this.inode(ROOT_INO)
    for (const name of names) {
      if (!inode?.isDirectory) return undefined
      const ino = this.#directories.lookup(inode, name)
      inode = ino === 0 ? undefined : this.inode(ino)
    }
    return inode
  }

  parentIno(directory: Inode): number {
    return this.#directories.parentIno(directory)
  }

  /** Visits the names of one block of a directory, "." and ".." left out. @returns false: had enough */
  visitDirectoryBlock(directory: Inode, fileBlock: number, visit: EntryVisitor): boolean {
    const index = this.#directories.indexOf(directory)
    this.#directoryBlocksRead++
    const isRoot = isIndexed(directory) && fileBlock === 0
    const blockIndex = mapDirectoryBlock(this.#core, directory, fileBlock)
    let isNode = false
    const block = this.#core.metadata(blockIndex, (bytes) => {
      isNode = isIndexNode(bytes)
      if (isRoot) index.verifyRoot(bytes)
      else if (isNode) index.verifyNode(bytes)
      else index.verifyLeaf(bytes)
    })
    if (isRoot || isNode || isIndexNode(block.bytes)) return true
    return visitRecords(block.bytes, 0, visit)
  }

  /** Visits the names of a whole directory. @returns false: had enough */
  visitDirectory(directory: Inode, visit: EntryVisitor): boolean {
    for (let fileBlock = 0; fileBlock < directory.sizeBytes / BLOCK_SIZE_BYTES; fileBlock++) {
      if (!this.visitDirectoryBlock(directory, fileBlock, visit)) return false
    }
    return true
  }
}

/** A node of a hash tree hides in one empty record as long as the block; a leaf has a tail. */
function isIndexNode(bytes: Uint8Array): boolean {
  const inode = (bytes[0] as number) | (bytes[1] as number) | (bytes[2] as number) | (bytes[3] as number)
  return inode === 0 && ((bytes[4] as number) | ((bytes[5] as number) << 8)) === NODE_RECORD_BYTES
}
