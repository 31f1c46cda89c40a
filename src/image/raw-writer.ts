// Writes a full image as plain bytes: a sparse file with its identity beside it, or a stream.
//
// Always true: a raw image is full (a delta of plain bytes could not say what it leaves out); blocks of
// zeros become holes in a file and zeros in a stream.

import { rmSync } from 'node:fs'
import type { Writable } from 'node:stream'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import { copyExtents } from './copy-extents.ts'
import { ContentDigest } from './digest.ts'
import { hostError } from './host-file.ts'
import { IDENTITY_VERSION, type ImageIdentity } from './identity.ts'
import type { ImageSource } from './image-source.ts'
import { type OutputFile, type OutputOptions, writeOutput } from './output.ts'
import { type LongWork, Pace } from './pace.ts'
import type { WrittenImage } from './qcow2-writer.ts'
import { stampOf, writeSidecar } from './sidecar.ts'
import { forEachZeroRun } from './zero-runs.ts'

export interface RawOptions extends OutputOptions, LongWork {}

/**
 * @throws UmbraError INVALID_ARGUMENT for a delta, ALREADY_EXISTS, OUT_OF_SPACE, ABORTED, and what reading
 *   the source throws; then no file is left behind
 */
export async function writeRaw(
  source: ImageSource,
  path: string,
  options: RawOptions = {},
): Promise<WrittenImage> {
  requireFull(source)
  const sizeBytes = source.blockCount * BLOCK_SIZE_BYTES
  const dataBytes = dataBytesOf(source)
  const identity = await writeOutput(path, options, async (output) => {
    output.truncate(sizeBytes)
    const digest = new ContentDigest('full', sizeBytes)
    const pace = new Pace(dataBytes, options)
    await copyExtents(source.device, source.extents(), digest, pace, (blockIndex, blockCount, bytes) =>
      writeSparsely(output, blockIndex, blockCount, bytes, sizeBytes),
    )
    pace.finish()
    await source.confirm?.()
    return identityOf(source, digest.finish())
  })
  try {
    await writeSidecar(path, { identity, file: stampOf(path), applyingTo: null })
  } catch (error) {
    rmSync(path, { force: true })
    throw error
  }
  return { identity, fileBytes: sizeBytes, dataBytes }
}

/** Writes what is not zero of a piece of a raw file; the rest is holes. */
export function writeSparsely(
  output: OutputFile,
  blockIndex: number,
  blockCount: number,
  bytes: Buffer,
  sizeBytes: number,
): Promise<void> | undefined {
  let whole: Promise<void> | undefined
  forEachZeroRun(bytes, 0, blockCount, (isZero, first, count) => {
    if (isZero) return
    const at = first * BLOCK_SIZE_BYTES
    const offsetBytes = blockIndex * BLOCK_SIZE_BYTES + at
    const lengthBytes = Math.min(count * BLOCK_SIZE_BYTES, sizeBytes - offsetBytes)
    // Many short runs are not worth a thread's time each.
    if (count === blockCount) whole = output.writeLater(offsetBytes, lengthBytes, bytes, at)
    else output.write(offsetBytes, lengthBytes, bytes, at)
  })
  return whole
}

/** Writes every byte of the volume to a stream, zeros included; the stream is left open. */
export async function streamRaw(
  source: ImageSource,
  target: Writable,
  work: LongWork = {},
): Promise<WrittenImage> {
  requireFull(source)
  const sizeBytes = source.blockCount * BLOCK_SIZE_BYTES
  const digest = new ContentDigest('full', sizeBytes)
  const pace = new Pace(sizeBytes, work)
  const sink = new StreamSink(target)
  let nextBlock = 0
  const zerosUpTo = async (blockIndex: number) => {
    while (nextBlock < blockIndex) {
      const count = Math.min(ZEROS.byteLength / BLOCK_SIZE_BYTES, blockIndex - nextBlock)
      await sink.write(ZEROS.subarray(0, count * BLOCK_SIZE_BYTES))
      nextBlock += count
      if (pace.advance(count * BLOCK_SIZE_BYTES)) await pace.breathe()
    }
  }
  let last = Promise.resolve()
  await copyExtents(source.device, source.extents(), digest, pace, (blockIndex, blockCount, bytes) => {
    last = last.then(async () => {
      await zerosUpTo(blockIndex)
      // A copy: a stream may pass the buffer on and keep it.
      await sink.write(Buffer.from(bytes.subarray(0, blockCount * BLOCK_SIZE_BYTES)))
      nextBlock = blockIndex + blockCount
    })
    return last
  })
  await zerosUpTo(source.blockCount)
  pace.finish()
  await source.confirm?.()
  return {
    identity: identityOf(source, digest.finish()),
    fileBytes: sizeBytes,
    dataBytes: dataBytesOf(source),
  }
}

const ZEROS = Buffer.alloc(MIB)

/** Writes to a stream and waits until each piece was taken, or the stream has failed. */
class StreamSink {
  readonly #target: Writable

  constructor(target: Writable) {
    this.#target = target
  }

  write(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new UmbraError('IO_FAILED', 'The output stream was closed before its end'))
      if (this.#target.destroyed) return fail()
      this.#target.once('close', fail)
      this.#target.write(bytes, (error) => {
        this.#target.off('close', fail)
        if (error) reject(hostError(error, 'Cannot write to the output stream'))
        else resolve()
      })
    })
  }
}

function requireFull(source: ImageSource): void {
  if (source.base !== null)
    throw new UmbraError('INVALID_ARGUMENT', 'A raw image is always full; write a delta as qcow2')
}

function dataBytesOf(source: ImageSource): number {
  let blocks = 0
  for (const extent of source.extents()) if (extent.kind === 'data') blocks += extent.blockCount
  return blocks * BLOCK_SIZE_BYTES
}

function identityOf(source: ImageSource, digest: string): ImageIdentity {
  return {
    formatVersion: IDENTITY_VERSION,
    volumeUuid: source.volumeUuid,
    point: source.point,
    base: null,
    sizeBytes: source.blockCount * BLOCK_SIZE_BYTES,
    digest,
  }
}
