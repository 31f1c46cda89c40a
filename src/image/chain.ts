// A chain of image files as one read-only block device: the content of the last image's point.
//
// Always true: unless opened as foreign, every link and every digest was checked before the device was handed
// out; the files stay open until close(), so what was checked is what is read.

import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { DeltaExtent } from '../volume/points.ts'
import type { ImageIdentity } from './identity.ts'
import type { BlockReader } from './image-source.ts'
import type { ImageLayer } from './layer.ts'
import { LayerStack } from './layer-stack.ts'
import { closeLayers, openBelow, openLayers } from './open-layer.ts'
import type { LongWork } from './pace.ts'
import { checkLinks, verifyLayers } from './verify.ts'

export interface ChainOptions extends LongWork {
  /** Images of other tools: no identity is asked for, no digest checked. Default: false. */
  readonly foreign?: boolean | undefined
}

export class ImageChain implements BlockReader {
  /** Of the point that the device shows, verified; null for a foreign chain, whatever its files claim. */
  readonly identity: ImageIdentity | null
  readonly #stack: LayerStack

  /** Takes the layers over: close() closes them. */
  constructor(layers: readonly ImageLayer[], identity: ImageIdentity | null) {
    this.identity = identity
    this.#stack = new LayerStack(layers)
  }

  /** Oldest first. */
  get layers(): readonly ImageLayer[] {
    return this.#stack.layers
  }

  get sizeBytes(): number {
    return this.#stack.sizeBytes
  }

  /** The virtual size in blocks, a last part of a block counted whole. */
  get blockCount(): number {
    return Math.ceil(this.sizeBytes / BLOCK_SIZE_BYTES)
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    const bytes = Buffer.from(target.buffer, target.byteOffset, target.byteLength)
    this.#stack.read(offsetBytes, lengthBytes, bytes, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.readSync(offsetBytes, lengthBytes, target, targetOffset)
    return true
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  /** What may hold something other than zeros, in order. */
  *extents(): Generator<DeltaExtent> {
    for (const extent of this.#stack.extents()) if (extent.kind === 'data') yield extent
  }

  close(): void {
    closeLayers(this.layers)
  }
}

/**
 * Opens image files, oldest first; what the first one's backing name leads to comes before it.
 * @throws UmbraError WRONG_BASE, BAD_IMAGE, UNSUPPORTED_FEATURE, UNSUPPORTED_VERSION, ENOENT, ABORTED
 */
export async function openChain(paths: readonly string[], options: ChainOptions = {}): Promise<ImageChain> {
  const layers = openBelow(openLayers(paths))
  try {
    if (!options.foreign) {
      checkLinks(layers, null)
      await verifyLayers(layers, options)
    }
    return new ImageChain(layers, options.foreign ? null : (layers.at(-1)?.identity ?? null))
  } catch (error) {
    closeLayers(layers)
    throw error
  }
}
