// A conformance writer in the manner of Microsoft's Test Writer: what it has, says and gets wrong is all in
// its configuration, and it records every event. The same as an object, a connected process and a hook.
//
// Usage: node --import tsx test-writer.ts serve CONFIGURATION SOCKET
//        node --import tsx test-writer.ts hook CONFIGURATION EVENT     (request on standard input)

import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { connectWriter } from '../../src/daemon/writer-line.ts'
import type { DifferencedFile, PartialFile } from '../../src/shadow/documents/backup-components.ts'
import type {
  BackupType,
  FreezeLevel,
  RestoreTarget,
  SchemaBit,
} from '../../src/shadow/documents/vocabulary.ts'
import type {
  AlternateLocationMapping,
  FileSpec,
  RestoreMethodSpec,
  WriterMetadata,
} from '../../src/shadow/documents/writer-metadata.ts'
import { describeScript, type ScriptComponent } from '../../src/shadow/writers/script-writer.ts'
import { Writer } from '../../src/shadow/writers/writer.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'
import { WriterEndpoint } from '../../src/shadow/writers/writer-endpoint.ts'
import { type FailureResult, WriterFailure } from '../../src/shadow/writers/writer-failure.ts'
import type { WriterEvent, WriterReply, WriterRequest } from '../../src/shadow/writers/writer-messages.ts'

export interface TestWriterConfiguration {
  readonly name: string
  readonly classId?: string
  /** Fixed here, so that a hook has the same one in every call. */
  readonly instanceId: string
  readonly instanceName?: string
  readonly backupSchema?: readonly SchemaBit[]
  readonly freezeLevel?: FreezeLevel
  readonly freezeTimeoutMs?: number
  readonly restoreMethod?: Pick<RestoreMethodSpec, 'method'> & Partial<RestoreMethodSpec>
  /** With masks, alternate paths and dependencies. */
  readonly components: readonly ScriptComponent[]
  readonly excludeFiles?: readonly FileSpec[]
  readonly excludeFromSnapshotFiles?: readonly FileSpec[]
  readonly alternateLocationMappings?: readonly AlternateLocationMapping[]
  /** Given in `event` (PostSnapshot unless told) of these types (incremental and differential unless told). */
  readonly partialFiles?: readonly (PartialFile & Placed)[]
  readonly differencedFiles?: readonly (DifferencedFile & Placed)[]
  /** Sets this stamp; {n} is one more than the previous stamp's number. */
  readonly stamp?: string
  /** Where the stamp is set. Default post-snapshot. */
  readonly stampEvent?: WriterEvent
  readonly backupMetadata?: string
  readonly restoreTarget?: RestoreTarget
  /** Copied in an event: spit files. */
  readonly copies?: readonly { readonly event: WriterEvent; readonly from: string; readonly to: string }[]
  /** Deleted in an event: originals, after the snapshot. */
  readonly deletes?: readonly { readonly event: WriterEvent; readonly path: string }[]
  /** Appended in PostSnapshot to live paths as they are in the shadow copy. */
  readonly recoveries?: readonly { readonly path: string; readonly text: string }[]
  readonly failures?: Partial<
    Record<WriterEvent, { readonly result: FailureResult; readonly fatal: boolean; readonly times: number }>
  >
  readonly blockMs?: Partial<Record<WriterEvent, number>>
  /** Lines of JSON, one an event. */
  readonly recordPath: string
}

interface Placed {
  /** Full path. */
  readonly component: string
  readonly event?: WriterEvent
  readonly types?: readonly BackupType[]
}

/** One event as it was recorded. */
export interface RecordedEvent {
  readonly event: WriterEvent
  readonly sessionId: string
  readonly snapshotSetId: string | null
  readonly backupType: string | null
  readonly partialFileSupport: boolean | null
  readonly volumes: readonly string[]
  readonly components: readonly {
    readonly path: string
    readonly previousStamp: string | null
    readonly stamp: string | null
    readonly succeeded: boolean | null
    readonly additionalRestores: boolean
    readonly fileRestoreStatus: string
  }[]
  readonly didFail: boolean
  readonly timeMs: number
}

export class TestWriter extends Writer {
  readonly #configuration: TestWriterConfiguration

  constructor(configuration: TestWriterConfiguration) {
    super()
    this.#configuration = configuration
  }

  override identify(): WriterMetadata {
    return describeScript(this.#configuration.name, this.#configuration.instanceId, this.#configuration)
  }

  override onPrepareForBackup = (context: WriterContext) => this.#handle(context)
  override onPrepareForSnapshot = (context: WriterContext) => this.#handle(context)
  override onFreeze = (context: WriterContext) => this.#handle(context)
  override onThaw = (context: WriterContext) => this.#handle(context)
  override onPostSnapshot = (context: WriterContext) => this.#handle(context)
  override onAbort = (context: WriterContext) => this.#handle(context)
  override onBackupComplete = (context: WriterContext) => this.#handle(context)
  override onBackupShutdown = (context: WriterContext) => this.#handle(context)
  override onPreRestore = (context: WriterContext) => this.#handle(context)
  override onPostRestore = (context: WriterContext) => this.#handle(context)

  async #handle(context: WriterContext): Promise<void> {
    const { recordPath, failures, blockMs } = this.#configuration
    const failure = failures?.[context.event]
    const failed = recordedEvents(recordPath).filter(
      ({ event, didFail }) => event === context.event && didFail,
    )
    const doesFail = failure !== undefined && failed.length < failure.times
    record(recordPath, context.request, doesFail)
    const pauseMs = blockMs?.[context.event]
    if (pauseMs !== undefined) await sleep(pauseMs)
    if (doesFail) {
      throw new WriterFailure(failure.result, `${context.event} fails as configured`, {
        fatal: failure.fatal,
      })
    }
    this.#touchFiles(context)
    if (context.request.operation === 'backup') this.#annotate(context)
    const { restoreTarget } = this.#configuration
    if (context.event === 'pre-restore' && restoreTarget !== undefined) {
      for (const component of context.components) component.setRestoreTarget(restoreTarget)
    }
  }

  #touchFiles(context: WriterContext): void {
    const { copies, deletes, recoveries } = this.#configuration
    for (const { event, from, to } of copies ?? []) if (event === context.event) copyFileSync(from, to)
    for (const { event, path } of deletes ?? []) if (event === context.event) rmSync(path)
    if (context.event !== 'post-snapshot') return
    for (const { path, text } of recoveries ?? []) {
      const copy = context.inSnapshot(path)
      if (copy === undefined) throw new WriterFailure('inconsistent-snapshot', `${path} is in no shadow copy`)
      appendFileSync(copy, text)
    }
  }

  #annotate(context: WriterContext): void {
    const {
      stamp,
      stampEvent = 'post-snapshot',
      backupMetadata,
      partialFiles,
      differencedFiles,
    } = this.#configuration
    if (context.event === stampEvent) {
      for (const component of context.components) {
        const before = Number(/\d+/.exec(component.previousBackupStamp ?? '0')?.[0] ?? 0)
        if (stamp !== undefined) component.setBackupStamp(stamp.replace('{n}', String(before + 1)))
        if (backupMetadata !== undefined) component.setBackupMetadata(backupMetadata)
      }
    }
    const isDue = ({ event = 'post-snapshot', types = ['incremental', 'differential'] }: Placed): boolean =>
      event === context.event && types.includes(context.backupType)
    for (const placed of partialFiles ?? []) {
      if (!isDue(placed)) continue
      const { component, event: _event, types: _types, ...file } = placed
      context.component(component)?.addPartialFile(file)
    }
    for (const placed of differencedFiles ?? []) {
      if (!isDue(placed)) continue
      const { component, event: _event, types: _types, ...file } = placed
      context.component(component)?.addDifferencedFile(file)
    }
  }
}

/** The events that a writer with this record has had, in order. */
export function recordedEvents(recordPath: string): RecordedEvent[] {
  if (!existsSync(recordPath)) return []
  const lines = readFileSync(recordPath, 'utf8').split('\n')
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as RecordedEvent)
}

/** Writes a hook that is a test writer. @returns the configuration's path */
export function writeTestHook(
  folder: string,
  name: string,
  configuration: TestWriterConfiguration,
  configurationPath: string,
): void {
  writeFileSync(configurationPath, JSON.stringify(configuration))
  const path = join(folder, name)
  const argv = [
    '--import',
    import.meta.resolve('tsx'),
    fileURLToPath(import.meta.url),
    'hook',
    configurationPath,
  ]
  const quoted = [process.execPath, ...argv].map((part) => `'${part}'`).join(' ')
  writeFileSync(path, `#!/bin/sh\nexec ${quoted} "$1"\n`)
  chmodSync(path, 0o755)
}

function record(recordPath: string, request: WriterRequest, didFail: boolean): void {
  const line: RecordedEvent = {
    event: request.event,
    sessionId: request.sessionId,
    snapshotSetId: request.snapshotSetId,
    backupType: request.backupState?.backupType ?? null,
    partialFileSupport: request.backupState?.partialFileSupport ?? null,
    volumes: request.volumes.map(({ volumePath }) => volumePath),
    components: request.components.map((component) => ({
      path: component.logicalPath === '' ? component.name : `${component.logicalPath}/${component.name}`,
      previousStamp: component.previousBackupStamp ?? null,
      stamp: component.backupStamp ?? null,
      succeeded: component.backupSucceeded ?? null,
      additionalRestores: component.additionalRestores,
      fileRestoreStatus: component.fileRestoreStatus,
    })),
    didFail,
    timeMs: Date.now(),
  }
  appendFileSync(recordPath, `${JSON.stringify(line)}\n`)
}

async function main(): Promise<void> {
  const [mode, configurationPath = '', last = ''] = process.argv.slice(2)
  const configuration = JSON.parse(readFileSync(configurationPath, 'utf8')) as TestWriterConfiguration
  const writer = new TestWriter(configuration)
  if (mode === 'serve') {
    const service = connectWriter(writer, configuration.name, { socket: last, retryMs: 100 })
    process.once('SIGTERM', () => void service.close().then(() => process.exit(0)))
    await service.whenRegistered
    process.stdout.write('registered\n')
    return
  }
  const request = JSON.parse(readFileSync(0, 'utf8')) as WriterRequest
  // One process an event: a watchdog over Freeze would keep it.
  const reply: WriterReply = await new WriterEndpoint(writer).deliver({
    ...request,
    event: last as WriterEvent,
  })
  process.stdout.write(JSON.stringify(reply), () => process.exit(0))
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main()
