// Whether a backup can really be restored: its volumes rebuilt in scratch space and judged by e2fsck.
//
// Always true: the scratch folder is made here and gone afterwards; its space was asked for first; the repository is
// only read; what is judged was read back from the disk and has the digest of what the chain holds.

import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode, UmbraError } from '../base/errors.ts'
import { formatSize, MIB } from '../base/units.ts'
import { hostCall } from '../image/host-file.ts'
import { importToRaw } from '../image/import.ts'
import type { LongWork } from '../image/pace.ts'
import { verifyImage } from '../image/verify.ts'
import type { ImageRecord, Manifest } from '../shadow/repository/manifest.ts'
import type { Repository } from '../shadow/repository/repository.ts'
import { type RestoreChain, restoreChain } from '../shadow/repository/restore-images.ts'

const EXT4_MAGIC_OFFSET = 1024 + 0x38
const EXT4_MAGIC = 0xef53
const MARGIN_BYTES = 64 * MIB
const OUTPUT_MAX_CHARACTERS = 10_000

export interface RebuiltVolume {
  readonly volumeUuid: string
  readonly volumePath: string
  /** Backups that were replayed. */
  readonly chain: readonly string[]
  readonly sizeBytes: number
  /** `clean`, `objects`, or why it was not asked. */
  readonly e2fsck: 'clean' | 'objects' | 'not installed' | 'no ext4'
  /** What e2fsck said, where it objects. */
  readonly output: string
  /** Whether the digest in the manifest is that of the whole content; of a delta it cannot be. */
  readonly isComparedWithManifest: boolean
}

/**
 * @param scratch folder with room for one volume
 * @throws UmbraError OUT_OF_SPACE before anything is written; BROKEN_CHAIN, BAD_IMAGE, WRONG_BASE; ABORTED
 */
export async function rebuildVolumes(
  repository: Repository,
  { id, images }: Manifest,
  scratch: string,
  work: LongWork,
): Promise<RebuiltVolume[]> {
  const rebuilt: RebuiltVolume[] = []
  for (const image of images) {
    const chain = restoreChain(repository, { backup: id, volume: image.volumeUuid })
    requireRoom(scratch, chain)
    const folder = hostCall(`Cannot make a folder in ${scratch}`, () =>
      mkdtempSync(join(scratch, 'umbra-verify-')),
    )
    try {
      rebuilt.push(await rebuild(chain, image, join(folder, 'volume.img'), work))
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }
  return rebuilt
}

/** No more than its data can take, and no more than its size. */
function requireRoom(scratch: string, { image, links }: RestoreChain): void {
  const dataBytes = links.reduce((sum, link) => sum + link.image.dataBytes, 0)
  const neededBytes = Math.min(image.virtualSizeBytes, dataBytes) + MARGIN_BYTES
  const { bavail, bsize } = hostCall(`Cannot look at ${scratch}`, () => statfsSync(scratch))
  if (bavail * bsize >= neededBytes) return
  throw new UmbraError(
    'OUT_OF_SPACE',
    `${scratch} has ${formatSize(bavail * bsize)} free, and ${formatSize(neededBytes)} may be needed; another folder can be given with --scratch`,
  )
}

async function rebuild(
  { paths, links }: RestoreChain,
  image: ImageRecord,
  raw: string,
  work: LongWork,
): Promise<RebuiltVolume> {
  const { identity, sizeBytes } = await importToRaw(paths, raw, work)
  const read = await verifyImage(raw, { signal: work.signal })
  const isFull = image.baseBackupId === null
  const digest = read.identity.digest
  if (digest !== identity?.digest || (isFull && digest !== image.contentDigest))
    throw new UmbraError('BAD_IMAGE', `What was rebuilt of ${image.volumePath} is not what was saved`)
  return {
    volumeUuid: image.volumeUuid,
    volumePath: image.volumePath,
    chain: links.map(({ entry }) => entry.id),
    sizeBytes,
    ...(await judge(raw)),
    isComparedWithManifest: isFull,
  }
}

async function judge(raw: string): Promise<Pick<RebuiltVolume, 'e2fsck' | 'output'>> {
  if (!holdsExt4(raw)) return { e2fsck: 'no ext4', output: '' }
  try {
    const { exitCode, output } = await runE2fsck(raw)
    // With -n it may find something and end with 0 all the same: what it proposes tells.
    const isClean = exitCode === 0 && !/\? (no|yes|\[)|\bIGNORED\b/i.test(output)
    return isClean
      ? { e2fsck: 'clean', output: '' }
      : { e2fsck: 'objects', output: output.slice(0, OUTPUT_MAX_CHARACTERS) }
  } catch (error) {
    if (hasCode(error, 'UNAVAILABLE')) return { e2fsck: 'not installed', output: '' }
    throw error
  }
}

function holdsExt4(raw: string): boolean {
  const fd = openSync(raw, 'r')
  try {
    const magic = Buffer.alloc(2)
    return readSync(fd, magic, 0, 2, EXT4_MAGIC_OFFSET) === 2 && magic.readUInt16LE(0) === EXT4_MAGIC
  } finally {
    closeSync(fd)
  }
}

function runE2fsck(path: string): Promise<{ exitCode: number; output: string }> {
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' }
  const child = spawn('e2fsck', ['-fn', path], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const add = (text: Buffer): void => {
    if (output.length < OUTPUT_MAX_CHARACTERS) output += text.toString()
  }
  child.stdout.on('data', add)
  child.stderr.on('data', add)
  return new Promise((resolve, reject) => {
    child.on('error', (error) =>
      reject(new UmbraError('UNAVAILABLE', `e2fsck cannot be run: ${error.message}`, {}, error)),
    )
    child.on('close', (code) => resolve({ exitCode: code ?? -1, output }))
  })
}
