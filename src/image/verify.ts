// Checks images: that each holds what its identity's digest says, and that each starts from the point where the
// one below it ends.
//
// Always true: nothing is written here, and what passes verifyLayer() reads, block for block, as it was exported.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import { ContentDigest } from './digest.ts'
import { followsFrom, type ImageIdentity } from './identity.ts'
import type { ImageLayer } from './layer.ts'
import { closeLayers, openBelow, openLayer, openLayers } from './open-layer.ts'
import { type LongWork, Pace } from './pace.ts'
import { isUntouched, readSidecar } from './sidecar.ts'

export interface VerifiedImage {
  readonly path: string
  readonly format: 'raw' | 'qcow2'
  readonly identity: ImageIdentity
}

/** Checks one file's content. @throws UmbraError BAD_IMAGE, ABORTED, and what opening throws */
export async function verifyImage(path: string, work: LongWork = {}): Promise<VerifiedImage> {
  const layer = openLayer(path)
  try {
    await verifyLayers([layer], work)
    return described(layer)
  } finally {
    layer.close()
  }
}

/**
 * Checks every file of a chain and the links between them, oldest first; one file stands for itself and
 * what its backing names lead to.
 * @throws UmbraError BAD_IMAGE, WRONG_BASE, ABORTED, and what opening throws
 */
export async function verifyChain(paths: readonly string[], work: LongWork = {}): Promise<VerifiedImage[]> {
  const layers = openBelow(openLayers(paths))
  try {
    checkLinks(layers, null)
    await verifyLayers(layers, work)
    return layers.map(described)
  } finally {
    closeLayers(layers)
  }
}

/**
 * @param below where the first layer must start from; null: the first must be a full image
 * @throws UmbraError WRONG_BASE, BAD_IMAGE for an image without identity
 */
export function checkLinks(layers: readonly ImageLayer[], below: ImageIdentity | null): void {
  let previous = below
  let previousName = 'the target'
  for (const layer of layers) {
    const identity = requireIdentity(layer)
    if (previous === null && identity.base !== null)
      throw new UmbraError(
        'WRONG_BASE',
        `${layer.path} starts from ${pointText(identity.base)}, and no image of that point comes before it`,
      )
    if (previous !== null && !followsFrom(identity, previous)) {
      const needs = identity.base ? `starts from ${pointText(identity.base)}` : 'is a full image'
      throw new UmbraError(
        'WRONG_BASE',
        `${layer.path} ${needs}, but ${previousName} is at ${pointText(previous.point)} of volume ${previous.volumeUuid}`,
      )
    }
    previous = identity
    previousName = layer.path
  }
}

/** Digests every layer. @throws UmbraError BAD_IMAGE, ABORTED */
export async function verifyLayers(layers: readonly ImageLayer[], work: LongWork): Promise<void> {
  let totalBytes = 0
  for (const layer of layers) totalBytes += dataBytesOf(layer)
  const pace = new Pace(totalBytes, work)
  for (const layer of layers) await verifyLayer(layer, pace)
  pace.finish()
}

async function verifyLayer(layer: ImageLayer, pace: Pace): Promise<void> {
  const identity = requireIdentity(layer)
  if (identity.digest === null) {
    const sidecar = readSidecar(layer.path)
    if (sidecar && isUntouched(layer.path, sidecar)) return
    throw new UmbraError(
      'BAD_IMAGE',
      `${layer.path} was touched since images were applied to it, and no digest of its whole content is kept`,
    )
  }
  const digest = await digestLayer(layer, identity.base === null ? 'full' : 'delta', pace)
  if (digest !== identity.digest)
    throw new UmbraError(
      'BAD_IMAGE',
      `${layer.path} is damaged: its digest is ${digest}, but ${identity.digest} was written`,
      { image: layer.path },
    )
}

/** The content digest of what one layer holds. @throws UmbraError BAD_IMAGE, ABORTED */
export async function digestLayer(layer: ImageLayer, kind: 'full' | 'delta', pace: Pace): Promise<string> {
  const digest = new ContentDigest(kind, layer.sizeBytes)
  const piece = Buffer.allocUnsafe(MIB)
  let at = 0
  while (at < layer.sizeBytes) {
    const run = layer.mapAt(at, layer.sizeBytes - at)
    if (run.lengthBytes % BLOCK_SIZE_BYTES !== 0)
      throw new UmbraError('BAD_IMAGE', `${layer.path}: a run of ${run.lengthBytes} bytes, not whole blocks`)
    const end = at + run.lengthBytes
    if (run.kind === 'zero') digest.zero(at / BLOCK_SIZE_BYTES, run.lengthBytes / BLOCK_SIZE_BYTES)
    if (run.kind === 'data') {
      for (; at < end; at += piece.byteLength) {
        const lengthBytes = Math.min(piece.byteLength, end - at)
        layer.readData(at, lengthBytes, piece, 0)
        digest.data(at / BLOCK_SIZE_BYTES, lengthBytes / BLOCK_SIZE_BYTES, piece, 0)
        if (pace.advance(lengthBytes)) await pace.breathe()
      }
    }
    at = end
  }
  return digest.finish()
}

/** Bytes that digesting a layer reads. */
function dataBytesOf(layer: ImageLayer): number {
  let bytes = 0
  for (let at = 0; at < layer.sizeBytes; ) {
    const run = layer.mapAt(at, layer.sizeBytes - at)
    if (run.kind === 'data') bytes += run.lengthBytes
    at += run.lengthBytes
  }
  return bytes
}

/** @throws UmbraError BAD_IMAGE if the image says nothing of where it comes from */
export function requireIdentity(layer: ImageLayer): ImageIdentity {
  if (layer.identity) return layer.identity
  throw new UmbraError(
    'BAD_IMAGE',
    `${layer.path} carries no identity; an image of another tool's can only be imported as foreign (create --from)`,
  )
}

function described(layer: ImageLayer): VerifiedImage {
  return { path: layer.path, format: layer.format, identity: requireIdentity(layer) }
}

function pointText(point: { id: string; name: string; epoch: number }): string {
  return `${JSON.stringify(point.name)} (${point.id}, epoch ${point.epoch})`
}
