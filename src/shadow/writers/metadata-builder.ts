// Builds a writer metadata document step by step.
//
// Always true: build() gives a document that has passed validateWriterMetadata() and that nobody can
// change any more; the same calls give the same document, in the order of the calls.

import type { ComponentKey } from '../documents/backup-components.ts'
import { DEFAULT_MASK } from '../documents/file-set-mask.ts'
import { validateWriterMetadata } from '../documents/validate-writer-metadata.ts'
import type { FreezeLevel, RestoreMethod, SchemaBit } from '../documents/vocabulary.ts'
import {
  type AlternateLocationMapping,
  type ComponentDependency,
  type ComponentMetadata,
  type FileSet,
  type FileSetMask,
  type FileSpec,
  FREEZE_TIMEOUT_MS,
  type RestoreMethodSpec,
  WRITER_METADATA_FORMAT,
  type WriterIdentity,
  type WriterMetadata,
} from '../documents/writer-metadata.ts'

export type IdentityOptions = Pick<WriterIdentity, 'classId' | 'instanceId' | 'name'> &
  Partial<WriterIdentity>

/** Not selectable components are mandatory; selectable unless told. */
export type ComponentOptions = { readonly name: string } & Partial<
  Pick<ComponentMetadata, 'logicalPath' | 'caption' | 'selectable' | 'selectableForRestore' | 'flags'>
>

/** All files of the directory, and for a file group those below it, unless told. */
export type FileSetOptions = { readonly path: string } & Partial<FileSpec & FileSetMask> & {
    readonly alternatePath?: string
  }

type Parts = { -readonly [K in keyof ComponentMetadata]: ComponentMetadata[K] }

/** One component that is being described. */
export class ComponentBuilder {
  readonly #parts: Parts

  constructor(type: ComponentMetadata['type'], options: ComponentOptions) {
    this.#parts = {
      type,
      logicalPath: options.logicalPath ?? '',
      name: options.name,
      ...(options.caption === undefined ? {} : { caption: options.caption }),
      selectable: options.selectable ?? true,
      selectableForRestore: options.selectableForRestore ?? false,
      flags: options.flags ?? [],
      files: [],
      databaseFiles: [],
      databaseLogFiles: [],
      dependencies: [],
    }
  }

  get key(): ComponentKey {
    return { logicalPath: this.#parts.logicalPath, name: this.#parts.name }
  }

  /** Files of a file group. */
  addFiles(options: FileSetOptions): this {
    this.#parts.files = [...this.#parts.files, fileSet(options, true)]
    return this
  }

  /** Data files of a database: one directory, not below it. */
  addDatabaseFiles(options: FileSetOptions): this {
    this.#parts.databaseFiles = [...this.#parts.databaseFiles, fileSet(options, false)]
    return this
  }

  /** Log files of a database: what a backup of type log saves. */
  addLogFiles(options: FileSetOptions): this {
    this.#parts.databaseLogFiles = [...this.#parts.databaseLogFiles, fileSet(options, false)]
    return this
  }

  /** A component of another writer that must be taken along. */
  dependsOn({
    classId,
    logicalPath = '',
    name,
  }: Partial<ComponentDependency> & { classId: string; name: string }): this {
    this.#parts.dependencies = [...this.#parts.dependencies, { classId, logicalPath, name }]
    return this
  }

  build(): ComponentMetadata {
    return { ...this.#parts }
  }
}

export class MetadataBuilder {
  readonly #identity: WriterIdentity
  #backupSchema: readonly SchemaBit[] = []
  #freezeLevel: FreezeLevel = 'front-end'
  #freezeTimeoutMs = FREEZE_TIMEOUT_MS
  #restoreMethod: RestoreMethodSpec = {
    method: 'restore-if-can-replace',
    writerRestore: 'always',
    rebootRequired: false,
  }
  readonly #components: ComponentBuilder[] = []
  readonly #excludes: FileSpec[] = []
  readonly #snapshotExcludes: FileSpec[] = []
  readonly #mappings: AlternateLocationMapping[] = []

  /** @param identity `classId` is fixed for the kind of writer, `instanceId` new at each start (Writer.instanceId) */
  constructor(identity: IdentityOptions) {
    this.#identity = { instanceName: '', usage: 'user-data', source: 'other', ...identity }
  }

  /** What the writer can do; nothing said means full backups of whole files. */
  setBackupSchema(...bits: readonly SchemaBit[]): this {
    this.#backupSchema = bits
    return this
  }

  setFreezeLevel(level: FreezeLevel): this {
    this.#freezeLevel = level
    return this
  }

  /** From Freeze to Thaw; 60 s unless told, and never more. */
  setFreezeTimeout(timeoutMs: number): this {
    this.#freezeTimeoutMs = timeoutMs
    return this
  }

  /** Replace what can be replaced, with the writer taking part, unless told. */
  setRestoreMethod(method: RestoreMethod, options: Partial<Omit<RestoreMethodSpec, 'method'>> = {}): this {
    this.#restoreMethod = { writerRestore: 'always', rebootRequired: false, ...options, method }
    return this
  }

  addFileGroup(options: ComponentOptions): ComponentBuilder {
    return this.#add('file-group', options)
  }

  addDatabase(options: ComponentOptions): ComponentBuilder {
    return this.#add('database', options)
  }

  /** Files that no backup takes, whatever file set they are in. */
  exclude({ path, filespec = '*', recursive = true }: Partial<FileSpec> & { path: string }): this {
    this.#excludes.push({ path, filespec, recursive })
    return this
  }

  /** Files that are deleted from the shadow copy. */
  excludeFromSnapshot({
    path,
    filespec = '*',
    recursive = true,
  }: Partial<FileSpec> & { path: string }): this {
    this.#snapshotExcludes.push({ path, filespec, recursive })
    return this
  }

  /** Where the files of a file set go when they cannot be restored in place; the spec must be the set's. */
  addAlternateLocation({ path, filespec, recursive }: FileSpec, alternateLocation: string): this {
    this.#mappings.push({ path, filespec, recursive, alternateLocation })
    return this
  }

  /** @throws UmbraError INVALID_DOCUMENT that says what is wrong */
  build(): WriterMetadata {
    const document: WriterMetadata = {
      format: WRITER_METADATA_FORMAT,
      identity: this.#identity,
      backupSchema: this.#backupSchema,
      freezeLevel: this.#freezeLevel,
      freezeTimeoutMs: this.#freezeTimeoutMs,
      restoreMethod: this.#restoreMethod,
      alternateLocationMappings: this.#mappings,
      excludeFiles: this.#excludes,
      excludeFromSnapshotFiles: this.#snapshotExcludes,
      components: this.#components.map((component) => component.build()),
    }
    return deepFreeze(validateWriterMetadata(structuredClone(document)))
  }

  #add(type: ComponentMetadata['type'], options: ComponentOptions): ComponentBuilder {
    const component = new ComponentBuilder(type, options)
    this.#components.push(component)
    return component
  }
}

function fileSet(options: FileSetOptions, recursive: boolean): FileSet {
  return { filespec: '*', recursive, ...DEFAULT_MASK, ...options }
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const item of Object.values(value)) deepFreeze(item)
  }
  return value
}
