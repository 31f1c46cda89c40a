// Looks through one backup of a repository: every byte that its manifest answers for.
//
// Always true: nothing is written; what is wrong is a finding that names the file, never an exception, but for
// ABORTED and a failing machine; a file whose bytes are not those that were saved is not looked into further.

import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type ErrorCode, UmbraError } from '../../base/errors.ts'
import { MIB } from '../../base/units.ts'
import { HostFile } from '../../image/host-file.ts'
import { openLayer } from '../../image/open-layer.ts'
import type { Pace } from '../../image/pace.ts'
import { digestLayer } from '../../image/verify.ts'
import { parseDocument } from '../documents/canonical-json.ts'
import { validateBackupComponents } from '../documents/validate-backup-components.ts'
import { validateWriterMetadata } from '../documents/validate-writer-metadata.ts'
import { componentText, imageOf } from './chains.ts'
import type { ComponentRecord, ImageRecord, Manifest, StoredFile, WriterRecord } from './manifest.ts'
import { readFileIndex } from './manifest-file.ts'
import type { BackupEntry } from './repository.ts'
import { checkIdentity } from './restore-images.ts'

export interface Damage {
  readonly backupId: string
  /** Relative to the backup's folder; null: it is not a file that is wrong. */
  readonly file: string | null
  readonly code: ErrorCode
  /** One sentence. */
  readonly message: string
}

type WholeEntry = Extract<BackupEntry, { problem: null }>

/** Bytes that verifyBackup() reads of a backup, near enough for a progress bar. */
export function bytesToVerify({ images, documents, fileIndex, writers }: Manifest): number {
  let bytes = fileIndex?.sizeBytes ?? 0
  for (const { sizeBytes, dataBytes } of images) bytes += sizeBytes + dataBytes
  for (const { sizeBytes } of documents) bytes += sizeBytes
  for (const writer of writers) for (const component of writer.components) bytes += component.bytes
  return bytes
}

/** @param entries all of the repository, for what it builds on. @throws UmbraError ABORTED, IO_FAILED */
export async function verifyBackup(
  entries: readonly BackupEntry[],
  entry: BackupEntry,
  pace: Pace,
): Promise<Damage[]> {
  if (entry.problem)
    return [
      { backupId: entry.id, file: 'manifest.json', code: entry.problem.code, message: entry.problem.message },
    ]
  const check = new BackupCheck(entry, pace)
  check.links(entries)
  for (const image of entry.manifest.images) await check.image(image)
  for (const document of entry.manifest.documents) await check.document(document)
  if (entry.manifest.fileIndex) await check.files(entry.manifest.fileIndex)
  return check.damages
}

class BackupCheck {
  readonly damages: Damage[] = []
  readonly #entry: WholeEntry
  readonly #pace: Pace

  constructor(entry: WholeEntry, pace: Pace) {
    this.#entry = entry
    this.#pace = pace
  }

  /** What it builds on directly is there, and is the right point; a base that is damaged is found by itself. */
  links(entries: readonly BackupEntry[]): void {
    const byId = new Map(entries.map((other) => [other.id, other]))
    const { manifest } = this.#entry
    for (const image of manifest.images)
      if (image.baseBackupId !== null)
        this.#imageLink(image, byId.get(image.baseBackupId), image.baseBackupId)
    for (const writer of manifest.writers)
      for (const component of writer.components)
        if (component.succeeded && component.baseBackupId !== null)
          this.#componentLink(writer, component, byId.get(component.baseBackupId), component.baseBackupId)
  }

  #imageLink(
    { volumeUuid, volumePath, basePointId }: ImageRecord,
    base: BackupEntry | undefined,
    id: string,
  ): void {
    if (base?.problem) return
    const image = base && imageOf(base.manifest, volumeUuid)
    const what = `its image of ${volumePath}`
    if (!image) this.#add(null, 'BROKEN_CHAIN', `${what} builds on ${id}, which is missing or has none`)
    else if (image.point.id !== basePointId || id >= this.#entry.id)
      this.#add(null, 'BROKEN_CHAIN', `${what} does not start where that of ${id} ends`)
  }

  #componentLink(
    writer: WriterRecord,
    component: ComponentRecord,
    base: BackupEntry | undefined,
    id: string,
  ): void {
    if (base?.problem || (base && id < this.#entry.id && holds(base.manifest, writer, component))) return
    const what = `component ${componentText(component)} of ${writer.name}`
    this.#add(null, 'BROKEN_CHAIN', `${what} builds on ${id}, which is missing or does not hold it`)
  }

  async image(image: ImageRecord): Promise<void> {
    const { file, format, contentDigest } = image
    if (image.sidecar && !(await this.#isWhole(image.sidecar))) return
    if (!(await this.#isWhole(image))) return
    const path = join(this.#entry.folder, file)
    await this.#found(file, async () => {
      checkIdentity({ entry: this.#entry, manifest: this.#entry.manifest, image, path })
      const layer = openLayer(path, format)
      try {
        const digest = await digestLayer(layer, image.baseBackupId === null ? 'full' : 'delta', this.#pace)
        if (digest !== contentDigest)
          throw new UmbraError('BAD_IMAGE', `${file} holds other blocks than were saved`)
      } finally {
        layer.close()
      }
    })
  }

  async document(stored: StoredFile): Promise<void> {
    if (!(await this.#isWhole(stored))) return
    await this.#found(stored.file, () => {
      const value = parseDocument(readFileSync(join(this.#entry.folder, stored.file)), stored.file)
      if (stored.file === 'backup-components.json') validateBackupComponents(value)
      else validateWriterMetadata(value)
    })
  }

  async files(index: StoredFile): Promise<void> {
    if (!(await this.#isWhole(index))) return
    await this.#found(index.file, async () => {
      for (const { path, stored, ranges } of readFileIndex(join(this.#entry.folder, index.file))) {
        if (!stored) continue
        await this.#isWhole(stored, path)
        const rangesBytes = ranges?.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
        if (rangesBytes !== undefined && rangesBytes !== stored.sizeBytes)
          this.#add(
            stored.file,
            'INVALID_DOCUMENT',
            `it holds ${stored.sizeBytes} bytes for ranges of ${rangesBytes}`,
          )
      }
    })
  }

  /** Size and SHA-256; what differs is noted. @param path the saved file's own name, for people */
  async #isWhole(stored: StoredFile, path?: string): Promise<boolean> {
    const name = path === undefined ? stored.file : `${stored.file} (${path})`
    const place = join(this.#entry.folder, stored.file)
    const stat = statSync(place, { throwIfNoEntry: false })
    if (!stat?.isFile()) {
      this.#add(stored.file, 'TRUNCATED', `${name} is missing`)
      return false
    }
    if (stat.size !== stored.sizeBytes) {
      this.#add(stored.file, 'TRUNCATED', `${name} has ${stat.size} bytes instead of ${stored.sizeBytes}`)
      return false
    }
    if ((await digestOf(place, this.#pace)) === stored.sha256) return true
    this.#add(stored.file, 'CHECKSUM_MISMATCH', `${name} does not match its digest`)
    return false
  }

  async #found(file: string, work: () => void | Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof UmbraError) || error.code === 'ABORTED' || error.code === 'IO_FAILED')
        throw error
      this.#add(file, error.code, error.message)
    }
  }

  #add(file: string | null, code: ErrorCode, message: string): void {
    this.damages.push({ backupId: this.#entry.id, file, code, message })
  }
}

function holds(
  manifest: Manifest,
  { classId, instanceName }: WriterRecord,
  key: { logicalPath: string; name: string },
): boolean {
  const record = manifest.writers.find(
    (other) => other.classId === classId && other.instanceName === instanceName,
  )
  return (
    record?.components.some(
      ({ logicalPath, name, succeeded }) => succeeded && logicalPath === key.logicalPath && name === key.name,
    ) ?? false
  )
}

async function digestOf(path: string, pace: Pace): Promise<string> {
  const hash = createHash('sha256')
  const piece = Buffer.allocUnsafe(MIB)
  const file = new HostFile(path)
  try {
    for (let at = 0; at < file.sizeBytes; at += piece.length) {
      const lengthBytes = Math.min(piece.length, file.sizeBytes - at)
      file.read(at, lengthBytes, piece, 0)
      hash.update(piece.subarray(0, lengthBytes))
      if (pace.advance(lengthBytes)) await pace.breathe()
    }
  } finally {
    file.close()
  }
  return hash.digest('hex')
}
