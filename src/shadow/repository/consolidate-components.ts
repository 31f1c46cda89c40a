// Makes the files of a backup's components whole: what its bases have of them comes into its own folder.
//
// Always true: every saved file that is used has the digest that its backup recorded, or nothing is made of it; what
// was saved is never changed, so a file that is the same in both has two names and one copy; what is made here
// is durable before this returns.

import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { HostFile, hostCall, writeFully } from '../../image/host-file.ts'
import { syncFolder } from '../../image/output.ts'
import { type LongWork, Pace } from '../../image/pace.ts'
import { textOf } from '../requester/file-tree.ts'
import { describeFile } from './backup-folder.ts'
import { componentChain, componentText } from './chains.ts'
import type { ComponentRecord, FileEntry, Manifest, StoredFile, WriterRecord } from './manifest.ts'
import { readFileIndex } from './manifest-file.ts'
import { type MergedName, mergeEntries } from './merge-entries.ts'
import type { MergedFile, SavedSource } from './merged-file.ts'
import type { BackupEntry } from './repository.ts'
import { linkOrCopy, MERGED_FOLDER, MERGED_INDEX } from './settle-consolidation.ts'

const PIECE_BYTES = 256 * 1024
const ZEROS = Buffer.alloc(PIECE_BYTES)
const PER_FOLDER = 1000

export interface WholeComponents {
  readonly writers: readonly WriterRecord[]
  readonly fileIndex: StoredFile | null
  /** How many were made whole. */
  readonly count: number
}

/** Those that a consolidation makes whole; logs say nothing without what they go on from. */
export function isMergeable({ succeeded, baseBackupId, type }: ComponentRecord): boolean {
  return succeeded && baseBackupId !== null && type !== 'log'
}

/** @throws UmbraError BROKEN_CHAIN, CHECKSUM_MISMATCH, INVALID_DOCUMENT, OUT_OF_SPACE, ABORTED */
export async function consolidateComponents(
  entries: readonly BackupEntry[],
  folder: string,
  manifest: Manifest,
  work: LongWork,
): Promise<WholeComponents> {
  const maker = new Maker(folder, work)
  const writers: WriterRecord[] = []
  let count = 0
  for (const writer of manifest.writers) {
    const components: ComponentRecord[] = []
    for (const component of writer.components) {
      if (!isMergeable(component)) {
        maker.keep(manifest, writer, component)
        components.push(component)
        continue
      }
      const chain = componentChain(entries, manifest.id, writer, component)
      const made = await maker.merge(writer, component, mergeEntries(chain))
      components.push({ ...component, baseBackupId: null, changedRanges: false, ...made })
      count++
    }
    writers.push({ ...writer, components })
  }
  return { writers, fileIndex: count === 0 ? manifest.fileIndex : maker.finish(), count }
}

class Maker {
  readonly #folder: string
  readonly #pace: Pace
  readonly #lines: string[] = []
  readonly #verified = new Set<string>()
  readonly #piece = Buffer.allocUnsafe(PIECE_BYTES)
  readonly #work: LongWork
  #nextNumber = 0

  constructor(folder: string, work: LongWork) {
    this.#folder = folder
    this.#work = work
    this.#pace = new Pace(0, { signal: work.signal })
  }

  /** A component that needs no base: its lines stay. */
  keep(manifest: Manifest, writer: WriterRecord, component: ComponentRecord): void {
    if (manifest.fileIndex === null) return
    for (const entry of readFileIndex(join(this.#folder, manifest.fileIndex.file)))
      if (
        entry.writer === writer.instanceId &&
        entry.logicalPath === component.logicalPath &&
        entry.name === component.name
      )
        this.#lines.push(JSON.stringify(entry))
  }

  async merge(
    writer: WriterRecord,
    component: ComponentRecord,
    names: ReadonlyMap<string, MergedName>,
  ): Promise<{ fileCount: number; bytes: number }> {
    const firstNames = new Map<MergedFile, string>()
    let fileCount = 0
    let bytes = 0
    // In this order a folder comes before what is in it.
    const sorted = [...names].sort(([a], [b]) => (a < b ? -1 : 1))
    for (const [path, merged] of sorted) {
      const first = merged.file && firstNames.get(merged.file)
      if (merged.file && first === undefined) firstNames.set(merged.file, path)
      const entry = attributesOf(merged, writer.instanceId)
      if (entry.kind !== 'directory') fileCount++
      if (!merged.file) this.#lines.push(JSON.stringify(entry))
      else if (first) this.#lines.push(JSON.stringify({ ...entry, ...linkTo(first), how: 'mask' }))
      else {
        const stored = await this.#stored(merged.file, componentText(component))
        bytes += stored.sizeBytes
        this.#lines.push(JSON.stringify(withContent(entry, merged.file, stored)))
      }
    }
    return { fileCount, bytes }
  }

  /** Writes the index and makes everything durable. */
  finish(): StoredFile {
    const merged = join(this.#folder, MERGED_FOLDER)
    hostCall(`Cannot make ${merged}`, () => mkdirSync(merged, { recursive: true, mode: 0o700 }))
    for (const name of readdirSync(merged)) syncFolder(join(merged, name))
    syncFolder(merged)
    const content = Buffer.from(this.#lines.map((line) => `${line}\n`).join(''))
    const path = join(this.#folder, MERGED_INDEX)
    hostCall(`Cannot write ${path}`, () => {
      const fd = openSync(path, 'w', 0o600)
      try {
        writeFileSync(fd, content)
        fsyncSync(fd)
      } finally {
        closeSync(fd)
      }
    })
    syncFolder(this.#folder)
    const sha256 = createHash('sha256').update(content).digest('hex')
    return { file: MERGED_INDEX, sizeBytes: content.length, sha256 }
  }

  async #stored(file: MergedFile, component: string): Promise<StoredFile> {
    if (file.source) {
      if (file.source.path === join(this.#folder, file.source.stored.file)) return file.source.stored
      await this.#verify(file.source, component)
      const name = this.#newName()
      const { path } = file.source
      hostCall(`Cannot make ${name}`, () => linkOrCopy(path, join(this.#folder, name)))
      return { ...file.source.stored, file: name }
    }
    for (const { source } of file.pieces) await this.#verify(source, component)
    return this.#write(file)
  }

  async #verify({ path, stored }: SavedSource, component: string): Promise<void> {
    if (this.#verified.has(path)) return
    const { sizeBytes, sha256 } = await describeFile(path, stored.file, this.#work.signal)
    if (sizeBytes !== stored.sizeBytes || sha256 !== stored.sha256)
      throw new UmbraError('CHECKSUM_MISMATCH', `${path} of component ${component} is damaged`, { path })
    this.#verified.add(path)
  }

  #newName(): string {
    const number = this.#nextNumber++
    const folder = String(Math.floor(number / PER_FOLDER)).padStart(6, '0')
    const name = `${MERGED_FOLDER}/${folder}/${String(number).padStart(9, '0')}`
    const path = join(this.#folder, name)
    hostCall(`Cannot make ${path}`, () => mkdirSync(dirname(path), { recursive: true, mode: 0o700 }))
    return name
  }

  /** A whole file with zeros as holes; of ranges what they hold, one after another. */
  async #write(file: MergedFile): Promise<StoredFile> {
    const name = this.#newName()
    const path = join(this.#folder, name)
    const fd = hostCall(`Cannot create ${path}`, () => openSync(path, 'wx', 0o600))
    try {
      const hash = createHash('sha256')
      let end = 0
      for (const piece of file.pieces) {
        const from = file.isWhole ? piece.offsetBytes : end
        hashZeros(hash, from - end)
        using source = openSource(piece.source.path)
        for (let done = 0; done < piece.lengthBytes; ) {
          const lengthBytes = Math.min(PIECE_BYTES, piece.lengthBytes - done)
          const bytes = this.#piece.subarray(0, lengthBytes)
          source.file.read(piece.sourceOffsetBytes + done, lengthBytes, bytes, 0)
          hash.update(bytes)
          if (!bytes.equals(ZEROS.subarray(0, lengthBytes)))
            writeFully(fd, path, from + done, lengthBytes, bytes, 0)
          done += lengthBytes
          if (this.#pace.advance(lengthBytes)) await this.#pace.breathe()
        }
        end = from + piece.lengthBytes
      }
      const sizeBytes = file.isWhole ? file.sizeBytes : end
      hashZeros(hash, sizeBytes - end)
      hostCall(`Cannot complete ${path}`, () => {
        ftruncateSync(fd, sizeBytes)
        fsyncSync(fd)
      })
      return { file: name, sizeBytes, sha256: hash.digest('hex') }
    } finally {
      closeSync(fd)
    }
  }
}

function openSource(path: string): Disposable & { readonly file: HostFile } {
  const file = new HostFile(path)
  return { file, [Symbol.dispose]: () => file.close() }
}

function hashZeros(hash: ReturnType<typeof createHash>, lengthBytes: number): void {
  for (let left = lengthBytes; left > 0; left -= PIECE_BYTES)
    hash.update(ZEROS.subarray(0, Math.min(left, PIECE_BYTES)))
}

/** An entry without its content; whether a later file is the same one can only be told of an exact state. */
function attributesOf({ entry, isExact }: MergedName, writer: string): FileEntry {
  const { stored: _s, ranges: _r, hardLinkOf: _h, hardLinkOfBytes: _b, ino, generation, ...rest } = entry
  const isKnown = isExact && ino !== undefined && generation !== undefined
  return { ...rest, writer, ...(isKnown ? { ino, generation } : {}) }
}

function withContent(entry: FileEntry, file: MergedFile, stored: StoredFile): FileEntry {
  if (file.isWhole) return { ...entry, how: 'mask', sizeBytes: file.sizeBytes, stored }
  const ranges = file.pieces.map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes }))
  return { ...entry, how: 'partial', sizeBytes: file.sizeBytes, stored, ranges }
}

function linkTo(path: string): Pick<FileEntry, 'hardLinkOf' | 'hardLinkOfBytes'> {
  const { text, base64 } = textOf(path)
  return base64 === undefined ? { hardLinkOf: text } : { hardLinkOf: text, hardLinkOfBytes: base64 }
}
