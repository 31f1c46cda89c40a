// One try at a backup: a session with the coordinator from its opening to its release, in the order of
// vss.md section 1.2.
//
// Always true: what is refused for want of a base is refused before anything is held; the data and the
// manifest are durable before a writer hears BackupComplete, so that no log is truncated whose copy could
// be lost; whatever ends a run, its session is closed, and what it half made is gone unless it can be
// resumed.

import { realpathSync } from 'node:fs'
import { UmbraError } from '../../base/errors.ts'
import { throwIfAborted } from '../../image/pace.ts'
import type { RequesterSession, ShadowProperties, WriterStatus } from '../coordinator/requester-session.ts'
import type { BackupComponents } from '../documents/backup-components.ts'
import type { WriterResult } from '../documents/vocabulary.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { BackupFolder } from '../repository/backup-folder.ts'
import { type ImageLink, imageBase, type PointRecord } from '../repository/chains.ts'
import type { Manifest, StoredFile, VolumePoint } from '../repository/manifest.ts'
import type { BackupEntry, Repository } from '../repository/repository.ts'
import type { BackupChoice } from './backup-options.ts'
import { snapshotName, tidyBookmarks } from './bookmark-care.ts'
import { isCalled, type PlannedWriter, planComponents } from './component-plan.ts'
import { type Copied, type CopiedVolume, copyAll } from './copy-phase.ts'
import { endPersistent } from './end-persistent.ts'
import { makeManifest, withStatuses } from './make-manifest.ts'
import { neededVolumes } from './needed-volumes.ts'
import { hasResumeNote, type ResumeNote, removeResumeNote, writeResumeNote } from './resume-note.ts'
import { readSetNote, removeSetNote, writeSetNote } from './set-note.ts'
import { dropStrayShadows } from './stray-shadows.ts'
import type { Surroundings, VolumePlace } from './surroundings.ts'
import { failedWriters, failureText, writerFailure } from './writer-judgement.ts'

export interface BackupResult {
  readonly manifest: Manifest
  /** Where the backup is. */
  readonly folder: string
}

export class BackupRun {
  readonly #surroundings: Surroundings
  readonly #repository: Repository
  readonly #choice: BackupChoice
  readonly #entries: readonly BackupEntry[]
  readonly #notes: string[]
  #lacksWriters = false
  readonly #failed = new Map<string, { result: WriterResult; reason: string }>()
  readonly #startedAtMs = Date.now()
  readonly #imageBases = new Map<string, ImageLink | null>()
  #writers: readonly PlannedWriter[] = []
  #metadata: readonly WriterMetadata[] = []
  #volumes: readonly VolumePlace[] = []
  #hasSet = false
  #isPrepared = false

  /** @param notes of earlier tries, such as that a full is taken instead */
  constructor(
    surroundings: Surroundings,
    repository: Repository,
    choice: BackupChoice,
    notes: readonly string[],
  ) {
    this.#surroundings = surroundings
    this.#repository = repository
    this.#choice = choice
    this.#entries = repository.list()
    this.#notes = [...notes]
  }

  async run(): Promise<BackupResult> {
    await this.#findVolumes()
    const session = await this.#surroundings.coordinator.openSession('backup')
    let folder: BackupFolder | undefined
    let isMade = false
    try {
      await this.#discover(session)
      this.#refuseEmpty()
      folder = this.#repository.begin(this.#choice.type, this.#startedAtMs)
      const result = await this.#makeBackup(session, folder)
      isMade = true
      return result
    } finally {
      // Of a run that failed the first failure is told, not what followed from it.
      await session.close().catch((error: unknown) => {
        if (isMade) this.#note(`The session's end failed: ${text(error)}`)
      })
      if (folder) await this.#discardHalfMade(folder)
    }
  }

  /**
   * What is prepared is whole, and writers may have been told so: the next command gives it its name. What
   * can be resumed waits for the next run, as does what has shadow copies that cannot be ended now.
   */
  async #discardHalfMade(folder: BackupFolder): Promise<void> {
    if (this.#isPrepared || hasResumeNote(folder)) return
    const paths = readSetNote(folder)?.volumePaths ?? []
    const { failedPaths } = await dropStrayShadows(this.#surroundings.volumes, this.#repository, paths)
    if (failedPaths.size === 0) folder.discard()
  }

  // -- before anything is held

  /** A backup of nothing would look like a good one. @throws UmbraError INVALID_ARGUMENT */
  #refuseEmpty(): void {
    if ((this.#choice.images && this.#volumes.length > 0) || this.#writers.length > 0) return
    throw new UmbraError(
      'INVALID_ARGUMENT',
      'Nothing would be saved: no volume is named for images, and no writer has components to save',
    )
  }

  async #findVolumes(): Promise<void> {
    const found = new Map<string, VolumePlace>()
    for (const volume of this.#choice.volumes) {
      const place = await this.#surroundings.volumes.find(volume)
      found.set(place.volumeUuid, place)
    }
    this.#volumes = [...found.values()]
    if (this.#choice.images) for (const place of this.#volumes) await this.#findImageBase(place)
  }

  /** A database that cannot be asked would else be missing from the backup without a word. */
  async #tellOfAbsent(session: RequesterSession): Promise<void> {
    for (const { origin, message } of await session.absentWriters()) {
      this.#lacksWriters = true
      this.#note(`The writer ${origin} could not be asked and takes no part: ${message}`)
    }
  }

  /** @throws UmbraError NO_BASE, BROKEN_CHAIN */
  async #findImageBase({ volumeUuid, volumePath }: VolumePlace): Promise<void> {
    const { type } = this.#choice
    if (type !== 'incremental' && type !== 'differential') {
      this.#imageBases.set(volumeUuid, null)
      return
    }
    const points = await this.#surroundings.volumes.points(volumePath)
    const known = new Map(points.map(({ id, epoch }) => [id, epoch]))
    const base = imageBase(
      this.#entries,
      volumeUuid,
      type,
      ({ id, epoch }: PointRecord) => known.get(id) === epoch,
    )
    const [lost] = base.passedOver
    if (lost !== undefined)
      this.#note(
        `The image of ${volumePath} builds on backup ${base.entry.id}: of the newer ${lost} the volume no longer has the bookmark`,
      )
    this.#imageBases.set(volumeUuid, base)
  }

  // -- phases A and B

  async #discover(session: RequesterSession): Promise<void> {
    const choice = this.#choice
    if (choice.excludeWriters?.length) await session.disableWriters(choice.excludeWriters)
    await session.setContext({ context: contextOf(choice) })
    if (choice.withoutWriters) return
    await session.setBackupState({
      componentMode: choice.components !== 'none',
      bootableSystemState: false,
      backupType: choice.type,
      partialFileSupport: true,
    })
    this.#metadata = await session.gatherWriterMetadata()
    await this.#tellOfAbsent(session)
    for (const name of choice.requireWriters ?? [])
      if (!this.#metadata.some((writer) => isCalled(writer, name)))
        throw new UmbraError('WRITER_FAILED', `The writer ${name} is required and not there`, {
          writer: name,
        })
    this.#writers = planComponents({
      metadata: this.#metadata,
      components: choice.components,
      type: choice.type,
      entries: this.#entries,
      changedRanges: choice.changedRanges ?? false,
    })
    for (const { reason } of this.#writers) if (reason !== null) this.#note(reason)
  }

  async #makeBackup(session: RequesterSession, folder: BackupFolder): Promise<BackupResult> {
    for (const { ref } of this.#components()) await session.addComponent(ref)
    const volumes = await neededVolumes(
      this.#surroundings.volumes,
      this.#choice,
      this.#volumes,
      this.#writers,
    )
    await this.#warnOfOwnVolume(volumes)
    const name = snapshotName(this.#repository, folder.id)
    let snapshotSetId: string | null = null
    if (volumes.length > 0) {
      const volumePaths = volumes.map(({ volumePath }) => volumePath)
      if (this.#choice.resumable) await writeSetNote(folder, { snapshotName: name, volumePaths })
      const waitMs = this.#choice.autoRetryMs ?? 0
      snapshotSetId = (await session.startSnapshotSet({ waitMs })).snapshotSetId
      for (const { volumePath } of volumes) await session.addToSnapshotSet(volumePath, { snapshotName: name })
      this.#hasSet = true
    }
    if (!this.#choice.withoutWriters) await this.#prepareWriters(session)
    try {
      const members = this.#hasSet ? await this.#makeShadowCopies(session) : []
      const manifest = await this.#copyAndComplete(session, folder, snapshotSetId, members)
      return { manifest, folder: manifestFolder(this.#repository, manifest) }
    } catch (error) {
      // vss.md 1.4.5: after PrepareForBackup a failure is told before the session is released.
      await session.abortBackup().catch(() => undefined)
      throw error
    }
  }

  /** Lost with the volume, such a backup helps nobody; and each image would hold the ones before it. */
  async #warnOfOwnVolume(volumes: readonly VolumePlace[]): Promise<void> {
    const folder = realpathSync(this.#repository.folder)
    const own = volumes.length === 0 ? null : await this.#surroundings.volumes.volumeAt(folder)
    const volume = volumes.find(({ volumeUuid }) => volumeUuid === own?.volumeUuid)
    if (!volume) return
    this.#note(
      `The repository lies on ${volume.volumePath}, which is backed up: it is lost with that volume, and backups of it grow with every backup`,
    )
  }

  // -- phase C

  async #prepareWriters(session: RequesterSession): Promise<void> {
    for (const { ref, previousStamp } of this.#components())
      if (previousStamp !== null) await session.setPreviousBackupStamp(ref, previousStamp)
    throwIfAborted(this.#choice.signal)
    try {
      this.#judge(await session.prepareForBackup())
    } catch (error) {
      await session.abortBackup().catch(() => undefined)
      throw error
    }
  }

  async #makeShadowCopies(session: RequesterSession): Promise<ShadowProperties[]> {
    throwIfAborted(this.#choice.signal)
    try {
      await session.doSnapshotSet()
    } catch (error) {
      if (this.#choice.withoutWriters) throw error
      const failed = failedWriters(await session.gatherWriterStatus().catch(() => []))
      throw failed.length > 0 ? writerFailure(failed, error) : error
    }
    if (!this.#choice.withoutWriters) this.#judge(await session.gatherWriterStatus())
    return session.snapshotProperties()
  }

  /** @throws UmbraError WRITER_FAILED unless the user goes on without failed writers */
  #judge(statuses: readonly WriterStatus[]): void {
    const failed = failedWriters(statuses).filter(({ instanceId }) => !this.#failed.has(instanceId))
    if (failed.length === 0) return
    if (!this.#choice.continueWithoutFailedWriters) throw writerFailure(failed)
    for (const status of failed) {
      this.#failed.set(status.instanceId, { result: status.result, reason: failureText(status) })
      this.#note(`Left out: ${failureText(status)}`)
    }
  }

  // -- phases D and E

  async #copyAndComplete(
    session: RequesterSession,
    folder: BackupFolder,
    snapshotSetId: string | null,
    members: readonly ShadowProperties[],
  ): Promise<Manifest> {
    const document = await session.components()
    const volumes = members.map((member) => this.#copiedVolume(member))
    const note = this.#resumeNote(snapshotSetId, members, volumes, document)
    if (note) await writeResumeNote(folder, { ...note, images: [] })
    const copied = await copyAll({
      choice: this.#choice,
      folder,
      access: this.#surroundings.volumes,
      entries: this.#entries,
      volumes,
      writers: this.#writers,
      failed: this.#failed,
      document,
      signal: this.#choice.signal,
      onProgress: this.#choice.onProgress,
      onImage: note ? (images) => writeResumeNote(folder, { ...note, images }) : undefined,
    })
    for (const note of copied.notes) this.#note(note)
    await this.#markComponents(session, copied)
    const documents = await this.#saveDocuments(session, folder)
    const manifest = makeManifest({
      id: folder.id,
      choice: this.#choice,
      startedAtMs: this.#startedAtMs,
      instantMs: this.#instantOf(members),
      snapshotSetId,
      volumes: volumes.map(({ volume }) => volume),
      copied,
      documents,
      entries: this.#entries,
      notes: this.#notes,
      lacksWriters: this.#lacksWriters,
    })
    return this.#complete(session, folder, manifest)
  }

  /** From here on the backup is made, whatever happens: durable, then told, then seen. */
  async #complete(session: RequesterSession, folder: BackupFolder, prepared: Manifest): Promise<Manifest> {
    throwIfAborted(this.#choice.signal)
    const keeps = prepared.volumes.some(({ bookmark }) => bookmark !== null)
    // First: a prepared backup without its bookmark could be no base, while a surplus one is tidied.
    if (this.#hasSet) await session.keepBookmarks(keeps)
    folder.prepare(prepared)
    this.#isPrepared = true
    let manifest = prepared
    if (!this.#choice.withoutWriters) {
      try {
        manifest = withStatuses(prepared, await session.backupComplete())
      } catch (error) {
        manifest = withStatuses(prepared, null)
        this.#note(`Writers were not told that the backup is complete: ${text(error)}`)
      }
    }
    folder.prepare({ ...manifest, finishedAtMs: Date.now(), notes: this.#notes })
    removeResumeNote(folder)
    removeSetNote(folder)
    folder.reveal()
    const access = this.#surroundings.volumes
    const problems = this.#choice.resumable ? await endPersistent(access, manifest.volumes, keeps) : []
    problems.push(...(await tidyBookmarks(access, this.#repository, manifest.volumes)))
    for (const problem of problems) this.#choice.onNote?.(problem)
    return { ...manifest, notes: this.#notes }
  }

  /** Null: the backup cannot be gone on with. */
  #resumeNote(
    snapshotSetId: string | null,
    members: readonly ShadowProperties[],
    volumes: readonly CopiedVolume[],
    document: BackupComponents,
  ): Omit<ResumeNote, 'format' | 'images'> | null {
    const choice = this.#choice
    if (!choice.resumable || members.length === 0) return null
    return {
      type: choice.type,
      components: choice.components,
      imageFormat: choice.format,
      changedRanges: choice.changedRanges ?? false,
      withoutWriters: choice.withoutWriters ?? false,
      startedAtMs: this.#startedAtMs,
      instantMs: this.#instantOf(members),
      snapshotSetId,
      volumes: volumes.map(({ volume, snapshotName: name, imageBase: base }) => ({
        volume,
        snapshotName: name,
        hasImage: base !== undefined,
        baseBackupId: base?.entry.id ?? null,
      })),
      metadata: this.#metadata,
      document,
      failed: [...this.#failed],
      notes: this.#notes,
      lacksWriters: this.#lacksWriters,
    }
  }

  /** The earliest of the set, so that what goes by times misses nothing. */
  #instantOf(members: readonly ShadowProperties[]): number {
    if (members.length === 0) return this.#startedAtMs
    return Math.min(...members.map(({ createdAtMs }) => createdAtMs))
  }

  #copiedVolume(member: ShadowProperties): CopiedVolume {
    const { type } = this.#choice
    const volume: VolumePoint = {
      volumeUuid: member.volumeUuid,
      volumePath: member.originalVolume,
      mountPoint: member.mountPoint,
      point: { id: member.snapshotId, epoch: member.epoch, createdAtMs: member.createdAtMs },
      bookmark: type === 'full' || type === 'incremental' ? member.snapshotName : null,
    }
    return {
      volume,
      snapshotName: member.snapshotName,
      imageBase: this.#imageBases.get(member.volumeUuid),
    }
  }

  /** Before BackupComplete, which hands it to the writers (row 52). */
  async #markComponents(session: RequesterSession, copied: Copied): Promise<void> {
    for (const { instanceId, components } of copied.writers)
      for (const { logicalPath, name, succeeded } of components)
        await session.setBackupSucceeded({ instanceId, logicalPath, name }, succeeded)
  }

  async #saveDocuments(session: RequesterSession, folder: BackupFolder): Promise<StoredFile[]> {
    if (this.#choice.withoutWriters) return []
    const document = await session.components()
    const save = (file: string, value: unknown) => folder.write(file, `${JSON.stringify(value, null, 2)}\n`)
    return [
      save('backup-components.json', document),
      ...this.#metadata.map((writer) => save(`writers/${writer.identity.instanceId}.json`, writer)),
    ]
  }

  *#components() {
    for (const { metadata, components } of this.#writers) {
      const { instanceId } = metadata.identity
      for (const { key, previousStamp } of components) yield { ref: { instanceId, ...key }, previousStamp }
    }
  }

  #note(note: string): void {
    this.#notes.push(note)
    this.#choice.onNote?.(note)
  }
}

function contextOf({ resumable, withoutWriters }: BackupChoice) {
  if (resumable) return withoutWriters ? 'nas-rollback' : 'app-rollback'
  return withoutWriters ? 'file-share-backup' : 'backup'
}

function manifestFolder(repository: Repository, { id }: Manifest): string {
  return `${repository.backupsFolder}/${id}`
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
