// The generic writer: a configuration says what the components are and which commands to run for an event.
//
// Always true: its metadata comes from the configuration alone, so Identify runs nothing; a command gets
// the request on its standard input and its end is read as a hook's (hook-exit.ts); what it prints is not
// read, but for the stamp command, whose output is every component's backup stamp.

import { createHash } from 'node:crypto'
import { hasCode, UmbraError } from '../../base/errors.ts'
import { uuidText } from '../../base/uuid.ts'
import type { FreezeLevel, SchemaBit } from '../documents/vocabulary.ts'
import type {
  AlternateLocationMapping,
  ComponentDependency,
  FileSpec,
  RestoreMethodSpec,
  WriterIdentity,
  WriterMetadata,
} from '../documents/writer-metadata.ts'
import { failureOfExit } from './hook-exit.ts'
import { type ComponentOptions, type FileSetOptions, MetadataBuilder } from './metadata-builder.ts'
import { type CommandEnd, runCommand } from './run-command.ts'
import { Writer } from './writer.ts'
import type { WriterConfiguration } from './writer-configuration.ts'
import type { WriterContext } from './writer-context.ts'
import { WriterFailure } from './writer-failure.ts'
import type { WriterEvent } from './writer-messages.ts'

/** A program by its absolute path, and its arguments. */
type CommandLine = readonly [string, ...string[]]

export interface ScriptComponent extends ComponentOptions {
  readonly type?: 'database' | 'file-group'
  readonly files?: readonly FileSetOptions[]
  readonly databaseFiles?: readonly FileSetOptions[]
  readonly databaseLogFiles?: readonly FileSetOptions[]
  readonly dependencies?: readonly (Partial<ComponentDependency> & { classId: string; name: string })[]
}

export interface ScriptConfiguration
  extends WriterConfiguration,
    Partial<Omit<WriterIdentity, 'instanceId' | 'version'>> {
  readonly kind: 'script'
  readonly backupSchema?: readonly SchemaBit[]
  readonly freezeLevel?: FreezeLevel
  readonly freezeTimeoutMs?: number
  readonly restoreMethod?: Pick<RestoreMethodSpec, 'method'> & Partial<RestoreMethodSpec>
  readonly components: readonly ScriptComponent[]
  readonly excludeFiles?: readonly FileSpec[]
  readonly excludeFromSnapshotFiles?: readonly FileSpec[]
  readonly alternateLocationMappings?: readonly AlternateLocationMapping[]
  readonly commands?: Partial<Record<WriterEvent, CommandLine>>
  readonly stampCommand?: CommandLine
  readonly timeoutsMs?: Partial<Record<WriterEvent, number>>
  readonly environment?: Readonly<Record<string, string>>
}

/** A stamp is a document's string. */
const STAMP_MAX_BYTES = 64 * 1024

export class ScriptWriter extends Writer {
  readonly #configuration: ScriptConfiguration
  readonly #metadata: WriterMetadata
  readonly #onLine: (line: string) => void

  /**
   * @param name what it is called unless the configuration says
   * @param onLine what commands say on standard error
   * @throws UmbraError INVALID_DOCUMENT when the metadata that it describes is none
   */
  constructor(name: string, configuration: WriterConfiguration, onLine: (line: string) => void = () => {}) {
    super()
    this.#configuration = configuration as ScriptConfiguration
    this.#onLine = onLine
    this.#metadata = describeScript(name, this.instanceId, this.#configuration)
    for (const [program] of Object.values(this.#configuration.commands ?? {})) checkProgram(program)
    if (this.#configuration.stampCommand) checkProgram(this.#configuration.stampCommand[0])
  }

  override identify(): WriterMetadata {
    return this.#metadata
  }

  override onPrepareForBackup(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onPrepareForSnapshot(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onFreeze(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onThaw(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override async onPostSnapshot(context: WriterContext): Promise<void> {
    await this.#handle(context)
    const { stampCommand } = this.#configuration
    if (stampCommand === undefined || context.hasFailed) return
    const stamp = stampIn(await this.#run(stampCommand, context))
    for (const component of context.components) component.setBackupStamp(stamp)
  }

  override onAbort(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onBackupComplete(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onBackupShutdown(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onPreRestore(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  override onPostRestore(context: WriterContext): Promise<void> {
    return this.#handle(context)
  }

  async #handle(context: WriterContext): Promise<void> {
    const { commands } = this.#configuration
    // Who can freeze and has nothing for an abort must be let go all the same.
    const line = commands?.[context.event] ?? (context.event === 'abort' ? commands?.['thaw'] : undefined)
    if (line === undefined) return
    const end = await this.#run(line, context)
    const failure = failureOfExit(end.code)
    if (failure) context.fail(failure.result, messageOf(line, end), { fatal: failure.fatal })
  }

  async #run([program, ...args]: CommandLine, context: WriterContext): Promise<CommandEnd> {
    const { environment, timeoutsMs } = this.#configuration
    const limitMs = Math.min(
      context.request.timeoutMs,
      timeoutsMs?.[context.event] ?? Number.POSITIVE_INFINITY,
    )
    const end = runCommand({
      program,
      args,
      input: `${JSON.stringify(context.request)}\n`,
      timeoutMs: limitMs,
      signal: context.signal,
      environment: {
        UMBRA_EVENT: context.event,
        UMBRA_SESSION: context.sessionId,
        UMBRA_SNAPSHOT_SET: context.snapshotSetId ?? '',
        UMBRA_BACKUP_TYPE: context.request.backupState?.backupType ?? '',
        ...environment,
      },
      onLine: this.#onLine,
    })
    try {
      return await end
    } catch (error) {
      if (hasCode(error, 'TIMED_OUT')) throw new WriterFailure('timeout', error.message)
      throw error
    }
  }
}

/** What a configuration says of the writer, without its commands. @throws UmbraError INVALID_DOCUMENT */
export function describeScript(
  name: string,
  instanceId: string,
  configuration: Omit<ScriptConfiguration, 'kind'>,
): WriterMetadata {
  const { usage, source, instanceName, restoreMethod } = configuration
  const title = configuration.name ?? name
  const builder = new MetadataBuilder({
    classId: configuration.classId ?? classIdOf(title),
    instanceId,
    name: title,
    ...(instanceName === undefined ? {} : { instanceName }),
    ...(usage === undefined ? {} : { usage }),
    ...(source === undefined ? {} : { source }),
  }).setBackupSchema(...(configuration.backupSchema ?? []))
  if (configuration.freezeLevel) builder.setFreezeLevel(configuration.freezeLevel)
  if (configuration.freezeTimeoutMs) builder.setFreezeTimeout(configuration.freezeTimeoutMs)
  if (restoreMethod) builder.setRestoreMethod(restoreMethod.method, restoreMethod)
  for (const component of configuration.components) describeComponent(builder, component)
  for (const spec of configuration.excludeFiles ?? []) builder.exclude(spec)
  for (const spec of configuration.excludeFromSnapshotFiles ?? []) builder.excludeFromSnapshot(spec)
  for (const mapping of configuration.alternateLocationMappings ?? []) {
    builder.addAlternateLocation(mapping, mapping.alternateLocation)
  }
  return builder.build()
}

function describeComponent(builder: MetadataBuilder, component: ScriptComponent): void {
  const isDatabase = component.type === 'database'
  const built = isDatabase ? builder.addDatabase(component) : builder.addFileGroup(component)
  for (const set of component.files ?? []) built.addFiles(set)
  for (const set of component.databaseFiles ?? []) built.addDatabaseFiles(set)
  for (const set of component.databaseLogFiles ?? []) built.addLogFiles(set)
  for (const dependency of component.dependencies ?? []) built.dependsOn(dependency)
}

/** The same for every writer of this name, on every machine. */
function classIdOf(name: string): string {
  const digest = createHash('sha256').update(`umbra script writer ${name}`).digest()
  digest[6] = ((digest[6] as number) & 0x0f) | 0x80
  digest[8] = ((digest[8] as number) & 0x3f) | 0x80
  return uuidText(digest)
}

function checkProgram(program: string): void {
  if (program.startsWith('/')) return
  throw new UmbraError('INVALID_DOCUMENT', `A command needs the absolute path of its program: ${program}`)
}

function stampIn(end: CommandEnd): string {
  if (end.code !== 0)
    throw new WriterFailure('non-retryable', `The stamp command ended with ${end.code}: ${end.lastLine}`)
  const text = end.output.toString('utf8').replace(/\n$/, '')
  if (
    end.output.length > STAMP_MAX_BYTES ||
    !Buffer.from(text).equals(end.output.subarray(0, Buffer.byteLength(text)))
  ) {
    throw new WriterFailure('non-retryable', `The stamp is no text of at most ${STAMP_MAX_BYTES} bytes`)
  }
  return text
}

function messageOf([program]: CommandLine, end: CommandEnd): string {
  const how = end.signal ? `was ended by ${end.signal}` : `ended with ${end.code}`
  return `${program} ${how}${end.lastLine === '' ? '' : `: ${end.lastLine}`}`.slice(0, 4096)
}
