// One image file as its own layer: what it holds itself, and what it leaves to the file below.
//
// Always true: mapAt() covers every byte below sizeBytes with runs of at least one byte; `unallocated`
// says that the layer below decides (zeros if there is none). Offsets and lengths that come from the
// file have been checked before they are used.

import type { ImageIdentity } from './identity.ts'
import type { Backing } from './qcow2-header.ts'

export type LayerKind = 'data' | 'zero' | 'unallocated'

export interface LayerRun {
  readonly kind: LayerKind
  readonly lengthBytes: number
}

export interface ImageLayer {
  readonly path: string
  readonly format: 'raw' | 'qcow2'
  /** Virtual size. */
  readonly sizeBytes: number
  /** Null: an image of another tool's. */
  readonly identity: ImageIdentity | null
  readonly backing: Backing | null

  /** What is at an offset below sizeBytes, and for how long at least, up to maxLengthBytes. @throws UmbraError BAD_IMAGE */
  mapAt(offsetBytes: number, maxLengthBytes: number): LayerRun
  /** Reads a range that mapAt() called data. @throws UmbraError BAD_IMAGE, IO_FAILED */
  readData(offsetBytes: number, lengthBytes: number, target: Buffer, targetOffset: number): void
  close(): void
}
