// Block images out of a repository: into a fresh volume, a raw file, or a device.
//
// Always true: every digest of the chain is verified before the first byte is written; a volume or file
// appears whole or not at all; a device is opened exclusively, so that nothing mounted is overwritten, and
// holds zeros where the image does.

import { closeSync, constants, fstatSync, fsyncSync, openSync, readFileSync, statSync } from 'node:fs'
import { loadAddon } from '../base/addon.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../base/units.ts'
import type { ImageChain } from '../image/chain.ts'
import { hostCall, writeFully } from '../image/host-file.ts'
import { importToRaw, withChain } from '../image/import.ts'
import { type LongWork, Pace } from '../image/pace.ts'
import type { Repository } from '../shadow/repository/repository.ts'
import { type RestoreChoice, restoreChain } from '../shadow/repository/restore-images.ts'
import { importChain } from './import-images.ts'

/** The device zeroes the range, or the kernel writes the zeros. */
const ZERO_RANGE_KEEP_SIZE = 16 | 1
const SECTOR_BYTES = 512
const ZEROS = Buffer.alloc(MIB)

export interface ImageRestore extends RestoreChoice, LongWork {
  readonly to: string
  readonly as: 'volume' | 'raw' | 'device'
}

export interface RestoredImage {
  readonly backup: string
  /** Backups that were replayed, the full one first. */
  readonly chain: readonly string[]
  readonly volumeUuid: string
  readonly to: string
  readonly as: 'volume' | 'raw' | 'device'
  readonly sizeBytes: number
  readonly dataBytes: number
}

/**
 * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT, ALREADY_EXISTS; BROKEN_CHAIN, BAD_IMAGE, WRONG_BASE,
 *   INVALID_DOCUMENT before anything is written; RESTORE_REFUSED when the device is in use or too small;
 *   OUT_OF_SPACE, IO_FAILED, ABORTED
 */
export async function restoreImage(repository: Repository, request: ImageRestore): Promise<RestoredImage> {
  const { to, as } = request
  const chosen = restoreChain(repository, request)
  const { sizeBytes, dataBytes } =
    as === 'volume'
      ? await importChain(chosen.paths, to, request)
      : as === 'raw'
        ? await importToRaw(chosen.paths, to, request)
        : await withChain(chosen.paths, request, (chain) => writeDevice(chain, to, request))
  return {
    backup: chosen.backup.id,
    chain: chosen.links.map(({ entry }) => entry.id),
    volumeUuid: chosen.image.volumeUuid,
    to,
    as,
    sizeBytes,
    dataBytes,
  }
}

export function isBlockDevice(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isBlockDevice() ?? false
}

async function writeDevice(
  chain: ImageChain,
  path: string,
  work: LongWork,
): Promise<{ sizeBytes: number; dataBytes: number }> {
  const fd = openDevice(path)
  try {
    const deviceBytes = deviceSize(fd, path)
    if (deviceBytes < chain.sizeBytes)
      throw new UmbraError(
        'RESTORE_REFUSED',
        `${path} has ${deviceBytes} bytes, but the image takes ${chain.sizeBytes}`,
        { path },
      )
    const dataBytes = await copyToDevice(chain, fd, path, work)
    hostCall(`Cannot flush ${path}`, () => fsyncSync(fd))
    return { sizeBytes: chain.sizeBytes, dataBytes }
  } finally {
    closeSync(fd)
  }
}

/** O_EXCL on a block device: refused while it is mounted or otherwise claimed. */
function openDevice(path: string): number {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_EXCL)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'EBUSY')
      throw new UmbraError('RESTORE_REFUSED', `${path} is mounted or otherwise in use`, { path }, error)
    throw new UmbraError('NOT_FOUND', `Cannot open ${path}: ${message}`, { path }, error)
  }
  if (fstatSync(fd).isBlockDevice()) return fd
  closeSync(fd)
  throw new UmbraError('INVALID_ARGUMENT', `${path} is no block device`, { path })
}

/** As the kernel tells it, in sectors of 512 bytes. */
function deviceSize(fd: number, path: string): number {
  const rdev = fstatSync(fd).rdev
  const major = Math.floor(rdev / 256) % 4096
  const minor = (rdev % 256) + Math.floor(rdev / 2 ** 20) * 256
  const name = `/sys/dev/block/${major}:${minor}/size`
  return (
    Number(hostCall(`Cannot learn the size of ${path}`, () => readFileSync(name, 'latin1'))) * SECTOR_BYTES
  )
}

/** Every block of the image: data as it is, the rest as zeros; what the device has beyond it stays. */
async function copyToDevice(chain: ImageChain, fd: number, path: string, work: LongWork): Promise<number> {
  const extents = [...chain.extents()]
  const dataBytes = extents.reduce((sum, { blockCount }) => sum + blockCount, 0) * BLOCK_SIZE_BYTES
  const pace = new Pace(dataBytes, work)
  const piece = Buffer.allocUnsafe(MIB)
  let end = 0
  for (const { blockIndex, blockCount } of extents) {
    const from = blockIndex * BLOCK_SIZE_BYTES
    const to = Math.min(chain.sizeBytes, from + blockCount * BLOCK_SIZE_BYTES)
    writeZeros(fd, path, end, from - end)
    for (let at = from; at < to; at += piece.length) {
      const lengthBytes = Math.min(piece.length, to - at)
      chain.readSync(at, lengthBytes, piece, 0)
      writeFully(fd, path, at, lengthBytes, piece, 0)
      if (pace.advance(lengthBytes)) await pace.breathe()
    }
    end = to
  }
  writeZeros(fd, path, end, chain.sizeBytes - end)
  pace.finish()
  return dataBytes
}

function writeZeros(fd: number, path: string, offsetBytes: number, lengthBytes: number): void {
  if (lengthBytes <= 0) return
  if ((loadAddon()?.fallocate(fd, ZERO_RANGE_KEEP_SIZE, offsetBytes, lengthBytes) ?? -1) === 0) return
  for (let done = 0; done < lengthBytes; done += ZEROS.length)
    writeFully(fd, path, offsetBytes + done, Math.min(ZEROS.length, lengthBytes - done), ZEROS, 0)
}
