// Volumes as targets: a fresh one that takes a chain's content, and one that images brought to a point
// and that further deltas bring on.
//
// Where a volume stands is kept in the volume itself, as a bookmark `imported:VOLUME-UUID:POINT-ID:EPOCH:SIZE:NAME`:
// whatever was born after that bookmark means that the volume has changed since, and deltas are then
// refused.
// Always true: content and bookmark become durable in one commit. An apply that fails or is aborted commits nothing: the volume
// is left without close(), which would commit, and reopens as it was.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { walkDeltaSince } from '../volume/delta.ts'
import type { Bookmark } from '../volume/points.ts'
import { Volume } from '../volume/volume.ts'
import { type ApplyResult, type ApplyTarget, applyToTarget } from './apply.ts'
import type { ImageChain } from './chain.ts'
import { IDENTITY_VERSION, type ImageIdentity } from './identity.ts'
import { type ImportResult, importToDevice } from './import.ts'
import type { LongWork } from './pace.ts'

/**
 * Writes a chain's content into a fresh volume, and where it stands.
 * @throws UmbraError INVALID_ARGUMENT if the volume's size differs or it holds anything, OUT_OF_SPACE, ABORTED
 */
export async function importToVolume(
  chain: ImageChain,
  volume: Volume,
  work: LongWork = {},
): Promise<ImportResult> {
  if (volume.durableTransaction > 1 || volume.space().liveBytes > 0)
    throw new UmbraError('INVALID_ARGUMENT', 'A chain is imported into a fresh volume only')
  if (chain.identity && volume.blockCount !== chain.blockCount)
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `The volume has ${volume.blockCount} blocks, but the point that it is to be at has ${chain.blockCount}`,
    )
  const device = {
    blockCount: volume.blockCount,
    writeData: volume.writeData.bind(volume),
    // The bookmark's commit is the one.
    commit: async () => {},
  }
  const result = await importToDevice(chain, device, work)
  if (chain.identity) await volume.createBookmark(markName(chain.identity))
  else await volume.commit()
  return result
}

/**
 * Applies deltas, oldest first, to the volume in a storage that nobody else has open; the caller closes the storage.
 * @throws UmbraError WRONG_BASE, BAD_IMAGE, and what opening throws; OUT_OF_SPACE, IO_FAILED, ABORTED: in
 *   every case the volume is as it was
 */
export async function applyToVolume(
  storage: BlockStorage,
  paths: readonly string[],
  work: LongWork = {},
): Promise<ApplyResult> {
  const target = new VolumeTarget(storage, await Volume.open(storage, { readOnly: true }))
  const result = await applyToTarget(target, paths, work)
  await target.close()
  return result
}

/** The point that images brought a volume to, if it has not changed since. @throws UmbraError WRONG_BASE */
export function importedPoint(volume: Volume, name: string): ImageIdentity {
  const mark = newestMark(volume)
  const identity = mark && identityOf(mark)
  if (!mark || !identity)
    throw new UmbraError(
      'WRONG_BASE',
      `${name} was never brought to a point by images; import a full image first`,
    )
  const changes = walkDeltaSince(volume.nodes, mark.epoch, volume.liveRoot(), volume.blockCount)
  for (const _change of changes)
    throw new UmbraError(
      'WRONG_BASE',
      `${name} has changed since images brought it to ${identity.point.name}`,
    )
  return identity
}

/** Looked at read-only until every check has passed: opening for writing already mends and commits. */
class VolumeTarget implements ApplyTarget {
  readonly #storage: BlockStorage
  readonly #name: string
  #volume: Volume
  #sizeBytes = 0

  constructor(storage: BlockStorage, volume: Volume) {
    this.#storage = storage
    this.#name = storage.name
    this.#volume = volume
  }

  async begin(): Promise<void> {
    await this.#volume.close()
    this.#volume = await Volume.open(this.#storage)
    this.#volume.grow(this.#sizeBytes)
  }

  close(): Promise<void> {
    return this.#volume.close()
  }

  currentPoint(): ImageIdentity {
    return importedPoint(this.#volume, this.#name)
  }

  /** It grows with the images; a volume that was made larger than they lead to stays as it is. */
  requireSize(sizeBytes: number): void {
    const haveBytes = this.#volume.blockCount * BLOCK_SIZE_BYTES
    if (haveBytes > sizeBytes)
      throw new UmbraError(
        'WRONG_BASE',
        `${this.#name} has ${haveBytes} bytes, but the images lead to ${sizeBytes}`,
      )
    this.#sizeBytes = sizeBytes
  }

  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): void {
    this.#volume.writeData(blockIndex, blockCount, source, sourceOffset)
  }

  discard(blockIndex: number, blockCount: number): void {
    this.#volume.discard(blockIndex, blockCount)
  }

  async complete(identity: ImageIdentity): Promise<void> {
    const former = newestMark(this.#volume)
    await this.#volume.createBookmark(markName(identity))
    // A crash before this leaves both: the newest counts.
    if (former) await this.#volume.deleteBookmark(former.id)
  }
}

const MARK_PATTERN = /^imported:([0-9a-f-]{36}):([0-9a-f-]{36}):(\d{1,16}):(\d{1,16}):(.*)$/s
/** So that the mark's name stays within the 255 bytes of a name. */
const POINT_NAME_MAX_BYTES = 100

/** The point's name is for people, and may be cut. */
function markName(identity: ImageIdentity): string {
  const { point, volumeUuid, sizeBytes } = identity
  let name = ''
  for (const character of point.name.replace(/[/\0]/g, '_')) {
    if (Buffer.byteLength(name + character) > POINT_NAME_MAX_BYTES) break
    name += character
  }
  return `imported:${volumeUuid}:${point.id}:${point.epoch}:${sizeBytes}:${name}`
}

function newestMark(volume: Volume): Bookmark | undefined {
  return volume.bookmarks().findLast((bookmark) => MARK_PATTERN.test(bookmark.name))
}

function identityOf(bookmark: Bookmark): ImageIdentity | null {
  const match = MARK_PATTERN.exec(bookmark.name)
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
