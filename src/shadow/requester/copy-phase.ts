// Phase D of a backup: the images and the component files, read from the shadow copies that are there.
//
// Always true: nothing here speaks to a writer; the same work is done for a backup under way and for
// one that goes on with the shadow copies of an interrupted run.

import { hasCode, UmbraError } from '../../base/errors.ts'
import { type LongWork, Pace, throwIfAborted } from '../../image/pace.ts'
import type { BackupComponent, BackupComponents } from '../documents/backup-components.ts'
import type { ByteRange } from '../documents/byte-ranges.ts'
import { isSameComponent } from '../documents/component-rules.ts'
import type { WriterResult } from '../documents/vocabulary.ts'
import type { FileSet } from '../documents/writer-metadata.ts'
import type { BackupFolder } from '../repository/backup-folder.ts'
import { componentText, type ImageLink } from '../repository/chains.ts'
import type {
  ComponentRecord,
  ImageRecord,
  StoredFile,
  VolumePoint,
  WriterRecord,
} from '../repository/manifest.ts'
import type { BackupEntry } from '../repository/repository.ts'
import type { BackupChoice } from './backup-options.ts'
import { type BaseState, baseState } from './base-state.ts'
import type { PlannedComponent, PlannedWriter } from './component-plan.ts'
import { saveComponent } from './component-saving.ts'
import { FileChoice } from './file-choice.ts'
import { FilePlaces, type SnapshotPlace } from './file-places.ts'
import { FileStore } from './file-store.ts'
import { byteString, bytesOf } from './file-tree.ts'
import type { FoundFile } from './file-walk.ts'
import { saveImage } from './image-saving.ts'
import { LiveTree } from './live-tree.ts'
import { SnapshotTree } from './snapshot-tree.ts'
import type { OpenSnapshot, VolumeAccess } from './surroundings.ts'

/** A volume of the set, with what is to be made of it. */
export interface CopiedVolume {
  readonly volume: VolumePoint
  readonly snapshotName: string
  /** Undefined: no image. Null: a full one. */
  readonly imageBase: ImageLink | null | undefined
  /** An image that an earlier run completed. */
  readonly done?: ImageRecord | undefined
}

export interface CopyRequest extends LongWork {
  readonly choice: BackupChoice
  readonly folder: BackupFolder
  readonly access: VolumeAccess
  readonly entries: readonly BackupEntry[]
  readonly volumes: readonly CopiedVolume[]
  readonly writers: readonly PlannedWriter[]
  /** Of writers that failed: why, and with what result; by instance id. */
  readonly failed: ReadonlyMap<string, { readonly result: WriterResult; readonly reason: string }>
  readonly document: BackupComponents
  /** After each image that is complete. */
  readonly onImage?: ((images: readonly ImageRecord[]) => Promise<void>) | undefined
}

export interface Copied {
  readonly images: readonly ImageRecord[]
  readonly writers: readonly WriterRecord[]
  readonly fileIndex: StoredFile | null
  readonly notes: readonly string[]
}

export async function copyAll(request: CopyRequest): Promise<Copied> {
  await using opened = await OpenVolumes.open(request)
  const images = await saveImages(request, opened)
  const store = new FileStore(request.folder, new Pace(0, { signal: request.signal }))
  const notes: string[] = []
  const lines: string[] = []
  using live = new LiveTree()
  const places = new FilePlaces(opened.places(), live)
  const writers: WriterRecord[] = []
  for (const writer of request.writers) {
    const components: ComponentRecord[] = []
    for (const planned of writer.components) {
      throwIfAborted(request.signal)
      const job = new ComponentJob(request, opened, places, writer, planned, (note) => notes.push(note))
      const { record, lines: own } = await job.run(store)
      components.push(record)
      lines.push(...own)
    }
    writers.push(writerRecord(request, writer, components))
  }
  store.finish()
  const fileIndex =
    lines.length > 0 ? request.folder.write('files.jsonl', lines.map((line) => `${line}\n`).join('')) : null
  return { images, writers, fileIndex, notes }
}

async function saveImages(request: CopyRequest, opened: OpenVolumes): Promise<ImageRecord[]> {
  const images: ImageRecord[] = []
  let beforeBytes = 0
  for (const { volume, imageBase, done } of request.volumes) {
    if (imageBase === undefined) continue
    const image =
      done ??
      (await saveImage({
        folder: request.folder,
        snapshot: opened.get(volume.volumeUuid),
        volume,
        base: imageBase,
        format: request.choice.format,
        signal: request.signal,
        onProgress: ({ doneBytes, totalBytes }) =>
          request.onProgress?.({ doneBytes: beforeBytes + doneBytes, totalBytes: beforeBytes + totalBytes }),
      }))
    beforeBytes += image.dataBytes
    images.push(image)
    await request.onImage?.(images)
  }
  return images
}

function writerRecord(
  { failed }: CopyRequest,
  { metadata, type, reason }: PlannedWriter,
  components: readonly ComponentRecord[],
): WriterRecord {
  const { classId, instanceId, instanceName, name } = metadata.identity
  const failure = failed.get(instanceId)
  return {
    classId,
    instanceId,
    instanceName,
    name,
    type: failure ? 'excluded' : type,
    reason: failure?.reason ?? reason,
    result: failure?.result ?? 'ok',
    components,
  }
}

/** The shadow copies that are read, open together. */
class OpenVolumes implements AsyncDisposable {
  readonly #opened = new Map<
    string,
    { snapshot: OpenSnapshot; mountPoint: string | null; tree: SnapshotTree | null }
  >()

  static async open({ access, volumes, writers }: CopyRequest): Promise<OpenVolumes> {
    const all = new OpenVolumes()
    try {
      for (const { volume, snapshotName, imageBase } of volumes) {
        const bases = new Set(imageBase ? [imageBase.image.point.id] : [])
        for (const id of componentBasePoints(writers, volume.volumeUuid)) bases.add(id)
        const known = new Set((await access.points(volume.volumePath)).map(({ id }) => id))
        const snapshot = await access.openSnapshot(
          volume.volumePath,
          snapshotName,
          [...bases].filter((id) => known.has(id)),
        )
        all.#opened.set(volume.volumeUuid, { snapshot, mountPoint: volume.mountPoint, tree: null })
      }
      return all
    } catch (error) {
      await all[Symbol.asyncDispose]()
      throw error
    }
  }

  /** @throws UmbraError NOT_FOUND */
  get(volumeUuid: string): OpenSnapshot {
    const found = this.#opened.get(volumeUuid)
    if (found) return found.snapshot
    throw new UmbraError('NOT_FOUND', `Volume ${volumeUuid} is not in the shadow set`)
  }

  /** Those that are mounted and hold a file system that we can read. */
  places(): SnapshotPlace[] {
    return [...this.#opened].flatMap(([volumeUuid, { snapshot, mountPoint }]) => {
      if (mountPoint === null) return []
      try {
        const tree = new SnapshotTree(`volume ${volumeUuid}`, snapshot.fileSystem())
        return [{ mountPoint: byteString(mountPoint), tree, volumeUuid }]
      } catch (error) {
        if (hasCode(error, 'NOT_A_VOLUME')) return []
        throw error
      }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { snapshot } of this.#opened.values()) await snapshot[Symbol.asyncDispose]()
  }
}

/** Points of a volume that components' bases were taken at. */
function* componentBasePoints(writers: readonly PlannedWriter[], volumeUuid: string): Generator<string> {
  for (const { components } of writers) {
    for (const { base } of components) {
      const volume = base?.manifest.volumes.find((candidate) => candidate.volumeUuid === volumeUuid)
      if (volume) yield volume.point.id
    }
  }
}

/** One component's saving. */
class ComponentJob {
  readonly #request: CopyRequest
  readonly #opened: OpenVolumes
  readonly #places: FilePlaces
  readonly #writer: PlannedWriter
  readonly #planned: PlannedComponent
  readonly #onNote: (note: string) => void
  #didUseRanges = false

  constructor(
    request: CopyRequest,
    opened: OpenVolumes,
    places: FilePlaces,
    writer: PlannedWriter,
    planned: PlannedComponent,
    onNote: (note: string) => void,
  ) {
    this.#request = request
    this.#opened = opened
    this.#places = places
    this.#writer = writer
    this.#planned = planned
    this.#onNote = onNote
  }

  async run(store: FileStore): Promise<{ record: ComponentRecord; lines: readonly string[] }> {
    const { key } = this.#planned
    const { instanceId, name } = this.#writer.metadata.identity
    const failure = this.#request.failed.get(instanceId)
    const component = this.#component()
    if (failure || !component)
      return { record: this.#record(failure?.reason ?? 'the writer has gone', null, 0, 0), lines: [] }
    const state = this.#baseState()
    const choice = this.#choice(component, state)
    const saved = await saveComponent({ writer: instanceId, ...key }, choice, state, store)
    if (saved.failure !== null)
      this.#onNote(`${name}: component ${componentText(key)} failed: ${saved.failure}`)
    return {
      record: this.#record(saved.failure, component.backupStamp ?? null, saved.fileCount, saved.bytes),
      lines: saved.lines,
    }
  }

  #record(failure: string | null, stamp: string | null, fileCount: number, bytes: number): ComponentRecord {
    const { key, type, base } = this.#planned
    const sessionType = this.#request.choice.type
    const succeeded = failure === null
    // A full that stands in for a delta is history only where the backup itself is.
    const isHistory = type === sessionType || sessionType === 'full' || sessionType === 'incremental'
    return {
      ...key,
      type,
      succeeded,
      failure,
      stamp: succeeded ? stamp : null,
      mayBeBase: succeeded && type !== 'copy' && isHistory,
      changedRanges: this.#didUseRanges,
      baseBackupId: base?.entry.id ?? null,
      fileCount,
      bytes,
    }
  }

  #component(): BackupComponent | undefined {
    const { instanceId } = this.#writer.metadata.identity
    return this.#request.document.writers
      .find((writer) => writer.instanceId === instanceId)
      ?.components.find((component) => isSameComponent(component, this.#planned.key))
  }

  #baseState(): BaseState | null {
    const { base, type, key } = this.#planned
    if (base === null || type === 'log') return null
    return baseState(this.#request.entries, base, key)
  }

  #choice(component: BackupComponent, state: BaseState | null): FileChoice {
    return new FileChoice({
      metadata: this.#writer.metadata,
      planned: this.#planned,
      component,
      places: this.#places,
      isForcedFull: this.#planned.type === 'full' && this.#writer.type !== 'full',
      changedRanges: (found, set) => this.#rangesOf(found, set, state),
      onProblem: (problem) => this.#onNote(`${this.#writer.metadata.identity.name}: ${problem}`),
    })
  }

  /** Known only where the base holds just this file, and its volume still knows the base's point. */
  #rangesOf(
    { path, place, node }: FoundFile,
    set: FileSet,
    state: BaseState | null,
  ): readonly ByteRange[] | undefined {
    const { snapshot } = place
    const { base } = this.#planned
    const isWanted = this.#request.choice.changedRanges === true || set.changedRanges === true
    const before = isWanted ? state?.get(path)?.exactInode : undefined
    if (!snapshot || !base || !before) return undefined
    // Another file may have taken the name since; its changes would not lead there from the old one.
    if (before.ino !== node.ino || before.generation !== node.generation) return undefined
    const volume = base.manifest.volumes.find(({ volumeUuid }) => volumeUuid === snapshot.volumeUuid)
    if (!volume) return undefined
    try {
      const source = this.#opened.get(snapshot.volumeUuid)
      const ranges = source.changedRanges(bytesOf(place.path.slice(1)), volume.point.id)
      this.#didUseRanges = true
      return ranges
    } catch (error) {
      // The bookmark has gone: the file is saved whole.
      if (hasCode(error, 'NOT_FOUND')) return undefined
      throw error
    }
  }
}
