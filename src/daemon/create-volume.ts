// Makes a volume file with an empty file system in it.
//
// Always true: the file appears under its name when it is complete and durable, or not at all; an
// existing file is never replaced.

import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, lstatSync, rmSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB, TIB } from '../base/units.ts'
import { formatExt4 } from '../ext4/mkfs.ts'
import { syncFolder } from '../image/output.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { checkPolicy, DEFAULT_POLICY, type SpacePolicy } from '../volume/space-policy.ts'
import { Volume } from '../volume/volume.ts'

export interface CreatedVolume {
  readonly volume: string
  readonly uuid: string
  readonly sizeBytes: number
}

const SIZE_MIN_BYTES = MIB
const SIZE_MAX_BYTES = 16 * TIB

/** @throws UmbraError INVALID_ARGUMENT, ALREADY_EXISTS, OUT_OF_SPACE, NOT_FOUND (no such folder) */
export function createVolume(
  path: string,
  options: { sizeBytes: number; label?: string | undefined; policy?: Partial<SpacePolicy> },
): Promise<CreatedVolume> {
  const policy = { ...DEFAULT_POLICY, ...options.policy }
  checkPolicy(policy)
  return makeVolumeFile(path, options.sizeBytes, async (volume) => {
    // Else a user without privilege could not write to the volume that is his.
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
    formatExt4(volume, { owner, ...(options.label === undefined ? {} : { label: options.label }) })
    await volume.spaceKeeper.setPolicy(policy)
  })
}

/**
 * Makes a volume file and has `fill` put its content in; `fill` commits.
 * @param sizeBytes rounded up to whole blocks
 */
export async function makeVolumeFile(
  path: string,
  sizeBytes: number,
  fill: (volume: Volume) => Promise<void>,
): Promise<CreatedVolume> {
  if (sizeBytes < SIZE_MIN_BYTES || sizeBytes > SIZE_MAX_BYTES) {
    throw new UmbraError('INVALID_ARGUMENT', 'The size of a volume is from 1M to 16T', { sizeBytes })
  }
  const place = resolve(path)
  refuseExisting(place)
  if (!existsSync(dirname(place)))
    throw new UmbraError('NOT_FOUND', `No such folder: ${dirname(place)}`, { path })
  const temporary = join(
    dirname(place),
    `.${basename(place).slice(0, 200)}.${randomBytes(6).toString('hex')}.partial`,
  )
  try {
    const storage = await FileStorage.open(temporary, { create: true })
    try {
      const volume = await Volume.create(storage, {
        sizeBytes: Math.ceil(sizeBytes / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES,
      })
      await fill(volume)
      const uuid = volume.uuid
      await volume.close()
      publish(temporary, place)
      return { volume: place, uuid, sizeBytes: volume.blockCount * BLOCK_SIZE_BYTES }
    } finally {
      await storage.close()
    }
  } finally {
    rmSync(temporary, { force: true })
  }
}

/** By link(2), which refuses a name that came to be meanwhile. */
function publish(temporary: string, place: string): void {
  try {
    linkSync(temporary, place)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw alreadyExists(place)
    throw error
  }
  syncFolder(dirname(place))
}

function refuseExisting(place: string): void {
  try {
    lstatSync(place)
  } catch {
    return
  }
  throw alreadyExists(place)
}

function alreadyExists(path: string): UmbraError {
  return new UmbraError('ALREADY_EXISTS', `${path} exists already`, { path })
}
