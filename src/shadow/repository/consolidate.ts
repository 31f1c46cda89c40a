// Makes a full backup of an incremental or differential one, in its place: images without a base, files
// without a base, from what its chain holds. No volume and no writer is asked.
//
// Always true: the chain is verified by its digests while it is read, and what was written is read back and
// verified before anything refers to it; later backups stay good on it, as the image keeps its name, its
// point and its content; killed at any step, the backup is what it was or what it becomes
// (settle-consolidation.ts).

import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { openChain } from '../../image/chain.ts'
import type { ImageSource } from '../../image/image-source.ts'
import { type LongWork, throwIfAborted } from '../../image/pace.ts'
import { writeQcow2 } from '../../image/qcow2-writer.ts'
import { requireIdentity, verifyImage } from '../../image/verify.ts'
import { restoreCommands } from '../requester/image-saving.ts'
import { describeFile } from './backup-folder.ts'
import { imageChain } from './chains.ts'
import { consolidateComponents, isMergeable } from './consolidate-components.ts'
import { basesOf, chainOf } from './dependencies.ts'
import type { ImageRecord, Manifest } from './manifest.ts'
import type { BackupEntry, Repository } from './repository.ts'
import { checkIdentity } from './restore-images.ts'
import {
  fullImageFile,
  markConsolidation,
  replaceManifest,
  settleConsolidation,
} from './settle-consolidation.ts'

export interface Consolidated {
  readonly manifest: Manifest
  /** What it was made from: the backups that it no longer needs. */
  readonly bases: readonly string[]
  readonly imageCount: number
  readonly componentCount: number
}

/**
 * Under the repository's lock.
 * @param name undefined: the newest backup that builds on another
 * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT for one that needs no base or is of type log, BROKEN_CHAIN,
 *   BAD_IMAGE, CHECKSUM_MISMATCH, OUT_OF_SPACE, ABORTED: then the backup is what it was
 */
export async function consolidate(
  repository: Repository,
  name: string | undefined,
  work: LongWork = {},
): Promise<Consolidated> {
  const entries = repository.list()
  const { id, folder, manifest } = name === undefined ? newestDelta(entries) : repository.get(name)
  const before = [...basesOf(manifest)]
  if (before.length === 0)
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `Backup ${id} builds on no other: there is nothing to consolidate`,
    )
  if (manifest.type === 'log')
    throw new UmbraError('INVALID_ARGUMENT', `Backup ${id} is a log backup, which is none without its base`)
  const bases = chainOf(entries, manifest).slice(0, -1)
  try {
    markConsolidation(folder)
    const images = await wholeImages(entries, folder, manifest, work)
    const components = await consolidateComponents(entries, folder, manifest, work)
    throwIfAborted(work.signal)
    const made = {
      ...manifest,
      images,
      writers: components.writers,
      fileIndex: components.fileIndex,
      notes: [
        ...manifest.notes,
        `Consolidated on ${new Date().toISOString()} from ${bases.length} older backups`,
      ],
    }
    const chain = chainOf(entries, made)
    const whole: Manifest = {
      ...made,
      chain,
      baseBackupId: chain.at(-2) ?? null,
      restoreCommands: commandsOf(made),
    }
    replaceManifest(folder, whole)
    settleConsolidation(folder, id)
    refreshChains(repository)
    return {
      manifest: repository.get(id).manifest,
      bases: bases.filter((base) => !chain.includes(base)),
      imageCount: images.filter(({ baseBackupId }, i) => baseBackupId !== manifest.images[i]?.baseBackupId)
        .length,
      componentCount: components.count,
    }
  } catch (error) {
    settleConsolidation(folder, id)
    throw error
  }
}

/** What manifests tell people of their chains, where something of it was consolidated since. */
export function refreshChains(repository: Repository): void {
  const entries = repository.list()
  const sound = new Set(entries.flatMap(({ id, problem }) => (problem ? [] : [id])))
  for (const { folder, manifest } of entries) {
    if (!manifest) continue
    const chain = chainOf(entries, manifest)
    // Of one whose manifest is damaged nobody knows what it needs.
    if (!chain.every((id) => sound.has(id))) continue
    if (JSON.stringify(chain) === JSON.stringify(manifest.chain)) continue
    replaceManifest(folder, { ...manifest, chain, baseBackupId: chain.at(-2) ?? null })
  }
}

function newestDelta(entries: readonly BackupEntry[]): Extract<BackupEntry, { problem: null }> {
  for (const entry of [...entries].reverse()) {
    if (entry.problem) continue
    const { images, writers, type } = entry.manifest
    const hasDelta =
      images.some(({ baseBackupId }) => baseBackupId !== null) ||
      writers.some(({ components }) => components.some(isMergeable))
    if (type !== 'log' && hasDelta) return entry
  }
  throw new UmbraError('NOT_FOUND', 'No backup in the repository builds on another')
}

async function wholeImages(
  entries: readonly BackupEntry[],
  folder: string,
  manifest: Manifest,
  work: LongWork,
): Promise<ImageRecord[]> {
  const images: ImageRecord[] = []
  for (const image of manifest.images)
    images.push(
      image.baseBackupId === null ? image : await wholeImage(entries, folder, manifest.id, image, work),
    )
  return images
}

async function wholeImage(
  entries: readonly BackupEntry[],
  folder: string,
  id: string,
  image: ImageRecord,
  work: LongWork,
): Promise<ImageRecord> {
  const links = imageChain(entries, id, image.volumeUuid)
  for (const link of links) checkIdentity(link)
  const chain = await openChain(
    links.map(({ path }) => path),
    { signal: work.signal },
  )
  const file = fullImageFile(image.volumeUuid)
  const path = join(folder, file)
  try {
    const { volumeUuid, point } = requireIdentity(chain.layers.at(-1) ?? fail(id))
    const source: ImageSource = {
      volumeUuid,
      point,
      base: null,
      device: chain,
      blockCount: chain.blockCount,
      extents: () => chain.extents(),
    }
    const written = await writeQcow2(source, path, { ...work, force: true })
    await verifyImage(path, { signal: work.signal })
    return {
      ...image,
      ...(await describeFile(path, file, work.signal)),
      format: 'qcow2',
      baseBackupId: null,
      basePointId: null,
      contentDigest: written.identity.digest ?? fail(id),
      dataBytes: written.dataBytes,
    }
  } finally {
    chain.close()
  }
}

function fail(id: string): never {
  throw new UmbraError('BAD_IMAGE', `An image of backup ${id} has no identity`)
}

/** With the names that images have when all is settled. */
function commandsOf({ id, images, fileIndex }: Manifest): string[] {
  const named = images.map((image) =>
    image.file === fullImageFile(image.volumeUuid)
      ? { ...image, file: `images/${image.volumeUuid}.qcow2` }
      : image,
  )
  return restoreCommands(id, named, fileIndex?.file ?? null)
}
