// A repository: the folder that backups are kept in (its layout stands in manifest.ts).
//
// Always true: what list() gives is complete, oldest first, or is reported as damaged by name; a folder
// that holds anything else is refused and never taken for a fresh repository; whoever changes anything
// holds the lock.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { randomUuid } from '../../base/uuid.ts'
import { hostCall } from '../../image/host-file.ts'
import { replaceFile, syncFolder } from '../../image/output.ts'
import { BackupFolder, deletedName, idOfPartial, isDeletedName } from './backup-folder.ts'
import { newBackupId, parseBackupId } from './backup-id.ts'
import { type Manifest, REPOSITORY_FORMAT } from './manifest.ts'
import { MANIFEST_NAME, readManifest } from './manifest-file.ts'
import { RepositoryLock } from './repository-lock.ts'
import { appendResult, type ResultEntry, readResults } from './results-log.ts'
import { settleConsolidation } from './settle-consolidation.ts'

const HEAD_NAME = 'repository.json'
const BACKUPS_NAME = 'backups'
const LOCK_NAME = 'lock'

/** A complete backup, or one whose manifest cannot be believed. */
export type BackupEntry =
  | { readonly id: string; readonly folder: string; readonly manifest: Manifest; readonly problem: null }
  | { readonly id: string; readonly folder: string; readonly manifest: null; readonly problem: UmbraError }

export class Repository {
  readonly folder: string
  readonly id: string
  readonly createdAtMs: number

  private constructor(folder: string, head: { id: string; createdAtMs: number }) {
    this.folder = folder
    this.id = head.id
    this.createdAtMs = head.createdAtMs
  }

  /**
   * Makes a repository in a new or empty folder.
   * @throws UmbraError ALREADY_EXISTS when the folder holds anything, EACCES, OUT_OF_SPACE
   */
  static async create(path: string): Promise<Repository> {
    const folder = resolve(path)
    hostCall(`Cannot make ${folder}`, () => mkdirSync(folder, { recursive: true, mode: 0o700 }))
    const names = hostCall(`Cannot read ${folder}`, () => readdirSync(folder))
    // Of a creation that was interrupted there is the folder of backups, still empty, at most.
    const isFresh = names.every(
      (name) =>
        (name === BACKUPS_NAME && readdirSync(join(folder, name)).length === 0) ||
        /^\.repository\.json\.[0-9a-f]+\.partial$/.test(name),
    )
    if (!isFresh)
      throw new UmbraError('ALREADY_EXISTS', `${folder} holds other files and is not made a repository`, {
        path: folder,
      })
    const head = { format: REPOSITORY_FORMAT, id: randomUuid(), createdAtMs: Date.now() }
    hostCall(`Cannot make ${folder}`, () =>
      mkdirSync(join(folder, BACKUPS_NAME), { recursive: true, mode: 0o700 }),
    )
    syncFolder(folder)
    await replaceFile(join(folder, HEAD_NAME), Buffer.from(`${JSON.stringify(head, null, 2)}\n`))
    return new Repository(folder, head)
  }

  /**
   * @throws UmbraError NOT_FOUND when there is no repository, INVALID_DOCUMENT, UNSUPPORTED_VERSION when
   *   what is there is damaged or another program's
   */
  static open(path: string): Repository {
    const folder = resolve(path)
    const headPath = join(folder, HEAD_NAME)
    if (!existsSync(headPath))
      throw new UmbraError('NOT_FOUND', `No repository at ${folder}`, { path: folder })
    let head: Record<string, unknown> | null = null
    try {
      head = JSON.parse(readFileSync(headPath, 'utf8')) as Record<string, unknown> | null
    } catch {
      // Judged below.
    }
    const { format, id, createdAtMs } = head ?? {}
    if (typeof format === 'string' && /^umbra-repository-\d+$/.test(format) && format !== REPOSITORY_FORMAT)
      throw new UmbraError(
        'UNSUPPORTED_VERSION',
        `${folder} is of format ${format}; this is ${REPOSITORY_FORMAT}`,
      )
    const isSound =
      format === REPOSITORY_FORMAT &&
      typeof id === 'string' &&
      /^[0-9a-f-]{36}$/.test(id) &&
      Number.isSafeInteger(createdAtMs)
    if (!isSound || !existsSync(join(folder, BACKUPS_NAME)))
      throw new UmbraError(
        'INVALID_DOCUMENT',
        `${headPath} is not the head of a repository, or it is damaged`,
        {
          path: headPath,
        },
      )
    return new Repository(folder, { id: id as string, createdAtMs: createdAtMs as number })
  }

  /** Opens one, or makes one where there is nothing. */
  static async openOrCreate(path: string): Promise<Repository> {
    return Repository.isThere(path) ? Repository.open(path) : Repository.create(path)
  }

  static isThere(path: string): boolean {
    return existsSync(join(path, HEAD_NAME))
  }

  /** Neither a backup nor the beginning of one. */
  get isEmpty(): boolean {
    return this.#names().length === 0
  }

  /** The lock is held. At once, so that whoever comes meanwhile meets all of it or nothing: see lock(). */
  removeEmpty(): void {
    const gone = join(dirname(this.folder), `.${basename(this.folder)}.${this.shortId}.partial`)
    hostCall(`Cannot remove ${this.folder}`, () => {
      renameSync(this.folder, gone)
      rmSync(gone, { recursive: true })
    })
  }

  get backupsFolder(): string {
    return join(this.folder, BACKUPS_NAME)
  }

  /** Short name of this repository, for what it leaves in volumes. */
  get shortId(): string {
    return this.id.slice(0, 8)
  }

  /**
   * For everything that changes the repository; clears what an interrupted prune or consolidate left.
   * @throws UmbraError BUSY, UNAVAILABLE, NOT_FOUND when it was removed since it was opened
   */
  lock(): RepositoryLock {
    const lock = new RepositoryLock(join(this.folder, LOCK_NAME), this.folder)
    try {
      // Another command's failing first backup may have taken it away, and a third made one anew.
      if (Repository.open(this.folder).id !== this.id)
        throw new UmbraError('BUSY', `Another command has made the repository ${this.folder} anew`)
      this.#clearLeftovers()
      return lock
    } catch (error) {
      lock[Symbol.dispose]()
      throw error
    }
  }

  /** All complete backups, oldest first. */
  list(): BackupEntry[] {
    return this.#ids().map((id) => this.#entry(id))
  }

  /**
   * @param name a backup's id, or the beginning of one that no other has
   * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT, INVALID_DOCUMENT when its manifest is damaged
   */
  get(name: string): Extract<BackupEntry, { problem: null }> {
    const found = this.#ids().filter((id) => id === name || id.startsWith(name))
    const exact = found.find((id) => id === name) ?? (found.length === 1 ? found[0] : undefined)
    if (exact === undefined)
      throw new UmbraError(
        found.length === 0 ? 'NOT_FOUND' : 'INVALID_ARGUMENT',
        found.length === 0 ? `No backup ${name} in ${this.folder}` : `${name} begins several backups' names`,
        { name },
      )
    const entry = this.#entry(exact)
    if (entry.problem) throw entry.problem
    return entry
  }

  /** A new backup's folder, made; the lock is held. */
  begin(type: Manifest['type'], nowMs: number): BackupFolder {
    const all = [...this.#ids(), ...this.partialIds()].sort()
    const folder = new BackupFolder(this.backupsFolder, newBackupId(type, nowMs, all.at(-1) ?? null))
    folder.create()
    return folder
  }

  /** Backups that were begun and are not complete: somebody's who holds the lock, or left behind. */
  partialIds(): string[] {
    return this.#names().flatMap((name) => {
      const id = idOfPartial(name)
      return id === null ? [] : [id]
    })
  }

  partial(id: string): BackupFolder {
    return new BackupFolder(this.backupsFolder, id)
  }

  /** The manifest of a partial that only lacked its name when its maker died; null: it is half made. */
  preparedManifest(id: string): Manifest | null {
    const { folder } = this.partial(id)
    if (!existsSync(join(folder, MANIFEST_NAME))) return null
    try {
      return readManifest(folder, id)
    } catch {
      return null
    }
  }

  /** Removes a complete backup, which first becomes invisible; what builds on it is the caller's care. */
  remove(id: string): void {
    const folder = join(this.backupsFolder, id)
    if (parseBackupId(id) === null || !existsSync(folder))
      throw new UmbraError('NOT_FOUND', `No backup ${id} in ${this.folder}`, { name: id })
    const doomed = join(this.backupsFolder, deletedName(id))
    hostCall(`Cannot remove ${folder}`, () => renameSync(folder, doomed))
    syncFolder(this.backupsFolder)
    removeFolder(doomed)
  }

  #clearLeftovers(): void {
    for (const name of this.#names()) if (isDeletedName(name)) removeFolder(join(this.backupsFolder, name))
    for (const id of this.#ids()) settleConsolidation(join(this.backupsFolder, id), id)
  }

  record(entry: ResultEntry): void {
    appendResult(this.folder, entry)
  }

  results(): ResultEntry[] {
    return readResults(this.folder)
  }

  #entry(id: string): BackupEntry {
    const folder = join(this.backupsFolder, id)
    try {
      return { id, folder, manifest: readManifest(folder, id), problem: null }
    } catch (error) {
      if (error instanceof UmbraError) return { id, folder, manifest: null, problem: error }
      throw error
    }
  }

  #ids(): string[] {
    return this.#names()
      .filter((name) => parseBackupId(name) !== null)
      .sort()
  }

  #names(): string[] {
    return hostCall(`Cannot read ${this.backupsFolder}`, () => readdirSync(this.backupsFolder))
  }
}

function removeFolder(folder: string): void {
  hostCall(`Cannot remove ${folder}`, () => rmSync(folder, { recursive: true, force: true }))
}
