// Images back into volumes: a chain into a fresh volume, another tool's image, deltas onto a volume
// that was imported.
//
// Always true: the chain is verified before a file is made, and the file appears whole or not at all.
// Where a volume stands is kept in the volume itself, as a bookmark whose name carries the point's
// identity: whatever was born after that bookmark means that the volume has changed since, and deltas
// are then refused. Content and bookmark become durable in one commit.

import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { type ApplyResult, type ApplyTarget, applyToRaw, applyToTarget } from '../image/apply.ts'
import { IDENTITY_VERSION, type ImageIdentity } from '../image/identity.ts'
import { importToDevice, withChain } from '../image/import.ts'
import type { LongWork } from '../image/pace.ts'
import { sidecarPath } from '../image/sidecar.ts'
import { walkDeltaSince } from '../volume/delta.ts'
import type { Bookmark } from '../volume/points.ts'
import type { Volume } from '../volume/volume.ts'
import { makeVolumeFile } from './create-volume.ts'
import { LocalVolume } from './local-volume.ts'
import { locateVolume } from './locate.ts'

export interface Imported {
  readonly volume: string
  readonly uuid: string
  readonly sizeBytes: number
  readonly dataBytes: number
  readonly point: { readonly name: string; readonly id: string; readonly epoch: number } | null
}

/** @throws UmbraError WRONG_BASE, BAD_IMAGE, ALREADY_EXISTS, OUT_OF_SPACE, ABORTED */
export function importChain(paths: readonly string[], target: string, work: LongWork): Promise<Imported> {
  return withChain(paths, work, async (chain) => {
    let dataBytes = 0
    const made = await makeVolumeFile(target, chain.sizeBytes, async (volume) => {
      const result = await importToDevice(chain, volume, work)
      dataBytes = result.dataBytes
      if (chain.identity) await volume.createBookmark(markName(chain.identity))
    })
    return { ...made, dataBytes, point: chain.identity?.point ?? null }
  })
}

/** Images of other tools carry no identity: what they hold is taken as it is. */
export function importForeign(
  paths: readonly string[],
  target: string,
  options: LongWork & { sizeBytes?: number | undefined },
): Promise<Imported> {
  return withChain(paths, { ...options, foreign: true }, async (chain) => {
    const sizeBytes = options.sizeBytes ?? chain.sizeBytes
    let dataBytes = 0
    const made = await makeVolumeFile(target, sizeBytes, async (volume) => {
      dataBytes = (await importToDevice(chain, volume, options)).dataBytes
    })
    return { ...made, dataBytes, point: null }
  })
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
  if (existsSync(sidecarPath(target)) && !isVolume(target)) return applyToRaw(target, images, work)
  const { volumePath, client } = await locateVolume(target)
  client?.close()
  if (client) throw new UmbraError('BUSY', `${target} is mounted; unmount it before images are applied`)
  const opened = await LocalVolume.open(volumePath, { readOnly: false })
  try {
    return await applyToTarget(new VolumeTarget(opened.volume, target), images, work)
  } finally {
    await opened.close()
  }
}

const MAGIC = 'UMBRAVOL'

function isVolume(path: string): boolean {
  const bytes = Buffer.alloc(MAGIC.length)
  const fd = openSync(path, 'r')
  try {
    readSync(fd, bytes, 0, bytes.byteLength, 0)
  } finally {
    closeSync(fd)
  }
  return bytes.toString('latin1') === MAGIC
}

/** A volume at a point that it was brought to by images. */
class VolumeTarget implements ApplyTarget {
  readonly #volume: Volume
  readonly #name: string
  readonly #mark: Bookmark | undefined

  constructor(volume: Volume, name: string) {
    this.#volume = volume
    this.#name = name
    this.#mark = volume.bookmarks().findLast((bookmark) => identityOf(bookmark) !== null)
  }

  currentPoint(): ImageIdentity {
    const identity = this.#mark ? identityOf(this.#mark) : null
    if (!this.#mark || identity === null) {
      throw new UmbraError(
        'WRONG_BASE',
        `${this.#name} was never brought to a point by images; import a full image first`,
      )
    }
    if (this.#hasChangedSince(this.#mark)) {
      throw new UmbraError(
        'WRONG_BASE',
        `${this.#name} has changed since images brought it to ${identity.point.name}`,
      )
    }
    return identity
  }

  #hasChangedSince(mark: Bookmark): boolean {
    const { nodes, blockCount } = this.#volume
    for (const _ of walkDeltaSince(nodes, mark.epoch, this.#volume.liveRoot(), blockCount)) return true
    return false
  }

  requireSize(sizeBytes: number): void {
    const haveBytes = this.#volume.blockCount * BLOCK_SIZE_BYTES
    if (haveBytes !== sizeBytes) {
      throw new UmbraError(
        'WRONG_BASE',
        `${this.#name} has ${haveBytes} bytes, but the images lead to ${sizeBytes}`,
      )
    }
  }

  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): void {
    this.#volume.writeData(blockIndex, blockCount, source, sourceOffset)
  }

  discard(blockIndex: number, blockCount: number): void {
    this.#volume.discard(blockIndex, blockCount)
  }

  async complete(identity: ImageIdentity): Promise<void> {
    await this.#volume.createBookmark(markName(identity))
    if (this.#mark) await this.#volume.deleteBookmark(this.#mark.name)
  }
}

const MARK_PREFIX = 'imported:'
/** So that the name stays within its 255 bytes. */
const POINT_NAME_MAX = 100

/** `imported:VOLUME-UUID:POINT-ID:EPOCH:SIZE:NAME`; the point's name is for people and may be cut. */
function markName(identity: ImageIdentity): string {
  const { point, volumeUuid, sizeBytes } = identity
  let letters = [...point.name]
  while (Buffer.byteLength(letters.join('')) > POINT_NAME_MAX) letters = letters.slice(0, -1)
  return `${MARK_PREFIX}${volumeUuid}:${point.id}:${point.epoch}:${sizeBytes}:${letters.join('').replaceAll('/', '_')}`
}

function identityOf(bookmark: Bookmark): ImageIdentity | null {
  const match = /^imported:([0-9a-f-]{36}):([0-9a-f-]{36}):(\d{1,16}):(\d{1,16}):(.*)$/s.exec(bookmark.name)
  if (!match) return null
  const [, volumeUuid = '', id = '', epoch, sizeBytes, name = ''] = match
  return {
    formatVersion: IDENTITY_VERSION,
    volumeUuid,
    point: { id, epoch: Number(epoch), name, createdAtMs: bookmark.createdAtMs },
    base: null,
    sizeBytes: Number(sizeBytes),
    digest: null,
  }
}
