// Images back into volumes: a chain into a fresh volume, another tool's image, deltas onto a volume
// that was imported.
//
// Always true: the chain is verified before a file is made, and the file appears whole or not at all.
// Where a volume stands, and what an apply that fails leaves, is image/volume-target.ts's to keep.

import { existsSync } from 'node:fs'
import { UmbraError } from '../base/errors.ts'
import { convertedSizeBytes, convertFileSystem } from '../ext4/import/conversion.ts'
import { recoverFileSystem } from '../ext4/import/recovery.ts'
import { ReplayedSource } from '../ext4/import/replayed-source.ts'
import { SourceFileSystem } from '../ext4/import/source-file-system.ts'
import { isExtFamily, readSourceGeometry, type SourceGeometry } from '../ext4/import/source-superblock.ts'
import { type ApplyResult, applyToRaw } from '../image/apply.ts'
import type { ImageChain } from '../image/chain.ts'
import { importToDevice, withChain } from '../image/import.ts'
import type { LongWork } from '../image/pace.ts'
import { sidecarPath } from '../image/sidecar.ts'
import { isVolumeFile } from '../image/volume-file.ts'
import { applyToVolume, importToVolume } from '../image/volume-target.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { makeVolumeFile } from './create-volume.ts'
import { locateVolume } from './locate.ts'

export interface Imported {
  readonly volume: string
  readonly uuid: string
  readonly sizeBytes: number
  readonly dataBytes: number
  readonly point: {
    readonly name: string
    readonly id: string
    readonly epoch: number
  } | null
}

export interface ForeignImported extends Imported {
  /** Why the file system was copied into a fresh one; null: its blocks are those of the image. */
  readonly converted: string | null
}

/** @throws UmbraError WRONG_BASE, BAD_IMAGE, ALREADY_EXISTS, OUT_OF_SPACE, ABORTED */
export function importChain(paths: readonly string[], target: string, work: LongWork): Promise<Imported> {
  return withChain(paths, work, async (chain) => {
    let dataBytes = 0
    const made = await makeVolumeFile(target, chain.sizeBytes, async (volume) => {
      dataBytes = (await importToVolume(chain, volume, work)).dataBytes
    })
    return { ...made, dataBytes, point: chain.identity?.point ?? null }
  })
}

/**
 * Images of other tools carry no identity: what they hold is taken as it is, but for a file system that
 * cannot be served so. Its journal is replayed, or its tree is copied into a fresh one (`converted`).
 * @throws UmbraError UNSUPPORTED_FEATURE, CORRUPT, CHECKSUM_MISMATCH, OUT_OF_SPACE, ALREADY_EXISTS, ABORTED
 */
export function importForeign(
  paths: readonly string[],
  target: string,
  options: LongWork & { sizeBytes?: number | undefined },
): Promise<ForeignImported> {
  return withChain(paths, { ...options, foreign: true }, async (chain) => {
    const geometry = isExtFamily(chain) ? readSourceGeometry(chain) : undefined
    const converted = geometry ? conversionReason(chain, geometry) : null
    if (converted !== null) return importConverted(chain, target, options, converted)
    const sizeBytes = options.sizeBytes ?? chain.sizeBytes
    let dataBytes = 0
    const made = await makeVolumeFile(target, sizeBytes, async (volume) => {
      dataBytes = (await importToDevice(chain, volume, options)).dataBytes
      if (!geometry?.needsRecovery && !geometry?.hasOrphans) return
      recoverFileSystem(volume)
      await volume.commit()
    })
    return { ...made, dataBytes, point: null, converted }
  })
}

function conversionReason(chain: ImageChain, geometry: SourceGeometry): string | null {
  if (geometry.conversion !== undefined) return geometry.conversion
  const files = new SourceFileSystem(ReplayedSource.open(chain))
  return files.hasBlockMaps() ? 'it has files mapped by blocks, not extents' : null
}

async function importConverted(
  chain: ImageChain,
  target: string,
  options: LongWork & { sizeBytes?: number | undefined },
  converted: string,
): Promise<ForeignImported> {
  const files = new SourceFileSystem(ReplayedSource.open(chain))
  const sizeBytes = options.sizeBytes ?? convertedSizeBytes(files)
  const made = await makeVolumeFile(target, sizeBytes, async (volume) => {
    await convertFileSystem(files, volume, options)
  })
  return { ...made, dataBytes: chain.sizeBytes, point: null, converted }
}

/**
 * Applies deltas to an unmounted volume or, where there is a sidecar beside it, a raw file.
 * @throws UmbraError WRONG_BASE, BAD_IMAGE, BUSY before anything changes; OUT_OF_SPACE, ABORTED
 */
export async function applyImages(
  target: string,
  images: readonly string[],
  work: LongWork,
): Promise<ApplyResult> {
  if (existsSync(sidecarPath(target)) && !isVolumeFile(target)) return applyToRaw(target, images, work)
  const { volumePath, client } = await locateVolume(target)
  client?.close()
  if (client) throw new UmbraError('BUSY', `${target} is mounted; unmount it before images are applied`)
  const storage = await FileStorage.open(volumePath)
  try {
    return await applyToVolume(storage, images, work)
  } finally {
    await storage.close()
  }
}
