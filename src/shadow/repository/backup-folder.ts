// The folder of a backup that is being made: invisible until publish() gives it its name.
//
// Always true: publish() makes every file and folder durable before the rename, so a backup that can be
// seen is whole; what is written here names its size and SHA-256, worked out from the bytes that went
// to the disk.

import { createHash } from 'node:crypto'
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { MIB } from '../../base/units.ts'
import { hostCall, hostError } from '../../image/host-file.ts'
import { syncFolder } from '../../image/output.ts'
import { throwIfAborted } from '../../image/pace.ts'
import type { Manifest, StoredFile } from './manifest.ts'
import { encodeManifest, MANIFEST_NAME } from './manifest-file.ts'

export class BackupFolder {
  readonly id: string
  /** Where it is now. */
  readonly folder: string
  readonly #finalFolder: string

  /** @param backups the repository's folder of backups */
  constructor(backups: string, id: string) {
    this.id = id
    this.folder = join(backups, partialName(id))
    this.#finalFolder = join(backups, id)
  }

  /** @throws UmbraError EEXIST, OUT_OF_SPACE, EACCES */
  create(): void {
    hostCall(`Cannot make ${this.folder}`, () => {
      mkdirSync(this.folder, { mode: 0o700 })
      mkdirSync(join(this.folder, 'images'), { mode: 0o700 })
    })
  }

  path(file: string): string {
    return join(this.folder, file)
  }

  /** A relative path from a file of this backup to one of another, which lies beside it. */
  pathToBackup(id: string, file: string): string {
    return join('..', '..', id, file)
  }

  /** Writes a small file durably. @param file relative path; its folders are made */
  write(file: string, bytes: Uint8Array | string): StoredFile {
    const path = this.path(file)
    const content = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    hostCall(`Cannot write ${path}`, () => {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
      // What is there stays whole until the new content is durable.
      const unfinished = `${path}.new`
      const fd = openSync(unfinished, 'w', 0o600)
      try {
        writeFileSync(fd, content)
        fsyncSync(fd)
      } finally {
        closeSync(fd)
      }
      renameSync(unfinished, path)
    })
    const sha256 = createHash('sha256').update(content).digest('hex')
    return { file, sizeBytes: content.byteLength, sha256 }
  }

  /** What a file that is there already is. @throws UmbraError ENOENT, IO_FAILED, ABORTED */
  async describe(file: string, signal?: AbortSignal): Promise<StoredFile> {
    return describeFile(this.path(file), file, signal)
  }

  /**
   * Makes everything durable, the manifest last, without making the backup visible: whoever finds it so
   * after a crash knows that it is whole (Repository.preparedManifest()).
   */
  prepare(manifest: Manifest): void {
    syncTree(this.folder)
    this.write(MANIFEST_NAME, encodeManifest(manifest))
    syncFolder(this.folder)
  }

  /** @throws UmbraError; on failure the backup is still invisible */
  publish(manifest: Manifest): void {
    this.prepare(manifest)
    this.reveal()
  }

  /** Gives a prepared backup its name. */
  reveal(): void {
    if (existsSync(this.#finalFolder))
      throw new UmbraError('ALREADY_EXISTS', `${this.#finalFolder} exists`, { path: this.#finalFolder })
    hostCall(`Cannot complete ${this.folder}`, () => renameSync(this.folder, this.#finalFolder))
    syncFolder(dirname(this.#finalFolder))
  }

  /** Removes what is half made; its manifest first, so that what is left of it is never taken for whole. */
  discard(): void {
    hostCall(`Cannot remove ${this.folder}`, () => rmSync(join(this.folder, MANIFEST_NAME), { force: true }))
    hostCall(`Cannot remove ${this.folder}`, () => rmSync(this.folder, { recursive: true, force: true }))
  }
}

const PARTIAL_PREFIX = '.partial-'

export function partialName(id: string): string {
  return `${PARTIAL_PREFIX}${id}`
}

/** The id of a folder that is being made; null: another folder. */
export function idOfPartial(name: string): string | null {
  return name.startsWith(PARTIAL_PREFIX) ? name.slice(PARTIAL_PREFIX.length) : null
}

const DELETED_PREFIX = '.deleted-'

/** Of a backup that is being deleted: it is gone already for everybody, and its bytes follow. */
export function deletedName(id: string): string {
  return `${DELETED_PREFIX}${id}`
}

export function isDeletedName(name: string): boolean {
  return name.startsWith(DELETED_PREFIX)
}

/** Size and SHA-256 of a file. @throws UmbraError ENOENT, IO_FAILED, ABORTED */
export async function describeFile(path: string, file: string, signal?: AbortSignal): Promise<StoredFile> {
  const hash = createHash('sha256')
  let sizeBytes = 0
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: MIB })) {
      throwIfAborted(signal)
      hash.update(chunk as Buffer)
      sizeBytes += (chunk as Buffer).length
    }
  } catch (error) {
    throw hostError(error, `Cannot read ${path}`)
  }
  return { file, sizeBytes, sha256: hash.digest('hex') }
}

/** Flushes every folder below, the innermost first; files were flushed when they were written. */
function syncTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) syncTree(join(folder, entry.name))
  syncFolder(folder)
}

/** Whether a described file is still there with its size; its bytes are not looked at. */
export function isThere(folder: string, stored: StoredFile): boolean {
  const stat = statSync(join(folder, stored.file), { throwIfNoEntry: false })
  return stat?.isFile() === true && stat.size === stored.sizeBytes
}
