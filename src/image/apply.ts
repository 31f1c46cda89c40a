// Brings a target that is at the base of some deltas forward to the point they lead to, in place: a raw file,
// or whatever answers as an ApplyTarget (a volume).
//
// Always true: order, base, digests and the host's free space are checked before the first byte changes. A raw file says in its sidecar that it is between two points while it is; applying
// the same images again completes it (deltas say what blocks hold, so doing it twice does no harm).
// A volume changes in one commit.

import { closeSync, fsyncSync, ftruncateSync, openSync, statfsSync } from 'node:fs'
import { loadAddon } from '../base/addon.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { DeltaExtent } from '../volume/points.ts'
import { HostFile, hostCall, writeFully } from './host-file.ts'
import type { ImageIdentity } from './identity.ts'
import type { ImageLayer } from './layer.ts'
import { LayerStack } from './layer-stack.ts'
import { closeLayers, openLayers } from './open-layer.ts'
import { type LongWork, Pace } from './pace.ts'
import { RawReader } from './raw-reader.ts'
import { isUntouched, readSidecar, type Sidecar, stampOf, writeSidecar } from './sidecar.ts'
import { checkLinks, digestLayer, requireIdentity, verifyLayers } from './verify.ts'

const FALLOC_PUNCH_HOLE = 3
const PIECE_BYTES = MIB

export interface ApplyResult {
  /** The point that the target is at now; digest null: the whole was not read. */
  readonly identity: ImageIdentity
  readonly dataBytes: number
  readonly zeroBytes: number
}

/** What deltas are applied to, other than a raw file. */
export interface ApplyTarget {
  /** Where it is now. @throws UmbraError WRONG_BASE if it has changed since, or has never been there */
  currentPoint(): ImageIdentity
  /** @throws UmbraError before anything changes, if the size cannot become this */
  requireSize(sizeBytes: number): void
  /** Every check has passed: changes follow. */
  begin(): Promise<void>
  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): unknown
  discard(blockIndex: number, blockCount: number): void
  /** Makes all of it durable at once, and notes where the target is now. */
  complete(identity: ImageIdentity): Promise<void>
}

/**
 * Applies deltas, oldest first, to a target.
 * @throws UmbraError WRONG_BASE, BAD_IMAGE, and what opening throws, all before anything changes;
 *   OUT_OF_SPACE, IO_FAILED, ABORTED
 */
export async function applyToTarget(
  target: ApplyTarget,
  paths: readonly string[],
  work: LongWork = {},
): Promise<ApplyResult> {
  return withDeltas(paths, async (layers, top) => {
    checkLinks(layers, target.currentPoint())
    await verifyLayers(layers, { signal: work.signal })
    target.requireSize(top.sizeBytes)
    await target.begin()
    const result = await copyStack(layers, top, work, {
      data: (blockIndex, blockCount, bytes) => void target.writeData(blockIndex, blockCount, bytes, 0),
      zero: (blockIndex, blockCount) => target.discard(blockIndex, blockCount),
    })
    await target.complete(result.identity)
    return result
  })
}

/**
 * Applies deltas, oldest first, to a raw file that has its sidecar.
 * @throws UmbraError WRONG_BASE, BAD_IMAGE, OUT_OF_SPACE, BUSY before anything changes; IO_FAILED, ABORTED,
 *   OUT_OF_SPACE if space ran out meanwhile: then the file is unfinished until the same images are applied again
 */
export async function applyToRaw(
  path: string,
  paths: readonly string[],
  work: LongWork = {},
): Promise<ApplyResult> {
  const fd = hostCall(`Cannot open ${path}`, () => openSync(path, 'r+'))
  try {
    lockOrRefuse(fd, path)
    return await withDeltas(paths, async (layers, top) => {
      const sidecar = requireSidecar(path)
      checkLinks(layers, sidecar.identity)
      await verifyLayers(layers, { signal: work.signal })
      if (sidecar.applyingTo === null) await requireContent(path, sidecar, work)
      else if (sidecar.applyingTo !== top.point.id)
        throw new UmbraError(
          'WRONG_BASE',
          `${path} holds an unfinished apply of other images (to point ${sidecar.applyingTo}); complete that first`,
        )
      return await applyInPlace(fd, path, sidecar, layers, top, work)
    })
  } finally {
    closeSync(fd)
  }
}

async function applyInPlace(
  fd: number,
  path: string,
  sidecar: Sidecar,
  layers: readonly ImageLayer[],
  top: ImageIdentity,
  work: LongWork,
): Promise<ApplyResult> {
  requireRoom(path, new LayerStack(layers).extents())
  await writeSidecar(path, { ...sidecar, applyingTo: top.point.id })
  hostCall(`Cannot resize ${path}`, () => ftruncateSync(fd, top.sizeBytes))
  const result = await copyStack(layers, top, work, {
    data: (blockIndex, blockCount, bytes) =>
      writeFully(fd, path, blockIndex * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES, bytes, 0),
    zero: (blockIndex, blockCount) =>
      writeZeros(fd, path, blockIndex * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES),
  })
  hostCall(`Cannot flush ${path}`, () => fsyncSync(fd))
  await writeSidecar(path, { identity: result.identity, file: stampOf(path), applyingTo: null })
  return result
}

async function withDeltas<T>(
  paths: readonly string[],
  use: (layers: readonly ImageLayer[], top: ImageIdentity) => Promise<T>,
): Promise<T> {
  const layers = openLayers(paths)
  try {
    const last = layers.at(-1)
    if (!last) throw new UmbraError('INVALID_ARGUMENT', 'No images to apply')
    return await use(layers, requireIdentity(last))
  } finally {
    closeLayers(layers)
  }
}

interface Changes {
  data(blockIndex: number, blockCount: number, bytes: Buffer): void
  zero(blockIndex: number, blockCount: number): void
}

/** What all the deltas together change, each block once. */
async function copyStack(
  layers: readonly ImageLayer[],
  top: ImageIdentity,
  work: LongWork,
  changes: Changes,
): Promise<ApplyResult> {
  const stack = new LayerStack(layers)
  let totalBytes = 0
  for (const extent of stack.extents()) if (extent.kind === 'data') totalBytes += bytesOf(extent)
  const pace = new Pace(totalBytes, work)
  const piece = Buffer.allocUnsafe(PIECE_BYTES)
  const pieceBlocks = PIECE_BYTES / BLOCK_SIZE_BYTES
  let zeroBytes = 0
  for (const extent of stack.extents()) {
    if (extent.kind === 'zero') {
      changes.zero(extent.blockIndex, extent.blockCount)
      zeroBytes += bytesOf(extent)
      continue
    }
    const end = extent.blockIndex + extent.blockCount
    for (let at = extent.blockIndex; at < end; at += pieceBlocks) {
      const blockCount = Math.min(pieceBlocks, end - at)
      stack.read(at * BLOCK_SIZE_BYTES, blockCount * BLOCK_SIZE_BYTES, piece, 0)
      changes.data(at, blockCount, piece)
      if (pace.advance(blockCount * BLOCK_SIZE_BYTES)) await pace.breathe()
    }
  }
  pace.finish()
  return { identity: { ...top, base: null, digest: null }, dataBytes: totalBytes, zeroBytes }
}

function requireSidecar(path: string): Sidecar {
  const sidecar = readSidecar(path)
  if (sidecar) return sidecar
  throw new UmbraError(
    'WRONG_BASE',
    `${path} has no sidecar that says which point it holds; deltas go only onto a file that export, import or apply wrote`,
  )
}

/** The file holds what its sidecar says: it was not touched since, or its digest still is the same. */
async function requireContent(path: string, sidecar: Sidecar, work: LongWork): Promise<void> {
  if (isUntouched(path, sidecar)) return
  const { identity } = sidecar
  const refuse = (why: string) =>
    new UmbraError('WRONG_BASE', `${path} is no longer at point ${identity.point.id}: ${why}`, {
      image: path,
    })
  if (stampOf(path).sizeBytes !== identity.sizeBytes) throw refuse('its size has changed')
  if (identity.digest === null)
    throw refuse('it was touched, and after an apply no digest of the whole content is kept')
  const layer = new RawReader(new HostFile(path), identity)
  try {
    const digest = await digestLayer(layer, 'full', new Pace(identity.sizeBytes, { signal: work.signal }))
    if (digest !== identity.digest) throw refuse('its content has changed')
  } finally {
    layer.close()
  }
}

function lockOrRefuse(fd: number, path: string): void {
  const result = loadAddon()?.lock(fd, true) ?? 0
  if (result < 0) throw new UmbraError('BUSY', `${path} is in use by another program`)
}

/** Looks first whether the host has room for what falls into holes of the file: a full disk is noticed before anything changes. */
function requireRoom(path: string, extents: Iterable<DeltaExtent>): void {
  const target = new RawReader(new HostFile(path), null)
  try {
    let neededBytes = 0
    for (const extent of extents) if (extent.kind === 'data') neededBytes += holeBytes(target, extent)
    const host = hostCall(`Cannot look at ${path}`, () => statfsSync(path))
    if (neededBytes > host.bavail * host.bsize)
      throw new UmbraError(
        'OUT_OF_SPACE',
        `Applying to ${path} takes up to ${neededBytes} bytes more; the host has ${host.bavail * host.bsize}`,
      )
  } finally {
    target.close()
  }
}

/** How much of an extent is hole, or past the end, in the file. */
function holeBytes(target: RawReader, extent: DeltaExtent): number {
  const endBytes = (extent.blockIndex + extent.blockCount) * BLOCK_SIZE_BYTES
  let at = extent.blockIndex * BLOCK_SIZE_BYTES
  let holes = 0
  while (at < endBytes) {
    if (at >= target.sizeBytes) return holes + (endBytes - at)
    const run = target.mapAt(at, Math.min(endBytes, target.sizeBytes) - at)
    if (run.kind === 'zero') holes += run.lengthBytes
    at += run.lengthBytes
  }
  return holes
}

const ZEROS = Buffer.alloc(PIECE_BYTES)

/** Punches a hole, or writes zeros where the file system has no holes. */
function writeZeros(fd: number, path: string, offsetBytes: number, lengthBytes: number): void {
  if ((loadAddon()?.fallocate(fd, FALLOC_PUNCH_HOLE, offsetBytes, lengthBytes) ?? -1) === 0) return
  for (let done = 0; done < lengthBytes; done += ZEROS.byteLength) {
    const take = Math.min(ZEROS.byteLength, lengthBytes - done)
    writeFully(fd, path, offsetBytes + done, take, ZEROS, 0)
  }
}

function bytesOf(extent: DeltaExtent): number {
  return extent.blockCount * BLOCK_SIZE_BYTES
}
