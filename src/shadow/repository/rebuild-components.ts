// Whether the component files of a backup can really be restored: rebuilt in scratch space, compared byte for byte with
// what its chain holds, and handed to the writers that are there, as new targets.
//
// Always true: nothing outside the scratch folder is written; services are left alone; a writer that is not there or
// takes no new targets is not asked, and that is said; the comparison goes by the merged chain, which is worked out
// without the restore's own code.

import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode, UmbraError } from '../../base/errors.ts'
import { formatSize, MIB } from '../../base/units.ts'
import { HostFile, hostCall } from '../../image/host-file.ts'
import type { LongWork } from '../../image/pace.ts'
import type { CoordinatorControl } from '../coordinator/requester-session.ts'
import { textOf } from '../requester/file-tree.ts'
import { restoreComponents } from '../requester/restore/component-restore.ts'
import type { ServiceControl } from '../requester/restore/component-restore-types.ts'
import { componentChain } from './chains.ts'
import type { Manifest } from './manifest.ts'
import { mergeEntries } from './merge-entries.ts'
import type { MergedFile } from './merged-file.ts'
import { Repository } from './repository.ts'

const LEFT_ALONE: ServiceControl = { stop: async () => {}, start: async () => {} }
const MARGIN_BYTES = 16 * MIB
const ZEROS = Buffer.alloc(MIB)

export interface RebuiltComponents {
  /** Files that were rebuilt and have the content that was saved. */
  readonly comparedCount: number
  /** Names of writers that were handed what was rebuilt, and had nothing against it. */
  readonly checkedBy: readonly string[]
  /** What is wrong, one sentence each. */
  readonly objections: readonly string[]
  /** What was not checked and why. */
  readonly notes: readonly string[]
}

/** @param scratch a folder of its own. @throws UmbraError OUT_OF_SPACE, ABORTED, BROKEN_CHAIN, BAD_IMAGE */
export async function rebuildComponents(
  coordinator: CoordinatorControl,
  repository: Repository,
  manifest: Manifest,
  scratch: string,
  work: LongWork,
): Promise<RebuiltComponents> {
  const held = manifest.writers.filter(({ components }) => components.some(({ succeeded }) => succeeded))
  if (held.length === 0) return { comparedCount: 0, checkedBy: [], objections: [], notes: [] }
  const rebuild = new Rebuild(coordinator, repository, manifest, scratch, work)
  await rebuild.alone()
  for (const { instanceId, classId, instanceName, name } of held)
    await rebuild.withWriter({ instanceId, classId, instanceName, name })
  return rebuild
}

interface HeldWriter {
  readonly instanceId: string
  readonly classId: string
  readonly instanceName: string
  readonly name: string
}

class Rebuild implements RebuiltComponents {
  comparedCount = 0
  readonly checkedBy: string[] = []
  readonly objections: string[] = []
  readonly notes: string[] = []
  readonly #coordinator: CoordinatorControl
  readonly #repository: Repository
  readonly #manifest: Manifest
  readonly #scratch: string
  readonly #work: LongWork

  constructor(
    coordinator: CoordinatorControl,
    repository: Repository,
    manifest: Manifest,
    scratch: string,
    work: LongWork,
  ) {
    this.#coordinator = coordinator
    // A rebuild is no restore, and is not remembered as one.
    this.#repository = Object.assign(Repository.open(repository.folder), { record: () => undefined })
    this.#manifest = manifest
    this.#scratch = scratch
    this.#work = work
  }

  /** No writer is told, so that what is compared is what was written and nothing that a writer made of it. */
  async alone(): Promise<void> {
    this.#requireRoom()
    const folder = join(this.#scratch, 'alone')
    try {
      const { components } = await this.#restore(folder, 'all', true)
      for (const { name, failure } of components)
        if (failure !== null) this.objections.push(`component ${name}: ${failure}`)
      if (this.objections.length === 0) this.#compare(folder)
    } catch (error) {
      if (!hasCode(error, 'RESTORE_REFUSED')) throw error
      this.notes.push(`component files were not rebuilt: ${error.message}`)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  async withWriter({ instanceId, classId, instanceName, name }: HeldWriter): Promise<void> {
    const folder = join(this.#scratch, 'with-writer')
    try {
      const there = (await this.#coordinator.listWriters()).find(
        ({ metadata }) =>
          metadata?.identity.classId === classId && metadata.identity.instanceName === instanceName,
      )
      if (!there?.metadata?.backupSchema.includes('new-target')) {
        this.notes.push(`${name} ${there ? 'takes no new targets' : 'is not there'} and was not asked`)
        return
      }
      const { components } = await this.#restore(folder, [instanceId], false)
      const refused = components.filter(({ status }) => status === 'none')
      const bad = components.filter(({ status, failure }) => status !== 'none' && failure !== null)
      for (const { failure } of refused) this.notes.push(`${name} did not check: ${failure}`)
      for (const { failure } of bad) this.objections.push(`${name}: ${failure}`)
      if (refused.length === 0 && bad.length === 0) this.checkedBy.push(name)
    } catch (error) {
      if (!(error instanceof UmbraError) || error.code === 'ABORTED' || error.code === 'OUT_OF_SPACE')
        throw error
      this.notes.push(`${name} did not check: ${error.message}`)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  #restore(folder: string, components: 'all' | readonly string[], withoutWriters: boolean) {
    mkdirSync(folder, { mode: 0o700 })
    const surroundings = {
      coordinator: this.#coordinator,
      services: LEFT_ALONE,
      journalFolder: join(this.#scratch, 'journal'),
    }
    return restoreComponents(surroundings, this.#repository, {
      ...this.#work,
      backup: this.#manifest.id,
      components,
      newFolders: [{ from: '/', to: folder }],
      withoutWriters,
    })
  }

  #compare(folder: string): void {
    for (const [path, file] of this.#wholeFiles()) {
      const { text, base64 } = textOf(path)
      // A name that is no text cannot be opened by the reader here.
      if (base64 !== undefined) continue
      if (digestOf(join(folder, text)) === digestOfMerged(file)) this.comparedCount++
      else this.objections.push(`${text} was not rebuilt as it was saved`)
    }
  }

  /** By path; of a file that is known by ranges alone there is nothing to compare as a whole. */
  *#wholeFiles(): Generator<[string, MergedFile]> {
    const entries = this.#repository.list()
    const { id, writers } = this.#manifest
    for (const writer of writers) {
      for (const component of writer.components.filter(({ succeeded }) => succeeded)) {
        const names = mergeEntries(componentChain(entries, id, writer, component))
        for (const [path, { file }] of names) if (file?.isWhole) yield [path, file]
      }
    }
  }

  #requireRoom(): void {
    let neededBytes = MARGIN_BYTES
    for (const [, { sizeBytes }] of this.#wholeFiles()) neededBytes += sizeBytes
    const { bavail, bsize } = hostCall(`Cannot look at ${this.#scratch}`, () => statfsSync(this.#scratch))
    if (bavail * bsize >= neededBytes) return
    throw new UmbraError(
      'OUT_OF_SPACE',
      `${this.#scratch} has ${formatSize(bavail * bsize)} free, and ${formatSize(neededBytes)} may be needed; another folder can be given with --scratch`,
    )
  }
}

/** Null: it is not there. */
function digestOf(path: string): string | null {
  try {
    const hash = createHash('sha256')
    hashRange(hash, path, 0, null)
    return hash.digest('hex')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null
    throw error
  }
}

function digestOfMerged(file: MergedFile): string {
  if (file.source) return file.source.stored.sha256
  const hash = createHash('sha256')
  let end = 0
  for (const { offsetBytes, lengthBytes, source, sourceOffsetBytes } of file.pieces) {
    hashZeros(hash, offsetBytes - end)
    hashRange(hash, source.path, sourceOffsetBytes, lengthBytes)
    end = offsetBytes + lengthBytes
  }
  hashZeros(hash, file.sizeBytes - end)
  return hash.digest('hex')
}

/** @param wantedBytes null: up to the file's end */
function hashRange(
  hash: ReturnType<typeof createHash>,
  path: string,
  offsetBytes: number,
  wantedBytes: number | null,
): void {
  const file = new HostFile(path)
  try {
    const piece = Buffer.allocUnsafe(MIB)
    const end = wantedBytes === null ? file.sizeBytes : offsetBytes + wantedBytes
    for (let at = offsetBytes; at < end; at += piece.length) {
      const lengthBytes = Math.min(piece.length, end - at)
      file.read(at, lengthBytes, piece, 0)
      hash.update(piece.subarray(0, lengthBytes))
    }
  } finally {
    file.close()
  }
}

function hashZeros(hash: ReturnType<typeof createHash>, lengthBytes: number): void {
  for (let left = lengthBytes; left > 0; left -= ZEROS.length)
    hash.update(ZEROS.subarray(0, Math.min(left, ZEROS.length)))
}
