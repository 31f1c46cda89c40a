// The journal of ext3 and ext4 (jbd2): which blocks a mount would put in place before anything else.
//
//   superblock, then a log that wraps: {descriptor, its data blocks, revocations}..., commit
//   descriptor: header, tags {block, flags, checksum}; tail {crc32c}; a tag for each data block after it
//   revocation: header, count of bytes, block numbers; tail
//   everything big endian
//
// Always true: only transactions whose commit block is there and right count, and the log ends at the
// first that is not; a block revoked in the same or a later transaction is not put in place. Nothing is
// written here: the caller is told what goes where.
// Source: Documentation/filesystems/ext4/journal.rst; Linux fs/jbd2/recovery.c for the passes.

import { CRC32C_SEED, crc32c } from '../../base/crc32c.ts'
import { UmbraError } from '../../base/errors.ts'
import type { SourceFileSystem } from './source-file-system.ts'

const MAGIC = 0xc03b3998
const HEADER_BYTES = 12
const DESCRIPTOR = 1
const COMMIT = 2
const SUPERBLOCK_V1 = 3
const SUPERBLOCK_V2 = 4
const REVOKE = 5
const INCOMPAT = { REVOKE: 1, BIT64: 2, ASYNC_COMMIT: 4, CSUM_V2: 8, CSUM_V3: 16, FAST_COMMIT: 32 } as const
const INCOMPAT_KNOWN = 63
const TAG = { ESCAPE: 1, SAME_UUID: 2, LAST: 8 } as const
const UUID_BYTES = 16
const REVOKE_HEADER_BYTES = 16
const TAIL_BYTES = 4
const SB = {
  BLOCK_SIZE: 12,
  LENGTH: 16,
  FIRST: 20,
  SEQUENCE: 24,
  START: 28,
  INCOMPAT: 40,
  UUID: 48,
  FAST_COMMIT_BLOCKS: 0x54,
  CHECKSUM: 0xfc,
  SIZE: 1024,
} as const

interface Tag {
  readonly blockIndex: number
  readonly flags: number
  readonly checksum: number
}

/** A journal block with its data, as found in the log. */
interface LogBlock {
  readonly position: number
  readonly bytes: Uint8Array
  readonly type: number
  readonly sequence: number
}

export class Journal {
  readonly #files: SourceFileSystem
  readonly #superblock: Uint8Array
  readonly #view: DataView
  readonly #blocks: Float64Array
  readonly #incompat: number
  readonly #seed: number
  readonly #first: number
  readonly #end: number

  /** @throws UmbraError CORRUPT, CHECKSUM_MISMATCH, UNSUPPORTED_FEATURE */
  constructor(files: SourceFileSystem, ino: number) {
    this.#files = files
    this.#blocks = blocksOf(files, ino)
    this.#superblock = this.#block(0)
    this.#view = viewOf(this.#superblock)
    const type = this.#view.getUint32(4)
    if (this.#view.getUint32(0) !== MAGIC || (type !== SUPERBLOCK_V1 && type !== SUPERBLOCK_V2))
      throw corrupt('it has no superblock')
    this.#incompat = type === SUPERBLOCK_V2 ? this.#view.getUint32(SB.INCOMPAT) : 0
    if (this.#incompat & ~INCOMPAT_KNOWN)
      throw new UmbraError(
        'UNSUPPORTED_FEATURE',
        `Its journal needs feature 0x${this.#incompat.toString(16)}`,
      )
    this.#seed = crc32c(CRC32C_SEED, this.#superblock, SB.UUID, UUID_BYTES)
    this.#checkSuperblock()
    const length = this.#view.getUint32(SB.LENGTH)
    this.#first = this.#view.getUint32(SB.FIRST)
    this.#end = length - (this.#incompat & INCOMPAT.FAST_COMMIT ? this.#fastCommitBlocks : 0)
    if (this.#view.getUint32(SB.BLOCK_SIZE) !== files.geometry.blockSizeBytes)
      throw corrupt('its blocks are of another size')
    if (length > this.#blocks.length || this.#first < 1 || this.#first >= this.#end)
      throw corrupt('its bounds make no sense')
  }

  get #hasChecksums(): boolean {
    return (this.#incompat & (INCOMPAT.CSUM_V2 | INCOMPAT.CSUM_V3)) !== 0
  }
  get #fastCommitBlocks(): number {
    return this.#view.getUint32(SB.FAST_COMMIT_BLOCKS) || 256
  }

  /** Device block of the journal's superblock, and its bytes with the log marked as empty. */
  emptied(nextSequence: number): { blockIndex: number; bytes: Uint8Array } {
    const bytes = this.#superblock.slice()
    const view = viewOf(bytes)
    view.setUint32(SB.SEQUENCE, nextSequence)
    view.setUint32(SB.START, 0)
    if (this.#hasChecksums) view.setUint32(SB.CHECKSUM, superblockChecksum(bytes))
    return { blockIndex: this.#blocks[0] as number, bytes }
  }

  /**
   * Visits what has to be put in place, oldest first.
   * @param put the bytes are the caller's
   * @returns the sequence that the next transaction would have
   * @throws UmbraError CHECKSUM_MISMATCH for a damaged data block of a committed transaction, CORRUPT
   */
  replay(put: (blockIndex: number, bytes: Uint8Array) => void): number {
    const start = this.#view.getUint32(SB.START)
    const firstSequence = this.#view.getUint32(SB.SEQUENCE)
    if (start === 0) return firstSequence
    if (start < this.#first || start >= this.#end) throw corrupt('its log starts outside')
    if (this.#incompat & INCOMPAT.FAST_COMMIT) this.#refuseFastCommits()
    const endSequence = this.#scan(start, firstSequence)
    const revoked = new Map<number, number>()
    this.#walk(start, firstSequence, endSequence, (block) => {
      if (block.type === REVOKE) this.#collectRevoked(block, revoked)
    })
    this.#walk(start, firstSequence, endSequence, (block) => {
      if (block.type === DESCRIPTOR) this.#putAll(block, revoked, put)
    })
    // As the kernel does: what still lies in the log must not look like the next transaction.
    return endSequence + 1
  }

  /** @returns the sequence of the first transaction that is not complete */
  #scan(start: number, firstSequence: number): number {
    let sequence = firstSequence
    let position = start
    for (let count = 0; count <= this.#end; count++) {
      const block = this.#logBlock(position, sequence)
      if (!block) return sequence
      if (block.type === DESCRIPTOR) {
        if (!this.#isTailRight(block.bytes)) return sequence
        const tags = this.#tags(block.bytes)
        count += tags.length
        position = this.#after(position, 1 + tags.length)
      } else if (block.type === COMMIT) {
        if (!this.#isCommitRight(block.bytes)) return sequence
        sequence++
        position = this.#after(position, 1)
      } else if (block.type === REVOKE) {
        if (!this.#isTailRight(block.bytes)) return sequence
        position = this.#after(position, 1)
      } else return sequence
    }
    return sequence
  }

  /** Visits the log's own blocks of the complete transactions. */
  #walk(start: number, firstSequence: number, endSequence: number, visit: (block: LogBlock) => void): void {
    let sequence = firstSequence
    let position = start
    while (sequence < endSequence) {
      const block = this.#logBlock(position, sequence)
      if (!block) throw corrupt('its log changed while it was read')
      visit(block)
      position = this.#after(position, 1 + (block.type === DESCRIPTOR ? this.#tags(block.bytes).length : 0))
      if (block.type === COMMIT) sequence++
    }
  }

  #after(position: number, count: number): number {
    const next = position + count
    return next >= this.#end ? next - (this.#end - this.#first) : next
  }

  #logBlock(position: number, sequence: number): LogBlock | undefined {
    const bytes = this.#block(position)
    const view = viewOf(bytes)
    if (view.getUint32(0) !== MAGIC || view.getUint32(8) !== sequence) return undefined
    return { position, bytes, type: view.getUint32(4), sequence }
  }

  #tags(bytes: Uint8Array): Tag[] {
    const view = viewOf(bytes)
    const isV3 = (this.#incompat & INCOMPAT.CSUM_V3) !== 0
    const is64 = (this.#incompat & INCOMPAT.BIT64) !== 0
    const tagBytes = isV3 ? 16 : 8 + (is64 ? 4 : 0) + (this.#incompat & INCOMPAT.CSUM_V2 ? 2 : 0)
    const end = bytes.length - (this.#hasChecksums ? TAIL_BYTES : 0)
    const tags: Tag[] = []
    for (let at = HEADER_BYTES; at + tagBytes <= end; ) {
      const flags = isV3 ? view.getUint32(at + 4) : view.getUint16(at + 6)
      const high = is64 ? view.getUint32(at + 8) : 0
      const blockIndex = high * 2 ** 32 + view.getUint32(at)
      tags.push({ blockIndex, flags, checksum: isV3 ? view.getUint32(at + 12) : view.getUint16(at + 4) })
      at += tagBytes + (flags & TAG.SAME_UUID ? 0 : UUID_BYTES)
      if (flags & TAG.LAST) break
    }
    return tags
  }

  #collectRevoked({ bytes, sequence }: LogBlock, revoked: Map<number, number>): void {
    const view = viewOf(bytes)
    const is64 = (this.#incompat & INCOMPAT.BIT64) !== 0
    const end = view.getUint32(HEADER_BYTES)
    if (end > bytes.length) throw corrupt('a list of revocations is too long')
    for (let at = REVOKE_HEADER_BYTES; at + (is64 ? 8 : 4) <= end; at += is64 ? 8 : 4) {
      const blockIndex = is64 ? Number(view.getBigUint64(at)) : view.getUint32(at)
      revoked.set(blockIndex, Math.max(revoked.get(blockIndex) ?? 0, sequence))
    }
  }

  #putAll(
    { position, bytes, sequence }: LogBlock,
    revoked: ReadonlyMap<number, number>,
    put: (blockIndex: number, bytes: Uint8Array) => void,
  ): void {
    for (const [i, tag] of this.#tags(bytes).entries()) {
      if (sequence <= (revoked.get(tag.blockIndex) ?? -1)) continue
      if (tag.blockIndex >= this.#files.geometry.blockCount) throw corrupt(`it has block ${tag.blockIndex}`)
      const data = this.#block(this.#after(position, 1 + i))
      this.#checkData(tag, sequence, data)
      if (tag.flags & TAG.ESCAPE) viewOf(data).setUint32(0, MAGIC)
      put(tag.blockIndex, data)
    }
  }

  #checkData(tag: Tag, sequence: number, data: Uint8Array): void {
    if (!this.#hasChecksums) return
    const number = new Uint8Array(4)
    viewOf(number).setUint32(0, sequence)
    const computed = crc32c(crc32c(this.#seed, number, 0, 4), data, 0, data.length)
    const isV3 = (this.#incompat & INCOMPAT.CSUM_V3) !== 0
    if (tag.checksum !== (isV3 ? computed : computed & 0xffff)) {
      throw new UmbraError(
        'CHECKSUM_MISMATCH',
        `Block ${tag.blockIndex} in the journal does not match its checksum`,
      )
    }
  }

  #isTailRight(bytes: Uint8Array): boolean {
    if (!this.#hasChecksums) return true
    const at = bytes.length - TAIL_BYTES
    return viewOf(bytes).getUint32(at) === this.#checksumWithout(bytes, at)
  }

  #isCommitRight(bytes: Uint8Array): boolean {
    if (!this.#hasChecksums) return true
    return viewOf(bytes).getUint32(16) === this.#checksumWithout(bytes, 16)
  }

  /** Of the whole block, the four bytes at `at` taken as zeros. */
  #checksumWithout(bytes: Uint8Array, at: number): number {
    const head = crc32c(this.#seed, bytes, 0, at)
    return crc32c(crc32c(head, new Uint8Array(4), 0, 4), bytes, at + 4, bytes.length - at - 4)
  }

  #checkSuperblock(): void {
    if (!this.#hasChecksums) return
    if (superblockChecksum(this.#superblock) !== this.#view.getUint32(SB.CHECKSUM)) {
      throw new UmbraError('CHECKSUM_MISMATCH', 'The superblock of the journal does not match its checksum')
    }
  }

  /** Fast commits are small records of another form behind the log; an area of zeros has none. */
  #refuseFastCommits(): void {
    const bytes = this.#block(this.#end)
    if (bytes.every((byte) => byte === 0)) return
    throw new UmbraError('UNSUPPORTED_FEATURE', 'Its journal holds fast commits; run e2fsck to replay it')
  }

  #block(position: number): Uint8Array {
    const blockIndex = this.#blocks[position]
    if (blockIndex === undefined) throw corrupt(`it has no block ${position}`)
    return this.#files.block(blockIndex)
  }
}

function blocksOf(files: SourceFileSystem, ino: number): Float64Array {
  const inode = files.inode(ino)
  const count = Math.floor(inode.sizeBytes / files.geometry.blockSizeBytes)
  if (count < 2 || count > files.geometry.blockCount) throw corrupt(`it has ${inode.sizeBytes} bytes`)
  const blocks = new Float64Array(count)
  let mapped = 0
  for (const run of files.runs(inode)) {
    for (let i = 0; i < run.blockCount && run.fileBlock + i < count; i++) {
      blocks[run.fileBlock + i] = run.deviceBlock + i
      mapped++
    }
  }
  if (mapped !== count) throw corrupt('it has holes')
  return blocks
}

function superblockChecksum(bytes: Uint8Array): number {
  const copy = bytes.slice(0, SB.SIZE)
  viewOf(copy).setUint32(SB.CHECKSUM, 0)
  return crc32c(CRC32C_SEED, copy, 0, SB.SIZE)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function corrupt(what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot replay the journal of the file system: ${what}`)
}
