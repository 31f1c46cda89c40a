// What a restore of component files goes through: which components, which backups in which order, and that
// all of it is there and undamaged.
//
// Always true: every component's chain begins with a full and has every link; both documents of every
// backup are there and valid; every stored byte that will be read was digested before anything is written.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasCode, UmbraError } from '../../../base/errors.ts'
import { type LongWork, throwIfAborted } from '../../../image/pace.ts'
import type { BackupComponents, ComponentKey } from '../../documents/backup-components.ts'
import { parseDocument } from '../../documents/canonical-json.ts'
import { fullPathOf, restoreSelection } from '../../documents/component-rules.ts'
import { validateBackupComponents } from '../../documents/validate-backup-components.ts'
import { validateWriterMetadata } from '../../documents/validate-writer-metadata.ts'
import type { WriterMetadata } from '../../documents/writer-metadata.ts'
import { describeFile, isThere } from '../../repository/backup-folder.ts'
import { type ComponentLink, componentChain } from '../../repository/chains.ts'
import type { Manifest, StoredFile, WriterRecord } from '../../repository/manifest.ts'
import { readFileIndex } from '../../repository/manifest-file.ts'
import type { BackupEntry } from '../../repository/repository.ts'
import { isEntryOf } from '../base-state.ts'
import { writerText } from '../component-plan.ts'

/** Both documents of a backup. */
export interface Documents {
  readonly components: BackupComponents
  readonly metadata: readonly WriterMetadata[]
}

export interface ChosenComponent {
  readonly writer: WriterRecord
  readonly key: ComponentKey
  /** Empty: the whole component set. */
  readonly subcomponents: readonly ComponentKey[]
  /** The full first. */
  readonly chain: readonly ComponentLink[]
}

export interface RestoreChainPlan {
  readonly backup: Manifest
  readonly chosen: readonly ChosenComponent[]
  /** Ids of the backups, in the order in which they are replayed. */
  readonly order: readonly string[]
  readonly documents: ReadonlyMap<string, Documents>
}

/** @param components names as `WRITER` or `WRITER:PATH/NAME` */
export function planRestore(
  entries: readonly BackupEntry[],
  backupId: string | undefined,
  components: 'all' | readonly string[],
): RestoreChainPlan {
  const entry = backupId === undefined ? newestWith(entries, components) : entryOf(entries, backupId)
  const documents = new Map([[entry.id, readDocuments(entry)]])
  const chosen = chooseComponents(entries, entry, components, documents)
  const order = [...new Set(chosen.flatMap(({ chain }) => chain.map((link) => link.entry.id)))].sort()
  for (const id of order) if (!documents.has(id)) documents.set(id, readDocuments(entryOf(entries, id)))
  return { backup: entry.manifest, chosen, order, documents }
}

type WholeEntry = Extract<BackupEntry, { problem: null }>

/** A damaged manifest may be the newest: taking an older one in its place would not be what was asked for. */
function newestWith(entries: readonly BackupEntry[], components: 'all' | readonly string[]): WholeEntry {
  for (const entry of [...entries].reverse()) {
    if (entry.problem) throw entry.problem
    const writers = entry.manifest.writers.filter((writer) => writer.components.some((one) => one.succeeded))
    const isIt =
      components === 'all'
        ? writers.length > 0
        : components.every((name) => writers.some((writer) => mayHold(writer, name)))
    if (isIt) return entry
  }
  throw new UmbraError(
    'NOT_FOUND',
    'The repository holds no files of these components; they are named WRITER, or WRITER:PATH/NAME',
  )
}

function entryOf(entries: readonly BackupEntry[], id: string): WholeEntry {
  const found = entries.filter((entry) => entry.id === id || entry.id.startsWith(id))
  const entry = found.find((one) => one.id === id) ?? (found.length === 1 ? found[0] : undefined)
  if (!entry)
    throw new UmbraError(
      found.length === 0 ? 'NOT_FOUND' : 'INVALID_ARGUMENT',
      found.length === 0 ? `There is no backup ${id}` : `${id} begins several backups' names`,
    )
  if (entry.problem) throw entry.problem
  return entry
}

function chooseComponents(
  entries: readonly BackupEntry[],
  entry: WholeEntry,
  components: 'all' | readonly string[],
  documents: ReadonlyMap<string, Documents>,
): ChosenComponent[] {
  const choices =
    components === 'all'
      ? entry.manifest.writers.flatMap(wholeWriter)
      : components.flatMap((name) => choicesFor(entry, name, documents))
  if (choices.length === 0) throw new UmbraError('NOT_FOUND', `Backup ${entry.id} holds no component files`)
  return merged(choices).map(({ writer, component, parts }) => ({
    writer,
    key: { logicalPath: component.logicalPath, name: component.name },
    subcomponents: parts,
    chain: componentChain(entries, entry.id, writer, component),
  }))
}

interface Choice {
  readonly writer: WriterRecord
  readonly component: ComponentKey
  /** Null: all of it. */
  readonly part: ComponentKey | null
}

function wholeWriter(writer: WriterRecord): Choice[] {
  return succeeded(writer).map((component) => ({ writer, component, part: null }))
}

function choicesFor(entry: WholeEntry, name: string, documents: ReadonlyMap<string, Documents>): Choice[] {
  const named = entry.manifest.writers.filter((writer) => isNamedBy(writer, name))
  if (named.length === 0) throw notFound(entry, name)
  return named.flatMap((writer) =>
    namesOf(writer).includes(name) ? wholeWriter(writer) : [selectionIn(entry, writer, name, documents)],
  )
}

/** Each component once; one that is wanted as a whole has no parts. */
function merged(choices: readonly Choice[]) {
  const found = new Map<string, Choice & { parts: ComponentKey[] }>()
  for (const choice of choices) {
    const { writer, component, part } = choice
    const id = `${writer.instanceId} ${fullPathOf(component)}`
    const known = found.get(id)
    if (!known) found.set(id, { ...choice, parts: part ? [part] : [] })
    else if (part === null) known.parts = []
    else if (known.part !== null && !known.parts.some((one) => fullPathOf(one) === fullPathOf(part)))
      known.parts.push(part)
  }
  // A later choice of the whole beats earlier ones of parts.
  for (const { writer, component, part } of choices) {
    const known = found.get(`${writer.instanceId} ${fullPathOf(component)}`)
    if (part === null && known) known.parts = []
  }
  return [...found.values()]
}

/** An explicit component, or of one a part that can be restored by itself. @throws UmbraError NOT_FOUND, INVALID_ARGUMENT */
function selectionIn(
  entry: WholeEntry,
  writer: WriterRecord,
  name: string,
  documents: ReadonlyMap<string, Documents>,
): Choice {
  const path = name.slice(name.indexOf(':') + 1)
  const cut = path.lastIndexOf('/')
  const key = { logicalPath: cut < 0 ? '' : path.slice(0, cut), name: path.slice(cut + 1) }
  const metadata = documents
    .get(entry.id)
    ?.metadata.find(({ identity }) => identity.instanceId === writer.instanceId)
  if (!metadata) throw notFound(entry, name)
  const { component, subcomponent } = restoreSelection(metadata, writer.components, key)
  return { writer, component, part: subcomponent }
}

function succeeded(writer: WriterRecord) {
  return writer.components.filter((component) => component.succeeded)
}

function namesOf(writer: WriterRecord): string[] {
  return [writer.name, writerText(writer), writer.classId, writer.instanceId]
}

/** `WRITER`, or `WRITER:` and something. */
function isNamedBy(writer: WriterRecord, name: string): boolean {
  const colon = name.indexOf(':')
  const own = namesOf(writer)
  return own.includes(name) || (colon > 0 && own.includes(name.slice(0, colon)))
}

/** Whether a component of the name may be found in the writer: itself, or below one that was saved. */
function mayHold(writer: WriterRecord, name: string): boolean {
  if (namesOf(writer).includes(name)) return true
  if (!isNamedBy(writer, name)) return false
  const path = name.slice(name.indexOf(':') + 1)
  return succeeded(writer).some((one) => path === fullPathOf(one) || path.startsWith(`${fullPathOf(one)}/`))
}

function notFound(entry: BackupEntry, name: string): UmbraError {
  return new UmbraError('NOT_FOUND', `Backup ${entry.id} holds nothing that is called ${name}`, { name })
}

/**
 * Row 57: the backup components document and the metadata of every writer in it.
 * @throws UmbraError INVALID_DOCUMENT that names what is missing, damaged or malformed
 */
export function readDocuments(entry: WholeEntry): Documents {
  const { documents } = entry.manifest
  const components = documents.find(({ file }) => file === 'backup-components.json')
  if (!components) {
    if (entry.manifest.writers.length === 0)
      throw new UmbraError('NOT_FOUND', `Backup ${entry.id} was made without writers and holds no components`)
    throw missing(entry, 'backup-components.json')
  }
  const document = validateBackupComponents(readStored(entry, components))
  const metadata = documents
    .filter((stored) => stored !== components)
    .map((stored) => validateWriterMetadata(readStored(entry, stored)))
  for (const writer of document.writers)
    if (!metadata.some(({ identity }) => identity.instanceId === writer.instanceId))
      throw missing(entry, `writers/${writer.instanceId}.json, the metadata of ${writer.name},`)
  return { components: document, metadata }
}

function readStored(entry: WholeEntry, stored: StoredFile): unknown {
  const path = join(entry.folder, stored.file)
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw missing(entry, stored.file, error)
  }
  if (createHash('sha256').update(bytes).digest('hex') !== stored.sha256)
    throw new UmbraError('INVALID_DOCUMENT', `${path} does not match its digest`, { path })
  return parseDocument(bytes, path)
}

function missing(entry: BackupEntry, what: string, cause?: unknown): UmbraError {
  return new UmbraError(
    'INVALID_DOCUMENT',
    `Backup ${entry.id} cannot be restored: its document ${what} is missing; both documents are needed`,
    { backup: entry.id },
    cause,
  )
}

/**
 * Looks through everything that a restore will read.
 * @returns bytes of stored files
 * @throws UmbraError BROKEN_CHAIN: something is missing; BAD_IMAGE, INVALID_DOCUMENT: damaged; ABORTED
 */
export async function verifyChains(plan: RestoreChainPlan, work: LongWork): Promise<number> {
  const needed = new Map<string, { folder: string; stored: StoredFile; backup: string }>()
  for (const id of plan.order) {
    const links = plan.chosen.flatMap(({ chain }) => chain.filter((link) => link.entry.id === id))
    const [first] = links
    const index = first?.manifest.fileIndex
    if (!first || !index) continue
    const { folder } = first.entry
    await checkStored(folder, index, id, work, 'INVALID_DOCUMENT')
    for (const entry of readFileIndex(join(folder, index.file)))
      if (entry.stored && links.some((link) => isEntryOf(entry, link)))
        needed.set(join(folder, entry.stored.file), { folder, stored: entry.stored, backup: id })
  }
  const totalBytes = [...needed.values()].reduce((sum, { stored }) => sum + stored.sizeBytes, 0)
  let doneBytes = 0
  // What is missing is found before hours are spent on digests.
  for (const { folder, stored, backup } of needed.values())
    if (!isThere(folder, stored)) throw lost(backup, stored)
  for (const { folder, stored, backup } of needed.values()) {
    throwIfAborted(work.signal)
    await checkStored(folder, stored, backup, work, 'BAD_IMAGE')
    doneBytes += stored.sizeBytes
    work.onProgress?.({ doneBytes, totalBytes: 2 * totalBytes })
  }
  return totalBytes
}

async function checkStored(
  folder: string,
  stored: StoredFile,
  backup: string,
  { signal }: LongWork,
  code: 'BAD_IMAGE' | 'INVALID_DOCUMENT',
): Promise<void> {
  const path = join(folder, stored.file)
  try {
    const found = await describeFile(path, stored.file, signal)
    if (found.sha256 === stored.sha256 && found.sizeBytes === stored.sizeBytes) return
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw lost(backup, stored)
    throw error
  }
  throw new UmbraError(code, `${path} does not match its digest`, { path, backup })
}

function lost(backup: string, { file }: StoredFile): UmbraError {
  return new UmbraError(
    'BROKEN_CHAIN',
    `The chain is broken at backup ${backup}: ${file} is missing or has another size`,
    { backup },
  )
}
