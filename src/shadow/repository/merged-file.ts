// The content of one file as a chain of backups leaves it: which bytes of which saved files, in order.
//
// Always true: pieces are sorted, do not overlap and end within the size; of a whole file what no piece covers is
// zeros, of one that is known by its ranges alone it is not known.

import { UmbraError } from '../../base/errors.ts'
import type { ByteRange } from '../documents/byte-ranges.ts'
import type { StoredFile } from './manifest.ts'

/** A saved file of some backup. */
export interface SavedSource {
  /** Absolute. */
  readonly path: string
  readonly stored: StoredFile
}

export interface Piece extends ByteRange {
  readonly source: SavedSource
  readonly sourceOffsetBytes: number
}

export class MergedFile {
  readonly isWhole: boolean
  /** The one saved file that this is, byte for byte; null: it is put together from several. */
  source: SavedSource | null
  #sizeBytes: number
  #pieces: Piece[]

  private constructor(isWhole: boolean, sizeBytes: number, source: SavedSource | null, pieces: Piece[]) {
    this.isWhole = isWhole
    this.source = source
    this.#sizeBytes = sizeBytes
    this.#pieces = pieces
  }

  static whole(source: SavedSource): MergedFile {
    const { sizeBytes } = source.stored
    const piece = { offsetBytes: 0, lengthBytes: sizeBytes, source, sourceOffsetBytes: 0 }
    return new MergedFile(true, sizeBytes, source, sizeBytes === 0 ? [] : [piece])
  }

  /** Of a file that no older backup of the chain has. */
  static ofRanges(ranges: readonly ByteRange[], source: SavedSource, sizeBytes: number): MergedFile {
    const file = new MergedFile(false, 0, null, [])
    file.overlay(ranges, source, sizeBytes)
    return file
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  get pieces(): readonly Piece[] {
    return this.#pieces
  }

  /**
   * The file cut or grown to a size, then these ranges written over it.
   * @param ranges sorted, not overlapping
   * @param source holds the ranges one after another
   * @throws UmbraError INVALID_DOCUMENT when they are not
   */
  overlay(ranges: readonly ByteRange[], source: SavedSource, sizeBytes: number): void {
    const pieces: Piece[] = []
    const older = new PieceReader(this.#pieces)
    let end = 0
    let sourceOffsetBytes = 0
    for (const { offsetBytes, lengthBytes } of ranges) {
      if (offsetBytes < end || offsetBytes + lengthBytes > sizeBytes)
        throw new UmbraError('INVALID_DOCUMENT', `Ranges for ${source.path} overlap or go beyond its file`)
      older.takeUpTo(Math.min(offsetBytes, sizeBytes), end, pieces)
      if (lengthBytes > 0) pieces.push({ offsetBytes, lengthBytes, source, sourceOffsetBytes })
      sourceOffsetBytes += lengthBytes
      end = offsetBytes + lengthBytes
    }
    older.takeUpTo(sizeBytes, end, pieces)
    this.#pieces = pieces
    this.#sizeBytes = sizeBytes
    this.source = null
  }
}

/** Goes through pieces once, from the start of the file to its end. */
class PieceReader {
  readonly #pieces: readonly Piece[]
  #next = 0

  constructor(pieces: readonly Piece[]) {
    this.#pieces = pieces
  }

  /** Adds what lies from one offset up to another; offsets never go down from call to call. */
  takeUpTo(toBytes: number, fromBytes: number, target: Piece[]): void {
    for (; this.#next < this.#pieces.length; this.#next++) {
      const piece = this.#pieces[this.#next] as Piece
      const pieceEnd = piece.offsetBytes + piece.lengthBytes
      const begin = Math.max(piece.offsetBytes, fromBytes)
      const end = Math.min(pieceEnd, toBytes)
      if (end > begin) {
        const sourceOffsetBytes = piece.sourceOffsetBytes + (begin - piece.offsetBytes)
        target.push({ ...piece, offsetBytes: begin, lengthBytes: end - begin, sourceOffsetBytes })
      }
      // The rest of this one may be wanted behind the next range.
      if (pieceEnd > toBytes) return
    }
  }
}
