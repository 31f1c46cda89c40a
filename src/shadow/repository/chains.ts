// What a backup builds on: per volume the chain of images, per component the chain of its files.
//
// The base of an incremental is the last full or incremental, of a differential the last full, of a log
// backup the last full, incremental or log; never a copy, never what failed (vss.md sections 4.7 and 9 #4, #21).
// An incremental that was consolidated is a full to all that comes after it. An image builds on the newest of
// these whose point its volume still knows; without the point nobody could say what changed since.
// Always true: a chain starts with a full and every link of it is there and readable; a damaged manifest
// breaks the chains that it may be part of and no other.

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import type { ComponentKey } from '../documents/backup-components.ts'
import type { BackupType } from '../documents/vocabulary.ts'
import { isThere } from './backup-folder.ts'
import { parseBackupId } from './backup-id.ts'
import type { ComponentRecord, ImageRecord, Manifest, WriterRecord } from './manifest.ts'
import type { BackupEntry } from './repository.ts'

/** The types whose backups need a base. */
export type DeltaType = 'incremental' | 'differential' | 'log'

export function needsBase(type: BackupType): type is DeltaType {
  return type === 'incremental' || type === 'differential' || type === 'log'
}

const BASE_TYPES: Readonly<Record<DeltaType, readonly BackupType[]>> = {
  incremental: ['full', 'incremental'],
  differential: ['full'],
  log: ['full', 'incremental', 'log'],
}

/** What an image or a component counts as for those that build on it: a consolidated incremental is a full. */
function typeAsBase(type: BackupType, { baseBackupId }: { baseBackupId: string | null }): BackupType {
  return type === 'incremental' && baseBackupId === null ? 'full' : type
}

/** Whether a component of this record may be what the next one of a type builds on. */
export function isComponentBase(component: ComponentRecord, type: DeltaType): boolean {
  return component.mayBeBase && BASE_TYPES[type].includes(typeAsBase(component.type, component))
}

export interface ImageLink {
  readonly entry: BackupEntry
  readonly manifest: Manifest
  readonly image: ImageRecord
  /** Path of the image's file. */
  readonly path: string
}

/** Where the images of volumes lie within a backup. */
export function imageFile(volumeUuid: string, format: 'qcow2' | 'raw'): string {
  return `images/${volumeUuid}.${format}`
}

/** A point of a volume's history. */
export type PointRecord = ImageRecord['point']

export interface ImageBase extends ImageLink {
  /** Newer backups of the kind, whose points their volume no longer has: newest first. */
  readonly passedOver: readonly string[]
}

/**
 * The image that the next one of a volume builds on, its chain looked through.
 * @param hasPoint whether the volume still knows a point, as a snapshot or as a bookmark
 * @throws UmbraError NO_BASE, BROKEN_CHAIN
 */
export function imageBase(
  entries: readonly BackupEntry[],
  volumeUuid: string,
  type: 'incremental' | 'differential',
  hasPoint: (point: PointRecord) => boolean,
): ImageBase {
  const passedOver: string[] = []
  for (const { entry, image } of imageBases(entries, volumeUuid, type)) {
    if (entry.problem) throw broken(entry.id, entry.problem.message)
    if (!image || !hasPoint(image.point)) {
      passedOver.push(entry.id)
      continue
    }
    imageChain(entries, entry.id, volumeUuid)
    return { entry, manifest: entry.manifest, image, path: join(entry.folder, image.file), passedOver }
  }
  const [lost] = passedOver
  throw lost === undefined
    ? new UmbraError(
        'NO_BASE',
        `There is no ${type === 'differential' ? 'full backup' : 'full or incremental backup'} of volume ${volumeUuid} to build on`,
        { volumeUuid },
      )
    : new UmbraError(
        'NO_BASE',
        `Volume ${volumeUuid} no longer has the bookmark of backup ${lost}, which this one would build on, nor one of an older backup`,
        { volumeUuid, backup: lost },
      )
}

/** Images that one of this type may build on, and damaged backups that may hold such; newest first. */
function* imageBases(
  entries: readonly BackupEntry[],
  volumeUuid: string,
  type: 'incremental' | 'differential',
): Generator<{ readonly entry: BackupEntry; readonly image: ImageRecord | null }> {
  for (const entry of [...entries].reverse()) {
    const entryType = parseBackupId(entry.id)?.type
    if (entryType === undefined || !BASE_TYPES.incremental.includes(entryType)) continue
    if (entry.problem) {
      if (BASE_TYPES[type].includes(entryType) && hasImageOf(entry, volumeUuid)) yield { entry, image: null }
      continue
    }
    const image = imageOf(entry.manifest, volumeUuid)
    if (image && BASE_TYPES[type].includes(typeAsBase(entryType, image))) yield { entry, image }
  }
}

/** What the next image of a volume would build on, if its chain is whole; null: a full is due. */
export function newestImageBase(
  entries: readonly BackupEntry[],
  volumeUuid: string,
  type: 'incremental' | 'differential',
  hasPoint: (point: PointRecord) => boolean,
): ImageRecord | null {
  for (const { image } of imageBases(entries, volumeUuid, type))
    if (image && hasPoint(image.point)) return image
  return null
}

/**
 * The images that lead to a backup's image of a volume, the full one first; their files are there.
 * @throws UmbraError NOT_FOUND when the backup has no image of it, BROKEN_CHAIN
 */
export function imageChain(entries: readonly BackupEntry[], id: string, volumeUuid: string): ImageLink[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  const chain: ImageLink[] = []
  let next: string | null = id
  while (next !== null) {
    const entry = byId.get(next)
    if (!entry) throw broken(next, 'it is missing')
    if (entry.problem) throw broken(next, entry.problem.message)
    const image = imageOf(entry.manifest, volumeUuid)
    if (!image) {
      if (next !== id) throw broken(next, `it holds no image of volume ${volumeUuid}`)
      throw new UmbraError('NOT_FOUND', `Backup ${id} holds no image of volume ${volumeUuid}`, { volumeUuid })
    }
    const newer: ImageLink | undefined = chain[0]
    if (newer && newer.image.basePointId !== image.point.id)
      throw broken(
        next,
        `its image of volume ${volumeUuid} is not the point that ${newer.entry.id} starts from`,
      )
    if (!isThere(entry.folder, image)) throw broken(next, `${image.file} is missing or has another size`)
    // Names rise with time, so a chain that does not go back goes round.
    if (newer && next >= newer.entry.id) throw broken(next, `${newer.entry.id} cannot build on it`)
    chain.unshift({ entry, manifest: entry.manifest, image, path: join(entry.folder, image.file) })
    next = image.baseBackupId
  }
  return chain
}

/** A writer, whatever its process is called today. */
export interface WriterName {
  readonly classId: string
  readonly instanceName: string
}

export interface ComponentLink {
  readonly entry: BackupEntry
  readonly manifest: Manifest
  readonly writer: WriterRecord
  readonly component: ComponentRecord
}

/** Every backup that the component may build on, the newest first, up to its last full. @throws UmbraError BROKEN_CHAIN */
function componentBases(
  entries: readonly BackupEntry[],
  writer: WriterName,
  key: ComponentKey,
): ComponentLink[] {
  const found: ComponentLink[] = []
  for (const entry of [...entries].reverse()) {
    if (entry.problem) {
      if (mayHoldComponents(entry)) throw broken(entry.id, entry.problem.message)
      continue
    }
    const link = componentOf(entry, writer, key)
    if (!link?.component.mayBeBase) continue
    found.push(link)
    if (isComponentBase(link.component, 'differential')) break
  }
  return found
}

/**
 * What the next backup of a component builds on; null: it has none.
 * @throws UmbraError BROKEN_CHAIN
 */
export function componentBase(
  entries: readonly BackupEntry[],
  writer: WriterName,
  key: ComponentKey,
  type: DeltaType,
): ComponentLink | null {
  const bases = componentBases(entries, writer, key)
  return bases.find(({ component }) => isComponentBase(component, type)) ?? null
}

/**
 * The types that a component was saved as since its last full, that one left out, oldest first. This asks what
 * its writer remembers, and no writer was told of a consolidation.
 */
export function seriesOf(
  entries: readonly BackupEntry[],
  writer: WriterName,
  key: ComponentKey,
): BackupType[] {
  const types: BackupType[] = []
  for (const entry of entries) {
    const component = entry.manifest && componentOf(entry, writer, key)?.component
    if (!component?.succeeded) continue
    if (component.type !== 'full') types.push(component.type)
    else if (component.mayBeBase) types.length = 0
  }
  return types
}

/**
 * The backups that a restore of a component goes through, the full one first.
 * @throws UmbraError NOT_FOUND, BROKEN_CHAIN
 */
export function componentChain(
  entries: readonly BackupEntry[],
  id: string,
  writer: WriterName,
  key: ComponentKey,
): ComponentLink[] {
  const byId = new Map(entries.map((entry) => [entry.id, entry]))
  const chain: ComponentLink[] = []
  let next: string | null = id
  while (next !== null) {
    const entry = byId.get(next)
    if (!entry) throw broken(next, 'it is missing')
    if (entry.problem) throw broken(next, entry.problem.message)
    const link = componentOf(entry, writer, key)
    if (!link && next === id)
      throw new UmbraError('NOT_FOUND', `Backup ${id} does not hold component ${componentText(key)}`)
    if (!link?.component.succeeded)
      throw broken(next, `it does not hold component ${componentText(key)} as a whole`)
    const newer = chain[0]
    if (newer && next >= newer.entry.id) throw broken(next, `${newer.entry.id} cannot build on it`)
    chain.unshift(link)
    next = link.component.baseBackupId
  }
  return chain
}

export function imageOf(manifest: Manifest, volumeUuid: string): ImageRecord | undefined {
  return manifest.images.find((image) => image.volumeUuid === volumeUuid)
}

export function componentText(key: ComponentKey): string {
  return key.logicalPath === '' ? key.name : `${key.logicalPath}/${key.name}`
}

function componentOf(entry: BackupEntry, writer: WriterName, key: ComponentKey): ComponentLink | null {
  const { manifest } = entry
  const record = manifest?.writers.find(
    ({ classId, instanceName }) => classId === writer.classId && instanceName === writer.instanceName,
  )
  const component = record?.components.find(
    ({ logicalPath, name }) => logicalPath === key.logicalPath && name === key.name,
  )
  return manifest && record && component ? { entry, manifest, writer: record, component } : null
}

/** Of a backup whose manifest is damaged: the folder tells what it had. */
function hasImageOf(entry: BackupEntry, volumeUuid: string): boolean {
  return (['qcow2', 'raw'] as const).some((format) =>
    existsSync(join(entry.folder, imageFile(volumeUuid, format))),
  )
}

/** A copy or a differential is nobody's base, so it breaks nothing. */
function mayHoldComponents(entry: BackupEntry): boolean {
  const type = parseBackupId(entry.id)?.type
  const folder = join(entry.folder, 'writers')
  const isBase = type === 'full' || type === 'incremental' || type === 'log'
  return isBase && existsSync(folder) && readdirSync(folder).length > 0
}

function broken(id: string, why: string): UmbraError {
  return new UmbraError('BROKEN_CHAIN', `The chain is broken at backup ${id}: ${why}`, { backup: id })
}
