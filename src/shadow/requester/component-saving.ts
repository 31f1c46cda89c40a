// Saves the files of one component: its bytes into the store, one line for each file into the index.
//
// Always true: a component is saved whole or not at all (vss.md section 5.2, unit rule): one file that fails
// takes back all that was stored of it; every attribute that the tree knows is in its line; the second name
// of an inode refers to the first.

import { UmbraError } from '../../base/errors.ts'
import type { FileEntry } from '../repository/manifest.ts'
import type { BaseState } from './base-state.ts'
import type { ChosenFile, FileChoice } from './file-choice.ts'
import type { FileStore } from './file-store.ts'
import { textOf } from './file-tree.ts'

export interface SavedComponent {
  /** Lines of the index. */
  readonly lines: readonly string[]
  readonly fileCount: number
  readonly bytes: number
  /** Null: it succeeded. */
  readonly failure: string | null
}

export interface ComponentIdentity {
  readonly writer: string
  readonly logicalPath: string
  readonly name: string
}

/** @throws UmbraError ABORTED, and what failed in the repository itself; what failed in reading is the component's failure */
export async function saveComponent(
  identity: ComponentIdentity,
  choice: FileChoice,
  base: BaseState | null,
  store: FileStore,
): Promise<SavedComponent> {
  const mark = store.mark
  const saver = new Saver(identity, store)
  try {
    for await (const file of choice.files()) await saver.save(file)
    if (base) for (const path of choice.deleted(base)) saver.saveDeleted(path)
    return { lines: saver.lines, fileCount: saver.fileCount, bytes: saver.bytes, failure: null }
  } catch (error) {
    store.removeSince(mark)
    if (!(error instanceof UmbraError) || error.code === 'ABORTED' || error.code === 'OUT_OF_SPACE')
      throw error
    return { lines: [], fileCount: 0, bytes: 0, failure: error.message }
  }
}

class Saver {
  readonly lines: string[] = []
  fileCount = 0
  bytes = 0
  readonly #identity: ComponentIdentity
  readonly #store: FileStore
  readonly #firstNames = new Map<string, string>()

  constructor(identity: ComponentIdentity, store: FileStore) {
    this.#identity = identity
    this.#store = store
  }

  async save(file: ChosenFile): Promise<void> {
    const attributes = this.#attributes(file)
    if (file.node.kind !== 'directory') this.fileCount++
    if (file.node.kind === 'symlink') return this.#line({ ...attributes, ...linkTarget(file) })
    if (file.node.kind !== 'file') return this.#line(attributes)
    const first = this.#firstName(file)
    if (first !== undefined) return this.#line({ ...attributes, ...hardLink(first) })
    const reader = file.place.tree.open(file.place.path)
    try {
      const { stored, dataBytes } = file.ranges
        ? await this.#store.ranges(reader, file.ranges)
        : await this.#store.whole(reader, file.node.sizeBytes)
      this.bytes += dataBytes
      const sizeBytes = file.ranges ? file.node.sizeBytes : stored.sizeBytes
      this.#line({ ...attributes, sizeBytes, stored, ...(file.ranges ? { ranges: file.ranges } : {}) })
    } finally {
      reader.close()
    }
  }

  saveDeleted(path: string): void {
    const nothing = { mode: 0, uid: 0, gid: 0, mtimeNs: '0', sizeBytes: 0 }
    this.#line({ ...this.#identity, ...named(path), kind: 'deleted', how: 'mask', ...nothing })
  }

  /**
   * Undefined: this is the first name of its inode, or its only one. What a writer wants saved in part is
   * saved name by name, since it is not the whole file; our own changed ranges make the first name whole.
   */
  #firstName({ place, node, path, how }: ChosenFile): string | undefined {
    if (node.linkCount < 2 || how === 'partial') return undefined
    const key = `${place.tree.name}:${node.ino}`
    const first = this.#firstNames.get(key)
    if (first === undefined) this.#firstNames.set(key, path)
    return first
  }

  #attributes({ path, place, node, how, isRangesFile }: ChosenFile): FileEntry {
    const xattrs = place.tree.xattrs(place.path)
    return {
      ...this.#identity,
      ...named(path),
      kind: isRangesFile ? 'ranges-file' : node.kind,
      how,
      mode: node.mode,
      uid: node.uid,
      gid: node.gid,
      mtimeNs: node.mtimeNs,
      sizeBytes: node.kind === 'file' ? node.sizeBytes : 0,
      ...(node.generation === null ? {} : { ino: node.ino, generation: node.generation }),
      ...(node.kind === 'device' ? { rdev: node.rdev } : {}),
      ...(xattrs ? { xattrs } : {}),
    }
  }

  #line(entry: FileEntry): void {
    this.lines.push(JSON.stringify(entry))
  }
}

function named(path: string): { path: string; pathBytes?: string } {
  const { text, base64 } = textOf(path)
  return base64 === undefined ? { path: text } : { path: text, pathBytes: base64 }
}

function hardLink(path: string): { hardLinkOf: string; hardLinkOfBytes?: string } {
  const { text, base64 } = textOf(path)
  return base64 === undefined ? { hardLinkOf: text } : { hardLinkOf: text, hardLinkOfBytes: base64 }
}

function linkTarget({ place }: ChosenFile): { linkTarget: string; linkTargetBytes?: string } {
  const bytes = place.tree.linkTarget(place.path)
  const { text, base64 } = textOf(Buffer.from(bytes).toString('latin1'))
  return base64 === undefined ? { linkTarget: text } : { linkTarget: text, linkTargetBytes: base64 }
}
