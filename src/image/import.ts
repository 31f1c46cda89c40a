// Turns a chain of images into the content of its last point: a raw file, or the blocks of a fresh volume.
//
// Always true: the whole chain was verified before the first byte is written; a raw file appears whole or not at
// all; what was written is digested on the way, so the raw file's identity is that of a full export.

import { rmSync } from 'node:fs'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { type ChainOptions, type ImageChain, openChain } from './chain.ts'
import { type BlockSink, copyExtents } from './copy-extents.ts'
import { ContentDigest } from './digest.ts'
import type { ImageIdentity } from './identity.ts'
import { type OutputOptions, writeOutput } from './output.ts'
import { type LongWork, Pace } from './pace.ts'
import { writeSparsely } from './raw-writer.ts'
import { stampOf, writeSidecar } from './sidecar.ts'
import { forEachZeroRun } from './zero-runs.ts'

export interface ImportResult {
  /** Full identity of what was written; null for a foreign chain. */
  readonly identity: ImageIdentity | null
  readonly sizeBytes: number
  /** Bytes of the images' data that went into it. */
  readonly dataBytes: number
}

/** What import writes to: the live tree of a volume that was just created and holds nothing. */
export type ImportDevice = Pick<BlockDevice, 'blockCount' | 'writeData' | 'commit'>

/**
 * Writes a chain's content as a raw file, with its identity beside it unless the chain is foreign.
 * @param paths oldest first; what the first one's backing name leads to comes before it
 * @throws UmbraError WRONG_BASE, BAD_IMAGE, ALREADY_EXISTS, OUT_OF_SPACE, ABORTED, UNSUPPORTED_FEATURE
 */
export async function importToRaw(
  paths: readonly string[],
  target: string,
  options: ChainOptions & OutputOptions = {},
): Promise<ImportResult> {
  return withChain(paths, options, async (chain) => {
    const sizeBytes = options.foreign ? chain.sizeBytes : chain.blockCount * BLOCK_SIZE_BYTES
    const result = await writeOutput(target, options, async (output) => {
      output.truncate(sizeBytes)
      const written = await copyContent(chain, options, (blockIndex, blockCount, bytes) =>
        writeSparsely(output, blockIndex, blockCount, bytes, sizeBytes),
      )
      return { ...written, sizeBytes }
    })
    if (result.identity) await writeSidecarOrRemove(target, result.identity)
    return result
  })
}

/**
 * Writes a chain's content into a fresh volume and commits it. The caller creates the volume with
 * {@link ImageChain.blockCount} blocks, and removes it if this throws.
 * @throws UmbraError INVALID_ARGUMENT if the device has another size, and what reading or writing throws
 */
export async function importToDevice(
  chain: ImageChain,
  device: ImportDevice,
  work: LongWork = {},
): Promise<ImportResult> {
  if (device.blockCount < chain.blockCount)
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `The target has ${device.blockCount} blocks, but the images hold ${chain.blockCount}`,
    )
  const result = await copyContent(chain, work, (blockIndex, blockCount, bytes) =>
    forEachZeroRun(bytes, 0, blockCount, (isZero, first, count) => {
      if (!isZero) device.writeData(blockIndex + first, count, bytes, first * BLOCK_SIZE_BYTES)
    }),
  )
  await device.commit()
  return { ...result, sizeBytes: chain.sizeBytes }
}

/** Opens and verifies a chain, hands it to `use`, and closes it. */
export async function withChain<T>(
  paths: readonly string[],
  options: ChainOptions,
  use: (chain: ImageChain) => Promise<T>,
): Promise<T> {
  const chain = await openChain(paths, options)
  try {
    return await use(chain)
  } finally {
    chain.close()
  }
}

/** Hands every piece that may hold data to `write`. */
async function copyContent(
  chain: ImageChain,
  work: LongWork,
  write: BlockSink,
): Promise<{ identity: ImageIdentity | null; dataBytes: number }> {
  const extents = [...chain.extents()]
  const totalBytes = extents.reduce((sum, extent) => sum + extent.blockCount, 0) * BLOCK_SIZE_BYTES
  const digest = new ContentDigest('full', chain.blockCount * BLOCK_SIZE_BYTES)
  const pace = new Pace(totalBytes, work)
  await copyExtents(chain, extents, digest, pace, write)
  pace.finish()
  const identity = chain.identity && { ...chain.identity, base: null, digest: digest.finish() }
  return { identity, dataBytes: totalBytes }
}

async function writeSidecarOrRemove(target: string, identity: ImageIdentity): Promise<void> {
  try {
    await writeSidecar(target, { identity, file: stampOf(target), applyingTo: null })
  } catch (error) {
    rmSync(target, { force: true })
    throw error
  }
}
