// Which image files a restore of a volume needs, from a repository.
//
// Always true: the chain is complete and in order, every file is there with its size, and belongs to the
// backup that its manifest says; the bytes are verified by whoever opens the chain (image/chain.ts), all of
// them before anything is written.

import { UmbraError } from '../../base/errors.ts'
import { openLayer } from '../../image/open-layer.ts'
import { requireIdentity } from '../../image/verify.ts'
import { type ImageLink, imageChain } from './chains.ts'
import type { ImageRecord, Manifest } from './manifest.ts'
import type { BackupEntry, Repository } from './repository.ts'

export interface RestoreChain {
  readonly backup: Manifest
  readonly image: ImageRecord
  /** The full image first. */
  readonly links: readonly ImageLink[]
  /** Their files, in that order. */
  readonly paths: readonly string[]
}

export interface RestoreChoice {
  /** Id of a backup, or the beginning of one; undefined: the newest that holds images. */
  readonly backup?: string | undefined
  /** UUID or path of the volume, or where it was mounted; needed where a backup holds several. */
  readonly volume?: string | undefined
}

/**
 * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT when it is not said which volume; BROKEN_CHAIN,
 *   BAD_IMAGE, INVALID_DOCUMENT when something of the chain is missing, another's, or damaged
 */
export function restoreChain(repository: Repository, choice: RestoreChoice): RestoreChain {
  const entries = repository.list()
  const backup =
    choice.backup === undefined ? newestWithImages(entries, choice) : repository.get(choice.backup).manifest
  const image = chooseImage(backup, choice.volume)
  const links = imageChain(entries, backup.id, image.volumeUuid)
  for (const link of links) checkIdentity(link)
  return { backup, image, links, paths: links.map(({ path }) => path) }
}

/** A damaged manifest may be the newest: taking an older one in its place would not be what was asked for. */
function newestWithImages(entries: readonly BackupEntry[], { volume }: RestoreChoice): Manifest {
  for (const entry of [...entries].reverse()) {
    if (entry.problem) throw entry.problem
    if (entry.manifest.images.some((image) => volume === undefined || isCalled(image, volume)))
      return entry.manifest
  }
  const what = volume === undefined ? '' : ` of ${volume}`
  throw new UmbraError('NOT_FOUND', `The repository holds no image${what}`)
}

function chooseImage({ id, images }: Manifest, volume: string | undefined): ImageRecord {
  const found = volume === undefined ? images : images.filter((image) => isCalled(image, volume))
  const [image] = found
  if (!image) throw new UmbraError('NOT_FOUND', `Backup ${id} holds no image${volume ? ` of ${volume}` : ''}`)
  if (found.length === 1) return image
  const paths = found.map(({ volumePath }) => volumePath).join(', ')
  throw new UmbraError('INVALID_ARGUMENT', `Backup ${id} holds images of ${paths}; say which with --volume`)
}

function isCalled({ volumeUuid, volumePath, mountPoint }: ImageRecord, name: string): boolean {
  return name === volumeUuid || name === volumePath || name === mountPoint
}

/**
 * The file is the one that was written then: a good image in another's place is found here.
 * @throws UmbraError BROKEN_CHAIN, BAD_IMAGE
 */
export function checkIdentity({ path, image, entry }: ImageLink): void {
  const layer = openLayer(path, image.format)
  try {
    const { volumeUuid, point, base, digest } = requireIdentity(layer)
    const isIt =
      volumeUuid === image.volumeUuid &&
      point.id === image.point.id &&
      (base?.id ?? null) === image.basePointId &&
      digest === image.contentDigest
    if (isIt) return
    throw new UmbraError('BROKEN_CHAIN', `${path} is not the image that backup ${entry.id} wrote`, {
      backup: entry.id,
    })
  } finally {
    layer.close()
  }
}
