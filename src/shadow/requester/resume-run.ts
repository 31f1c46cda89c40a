// Goes on with a backup whose run was interrupted, from the persistent shadow copies that it left.
//
// Images that were complete are kept once their digest was compared; the one that was being written is
// written again from its start, and so are the component files.
// Always true: writers were told by BackupShutdown that the backup had failed, and are not told otherwise, so
// what is saved of them is nobody's base; the images are, as they ask nothing of writers.

import { readdirSync, rmSync } from 'node:fs'
import type { BackupFolder } from '../repository/backup-folder.ts'
import { type ImageLink, imageChain } from '../repository/chains.ts'
import type { ImageRecord, Manifest, StoredFile } from '../repository/manifest.ts'
import type { Repository } from '../repository/repository.ts'
import type { BackupChoice } from './backup-options.ts'
import type { BackupResult } from './backup-run.ts'
import { tidyBookmarks } from './bookmark-care.ts'
import { planComponents } from './component-plan.ts'
import { type Copied, type CopiedVolume, copyAll } from './copy-phase.ts'
import { endPersistent } from './end-persistent.ts'
import { makeManifest, withStatuses } from './make-manifest.ts'
import {
  isSameWork,
  type NotedVolume,
  type ResumeNote,
  readResumeNote,
  removeResumeNote,
  writeResumeNote,
} from './resume-note.ts'
import { removeSetNote } from './set-note.ts'
import type { VolumeAccess } from './surroundings.ts'

const RESUMED = 'It was resumed: its writers had been told that it failed, so its components are no base'

/** The backup that an interrupted run of the same work left; null: there is none to go on with. */
export async function resumeBackup(
  access: VolumeAccess,
  repository: Repository,
  choice: BackupChoice,
): Promise<BackupResult | null> {
  if (!choice.resumable) return null
  const uuids: string[] = []
  for (const volume of choice.volumes) uuids.push((await access.find(volume)).volumeUuid)
  for (const id of repository.partialIds()) {
    // One that only lacks its name is adopted instead.
    if (repository.preparedManifest(id)) continue
    const folder = repository.partial(id)
    const note = readResumeNote(folder)
    if (note === null || !isSameWork(note, choice, uuids) || !(await areThere(access, note))) continue
    choice.onNote?.(`Going on with backup ${id}, which was interrupted`)
    return resume(access, repository, choice, folder, note)
  }
  return null
}

async function areThere(access: VolumeAccess, note: ResumeNote): Promise<boolean> {
  for (const { volume } of note.volumes) {
    const points = await access.points(volume.volumePath)
    if (!points.some(({ kind, id }) => kind === 'snapshot' && id === volume.point.id)) return false
  }
  return true
}

async function resume(
  access: VolumeAccess,
  repository: Repository,
  choice: BackupChoice,
  folder: BackupFolder,
  note: ResumeNote,
): Promise<BackupResult> {
  removeUnfinished(folder)
  const entries = repository.list()
  const writers = planComponents({
    metadata: note.metadata,
    components: note.components,
    type: note.type,
    entries,
    changedRanges: note.changedRanges,
  })
  const done = await doneImages(folder, note, choice)
  const bases = new Map<string, ImageLink | null>()
  for (const { volume, hasImage, baseBackupId } of note.volumes)
    if (hasImage)
      bases.set(
        volume.volumeUuid,
        baseBackupId === null ? null : baseOf(entries, volume.volumeUuid, baseBackupId),
      )
  const copied = await copyAll({
    choice: { ...choice, type: note.type },
    folder,
    access,
    entries,
    volumes: note.volumes.map((noted) => copiedVolume(noted, bases, done)),
    writers,
    failed: new Map(note.failed),
    document: note.document,
    signal: choice.signal,
    onProgress: choice.onProgress,
    onImage: (images) => writeResumeNote(folder, { ...note, images }),
  })
  const manifest = withStatuses(
    makeManifest({
      id: folder.id,
      choice: { ...choice, type: note.type },
      startedAtMs: note.startedAtMs,
      instantMs: note.instantMs,
      snapshotSetId: note.snapshotSetId,
      volumes: note.volumes.map(({ volume }) => volume),
      copied,
      documents: saveDocuments(folder, note, copied),
      entries,
      notes: [...note.notes, ...copied.notes, RESUMED],
      lacksWriters: note.lacksWriters,
    }),
    null,
  )
  return finish(access, repository, folder, manifest, choice)
}

/** The one that was chosen before the interruption, whatever there is by now. @throws UmbraError BROKEN_CHAIN */
function baseOf(
  entries: ReturnType<Repository['list']>,
  volumeUuid: string,
  baseBackupId: string,
): ImageLink | null {
  return imageChain(entries, baseBackupId, volumeUuid).at(-1) ?? null
}

async function finish(
  access: VolumeAccess,
  repository: Repository,
  folder: BackupFolder,
  manifest: Manifest,
  choice: BackupChoice,
): Promise<BackupResult> {
  folder.prepare(manifest)
  removeResumeNote(folder)
  removeSetNote(folder)
  folder.reveal()
  const keeps = manifest.volumes.some(({ bookmark }) => bookmark !== null)
  for (const problem of [
    ...(await endPersistent(access, manifest.volumes, keeps)),
    ...(await tidyBookmarks(access, repository, manifest.volumes)),
  ])
    choice.onNote?.(problem)
  return { manifest, folder: `${repository.backupsFolder}/${manifest.id}` }
}

function copiedVolume(
  { volume, snapshotName, hasImage }: NotedVolume,
  bases: ReadonlyMap<string, ImageLink | null>,
  done: readonly ImageRecord[],
): CopiedVolume {
  return {
    volume,
    snapshotName,
    imageBase: hasImage ? (bases.get(volume.volumeUuid) ?? null) : undefined,
    done: done.find((image) => image.volumeUuid === volume.volumeUuid),
  }
}

/** What was being written when the run ended. */
function removeUnfinished(folder: BackupFolder): void {
  rmSync(folder.path('files'), { recursive: true, force: true })
  rmSync(folder.path('files.jsonl'), { force: true })
  for (const name of readdirSync(folder.path('images')))
    if (name.startsWith('.')) rmSync(folder.path(`images/${name}`), { force: true })
}

async function doneImages(
  folder: BackupFolder,
  note: ResumeNote,
  choice: BackupChoice,
): Promise<ImageRecord[]> {
  const done: ImageRecord[] = []
  for (const image of note.images) {
    const now = await folder.describe(image.file, choice.signal).catch(() => null)
    if (now?.sha256 === image.sha256) done.push(image)
  }
  for (const name of readdirSync(folder.path('images')))
    if (!done.some(({ file, sidecar }) => [file, sidecar?.file].includes(`images/${name}`)))
      rmSync(folder.path(`images/${name}`), { force: true })
  return done
}

function saveDocuments(folder: BackupFolder, note: ResumeNote, copied: Copied): StoredFile[] {
  if (note.withoutWriters) return []
  const document = structuredClone(note.document)
  for (const writer of document.writers) {
    const record = copied.writers.find(({ instanceId }) => instanceId === writer.instanceId)
    for (const component of writer.components)
      component.backupSucceeded =
        record?.components.find(
          ({ logicalPath, name }) => logicalPath === component.logicalPath && name === component.name,
        )?.succeeded ?? false
  }
  const save = (file: string, value: unknown) => folder.write(file, `${JSON.stringify(value, null, 2)}\n`)
  return [
    save('backup-components.json', document),
    ...note.metadata.map((writer) => save(`writers/${writer.identity.instanceId}.json`, writer)),
  ]
}
