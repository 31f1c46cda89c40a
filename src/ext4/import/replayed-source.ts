// A source as it reads after its journal was replayed, with nothing written anywhere.
//
// Always true: what the journal puts in place is kept in memory, one copy of each block, so memory
// grows with the journal's live part and never past the journal's size.

import { read32, write32 } from '../bytes.ts'
import { INCOMPAT, RO_COMPAT, SB, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_SIZE_BYTES } from '../format.ts'
import { superblockChecksum } from '../superblock.ts'
import { Journal } from './journal.ts'
import { SourceFileSystem } from './source-file-system.ts'
import type { ByteSource } from './source-superblock.ts'

const FEATURE_INCOMPAT_AT = 0x60
const FEATURE_RO_COMPAT_AT = 0x64

export class ReplayedSource implements ByteSource {
  readonly blockCount: number
  /** By block of the file system. */
  readonly replaced: ReadonlyMap<number, Uint8Array>
  readonly blockSizeBytes: number
  readonly #source: ByteSource

  private constructor(source: ByteSource, blockSizeBytes: number, replaced: ReadonlyMap<number, Uint8Array>) {
    this.#source = source
    this.blockCount = source.blockCount
    this.blockSizeBytes = blockSizeBytes
    this.replaced = replaced
  }

  /**
   * The source after recovery: its journal empty, its superblock free of the sign that it needs one.
   * @throws UmbraError CORRUPT, CHECKSUM_MISMATCH, UNSUPPORTED_FEATURE
   */
  static open(source: ByteSource): ReplayedSource {
    const files = new SourceFileSystem(source)
    const { blockSizeBytes } = files.geometry
    const replaced = new Map<number, Uint8Array>()
    const replayed = new ReplayedSource(source, blockSizeBytes, replaced)
    if (!files.geometry.needsRecovery) return replayed
    const journal = new Journal(files, files.geometry.value.journalInode)
    const next = journal.replay((blockIndex, bytes) => replaced.set(blockIndex, bytes))
    const { blockIndex, bytes } = journal.emptied(next)
    replaced.set(blockIndex, bytes)
    replayed.#clearRecovery(files, replaced)
    return replayed
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#source.readSync(offsetBytes, lengthBytes, target, targetOffset)
    if (this.replaced.size === 0) return
    const end = offsetBytes + lengthBytes
    const size = this.blockSizeBytes
    for (let block = Math.floor(offsetBytes / size); block * size < end; block++) {
      const bytes = this.replaced.get(block)
      if (!bytes) continue
      const from = Math.max(offsetBytes, block * size)
      const to = Math.min(end, (block + 1) * size)
      target.set(bytes.subarray(from - block * size, to - block * size), targetOffset + from - offsetBytes)
    }
  }

  #clearRecovery(files: SourceFileSystem, replaced: Map<number, Uint8Array>): void {
    const blockIndex = Math.floor(SUPERBLOCK_OFFSET_BYTES / this.blockSizeBytes)
    const bytes = replaced.get(blockIndex) ?? files.block(blockIndex)
    const at = (SUPERBLOCK_OFFSET_BYTES % this.blockSizeBytes) + FEATURE_INCOMPAT_AT
    write32(bytes, at, read32(bytes, at) & ~INCOMPAT.RECOVER)
    const rawAt = SUPERBLOCK_OFFSET_BYTES % this.blockSizeBytes
    seal(bytes.subarray(rawAt, rawAt + SUPERBLOCK_SIZE_BYTES))
    replaced.set(blockIndex, bytes)
  }
}

function seal(raw: Uint8Array): void {
  if (read32(raw, FEATURE_RO_COMPAT_AT) & RO_COMPAT.METADATA_CSUM) {
    write32(raw, SB.CHECKSUM, superblockChecksum(raw))
  }
}
