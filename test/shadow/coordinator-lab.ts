// A coordinator in this process for tests: real volumes in memory behind a provider whose steps can be
// made to fail or to wait, and writers that do what a test tells them.
//
// Always true: the provider keeps the seam's word: an unsealed snapshot is not listed, abort() leaves
// none, an auto-release one goes at the end; what a test reads of volumes is what the volumes say.

import type { Assertion } from 'brittle'
import { type ErrorCode, UmbraError } from '../../src/base/errors.ts'
import { MIB } from '../../src/base/units.ts'
import { type Coordinator, createCoordinator } from '../../src/shadow/coordinator/coordinator.ts'
import type { CoordinatorLimits } from '../../src/shadow/coordinator/limits.ts'
import type { RequesterSession } from '../../src/shadow/coordinator/requester-session.ts'
import type {
  ShadowProvider,
  ShadowRequest,
  ShadowSequence,
  ShadowVolumeInfo,
} from '../../src/shadow/coordinator/shadow-provider.ts'
import type { ProviderStep, TraceEntry } from '../../src/shadow/coordinator/trace.ts'
import { hasAttribute } from '../../src/shadow/documents/vocabulary.ts'
import {
  type FileSpec,
  FREEZE_TIMEOUT_MS,
  type WriterMetadata,
} from '../../src/shadow/documents/writer-metadata.ts'
import { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import type { WriterEvent, WriterReply, WriterRequest } from '../../src/shadow/writers/writer-messages.ts'
import type { WriterPort } from '../../src/shadow/writers/writer-port.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import type { Snapshot } from '../../src/volume/points.ts'
import type { UnsealedSnapshot } from '../../src/volume/unsealed-snapshot.ts'
import { Volume } from '../../src/volume/volume.ts'

export type Behaviour = (request: WriterRequest) => WriterReply | Promise<WriterReply>

export class ScriptedWriter implements WriterPort {
  readonly kind = 'local'
  readonly origin: string
  readonly whenGone: Promise<void>
  readonly requests: WriterRequest[] = []
  readonly on: Partial<Record<WriterEvent, Behaviour>> = {}
  metadata: WriterMetadata
  leave: () => void = () => {}

  constructor(name: string, change: (builder: MetadataBuilder) => void = () => {}) {
    this.origin = name
    this.whenGone = new Promise((resolve) => {
      this.leave = resolve
    })
    const builder = new MetadataBuilder({ classId: uuidOf(name, 1), instanceId: uuidOf(name, 2), name })
    builder.addFileGroup({ name: 'data' }).addFiles({ path: `/srv/${name}` })
    change(builder)
    this.metadata = builder.build()
  }

  /** Its only component, for the requester's calls. */
  get component(): { instanceId: string; logicalPath: string; name: string } {
    return { instanceId: this.metadata.identity.instanceId, logicalPath: '', name: 'data' }
  }

  get events(): WriterEvent[] {
    return this.requests.map(({ event }) => event).filter((event) => event !== 'identify')
  }

  async deliver(request: WriterRequest): Promise<WriterReply> {
    this.requests.push(request)
    const behaviour = this.on[request.event]
    if (behaviour) return await behaviour(request)
    return request.event === 'identify' ? { result: 'ok', metadata: this.metadata } : { result: 'ok' }
  }

  close(): void {}
}

export const vetoes: Behaviour = () => ({ result: 'retryable', fatal: true, message: 'not now' })
/** The handler did its work; some data of it failed. */
export const complains: Behaviour = () => ({ result: 'retryable', message: 'not all of it' })
export const hangs: Behaviour = () => new Promise(() => {})

function uuidOf(name: string, kind: number): string {
  const hex = Buffer.from(name).toString('hex').padEnd(12, '0').slice(0, 12)
  return `0000000${kind}-0000-4000-8000-${hex}`
}

/** What happens before a step is done; throws to let it fail. */
export type StepHook = (step: ProviderStep, volumePath: string) => void | Promise<void>

export class MemoryProvider implements ShadowProvider {
  readonly id = '00000000-0000-4000-8000-00000000000a'
  readonly name = 'memory'
  readonly volumes = new Map<string, Volume>()
  readonly held = new Set<string>()
  readonly deleted: FileSpec[] = []
  hook: StepHook = () => {}

  async add(path: string): Promise<Volume> {
    const volume = await Volume.create(new MemoryStorage(), { sizeBytes: MIB })
    this.volumes.set(path, volume)
    return volume
  }

  /** Names of listed snapshots on all volumes. */
  listed(): string[] {
    return [...this.volumes.values()].flatMap((volume) => volume.snapshots().map(({ name }) => name))
  }

  /** No snapshot, listed or being made, and nothing held. */
  isClean(): boolean {
    const isMaking = [...this.volumes.values()].some((volume) => volume.unsealed !== undefined)
    return !isMaking && this.listed().length === 0 && this.held.size === 0
  }

  async supports(path: string): Promise<ShadowVolumeInfo> {
    const volume = this.volumes.get(path)
    if (volume === undefined) throw new UmbraError('NOT_FOUND', `No such volume: ${path}`)
    return { volumeUuid: volume.uuid, volumePath: path, mountPoint: `/mnt${path}`, hooksFolder: null }
  }

  async begin(path: string, request: ShadowRequest): Promise<ShadowSequence> {
    const info = await this.supports(path)
    await this.hook('begin-prepare', path)
    return new MemorySequence(this, info, this.volumes.get(path) as Volume, request)
  }
}

class MemorySequence implements ShadowSequence {
  readonly info: ShadowVolumeInfo
  readonly #provider: MemoryProvider
  readonly #volume: Volume
  readonly #request: ShadowRequest
  #setCount = 0
  #unsealed: UnsealedSnapshot | undefined
  #sealed: Snapshot | undefined
  #running: Promise<unknown> = Promise.resolve()

  constructor(provider: MemoryProvider, info: ShadowVolumeInfo, volume: Volume, request: ShadowRequest) {
    this.#provider = provider
    this.info = info
    this.#volume = volume
    this.#request = request
  }

  async endPrepare({ setCount }: { setCount: number }): Promise<void> {
    await this.#step('end-prepare')
    this.#setCount = setCount
  }

  preCommit(): Promise<void> {
    return this.#step('pre-commit')
  }

  async flushAndHold(): Promise<{ flushMs: number }> {
    this.#provider.held.add(this.info.volumePath)
    await this.#step('flush-and-hold')
    return { flushMs: 1 }
  }

  commit() {
    return this.#whole(() => this.#commit())
  }

  async #commit() {
    await this.#step('commit')
    const { snapshotName, snapshotId, snapshotSetId: setId, attributes } = this.#request
    const shadow = { setId, setCount: this.#setCount, attributes }
    this.#unsealed = await this.#volume.cutUnsealed(snapshotName, shadow, snapshotId)
    const { id, epoch, createdAtMs } = this.#unsealed.snapshot
    return { snapshotId: id, epoch, createdAtMs }
  }

  async release(): Promise<{ heldMs: number }> {
    await this.#step('release')
    this.#provider.held.delete(this.info.volumePath)
    return { heldMs: 1 }
  }

  postCommit(): Promise<void> {
    return this.#step('post-commit')
  }

  async preFinalCommit(): Promise<{ recoveryPath: string | null }> {
    await this.#step('pre-final-commit')
    return { recoveryPath: `${this.info.mountPoint}/.snapshots/${this.#request.snapshotName}` }
  }

  async deleteFromSnapshot(files: readonly FileSpec[]): Promise<number> {
    await this.#step('delete-excluded')
    this.#provider.deleted.push(...files)
    return files.length
  }

  seal(): Promise<Snapshot> {
    return this.#whole(async () => {
      await this.#step('post-final-commit')
      this.#sealed = await (this.#unsealed as UnsealedSnapshot).seal()
      return this.#sealed
    })
  }

  async abort(): Promise<void> {
    this.#provider.held.delete(this.info.volumePath)
    // A step that is under way is undone when it is through.
    await this.#running
    this.#provider.held.delete(this.info.volumePath)
    if (this.#sealed) await this.#volume.deleteSnapshot(this.#sealed.name)
    else await this.#unsealed?.drop()
  }

  async end({ keepBookmark }: { keepBookmark: boolean }): Promise<void> {
    await this.#step('end')
    if (hasAttribute(this.#request.attributes, 'no-auto-release')) return
    await this.#volume.deleteSnapshot((this.#sealed as Snapshot).name, { keepBookmark })
  }

  #whole<R>(work: () => Promise<R>): Promise<R> {
    const running = work()
    this.#running = running.catch(() => {})
    return running
  }

  async #step(step: ProviderStep): Promise<void> {
    await this.#provider.hook(step, this.info.volumePath)
  }
}

export interface Lab {
  readonly coordinator: Coordinator
  readonly provider: MemoryProvider
  readonly writers: ScriptedWriter[]
  readonly trace: TraceEntry[]
}

export interface LabOptions {
  readonly volumes?: readonly string[]
  readonly writers?: readonly ScriptedWriter[]
  readonly limits?: Partial<CoordinatorLimits>
}

export async function openLab(t: Pick<Assertion, 'teardown'>, options: LabOptions = {}): Promise<Lab> {
  const provider = new MemoryProvider()
  for (const path of options.volumes ?? ['/a', '/b']) await provider.add(path)
  const writers = [...(options.writers ?? [])]
  const trace: TraceEntry[] = []
  const coordinator = createCoordinator({
    writers: { ports: async () => [...writers] },
    provider,
    limits: { portGraceMs: 50, endEventMs: 2000, ...options.limits },
    onTrace: (entry) => trace.push(entry),
  })
  t.teardown(() => coordinator.shutdown())
  return { coordinator, provider, writers, trace }
}

/** A backup session with every writer's component added and the set's volumes, up to PrepareForBackup. */
export async function prepared(
  lab: Lab,
  options: { volumes?: readonly string[] } = {},
): Promise<RequesterSession> {
  const session = await lab.coordinator.openSession('backup')
  await session.gatherWriterMetadata()
  for (const writer of lab.writers) await session.addComponent(writer.component)
  await session.startSnapshotSet()
  for (const volume of options.volumes ?? lab.provider.volumes.keys()) await session.addToSnapshotSet(volume)
  await session.prepareForBackup()
  return session
}

/** What began, one line each; what is under way at once is in the order of names. */
export function linesOf(trace: readonly TraceEntry[]): string[] {
  const lines: string[] = []
  let group: string[] = []
  let openCount = 0
  for (const entry of trace) {
    if (entry.kind === 'call') {
      lines.push(...group.sort())
      group = []
      if (entry.phase === 'begin') lines.push(`call ${entry.call}`)
    } else if (entry.phase === 'end') {
      openCount--
    } else {
      if (openCount === 0) {
        lines.push(...group.sort())
        group = []
      }
      openCount++
      group.push(entry.kind === 'event' ? `${entry.event} ${entry.writer}` : `${entry.step} ${entry.volume}`)
    }
  }
  return [...lines, ...group.sort()]
}

/** The code of the error that it rejects with, or `resolved`. */
export async function codeOf(work: Promise<unknown>): Promise<ErrorCode | 'resolved' | 'no UmbraError'> {
  try {
    await work
    return 'resolved'
  } catch (error) {
    return error instanceof UmbraError ? error.code : 'no UmbraError'
  }
}

export { FREEZE_TIMEOUT_MS }
