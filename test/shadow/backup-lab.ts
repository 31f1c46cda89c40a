// What the tests of backups share: real volumes on real mounts, a coordinator in this process over the
// volumes' daemons, writers written for the test, and stock tools as judges.
//
// Always true: this process serves no mount; runtime folders belong to the test; a trace is kept of every
// call, event and step.

import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { volumeAccess } from '../../src/daemon/backup-surroundings.ts'
import { ControlShadowProvider } from '../../src/daemon/control-shadow-provider.ts'
import { type Coordinator, createCoordinator } from '../../src/shadow/coordinator/coordinator.ts'
import type { CoordinatorLimits } from '../../src/shadow/coordinator/limits.ts'
import type { TraceEntry } from '../../src/shadow/coordinator/trace.ts'
import type { SchemaBit } from '../../src/shadow/documents/vocabulary.ts'
import type { FileSpec, WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import type { FileEntry } from '../../src/shadow/repository/manifest.ts'
import { readFileIndex } from '../../src/shadow/repository/manifest-file.ts'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { type BackupResult, backup } from '../../src/shadow/requester/backup.ts'
import type { BackupOptions } from '../../src/shadow/requester/backup-options.ts'
import type { VolumeAccess } from '../../src/shadow/requester/surroundings.ts'
import { localPort } from '../../src/shadow/writers/local-port.ts'
import { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import { Writer } from '../../src/shadow/writers/writer.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'
import { setEnvironment } from '../support/environment.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra } from '../support/umbra.ts'

export interface BackupLab {
  readonly folder: string
  readonly repository: string
  readonly trace: TraceEntry[]
  readonly coordinator: Coordinator
  readonly writers: Writer[]
  /** What backups reach volumes by; a test may put a faulty one in its place. */
  access: VolumeAccess
  at(name: string): string
  /** A fresh volume; mounted at its folder unless told. */
  volume(name: string, options?: { size?: string; mount?: boolean }): Promise<LabVolume>
  backup(options: Partial<BackupOptions> & Pick<BackupOptions, 'type'>, to?: string): Promise<BackupResult>
  /** Events that writers got since the last call, as `WRITER event`. */
  events(): string[]
}

export interface LabVolume {
  readonly path: string
  readonly mountPoint: string
}

export function backupLab(t: Assertion, limits: Partial<CoordinatorLimits> = {}): BackupLab {
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  setEnvironment(t, { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') })
  const trace: TraceEntry[] = []
  const writers: Writer[] = []
  const coordinator = createCoordinator({
    writers: { ports: async () => writers.map((writer) => localPort(writer)) },
    provider: new ControlShadowProvider(),
    limits,
    onTrace: (entry) => trace.push(entry),
  })
  t.teardown(() => coordinator.shutdown(), { order: -1 })
  const repository = at('repository')
  const volumes: LabVolume[] = []
  let eventsSeen = 0
  return {
    folder,
    repository,
    trace,
    coordinator,
    writers,
    access: volumeAccess,
    at,
    async volume(name, options = {}) {
      const volume = { path: at(`${name}.umbra`), mountPoint: at(name) }
      await umbra(['create', volume.path, '--size', options.size ?? '256M'])
      mkdirSync(volume.mountPoint)
      if (options.mount !== false) await mountVolume(t, volume.path, volume.mountPoint)
      volumes.push(volume)
      return volume
    },
    backup(options, to = repository) {
      const named = options.volumes ?? volumes.map(({ path }) => path)
      return backup({ coordinator, volumes: this.access }, to, {
        retries: { count: 0, waitMs: 0 },
        ...options,
        volumes: named,
      })
    },
    events() {
      const fresh = trace.slice(eventsSeen)
      eventsSeen = trace.length
      return fresh.flatMap((entry) =>
        entry.kind === 'event' && entry.phase === 'begin' && entry.event !== 'identify' ? [entry.event] : [],
      )
    },
  }
}

/** A writer of one test: what it says of itself and does is given to it. */
export class LabWriter extends Writer {
  readonly log: string[] = []
  build: (builder: MetadataBuilder) => void
  handlers: Partial<Record<string, (context: WriterContext) => void | Promise<void>>> = {}
  readonly name: string
  readonly schema: readonly SchemaBit[]
  excludes: readonly FileSpec[] = []

  constructor(name: string, schema: readonly SchemaBit[], build: (builder: MetadataBuilder) => void) {
    super()
    this.name = name
    this.schema = schema
    this.build = build
  }

  identify(): WriterMetadata {
    const classId = uuidOf(this.name)
    const builder = new MetadataBuilder({ classId, instanceId: this.instanceId, name: this.name })
    builder.setBackupSchema(...this.schema)
    builder.setRestoreMethod('restore-if-can-replace')
    this.build(builder)
    for (const exclude of this.excludes) builder.exclude(exclude)
    return builder.build()
  }

  override onPrepareForBackup(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onPrepareForSnapshot(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onFreeze(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onThaw(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onPostSnapshot(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onAbort(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onBackupComplete(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }
  override onBackupShutdown(context: WriterContext): void | Promise<void> {
    return this.#on(context)
  }

  #on(context: WriterContext): void | Promise<void> {
    this.log.push(context.event)
    return this.handlers[context.event]?.(context)
  }
}

function uuidOf(name: string): string {
  const hex = createHash('sha256').update(name).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

export function openRepository(lab: BackupLab): Repository {
  return Repository.open(lab.repository)
}

/** The index of a backup's files, by path. */
export function filesOf(result: BackupResult): Map<string, FileEntry> {
  const path = join(result.folder, 'files.jsonl')
  if (!existsSync(path)) return new Map()
  return new Map([...readFileIndex(path)].map((entry) => [entry.path, entry]))
}

export function storedBytes(result: BackupResult, path: string): Buffer | undefined {
  const stored = filesOf(result).get(path)?.stored
  return stored && readFileSync(join(result.folder, stored.file))
}

/** What qemu-img makes of a backup's image, in its place in the repository. */
export async function convertImage(result: BackupResult, to: string): Promise<void> {
  const [image] = result.manifest.images
  if (!image) throw new Error('no image')
  await run('qemu-img', ['convert', '-O', 'raw', join(result.folder, image.file), to])
}

export function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}
